"""One worker of a study: it has a model of its own, computes chunks and stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from camdrift.engine.progress import attacked_seeds
from camdrift.engine.workplace import Workplace
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.models.copies import ModelCopy, copy_of, restore
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.plan import Design, Plan, assemble, attack_code, perturbation_code
from camdrift.storage.remote_directory import RemoteDirectory, directory_at
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.words import ANALYSED, UNREADABLE

_CURE: Final = "choose an --out that all machines share, or a URL such as s3://BUCKET/run"


@dataclass(frozen=True)
class Task:
    """The task of every worker of a study.

    Attributes:
        design: The choices of the study.
        classifier: A copy of the model.
        surrogate: A copy of the model that is attacked, if that is another.
        workplace: The surroundings of the study.
        attack_code: The user's code that must be behind the attack.
        perturbation_code: The user's code that must be behind the natural changes.
    """

    design: Design
    classifier: ModelCopy
    surrogate: ModelCopy | None
    workplace: Workplace
    attack_code: Mapping[str, str] | None = None
    perturbation_code: Mapping[str, str] | None = None

    def worker(self) -> "Worker":
        """As `JobTask`."""
        return Worker(self)


def task_of(plan: Plan, directory: RunDirectory) -> Task:
    """The task of workers that compute chunks of a plan.

    Raises:
        UserError: The model cannot be given to them.
    """
    return Task(
        design=plan.design,
        classifier=copy_of(plan.classifier),
        surrogate=None if plan.surrogate is None else copy_of(plan.surrogate),
        workplace=Workplace.here(
            directory.place if isinstance(directory, RemoteDirectory) else directory.path,
            directory.read_record()["started"],
        ),
        attack_code=attack_code(plan.attack),
        perturbation_code=perturbation_code(plan.settings.perturb),
    )


@dataclass(frozen=True)
class Outcome:
    """A worker's report of a chunk that it has stored.

    Attributes:
        successes: Seeds with an adversarial example.
        unreadable: Reasons by `seed_id` for images that it could not read.
        batch_size: Images per pass for which there was room.
        seconds: Seconds by stage.
        warnings: Warnings for a person, a line each.
    """

    successes: int
    unreadable: dict[str, str]
    batch_size: int
    seconds: dict[str, float]
    warnings: tuple[str, ...]


def stored_outcome(directory: RunDirectory, index: int, plan: Plan) -> Outcome:
    """The outcome of a chunk that is stored, whoever computed it."""
    return _outcome(directory.read_chunk(index, "seeds"), plan.batch_size)


def _outcome(seeds: pl.DataFrame, batch_size: int) -> Outcome:
    unreadable = seeds.filter(pl.col("status") == UNREADABLE)
    return Outcome(
        successes=seeds.filter(pl.col("status") == ANALYSED).height,
        unreadable=dict(unreadable.select("seed_id", "reason").iter_rows()),
        batch_size=batch_size,
        seconds={},
        warnings=(),
    )


@dataclass(frozen=True)
class ChunkProgress:
    """A worker's progress with the chunk in hand: stage, seeds done, successes among them, seeds attacked."""

    stage: str = "attack"
    seeds: int = 0
    successes: int = 0
    attacked: int = 0


@dataclass
class Worker:
    """Computes and stores chunks of one study.

    Attributes:
        task: Its task.
        progress: Its progress with the chunk in hand.
    """

    task: Task
    progress: ChunkProgress = field(default_factory=ChunkProgress)
    _plan: Plan | None = None

    def prepare(self) -> None:
        """Find the run directory and make the model.

        Raises:
            UserError: This machine lacks something, or has another.
        """
        task = self.task
        task.workplace.enter(self._read_record, _CURE)
        surrogate = None if task.surrogate is None else restore(task.surrogate)
        plan = assemble(task.design, restore(task.classifier), surrogate=surrogate)
        if attack_code(plan.attack) != task.attack_code:
            raise UserError(
                f"`attack` must be the same on every worker, got: {plan.attack.spec}, whose file has changed since the "
                "study was started",
                "put the file back; --resume goes on",
            )
        if perturbation_code(plan.settings.perturb) != task.perturbation_code:
            raise UserError(
                f"`perturb` must be the same on every worker, got: {', '.join(plan.settings.perturb)}, whose file has "
                "changed since the study was started",
                "put the file back; --resume goes on",
            )
        self._plan = plan

    def compute(self, number: int, files: Sequence[ImageFile]) -> Outcome:
        """Compute and store one chunk.

        Raises:
            UserError: It cannot be computed, or not be stored.
        """
        assert self._plan is not None
        plan, warnings = replace(self._plan, clock=Clock()), list[str]()
        self.progress = ChunkProgress()

        def advance(stage: str, seeds: int, successes: int) -> None:
            attacked = attacked_seeds(stage, seeds, successes, len(files))
            self.progress = ChunkProgress(stage, seeds, successes, attacked)

        with plan.classifier.numerics():
            # The next chunk begins with as many images per pass as this one had room for.
            self._plan, result = fit_chunk(plan.at_chunk(number), files, advance, warnings.append)
        with plan.clock("write"), directory_at(self.task.workplace.out) as directory:
            directory.write_chunk(number, result.tables, result.gallery)
        outcome = _outcome(result.tables["seeds"], self._plan.batch_size)
        return replace(outcome, seconds=plan.clock.seconds, warnings=tuple(warnings))

    def _read_record(self) -> dict[str, Any]:
        with directory_at(self.task.workplace.out) as directory:
            return directory.read_record()
