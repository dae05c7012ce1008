"""Progress for a person: a live line in a terminal, a plain line now and then in a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from camdrift.records import Progress

_QUIET_SECONDS = 30.0


class Shown:
    """Shows where a run is. Call it with a `Progress`.

    Attributes:
        path: Run directory, once known.
    """

    def __init__(self, console: Console, bar: Bar | None) -> None:
        self.path: Path | None = None
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

    def __call__(self, progress: Progress) -> None:
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
    """Something to call with every `Progress`; says how to go on if the run is interrupted."""
    bar = _bar(console) if console.is_terminal else None
    shown = Shown(console, bar)
    try:
        if bar is None:
            yield shown
        else:
            with bar:
                yield shown
    except KeyboardInterrupt:
        if shown.path is not None:
            again = f"--resume --out {quote(str(shown.path))}"
            console.print(
                f"stopped; finished chunks are kept: the same command with {again} goes on",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
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
