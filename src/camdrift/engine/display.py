"""Progress for a person: a bar in a terminal or below a notebook's cell, a plain line now and then in a pipe."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from html import escape
from time import monotonic
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from camdrift.engine.progress import IMAGES, Progress
from camdrift.errors import escaped
from camdrift.notebook import CellOutput, is_notebook
from camdrift.tables.words import count

_LINE_SECONDS: Final = 30.0
_CELL_SECONDS: Final = 0.5
# Stages in which images are worked on; those between belong to the latter.
_ATTACK: Final = "attack"
_EXPLAIN: Final = "explain"
_WORK: Final = (_ATTACK, _EXPLAIN)
# One display may show several runs, each from this stage on.
_FIRST: Final = "preflight"


class Pace:
    """The speed of a run, and the time that is left if it stays the same.

    Attacking and explaining an image have speeds of their own; until one is known it counts as the other.
    """

    def __init__(self) -> None:
        self._begin = self._time = monotonic()
        self._last = Progress("start", 0, 0, 0)
        self._is_working = False
        self._seconds = dict.fromkeys(_WORK, 0.0)
        self._seeds = dict.fromkeys(_WORK, 0)

    def note(self, progress: Progress) -> None:
        """Note how far the run is."""
        now, stage = monotonic(), progress.stage.rpartition(" ")[2]
        # What a run has already when it goes on says nothing of its speed.
        is_single = progress.unit != IMAGES
        if is_single and (progress.unit, stage) != (self._last.unit, self._last.stage):
            # Other work, at another speed.
            self._seconds, self._seeds = dict.fromkeys(_WORK, 0.0), dict.fromkeys(_WORK, 0)
        elif self._is_working and stage != _FIRST:
            kind = stage if stage in _WORK and not is_single else _EXPLAIN
            before, after = (_finished(each, kind) for each in (self._last, progress))
            self._seconds[kind] += now - self._time
            self._seeds[kind] += max(0, after - before)
        self._is_working = stage != _FIRST and (self._is_working or is_single or stage in _WORK)
        self._time, self._last = now, progress

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return monotonic() - self._begin

    @property
    def left(self) -> float | None:
        """Time that is left; None where nobody can tell."""
        kinds = _WORK if self._last.unit == IMAGES else (_EXPLAIN,)
        missing = {kind: self._last.seeds_total - _finished(self._last, kind) for kind in kinds}
        speeds = {kind: self._seconds[kind] / self._seeds[kind] for kind in _WORK if self._seeds[kind]}
        if not speeds or not missing[_EXPLAIN]:
            return None
        rest = sum(count * speeds.get(kind, max(speeds.values())) for kind, count in missing.items())
        return max(0.0, rest - (monotonic() - self._time))


def _finished(progress: Progress, kind: str) -> int:
    """Seeds that the attack is done with, or that are finished altogether."""
    return max(progress.seeds_done, progress.attacked) if kind == _ATTACK else progress.seeds_done


class Display(ABC):
    """A display of how far a run is. Call it with every `Progress`."""

    def __init__(self) -> None:
        self.pace = Pace()

    def __call__(self, progress: Progress) -> None:
        self.pace.note(progress)
        with suppress(OSError):  # a full disk under a log stops no study
            for warning in progress.warnings:
                self.warn(f"warning: {warning}")
            self.show(progress)

    def say(self, text: str) -> None:  # noqa: B027, a pipe needs none
        """Show a line until the first image."""

    @abstractmethod
    def warn(self, text: str) -> None:
        """Show a warning, to stay."""

    @abstractmethod
    def show(self, progress: Progress) -> None:
        """Show how far the run is."""

    def close(self) -> None:  # noqa: B027
        """Show no more."""


class _Lines(Display):
    """A plain line now and then."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console, self._last = console, monotonic()

    def warn(self, text: str) -> None:
        print_line(self._console, text)

    def show(self, progress: Progress) -> None:
        if (now := monotonic()) - self._last > _LINE_SECONDS:
            self._last = now
            print_line(self._console, progress_line(progress, self.pace))


