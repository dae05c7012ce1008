"""Chunks handed out to workers that Ray starts: one at a time to each, again if a worker dies, until all are stored.

We use plain actors and a loop of our own. Ray Data hands chunks to actors ahead of time, and begins a lost one anew
without end or word. A study must end with the chunks in hand when it is asked to stop, and must name the chunk that
kills its workers.
"""

import pickle
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from camdrift.engine.actor import Actor
from camdrift.engine.engine import Engine
from camdrift.engine.progress import OnProgress, Progress
from camdrift.engine.ray_cluster import Team, cluster, processors_here, team
from camdrift.engine.worker import ChunkProgress, Outcome, stored_outcome, task_of
from camdrift.errors import UserError, one_line
from camdrift.images.places import ImageFile
from camdrift.pipeline.failures import names
from camdrift.pipeline.plan import Plan, image_checksum, parts
from camdrift.storage.remote_directory import gather
from camdrift.storage.run_directory import RunDirectory

# Workers that may die over one chunk, or before they are ready for any.
TRIES: Final = 3
_LOOK_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 60.0
_CURE: Final = "did memory run out? fewer --workers need less; --resume goes on"

_EVERYWHERE: Final = "has every machine the same camdrift and Python, and enough memory?"


def compute(
    engine: Engine, plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress
) -> tuple[Plan, dict[str, Any]]:
    """Compute and store the chunks that are missing.

    Returns:
        The plan with as many images per pass as every worker had room for, and the engine for the record.

    Raises:
        UserError: A worker cannot be started, or a chunk not be computed.
        KeyboardInterrupt: `on_progress` asked to stop; the chunks that were in hand are stored.
    """
    dispatch = Dispatch(plan, dict(enumerate(parts(files, plan.settings))), directory, on_progress)
    missing = dispatch.count_stored()
    if not missing:
        return plan, engine.as_record()
    task = pickle.dumps(task_of(plan, directory))
    is_gpu = plan.classifier.device.type != "cpu"
    dispatch.show_start()
    with cluster(engine.address, max(processors_here(), engine.workers or 1)) as ray:
        workers = team(ray, engine.workers, missing, is_gpu=is_gpu)
        dispatch.run(ray, workers, task)
    return dispatch.plan, {**engine.as_record(), "workers": workers.workers, "threads": workers.threads}


@dataclass
class _Hand:
    """A worker, and the chunk that it has in hand; None while it gets ready."""

    actor: Any
    chunk: int | None = None


