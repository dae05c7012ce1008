"""A person's wish to stop a command: at first after the chunk in hand, at the second time at once."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from time import monotonic
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# A chunk, or the iterations of a campaign up to a checkpoint, is in hand from one of the first stages on until one of
# the others; it ends with "write".
_CHUNKS_BEGIN: Final = ("preflight", "attack", "fuzz")
_NO_CHUNK: Final = ("start", "statistics", "report")
_NOTE: Final = b"\nfinishing the chunk in hand; once more stops at once\n"
_STANDARD_ERROR: Final = 2
# A key that is pressed again within so many seconds asks for nothing new.
_SAME_KEY: Final = 1.0


class Stopped(KeyboardInterrupt):
    """A person has asked the command to stop.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interruption:
    """Remembers if a person has asked to stop, and if a chunk is in hand that must be finished first."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._in_hand = False
        self._last = float("-inf")

    def end(self) -> None:
        """Hear no further signal: the command is stopping."""
        self._last = float("inf")

    def at(self, stage: str) -> None:
        """Note the stage, and stop here if a person has asked for it and no chunk is in hand.

        Args:
            stage: Stage of a `Progress`; its last word counts where there are several runs.

        Raises:
            Stopped: The command stops here.
        """
        word = stage.rpartition(" ")[2]
        if word in _CHUNKS_BEGIN:
            self._in_hand = True
        elif word in _NO_CHUNK:
            self._in_hand = False
        if self._number is not None and (word == "write" or not self._in_hand):
            raise Stopped(self._number)

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal. One that follows another at once, while the command is stopping, changes nothing.

        Raises:
            Stopped: No chunk is in hand, or this is the second signal.
        """
        if monotonic() - self._last < _SAME_KEY:
            return
        if self._number is not None or not self._in_hand:
            self._last = monotonic()
            raise Stopped(number)
        self._number = number
        with suppress(OSError):
            os.write(_STANDARD_ERROR, _NOTE)  # `print` may be what the signal has interrupted


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Yield an `Interruption` that hears Ctrl-C and SIGTERM as long as the block runs.

    Nothing changes outside the main thread, where Python allows no handlers, and for a signal that the process ignores,
    as after `nohup` or `&`.
    """
    interruption = Interruption()
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, interruption.ask)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resuming(arguments: Sequence[str], path: Path | str) -> str:
    """The command line that goes on with a run.

    Args:
        arguments: The arguments of the first command, from the command's name on.
        path: The run directory.

    Example:
        >>> resuming(["run", "my photos", "--limit", "3", "--overwrite"], Path("runs/a b"))
        "camdrift run --resume --out 'runs/a b' 'my photos' --limit 3"
    """
    command, *rest = arguments
    others: list[str] = []
    words = iter(rest)
    for word in words:
        if word == "--":
            others += [word, *words]
        elif word in ("--out", "--name"):
            next(words, None)
        elif word not in ("--resume", "--overwrite") and not word.startswith(("--out=", "--name=")):
            others.append(word)
    return join(["camdrift", command, "--resume", "--out", str(path), *others])
