"""Some seed images of a study in lower precision, explained once more in float32: what the rounding costs."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import polars as pl

from camdrift.models.classifier import Classifier
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.maps import explain_all
from camdrift.pipeline.plan import Examination, Plan
from camdrift.pipeline.seeds import Seed
from camdrift.tables.further import PRECISION

FULL: Final = "fp32"
# So many seeds of a study, if enough are analysed; every chunk gives its share of them, and one at least.
WANTED: Final = 8


@dataclass(frozen=True)
class FullPrecision:
    """The examination that fills table `precision`.

    The images are those of the study, made in its precision: what differs is the network's arithmetic alone.
    """

    table: str = PRECISION.name

    def __call__(self, plan: Plan, seeds: Sequence[Seed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the chunk's first analysed seeds."""
        share = max(1, ceil(WANTED / plan.chunks))
        taken = [seed for seed in seeds if seed.is_analysed][:share]
        again = [replace(seed, row=dict(seed.row), variant_rows=[], variants_covered={}) for seed in taken]
        classifier = copy(plan.classifier)
        classifier.precision = FULL
        with classifier.numerics():
            similarity, _ = explain_all(replace(plan, classifier=classifier, clock=Clock()), again, {}, advance)
        finite = [seed.file.seed_id for seed in again if seed.is_analysed]
        return PRECISION.frame(similarity.filter(pl.col("seed_id").is_in(finite)).to_dict())


def in_full_precision(classifier: Classifier) -> tuple[Examination, ...]:
    """The examination that a classifier's precision asks for."""
    return () if classifier.precision == FULL else (FullPrecision(),)