class Dispatch:
    """The chunks of a study: those that are stored, those that workers have in hand, and the rest.

    Attributes:
        plan: The plan of the study, with as many images per pass as every worker so far had room for.
    """

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
        self._missing = deque(chunks)
        self._finished, self._successes = 0, 0
        self._actors: list[Any] = []
        self._hands: dict[Any, _Hand] = {}
        self._deaths: Counter[int | None] = Counter()
        self._stop: KeyboardInterrupt | None = None
        self._ray: Any = None

    def count_stored(self) -> int:
        """Count the chunks that are stored already; return the number of the others."""
        for index in sorted(self._directory.chunks_done() & self._chunks.keys()):
            self._missing.remove(index)
            self._count(index, stored_outcome(self._directory, index, self.plan))
            self._show("write", self._finished, self._successes)
        return len(self._missing)

    def run(self, ray: Any, workers: Team, task: bytes) -> None:
        """Let workers compute the missing chunks; raises as `compute` does."""
        self._ray, self._team, self._task = ray, workers, ray.put(task)
        start, has_warned = monotonic(), False
        try:
            for _ in range(workers.workers):
                self._hire()
            while self._is_unfinished():
                if not self._is_in_hand():
                    self.show_start()
                ready, _ = ray.wait(list(self._hands), timeout=_LOOK_SECONDS)
                for reference in ready:
                    self._take(reference, self._hands.pop(reference))
                if not ready:
                    self._show_progress()
                if not has_warned and monotonic() - start > _WAIT_SECONDS:
                    self._warn_of_waiting()
                    has_warned = True
        finally:
            # All of them, also the one whose answer has just come.
            for actor in self._actors:
                ray.kill(actor)
        if self._stop is not None:
            raise self._stop
        gather(self._directory, self._chunks)

    def show_start(self) -> None:
        """Show that no chunk is in hand yet: whoever has asked to stop stops here."""
        self._show("start", self._finished, self._successes)

    def _is_in_hand(self) -> bool:
        return any(hand.chunk is not None for hand in self._hands.values())

    def _is_unfinished(self) -> bool:
        """Is a chunk in hand, or to be handed out? Nobody waits for workers that are not there yet."""
        return self._is_in_hand() or (bool(self._missing) and self._stop is None)

    def _hire(self) -> None:
        """Start a worker; it gets a chunk when it is ready."""
        actor = self._ray.remote(Actor).options(**self._team.options()).remote(self._team.threads)
        self._actors.append(actor)
        self._hands[actor.prepare.remote(self._task)] = _Hand(actor)

    def _give(self, actor: Any) -> None:
        """Give a worker the next chunk, or send it home."""
        if self._missing and self._stop is None:
            if not self._is_in_hand():
                self._show("attack", self._finished, self._successes)
            index = self._missing.popleft()
            self._hands[actor.study.remote(index, tuple(self._chunks[index]))] = _Hand(actor, index)
        else:
            self._ray.kill(actor)

    def _take(self, reference: Any, hand: _Hand) -> None:
        """Take a worker's answer, and give it the next chunk."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            self._lose(hand, error)
            return
        if isinstance(answer, Exception):
            raise answer
        if hand.chunk is None:
            self._deaths[None] = 0
        else:
            self._finish(hand.chunk, answer)
        self._give(hand.actor)

    def _finish(self, index: int, outcome: Outcome) -> None:
        self._check_unreadable(index, outcome.unreadable)
        self._count(index, outcome)
        if self._stop is not None:
            return
        try:
            self._show("write", self._finished, self._successes, outcome.warnings)
        except KeyboardInterrupt as stop:
            # The other workers finish the chunks that they have in hand.
            self._stop = stop

    def _count(self, index: int, outcome: Outcome) -> None:
        self._finished += len(self._chunks[index])
        self._successes += outcome.successes
        self.plan = self.plan.with_batch_size(min(self.plan.batch_size, outcome.batch_size))
        self.plan.clock.add(outcome.seconds)

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """Replace a worker that is gone, and do its chunk again unless it stored that before."""
        self._ray.kill(hand.actor)
        index = hand.chunk
        if index is not None and self._is_stored(index):
            self._finish(index, stored_outcome(self._directory, index, self.plan))
        else:
            self._deaths[index] += 1
            if self._deaths[index] >= TRIES:
                raise self._given_up(index, error)
            if index is not None:
                self._missing.appendleft(index)
                self._warn(f"a worker died: chunk {index:05d} is done again")
        if self._missing and self._stop is None:
            self._hire()

    def _is_stored(self, index: int) -> bool:
        self._directory.fetch_chunks([index])
        return index in self._directory.chunks_done()

    def _given_up(self, index: int | None, error: Exception) -> UserError:
        if index is None:
            return UserError(f"`engine` ray: {TRIES} workers died before they were ready ({_why(error)})", _EVERYWHERE)
        seeds = names(self._chunks[index])
        return UserError(f"{TRIES} workers died over chunk {index:05d} (seeds {seeds}): {_why(error)}", _CURE)

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

    def _show_progress(self) -> None:
        """Show the progress of the chunks in hand."""
        if self._stop is not None:
            return
        calls = [hand.actor.progress.remote() for hand in self._hands.values() if hand.chunk is not None]
        ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=_LOOK_SECONDS) if calls else ([], [])
        chunks = list[ChunkProgress]()
        for reference in ready:
            try:
                chunks.append(self._ray.get(reference))
            except self._ray.exceptions.RayError:
                continue  # the worker is gone, as the answer for its chunk will say
        if chunks:
            seeds, successes = sum(chunk.seeds for chunk in chunks), sum(chunk.successes for chunk in chunks)
            attacked = self._finished + sum(chunk.attacked for chunk in chunks)
            self._show(chunks[0].stage, self._finished + seeds, self._successes + successes, attacked=attacked)

    def _warn_of_waiting(self) -> None:
        waiting = sum(hand.chunk is None for hand in self._hands.values())
        if waiting:
            self._warn(
                f"{waiting} of {self._team.workers} workers are not there yet; each asks for {self._team.demand()}, "
                f"and Ray has {self._team.total}"
            )

    def _warn(self, text: str) -> None:
        if self._stop is None:
            self._show("attack", self._finished, self._successes, (text,))

    def _show(self, stage: str, seeds: int, successes: int, warnings: tuple[str, ...] = (), attacked: int = 0) -> None:
        self._on_progress(Progress(stage, seeds, self._total, successes, warnings, attacked))


def _why(error: Exception) -> str:
    """The reason in Ray's words on a worker's end: the last line of an error in its process, or else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error):
        return lines[-1]
    details = [line.partition("Worker exit detail:")[2].strip() for line in lines if "Worker exit detail:" in line]
    return (details or [one_line(error)])[0].partition(" Some common causes")[0]
