"""Estimates from counts and samples: moments, Wilson intervals, signed-rank tests, Holm's correction."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import Interval, Ints
from camdrift.tables.arrays import Floats


class Moments(NamedTuple):
    """Number, mean and sample standard deviation."""

    n: Ints
    mean: Floats
    std: Floats


def wilson_interval(successes: Ints, trials: Ints) -> Interval:
    """Wilson's 95 % interval of a share, in the shape of the arguments; NaN where there are no trials."""
    pairs = np.stack([np.ravel(successes), np.ravel(trials)], axis=1)
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    ends = np.full((len(distinct), 2), np.nan)
    for i, (k, n) in enumerate(distinct.tolist()):
        if n > 0:
            ends[i] = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    low, high = ends[which.ravel()].T
    return Interval(low.reshape(np.shape(successes)), high.reshape(np.shape(successes)))


class PairedShares(NamedTuple):
    """How far two shares of the same images lie apart, the second minus the first.

    Attributes:
        difference: Of the shares.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of McNemar's exact test that both shares are the same, two-sided.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_shares(both: int, only_first: int, only_second: int, neither: int) -> PairedShares:
    """Return how far two shares of the same images lie apart.

    The interval is Newcombe's of two Wilson intervals and their correlation (1998, paired data, method 10).

    Args:
        both: Images that count for both shares; there must be an image in one of the four groups.
        only_first: Images that count for the first alone.
        only_second: Images that count for the second alone.
        neither: Images that count for neither.

    Example:
        >>> paired_shares(4, 15, 0, 1).p == 2 / 2**15
        True
    """
    n = both + only_first + only_second + neither
    hits = np.array([both + only_first, both + only_second])
    shares, ends = hits / n, wilson_interval(hits, np.array([n, n]))
    below, above = shares - ends.low, ends.high - shares
    product = float(np.prod(hits / n * (1 - hits / n)))
    excess = float(both * neither - only_first * only_second)
    # The correlation of the two, its numerator towards 0 by n / 2 where it is positive.
    excess = max(excess - n / 2, 0.0) if excess > 0 else excess
    correlation = excess / n**2 / np.sqrt(product) if product else 0.0
    difference = float(shares[1] - shares[0])
    apart = only_first + only_second
    return PairedShares(
        difference,
        difference - _distance(below[1], above[0], correlation),
        difference + _distance(above[1], below[0], correlation),
        float(scipy.stats.binomtest(only_first, apart).pvalue) if apart else 1.0,
    )


def _distance(one: float, other: float, correlation: float) -> float:
    return float(np.sqrt(one**2 - 2 * correlation * one * other + other**2))


def calibration_error(confidence: Floats, is_right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Return the expected calibration error (Guo 2017, Eq. 3): how far confidence and accuracy lie apart.

    Args:
        confidence: Probability of the predicted class, (images,), in [0, 1].
        is_right: Is the prediction right? (images,)
        bins: Number of bins of equal width.

    Example:
        >>> round(calibration_error(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True])), 3)
        0.4
    """
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=confidence - is_right, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def wilcoxon_p(differences: Floats) -> Floats:
    """Two-sided Wilcoxon signed-rank p along the last axis; NaN differences are left out.

    Zeros are dropped (Wilcoxon's own rule); NaN where nothing else is left.
    """
    rows = differences.reshape(-1, differences.shape[-1])
    samples = [row[~np.isnan(row) & (row != 0)] for row in rows]
    # SciPy takes many samples of one size at once, and chooses its method by size and by ties among sizes.
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, sample in enumerate(samples):
        if sample.size:
            has_ties = np.unique(np.abs(sample)).size < sample.size
            groups.setdefault((sample.size, has_ties), []).append(place)
    p = np.full(len(rows), np.nan)
    for places in groups.values():
        p[places] = scipy.stats.wilcoxon(np.stack([samples[place] for place in places]), axis=-1).pvalue
    return p.reshape(differences.shape[:-1])


def holm(p_values: Floats) -> Floats:
    """Holm's step-down correction along the last axis; NaN stays NaN and does not count as a test."""
    order = np.argsort(p_values, axis=-1, kind="stable")
    tests = np.count_nonzero(~np.isnan(p_values), axis=-1, keepdims=True)
    remaining = np.maximum(tests - np.arange(p_values.shape[-1]), 1)
    steps = np.take_along_axis(p_values, order, axis=-1) * remaining
    results = np.empty_like(p_values)
    np.put_along_axis(results, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1), axis=-1)
    return results


def moments(values: Floats) -> Moments:
    """Number, mean and sample standard deviation of the defined values of the last axis."""
    is_defined = ~np.isnan(values)
    n = np.count_nonzero(is_defined, axis=-1)
    mean = ratio(np.where(is_defined, values, 0).sum(axis=-1), n)
    squares = np.where(is_defined, (values - mean[..., None]) ** 2, 0).sum(axis=-1)
    return Moments(n, mean, np.sqrt(ratio(squares, n - 1)))


def ratio(numerator: Floats | Ints, denominator: Floats | Ints) -> Floats:
    """The quotient, NaN where the denominator is not positive."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
