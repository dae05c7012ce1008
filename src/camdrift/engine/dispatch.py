"""Jobs handed out to workers that Ray starts: one at a time to each, again if a worker dies, until all are done.

We use plain actors and a loop of our own. Ray Data hands out jobs ahead of time, and begins a lost one anew without
end or word. A study must end with the chunks in hand when it is asked to stop, and must name the chunk that kills its
workers.
"""

import pickle
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from camdrift.engine.actor import Actor
from camdrift.engine.engine import Engine
from camdrift.engine.jobs import Jobs, JobTask
from camdrift.engine.ray_cluster import Team, cluster, team
from camdrift.errors import UserError, one_line
from camdrift.processors import processors_here

# Workers that may die over one job, or before they are ready for any.
TRIES: Final = 3
_LOOK_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 60.0
_CURE: Final = "did memory run out? fewer --workers need less; --resume goes on"

_EVERYWHERE: Final = "has every machine the same camdrift and Python, and enough memory?"


def hand_out(engine: Engine, jobs: Jobs, task: Callable[[], JobTask], *, is_gpu: bool) -> dict[str, Any]:
    """Let workers do the jobs that are missing.

    Args:
        engine: The engine ray.
        jobs: The jobs.
        task: Makes what every worker is made of; not called where nothing is missing.
        is_gpu: Does a worker need a GPU?

    Returns:
        The engine for the record.

    Raises:
        UserError: A worker cannot be started, or a job not be done.
        KeyboardInterrupt: Progress asked to stop; the jobs that were in hand are stored.
    """
    missing = jobs.missing()
    if not missing:
        return engine.as_record()
    data = pickle.dumps(task())
    jobs.show("start")
    with cluster(engine.address, max(processors_here(), engine.workers or 1)) as ray:
        workers = team(ray, engine.workers, len(missing), is_gpu=is_gpu)
        Dispatch(jobs, missing).run(ray, workers, data)
    return {**engine.as_record(), "workers": workers.workers, "threads": workers.threads}


@dataclass
class _Hand:
    """A worker, and the job that it has in hand; None while it gets ready."""

    actor: Any
    job: int | None = None


