"""The progress of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_ATTACK: Final = "attack"
IMAGES: Final = "images"


@dataclass(frozen=True)
class Progress:
    """The progress of a run, for the caller's callback.

    Attributes:
        stage: The work in hand: preflight, start, attack, explain, examine, write, statistics, report.
        seeds_done: Seeds finished, unreadable ones included.
        seeds_total: Seeds of the study.
        successes: Adversarial examples so far.
        warnings: Warnings that a person should read before trusting the study; shown once.
        attacked: Seeds that the attack is done with, those that are finished included.
        unit: What is counted, if it is not images: then there is one kind of work alone.
        result: What a success is.
    """

    stage: str
    seeds_done: int
    seeds_total: int
    successes: int
    warnings: tuple[str, ...] = ()
    attacked: int = 0
    unit: str = IMAGES
    result: str = "adversarial example"

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1: a seed that is attacked and not explained yet is half done."""
        if self.unit != IMAGES:
            return self.seeds_done / self.seeds_total if self.seeds_total else 0.0
        done = self.seeds_done + max(self.seeds_done, self.attacked)
        return done / (2 * self.seeds_total) if self.seeds_total else 0.0


OnProgress = Callable[[Progress], None]


def attacked_seeds(stage: str, seeds: int, successes: int, size: int) -> int:
    """Seeds of a chunk that the attack is done with.

    Args:
        stage: Stage of the chunk.
        seeds: Its finished seeds; while it is attacked those without an adversarial example.
        successes: Its adversarial examples so far.
        size: All its seeds.
    """
    return seeds + successes if stage == _ATTACK else size
