"""The progress of a run."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of a run, for the caller's callback.

    Attributes:
        stage: The work in hand: preflight, start, attack, explain, examine, write, statistics, report.
        seeds_done: Seeds finished, unreadable ones included.
        seeds_total: Seeds of the study.
        successes: Adversarial examples so far.
        warnings: Warnings that a person should read before trusting the study; shown once.
    """

    stage: str
    seeds_done: int
    seeds_total: int
    successes: int
    warnings: tuple[str, ...] = ()


OnProgress = Callable[[Progress], None]
