"""Some seed images of a study in lower precision, explained once more in float32, to measure the rounding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from camdrift.models.classifier import Classifier, Precision
from camdrift.models.replicas import by_all_threads, replicated
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.maps import explain_all
from camdrift.pipeline.plan import ExtraTable, Plan
from camdrift.pipeline.seeds import NoisySeed
from camdrift.tables.further import PRECISION

FULL: Final[Precision] = "fp32"
# Seeds of a study, if enough are analysed; every chunk gives its share of them, and one at least.
FULL_SEEDS: Final = 8


@dataclass(frozen=True)
class FullPrecision:
    """The extra table `precision`.

    The images are those of the study, made in its precision; only the network's arithmetic differs.
    """

    table: str = PRECISION.name

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the chunk's first analysed seeds."""
        share = plan.chunk_share(FULL_SEEDS)
        classifier = plan.classifier.at_precision(FULL)
        block = replicated(classifier, batch_size=plan.batch_size)
        with by_all_threads(plan.classifier), block, classifier.numerics():
            chunk = explain_all(replace(plan, classifier=classifier, clock=Clock()), seeds[:share], {}, advance)
        finite = [seed.seed_id for seed in seeds if seed.seed_id not in chunk.failures()]
        return PRECISION.frame(chunk.similarity.filter(pl.col("seed_id").is_in(finite)).to_dict())


def in_full_precision(classifier: Classifier) -> tuple[ExtraTable, ...]:
    """The extra table that a classifier's precision asks for."""
    return () if classifier.precision == FULL else (FullPrecision(),)
