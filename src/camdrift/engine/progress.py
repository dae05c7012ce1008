"""How far a run is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the caller's callback.

    Attributes:
        stage: What is being done: preflight, start, attack, explain, examine, write, statistics, report.
        seeds_done: Seeds finished, unreadable ones included.
        seeds_total: Seeds of the study.
        successes: Adversarial examples so far.
        warnings: What a person should know before trusting the study; shown once.
    """

    stage: str
    seeds_done: int
    seeds_total: int
    successes: int
    warnings: tuple[str, ...] = ()


OnProgress = Callable[[Progress], None]