class Dispatch:
    """The jobs that workers have in hand, and those that are left.

    Args:
        jobs: The jobs.
        missing: Those that are left, in the order in which they are handed out.
    """

    def __init__(self, jobs: Jobs, missing: Sequence[int]) -> None:
        self._jobs, self._missing = jobs, deque(missing)
        self._actors: list[Any] = []
        self._waiting: list[Any] = []
        self._hands: dict[Any, _Hand] = {}
        self._deaths: Counter[int | None] = Counter()
        self._stop: KeyboardInterrupt | None = None
        self._ray: Any = None

    def run(self, ray: Any, workers: Team, task: bytes) -> None:
        """Let workers do the missing jobs; raises as `hand_out` does."""
        self._ray, self._team, self._task = ray, workers, ray.put(task)
        start, has_warned = monotonic(), False
        try:
            for _ in range(workers.workers):
                self._hire()
            while self._is_unfinished():
                if not self._is_in_hand():
                    # Nothing is in hand: whoever has asked to stop stops here.
                    self._jobs.show("start")
                ready, _ = ray.wait(list(self._hands), timeout=_LOOK_SECONDS)
                for reference in ready:
                    self._take(reference, self._hands.pop(reference))
                if not ready:
                    self._show_hands()
                if not has_warned and monotonic() - start > _WAIT_SECONDS:
                    self._warn_of_waiting()
                    has_warned = True
        finally:
            # All of them, also the one whose answer has just come.
            for actor in self._actors:
                ray.kill(actor)
        if self._stop is not None:
            raise self._stop

    def _is_in_hand(self) -> bool:
        return any(hand.job is not None for hand in self._hands.values())

    def _is_unfinished(self) -> bool:
        """Is a job in hand, or to be handed out? Nobody waits for workers that are not there yet."""
        return self._is_in_hand() or (bool(self._missing) and self._stop is None)

    def _hire(self) -> None:
        """Start a worker; it gets a job when it is ready."""
        actor = self._ray.remote(Actor).options(**self._team.options()).remote(self._team.threads)
        self._actors.append(actor)
        self._hands[actor.prepare.remote(self._task)] = _Hand(actor)

    def _give(self, actor: Any) -> None:
        """Give a worker the next job, let it wait for one, or send it home."""
        if not self._missing or self._stop is not None:
            self._ray.kill(actor)
            return
        for number in self._missing:
            arguments = self._jobs.arguments(number)
            if arguments is not None:
                if not self._is_in_hand():
                    self._jobs.show(self._jobs.stage)
                self._missing.remove(number)
                self._hands[actor.compute.remote(number, *arguments)] = _Hand(actor, number)
                return
        self._waiting.append(actor)

    def _take(self, reference: Any, hand: _Hand) -> None:
        """Take a worker's answer, and give it the next job."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            self._lose(hand, error)
            return
        if isinstance(answer, Exception):
            raise answer
        if hand.job is None:
            self._deaths[None] = 0
        else:
            self._finish(hand.job, answer)
        actors, self._waiting = [hand.actor, *self._waiting], []
        for actor in actors:
            self._give(actor)

    def _finish(self, number: int, outcome: Any) -> None:
        is_finished, warnings = self._jobs.take(number, outcome)
        if not is_finished:
            self._missing.appendleft(number)
        if self._stop is not None:
            return
        try:
            self._jobs.show("write", warnings)
        except KeyboardInterrupt as stop:
            # The other workers finish the jobs that they have in hand.
            self._stop = stop

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """Replace a worker that is gone, and do its job again unless it stored that before."""
        self._ray.kill(hand.actor)
        number = hand.job
        outcome = None if number is None else self._jobs.stored(number)
        if number is not None and outcome is not None:
            self._finish(number, outcome)
        else:
            self._deaths[number] += 1
            if self._deaths[number] >= TRIES:
                raise self._given_up(number, error)
            if number is not None:
                self._missing.appendleft(number)
                self._warn(f"a worker died: {self._jobs.name(number)} is done again")
        if self._missing and self._stop is None:
            self._hire()

    def _given_up(self, number: int | None, error: Exception) -> UserError:
        if number is None:
            return UserError(f"`engine` ray: {TRIES} workers died before they were ready ({_why(error)})", _EVERYWHERE)
        job = f"{self._jobs.name(number)} ({self._jobs.subject(number)})"
        return UserError(f"{TRIES} workers died over {job}: {_why(error)}", _CURE)

    def _show_hands(self) -> None:
        """Show the progress of the jobs in hand."""
        if self._stop is not None:
            return
        pairs = [(hand.job, hand.actor.progress.remote()) for hand in self._hands.values() if hand.job is not None]
        calls = [call for _, call in pairs]
        ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=_LOOK_SECONDS) if calls else ([], [])
        hands = list[tuple[int, Any]]()
        for number, call in pairs:
            try:
                if call in ready:
                    hands.append((number, self._ray.get(call)))
            except self._ray.exceptions.RayError:
                continue  # the worker is gone, as the answer for its job will say
        if hands:
            self._jobs.show_hands(hands)

    def _warn_of_waiting(self) -> None:
        waiting = sum(hand.job is None for hand in self._hands.values())
        if waiting:
            self._warn(
                f"{waiting} of {self._team.workers} workers are not there yet; each asks for {self._team.demand()}, "
                f"and Ray has {self._team.total}"
            )

    def _warn(self, text: str) -> None:
        if self._stop is None:
            self._jobs.show(self._jobs.stage, (text,))


def _why(error: Exception) -> str:
    """The reason in Ray's words on a worker's end: the last line of an error in its process, or else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error):
        return lines[-1]
    details = [line.partition("Worker exit detail:")[2].strip() for line in lines if "Worker exit detail:" in line]
    return (details or [one_line(error)])[0].partition(" Some common causes")[0]
