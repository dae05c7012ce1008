"""Every model of a grid under every attack of it, each in its own run directory, and then side by side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from camdrift.comparison.compare import Comparison, compare
from camdrift.comparison.grid import AttackEntry, Grid, ModelEntry, read_grid
from camdrift.engine.engine import LOCAL, Engine, engine_of
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.file_names import RECORD
from camdrift.models.classifier import Classifier
from camdrift.models.loading import load_model
from camdrift.study.run import run
from camdrift.study.study import Study

COMPARISON_FOLDER = "comparison"


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
        """The cell in words."""
        return f"{self.model.name}, {self.attack.name}"


@dataclass(frozen=True)
class Failure:
    """Something that could not be done, and why.

    Attributes:
        name: The cell, or the comparison.
        error: What was wrong with it.
    """

    name: str
    error: UserError


@dataclass
class Sweep:
    """What became of a sweep.

    Attributes:
        path: Folder of all runs.
        studies: The finished studies, in the order of the cells.
        failures: What could not be done.
        comparison: The finished studies side by side; None where fewer than two sides could be compared.
    """

    path: Path
    studies: list[Study] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    comparison: Comparison | None = None


def sweep(
    path: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    on_cell: Callable[[Cell], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str | None = None,
    engine: str | Engine = LOCAL,
    address: str | None = None,
    workers: int | None = None,
) -> Sweep:
    """Study every model of a TOML file under every attack of it, and compare the finished studies.

    A cell that is finished is left as it is, one that was interrupted goes on, one that fails is reported and stops no
    other. The comparison lies in `comparison` beside the runs and is made anew each time.

    Args:
        path: The TOML file.
        out: Folder for all runs, in place of the file's.
        overwrite: Start every cell again.
        on_cell: Called when a cell begins.
        on_progress: Called whenever there is something to show of a cell.
        command: The command line, for the records.
        engine, address, workers: As in `run`.

    Raises:
        UserError: The file is not a grid of models and attacks.
    """
    options: dict[str, Any] = {
        "on_progress": on_progress,
        "command": command,
        "engine": engine_of(engine, address, workers),
    }
    grid = read_grid(path, out=out)
    done = Sweep(grid.out)
    models: dict[Path, str] = {}
    for cell, classifier in _loaded(grid, done):
        if on_cell is not None:
            on_cell(cell)
        try:
            study = _study(grid, cell, classifier, overwrite=overwrite, **options)
        except UserError as error:
            done.failures.append(Failure(cell.name, error))
        else:
            done.studies.append(study)
            models[study.path] = cell.model.name
    _compare(done, models)
    return done


def _loaded(grid: Grid, done: Sweep) -> Iterator[tuple[Cell, Classifier]]:
    """Every cell with its model, which is loaded once; a model that cannot be is a failure of all its cells."""
    total = len(grid.models) * len(grid.attacks)
    for row, model in enumerate(grid.models):
        numbers = range(row * len(grid.attacks) + 1, (row + 1) * len(grid.attacks) + 1)
        cells = [
            Cell(number, total, model, attack, grid.folder(model, attack))
            for number, attack in zip(numbers, grid.attacks, strict=True)
        ]
        try:
            classifier = load_model(model.spec, weights=model.weights, device=grid.device, precision=grid.precision)
        except UserError as error:
            done.failures.extend(Failure(cell.name, error) for cell in cells)
            continue
        for cell in cells:
            yield cell, classifier


def _study(
    grid: Grid,
    cell: Cell,
    classifier: Classifier,
    *,
    overwrite: bool,
    on_progress: OnProgress | None,
    command: str | None,
    engine: Engine,
) -> Study:
    def counted(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(replace(progress, stage=f"{cell.number}/{cell.total} {progress.stage}"))

    return run(
        classifier,
        grid.images,
        out=cell.path,
        settings=cell.attack.settings,
        resume=not overwrite and (cell.path / RECORD).is_file(),
        overwrite=overwrite,
        on_progress=counted,
        command=command,
        engine=engine,
    )


def _compare(done: Sweep, models: dict[Path, str]) -> None:
    """Compare what can be compared; a study in which nothing was analysed is a failure, and stops no comparison."""
    analysed = []
    for study in done.studies:
        if study.layers.is_empty():
            reason = UserError(
                f"nothing was analysed in {study.path}, which is left out of the comparison",
                "a stronger attack, more iterations or more images may find an adversarial example",
            )
            done.failures.append(Failure(COMPARISON_FOLDER, reason))
        else:
            analysed.append(study)
    sides = sum(study.layers.select("explanation", "metric").n_unique() for study in analysed)
    if sides < 2:
        return
    names = [models[study.path] for study in analysed]
    try:
        done.comparison = compare(*analysed, out=done.path / COMPARISON_FOLDER, models=names, overwrite=True)
    except UserError as error:
        done.failures.append(Failure(COMPARISON_FOLDER, error))
