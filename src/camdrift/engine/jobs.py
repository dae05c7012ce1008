"""Jobs that workers do: what whoever hands them out must know of them, and what a worker must be able to do."""

from collections.abc import Sequence
from typing import Any, Protocol


class JobWorker(Protocol):
    """Does jobs in a process of its own.

    Attributes:
        progress: Its progress with the job in hand.
    """

    progress: Any

    def prepare(self) -> None:
        """Make what all jobs need.

        Raises:
            UserError: This machine lacks something, or has another.
        """
        ...

    def compute(self, number: int, *arguments: Any) -> Any:
        """Do a job, store its results, and return its outcome.

        Raises:
            UserError: It cannot be done, or not be stored.
        """
        ...


class JobTask(Protocol):
    """What a worker is made of in another process; it can be pickled."""

    def worker(self) -> JobWorker:
        """Return the worker, which has not prepared anything."""
        ...


class Jobs(Protocol):
    """The jobs of a command, by number; most are missing at first.

    Attributes:
        stage: Stage of progress in which jobs begin.
    """

    stage: str

    def missing(self) -> Sequence[int]:
        """Return the jobs that are left, in the order in which they are handed out."""
        ...

    def arguments(self, number: int) -> tuple[Any, ...] | None:
        """Return what a worker gets for a job beside its number; None where it must wait for another job."""
        ...

    def take(self, number: int, outcome: Any) -> tuple[bool, tuple[str, ...]]:
        """Count an outcome; is the job finished with it, and what should a person read?

        Raises:
            UserError: The outcome is one that only this worker can have had.
        """
        ...

    def stored(self, number: int) -> Any:
        """Return the outcome of a job that is stored, whoever did it; None where it is not."""
        ...

    def name(self, number: int) -> str:
        """Return the job in a word and its number."""
        ...

    def subject(self, number: int) -> str:
        """Return what the job is about."""
        ...

    def show(self, stage: str, warnings: tuple[str, ...] = ()) -> None:
        """Show what is done."""
        ...

    def show_hands(self, hands: Sequence[tuple[int, Any]]) -> None:
        """Show what is done and what workers have in hand.

        Args:
            hands: Jobs in hand, each with the worker's progress.
        """
        ...