class _Bar(Display):
    """A bar that moves, for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        columns = (SpinnerColumn(), TextColumn("{task.description:<10}", markup=False), BarColumn(bar_width=None))
        self._bar = RichProgress(*columns, _Counts(), _Time(self.pace), console=console, transient=True)
        self._console, self._task = console, self._bar.add_task("starting", total=None, words="")
        self._bar.start()

    def say(self, text: str) -> None:
        self._bar.update(self._task, description=escaped(text))

    def warn(self, text: str) -> None:
        print_line(self._console, text)

    def show(self, progress: Progress) -> None:
        successes = count(progress.successes, progress.result)
        successes = successes if progress.unit != IMAGES else f"{progress.successes:,} adversarial"
        words = f"{percent_done(progress)}  {_images(progress)}, {successes}"
        self._bar.update(self._task, description=progress.stage, completed=progress.share, total=1.0, words=words)

    def close(self) -> None:
        self._bar.stop()


class _Cell(Display):
    """A bar below a notebook's cell; at the end a line stays."""

    def __init__(self) -> None:
        super().__init__()
        self._warnings: list[str] = []
        self._last, self._progress = 0.0, Progress("starting", 0, 0, 0)
        self._output = CellOutput(*self._content("starting", is_bar=True))

    def warn(self, text: str) -> None:
        self._warnings.append(text)
        self._last = 0.0

    def show(self, progress: Progress) -> None:
        is_new = progress.stage != self._progress.stage
        self._progress = progress
        if is_new or monotonic() - self._last > _CELL_SECONDS:
            self._last = monotonic()
            self._output.update(*self._content(progress_line(progress, self.pace), is_bar=True))

    def close(self) -> None:
        is_begun = self._progress.seeds_total > 0
        end = (
            f"{_counts(self._progress)}, {_clock(self.pace.seconds)} in all" if is_begun else "stopped before it began"
        )
        self._output.update(*self._content(end, is_bar=False))

    def _content(self, line: str, *, is_bar: bool) -> tuple[str, str]:
        """The output as HTML, and as plain text."""
        lines = [*self._warnings, line]
        value = f' value="{self._progress.share:.3f}"' if self._progress.seeds_total else ""
        bar = f'<progress max="1"{value} style="width: 100%"></progress>' if is_bar else ""
        rows = "".join(f"<div>{escape(escaped(row))}</div>" for row in lines)
        return f'<div style="max-width: 60em">{bar}{rows}</div>', "\n".join(lines)


class _Counts(ProgressColumn):
    """Percent, images done and adversarial examples, once there is something to count."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["words"]))


class _Time(ProgressColumn):
    """The time that is left, as far as it is known; at the end the time that it took."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(Column(no_wrap=True))
        self._pace = pace

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"{_clock(self._pace.seconds)} in all")
        left = self._pace.left
        return Text("" if left is None else f"{_clock(left)} left")


class _StandardError(Console):
    """Standard error, for a library: a reader that has gone stops no study."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Write no more, where rich would end the process."""
        self.quiet = True


@contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """Yield a display: below the cell if this is a notebook, else on a console.

    Args:
        console: Where to show progress outside a notebook.
    """
    display = _Cell() if is_notebook() else _Bar(console) if console.is_terminal else _Lines(console)
    try:
        yield display
    finally:
        with suppress(OSError):
            display.close()


@contextmanager
def library_display() -> Iterator[Display]:
    """Yield the display that a Python call shows by itself, on standard error or below the cell."""
    with display_on(_StandardError()) as display:
        yield display


def print_line(console: Console, text: str) -> None:
    """Print one line as it is, however long."""
    console.print(escaped(text), markup=False, highlight=False, soft_wrap=True)


def progress_line(progress: Progress, pace: Pace) -> str:
    """Return a line: stage, percent, counts, the time so far and the time that is left."""
    left = "" if pace.left is None else f", {_clock(pace.left)} left"
    share = percent_done(progress)
    return f"{progress.stage}, {share}: {_counts(progress)}, {_clock(pace.seconds)} so far{left}"


def percent_done(progress: Progress) -> str:
    """Return the share of the work that is done in percent, rounded down: only all of it is 100 %."""
    return f"{int(100 * progress.share)} %"


def _counts(progress: Progress) -> str:
    return f"{_images(progress)}, {count(progress.successes, progress.result)}"


def _images(progress: Progress) -> str:
    return f"{progress.seeds_done:,}/{progress.seeds_total:,} {progress.unit}"


def _clock(seconds: float) -> str:
    """Return a time span as hours, minutes and seconds.

    Example:
        >>> _clock(3725.4)
        '1:02:05'
    """
    return str(timedelta(seconds=int(seconds)))
