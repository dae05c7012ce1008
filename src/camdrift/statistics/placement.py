"""Does coverage rise in the layer where a failure takes hold?"""

from dataclasses import dataclass

import numpy as np

from camdrift.statistics.bootstrap import Ints
from camdrift.statistics.suites import middle_range, permutation_p
from camdrift.tables.arrays import Floats


@dataclass(frozen=True)
class Placement:
    """Correlation of a layer's gain with failures that take hold there.

    Attributes:
        layer: Place of the layer; None for all together: the mean over layers where failures take hold.
        estimate: The correlation; NaN where one side is constant.
        null: 2.5 and 97.5 % quantiles where onsets are permuted over failures.
        p_value: Two-sided p against the same.
        n: Failures that take hold there; all for all layers.
    """

    layer: int | None
    estimate: float
    null: tuple[float, float]
    p_value: float
    n: int


def placements(gains: Floats, onsets: Ints, permutations: int, rng: np.random.Generator) -> list[Placement]:
    """Of each layer in which failures take hold, and of all of them, the correlation of gain and onset over failures.

    Args:
        gains: What each failure adds to the coverage of each layer (failures, layers).
        onsets: Layer at which each takes hold.
        permutations: Number of permutations.
        rng: Random numbers.
    """
    layers, counts = np.unique(onsets, return_counts=True)
    ranks = _standardised(gains[:, layers])
    values = _correlations(ranks, onsets[:, None] == layers)
    null = np.stack([_correlations(ranks, rng.permutation(onsets)[:, None] == layers) for _ in range(permutations)])
    with_mean = np.concatenate([null, _means(null)[:, None]], axis=1)
    estimates = [*values, float(_means(values[None])[0])]
    return [
        Placement(layer, float(estimate), middle_range(chance), permutation_p(float(estimate), chance), n)
        for layer, estimate, chance, n in zip(
            [*layers.tolist(), None], estimates, with_mean.T, [*counts.tolist(), len(onsets)], strict=True
        )
    ]


def _standardised(columns: Floats) -> Floats:
    """Columns of mean 0 and norm 1; NaN where one is constant."""
    parts = columns - columns.mean(0)
    norms = np.sqrt((parts**2).sum(0))
    return np.asarray(parts / np.where(norms > 1e-12 * (1 + np.abs(columns).max(0)), norms, np.nan))


def _correlations(scores: Floats, is_there: Floats) -> Floats:
    return np.asarray((scores * _standardised(is_there.astype(np.float64))).sum(0))


def _means(rows: Floats) -> Floats:
    """Mean over the defined layers of each row; NaN where there is none."""
    is_defined = ~np.isnan(rows)
    total = np.where(is_defined, rows, 0).sum(1)
    counts = is_defined.sum(1)
    return np.asarray(np.divide(total, counts, out=np.full(len(rows), np.nan), where=counts > 0))
