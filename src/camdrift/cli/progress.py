"""Progress for a person: a live line in a terminal, a plain line now and then in a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from camdrift.cli.terminal import print_line
from camdrift.engine.interruption import Interruption, interruptible
from camdrift.engine.progress import Progress
from camdrift.errors import FOREIGN, escaped

INTERRUPTED: Final = 130  # what typer returns for a KeyboardInterrupt, as shells do
_QUIET_SECONDS: Final = 30.0


class Display:
    """A display of how far a run is. Call it with a `Progress`.

    Attributes:
        path: Run directory or its URL, once known.
        is_begun: Has the run shown anything yet?
    """

    def __init__(self, console: Console, bar: Bar | None, interruption: Interruption) -> None:
        self.path: Path | str | None = None
        self._interruption = interruption
        self._console, self._bar = console, bar
        self._task = None if bar is None else bar.add_task("starting", total=None, successes=0)
        self._last = monotonic()
        self.is_begun = False

    def say(self, text: str) -> None:
        """Show a line until the first seed."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=escaped(text))

    def start(self, path: Path | str) -> None:
        """Learn where the run is written."""
        self.path = path

    def __call__(self, progress: Progress) -> None:
        self.is_begun = True
        for warning in progress.warnings:
            print_line(self._console, f"warning: {warning}")
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
            counts = f"{progress.seeds_done}/{progress.seeds_total} images, {progress.successes} adversarial examples"
            self._console.print(f"{progress.stage}: {counts}", highlight=False)
        self._interruption.at(progress.stage)


@contextmanager
def show_progress(console: Console, advice: Callable[[Path | str], str] | None = None) -> Iterator[Display]:
    """Yield a display to call with every `Progress`; Ctrl-C ends the block after the chunk in hand.

    Args:
        console: Where to show progress.
        advice: Returns how to go on with the run in a directory, for whoever has stopped it.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped it.
        typer.Exit: Another signal stopped it.
    """
    bar = _bar(console) if console.is_terminal else None
    display: Display | None = None

    def advise(is_due: bool) -> None:
        if is_due and display is not None and display.path is not None and advice is not None:
            print_line(console, advice(display.path))

    with interruptible() as interruption:
        try:
            with bar or nullcontext():
                display = Display(console, bar, interruption)
                yield display
        except KeyboardInterrupt as stop:
            # Whoever presses the key again must still read how to go on.
            interruption.end()
            advise(is_due=True)
            code = getattr(stop, "exit_code", INTERRUPTED)
            if code == INTERRUPTED:
                raise
            raise typer.Exit(code) from stop
        except FOREIGN:
            advise(is_due=display is not None and display.is_begun)
            raise


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
