"""Progress for a person: a live line in a terminal, a plain line now and then in a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from camdrift.cli.terminal import print_line
from camdrift.engine.interruption import Interruption, interruptible
from camdrift.engine.progress import Progress
from camdrift.errors import FOREIGN, escaped
from camdrift.tables.words import count

INTERRUPTED: Final = 130  # what typer returns for a KeyboardInterrupt, as shells do
_QUIET_SECONDS: Final = 30.0
# Stages in front of the first image of a run, of which a sweep has several.
_NO_IMAGES: Final = ("start", "preflight")


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
        self._start = self._last = monotonic()
        self._pace: tuple[float, int] | None = None
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
        else:
            self._show_line(progress, monotonic())
        self._interruption.at(progress.stage)

    def _show_line(self, progress: Progress, now: float) -> None:
        """Show a line now and then; images that a run has already when it goes on say nothing of its pace."""
        if progress.stage.rpartition(" ")[2] in _NO_IMAGES:
            self._pace = None
        elif self._pace is None:
            self._pace = now, progress.seeds_done
        if now - self._last > _QUIET_SECONDS:
            self._last = now
            print_line(self._console, _line(progress, now, self._start, self._pace or (now, 0)))


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


class _Counts(ProgressColumn):
    """Images done and adversarial examples, once there is something to count."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        return Text(f"{task.completed:,.0f}/{task.total:,.0f} images, {task.fields['successes']:,} adversarial")


class _Time(ProgressColumn):
    """The time that is left, as far as it is known; at the end the time that it took."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"{_clock(task.finished_time or 0)} in all")
        return Text("" if task.time_remaining is None else f"{_clock(task.time_remaining)} left")


def _clock(seconds: float) -> str:
    """Return a time span as hours, minutes and seconds.

    Example:
        >>> _clock(3725.4)
        '1:02:05'
    """
    return str(timedelta(seconds=int(seconds)))


def _line(progress: Progress, now: float, start: float, pace: tuple[float, int]) -> str:
    """Return a line for a pipe: percent, counts, and the time that is left if all images take as long.

    Args:
        progress: How far the run is.
        now: The time, in seconds.
        start: Time when the command began.
        pace: Time when the first image was begun, and the images that there were.
    """
    part, total, begin, base = progress.seeds_done, progress.seeds_total, *pace
    share = f" ({part / total:.0%})" if total else ""
    left = f", {_clock((now - begin) * (total - part) / (part - base))} left" if base < part < total else ""
    counts = f"{part:,}/{total:,} images{share}, {count(progress.successes, 'adversarial example')}"
    return f"{progress.stage}: {counts}, {_clock(now - start)} so far{left}"


def _bar(console: Console) -> Bar:
    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(bar_width=None),
        _Counts(),
        _Time(),
        console=console,
        transient=True,
    )
