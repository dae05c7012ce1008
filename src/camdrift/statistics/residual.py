"""Residual gain: how much of the attack's leverage on a layer is left behind a purifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import Counts
from camdrift.statistics.cells import Dense, SimilarityArrays, seed_arrays
from camdrift.statistics.gain import Gains, gain_interval
from camdrift.statistics.layers import all_gains, sides
from camdrift.tables.arrays import Floats
from camdrift.tables.defences import GAINS_LEFT
from camdrift.tables.reading import AnyFrame
from camdrift.tables.words import ROUNDING, SEED_TARGET


@dataclass(frozen=True)
class NoiseRuler:
    """What noise does to the layers of a run: the ruler that gains are read from.

    Attributes:
        arrays: Similarities of one measure and of the seed's class.
        variants: Table `variants`, for the L2 norms that the strengths realise.
        seeds: Names of the seeds, in the order of the arrays.
        rounding: Strengths and layers whose maps move no further than rounding moves them, and which have no gain.
    """

    arrays: SimilarityArrays
    variants: pl.DataFrame
    seeds: Sequence[str]
    rounding: frozenset[tuple[float, str]] = frozenset()

    def gains(self, deviation: Floats, seeds: Sequence[str], strength: float, resamples: Counts) -> Gains:
        """Noise-equivalent gains of deviations at the attack's L2 norm, (1 + replicates, layers); the sample first.

        Args:
            deviation: Deviation of every layer and seed, (layers, seeds); NaN where undefined.
            seeds: The seeds, sorted.
            strength: Strength of the attack.
            resamples: Number of times that each replicate draws each seed, (replicates, seeds).
        """
        order = {seed: place for place, seed in enumerate(self.seeds)}
        places = [order[seed] for seed in seeds]
        noise = self.arrays.noise
        deviated = replace(
            self.arrays,
            strengths=np.array([strength]),
            adversarial=Dense(1 - deviation[None, ..., None], np.ones((1, len(deviation)), np.int64)),
            noise=Dense(noise.values[:, :, places], noise.rows),
        )
        gains = all_gains(deviated, self.variants, seeds, resamples)[:, 0]
        names = self.arrays.layers["layer"].to_list()
        return gains.without(np.array([(strength, name) in self.rounding for name in names]))


def noise_ruler(
    similarity: AnyFrame, variants: pl.DataFrame, seeds: Sequence[str], layers: pl.DataFrame
) -> NoiseRuler | None:
    """The ruler of some seeds; None if no map of the seed's class was compared.

    Args:
        similarity: Table `similarity`, rows of one measure.
        variants: Table `variants`.
        seeds: Names of the seeds.
        layers: Table `layers` of that measure, for layers that rounding leaves without a gain.
    """
    names = sorted(seeds)
    rows = similarity.lazy().filter(pl.col("target") == SEED_TARGET, pl.col("seed_id").is_in(names))
    if rows.head(1).collect().is_empty():
        return None
    without = layers.filter(target=SEED_TARGET, gain_undefined_reason=ROUNDING)
    rounding = frozenset(without.select("strength", "layer").iter_rows())
    return NoiseRuler(seed_arrays(rows, names), variants, names, rounding)


def gains_left(attack: Gains, purified: Gains, *, has_interval: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The columns on gain of table `restoration`, one mapping per layer.

    Args:
        attack: Gains under the attack, (1, layers): they have no interval here.
        purified: The same behind the purifier, (1 + replicates, layers).
        has_interval: Layers of enough images for one, (layers,).
    """
    sample = purified[0]
    ends, flags = (
        [np.where(has_interval, end, nothing) for end in pair]
        for pair, nothing in zip(gain_interval(sample, purified[1:]), (np.nan, 0), strict=True)
    )
    columns = (
        attack.value[0],
        sides(attack.censored[0]),
        sample.value,
        *ends,
        sides(sample.censored),
        *map(sides, flags),
    )
    rows = zip(*columns, strict=True)
    return [dict(zip(GAINS_LEFT, (_or_none(value) for value in row), strict=True)) for row in rows]


def _or_none(value: str | float | None) -> str | float | None:
    """The value; None for NaN."""
    return None if value is None or value != value else value if isinstance(value, str) else float(value)
