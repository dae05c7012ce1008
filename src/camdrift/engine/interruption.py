"""How a person stops a command: at first after the chunk in hand, asked again at once."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# From one of the first on, and until one of the others, a chunk is in hand that ends with "write".
_CHUNKS_BEGIN: Final = ("preflight", "attack")
_NO_CHUNK: Final = ("start", "statistics", "report")
_NOTE: Final = b"\nfinishing the chunk in hand; once more stops at once\n"
_STANDARD_ERROR: Final = 2


class Stopped(KeyboardInterrupt):
    """The command was asked to stop.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interruption:
    """Whether a person has asked to stop, and whether a chunk is in hand that is to be finished first."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._in_hand = False

    def at(self, stage: str) -> None:
        """Learn what is being done, and stop here if that was asked for and no chunk is in hand.

        Args:
            stage: Stage of a `Progress`; of several runs its last word counts.

        Raises:
            Stopped: Here is where to stop.
        """
        word = stage.rpartition(" ")[2]
        if word in _CHUNKS_BEGIN:
            self._in_hand = True
        elif word in _NO_CHUNK:
            self._in_hand = False
        if self._number is not None and (word == "write" or not self._in_hand):
            raise Stopped(self._number)

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal.

        Raises:
            Stopped: No chunk is in hand, or it is the second time.
        """
        if self._number is not None or not self._in_hand:
            raise Stopped(number)
        self._number = number
        with suppress(OSError):
            os.write(_STANDARD_ERROR, _NOTE)  # `print` may be what the signal has interrupted


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """An `Interruption` that hears Ctrl-C and SIGTERM as long as the block runs.

    Outside the main thread, where Python knows no handlers, and for a signal that the process was told to ignore, as
    by `nohup` or `&`, nothing changes.
    """
    asked = Interruption()
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, asked.ask)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resuming(arguments: Sequence[str], path: Path | str) -> str:
    """The command line that goes on with a run.

    Args:
        arguments: Those of the first command, from the command's name on.
        path: The run directory.

    Example:
        >>> resuming(["run", "my photos", "--limit", "3", "--overwrite"], Path("runs/a b"))
        "camdrift run --resume --out 'runs/a b' 'my photos' --limit 3"
    """
    command, *rest = arguments
    kept: list[str] = []
    words = iter(rest)
    for word in words:
        if word == "--":
            kept += [word, *words]
        elif word == "--out":
            next(words, None)
        elif word not in ("--resume", "--overwrite") and not word.startswith("--out="):
            kept.append(word)
    return join(["camdrift", command, "--resume", "--out", str(path), *kept])
