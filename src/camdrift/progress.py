"""Progress for a person: a live line in a terminal, a plain line now and then in a pipe; and how to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from camdrift.records import Progress

_QUIET_SECONDS = 30.0
# Stages of a chunk: what they compute is stored at their end, and lost before.
_OF_A_CHUNK: Final = ("attack", "explain", "examine")
_STORED: Final = "write"
TERMINATED: Final = 128 + signal.SIGTERM


class Shown:
    """Shows where a run is. Call it with a `Progress`.

    Attributes:
        path: Run directory, once known.
    """

    def __init__(self, console: Console, bar: Bar | None) -> None:
        self.path: Path | None = None
        self._stage, self._asked_to_stop = "", 0
        self._console, self._bar = console, bar
        self._task = None if bar is None else bar.add_task("starting", total=None, successes=0)
        self._last = monotonic()

    def say(self, text: str) -> None:
        """Show what is being done before the first seed."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)

    def started(self, path: Path) -> None:
        """Learn where the run is written."""
        self.path = path

    def stop(self, signal_number: int, frame: Any = None) -> None:
        """Stop when the chunk in hand is stored; at once if there is none, or when asked again."""
        if self._stage not in _OF_A_CHUNK or self._asked_to_stop:
            _raise(signal_number)
        self._asked_to_stop = signal_number
        self._console.print("stopping once these images are stored; again stops at once", highlight=False)

    def __call__(self, progress: Progress) -> None:
        self._stage = progress.stage.rpartition(" ")[2]
        if self._asked_to_stop and self._stage == _STORED:
            _raise(self._asked_to_stop)
        for warning in progress.warnings:
            self._console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=progress.stage,
                completed=progress.seeds_done,
                total=progress.seeds_total,
                successes=progress.successes,
            )
        elif monotonic() - self._last > _QUIET_SECONDS:
            self._last = monotonic()
            done = f"{progress.seeds_done}/{progress.seeds_total} images, {progress.successes} adversarial examples"
            self._console.print(f"{progress.stage}: {done}", highlight=False)


@contextmanager
def show_progress(console: Console) -> Iterator[Shown]:
    """Something to call with every `Progress`; says how to go on if the run is interrupted.

    Inside the block the first Ctrl-C or SIGTERM ends the run when the chunk in hand is stored, the second at once.
    """
    bar = _bar(console) if console.is_terminal else None
    shown = Shown(console, bar)
    try:
        with _handling(shown):
            if bar is None:
                yield shown
            else:
                with bar:
                    yield shown
    except (KeyboardInterrupt, SystemExit):
        if shown.path is not None:
            again = f"--resume --out {quote(str(shown.path))}"
            console.print(
                f"stopped; finished chunks are kept: the same command with {again} goes on",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        raise


def _raise(signal_number: int) -> None:
    if signal_number == signal.SIGTERM:
        raise SystemExit(TERMINATED)
    raise KeyboardInterrupt


@contextmanager
def _handling(shown: Shown) -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM ask for a stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, shown.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bar(console: Console) -> Bar:
    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("images, {task.fields[successes]} adversarial,"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("left"),
        console=console,
        transient=True,
    )
