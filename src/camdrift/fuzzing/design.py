"""The design of a campaign: what all its trials share."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from camdrift.coverage.criteria import Criterion
from camdrift.fuzzing.budget import Budget
from camdrift.fuzzing.constraints import Constraint
from camdrift.fuzzing.oracles import Oracle
from camdrift.fuzzing.passes import group_size
from camdrift.models.classifier import Classifier
from camdrift.models.replicas import replicated
from camdrift.streams import stream_seed

# Times that an invalid mutant is drawn again before it is given up.
ATTEMPTS: Final = 10
# Iterations in a row without a valid mutant after which a campaign gives up.
MOST_IDLE: Final = 50


@dataclass(frozen=True)
class FuzzSeed:
    """A seed that is fuzzed.

    Attributes:
        seed_id: Its name.
        seed_class: The class that it has: its label, or the model's own prediction.
    """

    seed_id: str
    seed_class: int


@dataclass(frozen=True)
class CampaignDesign:
    """What all trials share.

    Attributes:
        classifier: The classifier that is fuzzed.
        starts: The seeds, in order.
        oracle: Says what a failure is.
        constraint: Says which mutants are valid.
        budget: What a trial may spend.
        operators: Names of the operators that mutate images.
        criterion: The campaign's criterion, which every trial reports; None for none.
        batch_size: Images per pass, on a card; see `group`.
        rng_seed: Seed of every random draw.
        as_released: Are published defects that change results switched on?
    """

    classifier: Classifier
    starts: Sequence[FuzzSeed]
    oracle: Oracle
    constraint: Constraint
    budget: Budget
    operators: tuple[str, ...]
    criterion: Criterion | None
    batch_size: int = 8
    rng_seed: int = 0
    as_released: bool = False

    @property
    def group(self) -> int:
        """Images of a pass: the same number always, so that results do not depend on how images are cut."""
        return group_size(self.classifier, self.batch_size)

    @property
    def leaks(self) -> bool:
        """Do rejected mutants leave something on the account of others, as in DeepHunter 2.0?"""
        return self.as_released and self.constraint.name == "deephunter"

    @property
    def models(self) -> tuple[Classifier, ...]:
        """All models: the one that is fuzzed, and the oracle's others."""
        return (self.classifier, *self.oracle.others)

    def on_cores(self) -> AbstractContextManager[None]:
        """Inside the block groups of images go side by side, one on each core of the processor."""
        return replicated(*self.models, batch_size=self.group)

    def stream(self, trial: int, iteration: int, purpose: str) -> int:
        """Return the seed of a random stream; no other draw of the campaign shares it."""
        return stream_seed(self.rng_seed, f"trial {trial} iteration {iteration}", purpose)
