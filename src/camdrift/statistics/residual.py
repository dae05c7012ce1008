"""Residual gain: how much of the attack's leverage on a layer is left behind a purifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from camdrift.statistics.bootstrap import Counts
from camdrift.statistics.cells import Dense, SimilarityArrays, seed_arrays
from camdrift.statistics.gain import Gains, gain_interval
from camdrift.statistics.layers import all_gains, sides
from camdrift.tables.arrays import Floats
from camdrift.tables.defences import GAINS_LEFT
from camdrift.tables.reading import AnyFrame
from camdrift.tables.words import SEED_TARGET


@dataclass(frozen=True)
class NoiseRuler:
    """What noise does to the layers of a run: the ruler that gains are read from.

    Attributes:
        arrays: Similarities of one measure and of the seed's class.
        variants: Table `variants`, for the L2 norms that the strengths realise.
        seeds: Names of the seeds, in the order of the arrays.
    """

    arrays: SimilarityArrays
    variants: pl.DataFrame
    seeds: Sequence[str]

    def gains(self, deviation: Floats, seeds: Sequence[str], strength: float, resamples: Counts) -> Gains:
        """Noise-equivalent gains of deviations at the attack's L2 norm, (1 + replicates, layers); the sample first.

        Args:
            deviation: Deviation of every layer and seed, (layers, seeds); NaN where undefined.
            seeds: The seeds, sorted.
            strength: Strength of the attack.
            resamples: Number of times that each replicate draws each seed, (replicates, seeds).
        """
        places = [self.seeds.index(seed) for seed in seeds]
        noise = self.arrays.noise
        deviated = replace(
            self.arrays,
            strengths=np.array([strength]),
            adversarial=Dense(1 - deviation[None, ..., None], np.ones((1, len(deviation)), np.int64)),
            noise=Dense(noise.values[:, :, places], noise.rows),
        )
        return all_gains(deviated, self.variants, seeds, resamples)[:, 0]


def noise_ruler(similarity: AnyFrame, variants: pl.DataFrame, seeds: Sequence[str]) -> NoiseRuler | None:
    """The ruler of some seeds; None if no map of the seed's class was compared.

    Args:
        similarity: Table `similarity`, rows of one measure.
        variants: Table `variants`.
        seeds: Names of the seeds.
    """
    names = sorted(seeds)
    rows = similarity.lazy().filter(pl.col("target") == SEED_TARGET, pl.col("seed_id").is_in(names))
    return NoiseRuler(seed_arrays(rows, names), variants, names) if rows.head(1).collect().height else None


def gains_left(attack: Gains, purified: Gains) -> list[dict[str, Any]]:
    """The columns on gain of table `restoration`, one mapping per layer.

    Args:
        attack: Gains under the attack, (1 + replicates, layers).
        purified: The same behind the purifier.
    """
    sample = purified[0]
    ends, flags = gain_interval(sample, purified[1:])
    columns = (
        attack.value[0],
        sides(attack.censored[0]),
        sample.value,
        ends.low,
        ends.high,
        sides(sample.censored),
        sides(flags.low),
        sides(flags.high),
    )
    rows = zip(*columns, strict=True)
    return [dict(zip(GAINS_LEFT, (_or_none(value) for value in row), strict=True)) for row in rows]


def _or_none(value: str | float | None) -> str | float | None:
    """The value; None for NaN."""
    return None if value is None or value != value else value if isinstance(value, str) else float(value)
