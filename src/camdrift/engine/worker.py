"""One worker of a study: has a model of its own, computes the chunks it is given and stores them."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from camdrift.attacks.making import make_attack
from camdrift.attacks.stored import StoredImages
from camdrift.errors import StoreError, UserError
from camdrift.explanations.registry import make_explainer
from camdrift.images.places import ImageFile
from camdrift.models.copies import ModelCopy, copy_of, restore
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.plan import Examination, Plan
from camdrift.pipeline.settings import Settings
from camdrift.storage.remote_directory import RemoteDirectory, directory_at
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.measures import measures
from camdrift.tables.words import ANALYSED, UNREADABLE

# A shared folder may show late what another machine has written.
_PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Task:
    """What every worker of a study is told once.

    Attributes:
        folder: Working directory, from which relative paths count.
        modules: Where modules are looked for.
        out: Path or URL of the run directory.
        started: When the run began, as its record says.
        classifier: How to make the model.
        surrogate: How to make the model that is attacked, if that is another.
        settings: The study's options.
        layers: Names of the layers.
        labels: Class index of each folder of images.
        batch_size: Images per pass.
        chunks: How many chunks there are.
        examinations: What else is learnt of every chunk.
        stored: Adversarial images that take the place of an attack.
    """

    folder: Path
    modules: tuple[str, ...]
    out: Path | str
    started: str
    classifier: ModelCopy
    surrogate: ModelCopy | None
    settings: Settings
    layers: tuple[str, ...]
    labels: Mapping[str, int]
    batch_size: int
    chunks: int
    examinations: tuple[Examination, ...]
    stored: StoredImages | None


def task_of(plan: Plan, directory: RunDirectory) -> Task:
    """What workers must know to compute chunks of a plan.

    Raises:
        UserError: They cannot be given the model.
    """
    return Task(
        folder=Path.cwd(),
        modules=tuple(os.path.abspath(place) for place in sys.path),  # noqa: PTH100, "" is the working directory
        out=directory.place if isinstance(directory, RemoteDirectory) else directory.path.absolute(),
        started=directory.read_record()["started"],
        classifier=copy_of(plan.classifier),
        surrogate=None if plan.surrogate is None else copy_of(plan.surrogate),
        settings=plan.settings,
        layers=plan.layers,
        labels=plan.labels,
        batch_size=plan.batch_size,
        chunks=plan.chunks,
        examinations=plan.examinations,
        stored=plan.attack if isinstance(plan.attack, StoredImages) else None,
    )


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a chunk that it has stored.

    Attributes:
        successes: Seeds with an adversarial example.
        unreadable: Reasons by seed_id for images that it could not read.
        batch_size: Images per pass for which there was room.
        seconds: Seconds by stage.
        warnings: What a person should know, a line each.
    """

    successes: int
    unreadable: dict[str, str]
    batch_size: int
    seconds: dict[str, float]
    warnings: tuple[str, ...]


def stored_outcome(directory: RunDirectory, index: int, plan: Plan) -> Outcome:
    """What is known of a chunk that is stored, whoever computed it."""
    return _outcome(directory.read_chunk(index, "seeds"), plan)


def _outcome(seeds: pl.DataFrame, plan: Plan, warnings: Sequence[str] = ()) -> Outcome:
    unreadable = seeds.filter(pl.col("status") == UNREADABLE)
    return Outcome(
        successes=seeds.filter(pl.col("status") == ANALYSED).height,
        unreadable=dict(unreadable.select("seed_id", "reason").iter_rows()),
        batch_size=plan.batch_size,
        seconds={},
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class Look:
    """How far a worker is with the chunk in hand: stage, seeds done, successes among them."""

    stage: str = "attack"
    seeds: int = 0
    successes: int = 0


@dataclass
class Worker:
    """Computes and stores chunks of one study.

    Attributes:
        task: What it was told.
        look: How far it is with the chunk in hand.
    """

    task: Task
    look: Look = field(default_factory=Look)
    _plan: Plan | None = None

    def prepare(self) -> None:
        """Find the run directory and make the model.

        Raises:
            UserError: This machine lacks something, or has another.
        """
        _enter(self.task.folder, self.task.modules)
        _find(self.task)
        self._plan = _plan_of(self.task)

    def study(self, index: int, files: Sequence[ImageFile]) -> Outcome:
        """Compute and store one chunk.

        Raises:
            UserError: It cannot be computed, or not be stored.
        """
        assert self._plan is not None
        plan, said = replace(self._plan, clock=Clock()), list[str]()
        self.look = Look()

        def advance(stage: str, seeds: int, successes: int) -> None:
            self.look = Look(stage, seeds, successes)

        with plan.classifier.numerics():
            fitted, result = fit_chunk(plan, files, advance, said.append)
        # The next chunk begins with as many images per pass as this one had room for.
        self._plan = replace(self._plan, batch_size=fitted.batch_size)
        with plan.clock("write"), directory_at(self.task.out) as directory:
            directory.write_chunk(index, result.tables, result.gallery)
        return replace(_outcome(result.tables["seeds"], fitted, said), seconds=plan.clock.seconds)


def _enter(folder: Path, modules: Sequence[str]) -> None:
    """Relative paths and names of modules mean here what they mean where the study was started."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"`engine` ray needs the folder of the command on every worker, got: none at {folder} ({error.strerror})",
            "start the command in a folder that all machines share",
        ) from error
    sys.path += [place for place in modules if place not in sys.path]


def _find(task: Task) -> None:
    """Raises `StoreError` unless the run directory is here and is the one that the study was started with."""
    deadline = time.monotonic() + _PATIENCE
    while not _is_there(task):
        if time.monotonic() > deadline:
            raise StoreError(
                f"`out` must be a folder that every worker sees, got: {task.out}, which one does not",
                "choose an --out that all machines share, or a URL such as s3://BUCKET/run",
            )
        time.sleep(0.5)


def _is_there(task: Task) -> bool:
    try:
        with directory_at(task.out) as directory:
            return bool(directory.read_record().get("started") == task.started)
    except StoreError:
        return False


def _plan_of(task: Task) -> Plan:
    """The plan of the study, with a model of its own."""
    settings = task.settings
    explainers = tuple(make_explainer(spec) for spec in settings.explanations)
    plan: dict[str, Any] = {name: getattr(task, name) for name in ("layers", "labels", "batch_size", "chunks")}
    return Plan(
        classifier=restore(task.classifier),
        surrogate=None if task.surrogate is None else restore(task.surrogate),
        attack=task.stored or make_attack(settings.attack),
        settings=settings,
        explainers=explainers,
        measures=measures([explainer.spec for explainer in explainers], settings.similarities),
        clock=Clock(),
        examinations=task.examinations,
        **plan,
    )
