"""Every model of a grid under every attack of it, each in its own run directory, and then side by side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final, Unpack

from camdrift.comparison.compare import Comparison, compare
from camdrift.comparison.grid import AttackEntry, Grid, ModelEntry, read_grid
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.models.loading import load_model
from camdrift.models.registry import find_source
from camdrift.pipeline.plan import check_makable
from camdrift.study.launch import EngineKeywords, Launch, check_known, launch_from, spelled_out
from camdrift.study.run import run
from camdrift.study.study import Study
from camdrift.tables.file_names import RECORD

COMPARISON_FOLDER: Final = "comparison"


@dataclass(frozen=True)
class Cell:
    """One model under one attack.

    Attributes:
        number: From 1.
        total: Number of cells.
        model: The model.
        attack: The attack.
        path: Its run directory.
    """

    number: int
    total: int
    model: ModelEntry
    attack: AttackEntry
    path: Path

    @property
    def name(self) -> str:
        """Model and attack in words."""
        return f"{self.model.title}, {self.attack.name}"


@dataclass(frozen=True)
class Failure:
    """A cell or a comparison that could not be completed.

    Attributes:
        name: Name of the cell, or of the comparison's folder.
        error: The reason.
    """

    name: str
    error: UserError


@dataclass
class Sweep:
    """The outcome of a sweep.

    Attributes:
        path: Folder of all runs.
        studies: The finished studies, in the order of the cells.
        failures: Cells, or a comparison, that could not be completed.
        comparison: The finished studies side by side; None where fewer than two sides could be compared.
    """

    path: Path
    studies: list[Study] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    comparison: Comparison | None = None


class SweepKeywords(EngineKeywords, total=False):
    """The launch of a sweep: that of all its cells."""

    out: str | PathLike[str] | None
    overwrite: bool
    progress: bool
    on_progress: OnProgress | None
    command: str | None


@spelled_out(Launch)
def sweep(
    path: str | PathLike[str],
    *,
    on_cell: Callable[[Cell], None] | None = None,
    **options: Unpack[SweepKeywords],
) -> Sweep:
    """Study every model of a TOML file under every attack of it, and compare the finished studies.

    Models, heads and attacks that cannot be had are refused before the first cell. A finished cell is left as it is, an
    interrupted one goes on, a failing one is reported and stops no other. The comparison lies in `comparison` beside
    the runs and is made anew each time.

    Args:
        path: The TOML file.
        on_cell: Called when a cell begins.
        **options: The launch of all cells:
        out: Folder for all runs, in place of the file's.
        overwrite: Start every cell again.
        progress: As in `run`.
        on_progress: Called whenever there is something to show of a cell, in place of that.
        command: The command line, for the records.
        engine, address, workers: As in `run`.

    Raises:
        UserError: The file is not a grid of models and attacks, or names some that are not known.
    """
    check_known(options, tuple(SweepKeywords.__annotations__))
    launch, _ = launch_from(options)
    grid = read_grid(path, out=launch.out)
    _check_plan(grid)
    result = Sweep(grid.out)
    with launch.displayed() as audible:
        names = _fill(grid, result, audible, on_cell)
    _compare(result, names)
    return result


def _fill(grid: Grid, result: Sweep, launch: Launch, on_cell: Callable[[Cell], None] | None) -> dict[Path, str]:
    """Add the study or the failure of every cell to the result; return the names of the models by run directory."""
    names: dict[Path, str] = {}
    for cell, classifier in _cells(grid, result):
        if on_cell is not None:
            on_cell(cell)
        try:
            study = _study(grid, cell, classifier, launch)
        except UserError as error:
            result.failures.append(Failure(cell.name, error))
        else:
            result.studies.append(study)
            names[study.path] = cell.model.name
    return names


def _check_plan(grid: Grid) -> None:
    """Raise `UserError` for what is wrong with a cell before it begins: a mistake in the third costs no two.

    Only a model that is there shows whether a head is one of its own.
    """
    checks: list[tuple[str, Callable[[], Any]]] = [
        (entry.title, partial(find_source, entry.spec) if entry.head is None else partial(_load, grid, entry))
        for entry in grid.models
    ]
    checks += [(entry.name, partial(check_makable, entry.settings)) for entry in grid.attacks]
    mistakes: dict[str, UserError] = {}
    for name, check in checks:
        try:
            check()
        except UserError as error:
            mistakes[name] = error
    if mistakes:
        words = "; ".join(f"{name} ({error.message})" for name, error in mistakes.items())
        raise UserError(f"nothing has begun, since this cannot be made: {words}", next(iter(mistakes.values())).hint)


def _cells(grid: Grid, result: Sweep) -> Iterator[tuple[Cell, Classifier]]:
    """Yield every cell with its model, which is loaded once; a model that cannot be is a failure of all its cells."""
    total = len(grid.models) * len(grid.attacks)
    for row, model in enumerate(grid.models):
        numbers = range(row * len(grid.attacks) + 1, (row + 1) * len(grid.attacks) + 1)
        cells = [
            Cell(number, total, model, attack, grid.folder(model, attack))
            for number, attack in zip(numbers, grid.attacks, strict=True)
        ]
        try:
            classifier = _load(grid, model)
        except UserError as error:
            result.failures.extend(Failure(cell.name, error) for cell in cells)
            continue
        for cell in cells:
            yield cell, classifier


def _load(grid: Grid, model: ModelEntry) -> Classifier:
    return load_model(model.spec, weights=model.weights, device=grid.device, precision=grid.precision, head=model.head)


def _study(grid: Grid, cell: Cell, classifier: Classifier, launch: Launch) -> Study:
    """Run the study of one cell, or what is left of it."""

    def show(progress: Progress) -> None:
        launch.show(replace(progress, stage=f"{cell.number}/{cell.total} {progress.stage}"))

    is_begun = (cell.path / RECORD).is_file()
    cell_launch = replace(launch, out=cell.path, resume=is_begun and not launch.overwrite, on_progress=show)
    return run(classifier, grid.images, settings=cell.attack.settings, **vars(cell_launch))


def _compare(result: Sweep, models: dict[Path, str]) -> None:
    """Compare what can be compared; a study in which nothing was analysed is a failure, and stops no comparison."""
    studies = []
    for study in result.studies:
        if study.layers.is_empty():
            reason = UserError(
                f"nothing was analysed in {study.path}, which is left out of the comparison",
                "a stronger attack, more iterations or more images may find an adversarial example",
            )
            result.failures.append(Failure(COMPARISON_FOLDER, reason))
        else:
            studies.append(study)
    n_sides = sum(study.layers.select("explanation", "metric").n_unique() for study in studies)
    if n_sides < 2:
        return
    names = [models[study.path] for study in studies]
    try:
        result.comparison = compare(*studies, out=result.path / COMPARISON_FOLDER, models=names, overwrite=True)
    except UserError as error:
        result.failures.append(Failure(COMPARISON_FOLDER, error))
