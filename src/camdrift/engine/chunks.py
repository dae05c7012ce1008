"""The chunks of a study as jobs for workers: those that are stored, and the rest."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from camdrift.engine.dispatch import hand_out
from camdrift.engine.engine import Engine
from camdrift.engine.progress import OnProgress, Progress
from camdrift.engine.worker import ChunkProgress, Outcome, stored_outcome, task_of
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.pipeline.failures import names
from camdrift.pipeline.plan import Plan, image_checksum, parts
from camdrift.storage.remote_directory import gather
from camdrift.storage.run_directory import RunDirectory

_ATTACK: Final = "attack"


def compute(
    engine: Engine, plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress
) -> tuple[Plan, dict[str, Any]]:
    """Compute and store the chunks that are missing, on workers.

    Returns:
        The plan with as many images per pass as every worker had room for, and the engine for the record.

    Raises:
        UserError: A worker cannot be started, or a chunk not be computed.
        KeyboardInterrupt: `on_progress` asked to stop; the chunks that were in hand are stored.
    """
    jobs = ChunkJobs(plan, dict(enumerate(parts(files, plan.settings))), directory, on_progress)
    is_gpu = plan.classifier.device.type != "cpu"
    record = hand_out(engine, jobs, lambda: task_of(plan, directory), is_gpu=is_gpu)
    jobs.gather()
    return jobs.plan, record


class ChunkJobs:
    """The chunks of a study.

    Attributes:
        plan: The plan of the study, with as many images per pass as every worker so far had room for.
    """

    stage: str = _ATTACK

    def __init__(
        self,
        plan: Plan,
        chunks: Mapping[int, Sequence[ImageFile]],
        directory: RunDirectory,
        on_progress: OnProgress,
    ) -> None:
        self.plan = plan
        self._chunks, self._directory, self._on_progress = chunks, directory, on_progress
        self._total = sum(map(len, chunks.values()))
        self._finished, self._successes = 0, 0

    def missing(self) -> Sequence[int]:
        """Count the chunks that are stored already; return the others."""
        missing = deque(self._chunks)
        for index in sorted(self._directory.chunks_done() & self._chunks.keys()):
            missing.remove(index)
            self._count(index, stored_outcome(self._directory, index, self.plan))
            self.show("write")
        return missing

    def gather(self) -> None:
        """Bring what workers have written elsewhere to this machine."""
        gather(self._directory, self._chunks)

    def arguments(self, number: int) -> tuple[Any, ...]:
        """As `Jobs`: the files of a chunk."""
        return (tuple(self._chunks[number]),)

    def take(self, number: int, outcome: Outcome) -> tuple[bool, tuple[str, ...]]:
        """As `Jobs`."""
        self._check_unreadable(number, outcome.unreadable)
        self._count(number, outcome)
        return True, outcome.warnings

    def stored(self, number: int) -> Outcome | None:
        """As `Jobs`."""
        self._directory.fetch_chunks([number])
        is_stored = number in self._directory.chunks_done()
        return stored_outcome(self._directory, number, self.plan) if is_stored else None

    def name(self, number: int) -> str:
        """As `Jobs`."""
        return f"chunk {number:05d}"

    def subject(self, number: int) -> str:
        """As `Jobs`."""
        return f"seeds {names(self._chunks[number])}"

    def show(self, stage: str, warnings: tuple[str, ...] = ()) -> None:
        """As `Jobs`."""
        self._on_progress(Progress(stage, self._finished, self._total, self._successes, warnings))

    def show_hands(self, hands: Sequence[tuple[int, ChunkProgress]]) -> None:
        """As `Jobs`."""
        chunks = [chunk for _, chunk in hands]
        seeds = self._finished + sum(chunk.seeds for chunk in chunks)
        successes = self._successes + sum(chunk.successes for chunk in chunks)
        attacked = self._finished + sum(chunk.attacked for chunk in chunks)
        self._on_progress(Progress(chunks[0].stage, seeds, self._total, successes, attacked=attacked))

    def _count(self, index: int, outcome: Outcome) -> None:
        self._finished += len(self._chunks[index])
        self._successes += outcome.successes
        self.plan = self.plan.with_batch_size(min(self.plan.batch_size, outcome.batch_size))
        self.plan.clock.add(outcome.seconds)

    def _check_unreadable(self, index: int, reasons: Mapping[str, str]) -> None:
        """Raises `UserError` for an image that only the worker could not read."""
        for file in self._chunks[index] if reasons else ():
            if file.seed_id in reasons and image_checksum(self.plan, file) is not None:
                self._directory.drop_chunk(index)
                raise UserError(
                    f"`images` must be readable on every worker, got: {file.seed_id}, which is read here, but not on "
                    f"one ({reasons[file.seed_id]})",
                    "keep the images in a folder that all machines share",
                )
