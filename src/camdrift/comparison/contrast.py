"""The mathematics of a contrast of two sides: differences of deviation, ratios of gains, agreement of rankings.

The independent unit is the seed. Sides that share seeds are compared on those, and a bootstrap replicate draws the same
seeds on both. Inside this file an undefined value is NaN, and an end of an interval without a bound is infinite.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import scipy.stats
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import (
    Counts,
    Interval,
    percentile_interval,
    resample_counts,
    resampled_totals,
)
from camdrift.statistics.cells import seed_arrays
from camdrift.statistics.estimates import moments, ratio
from camdrift.statistics.gain import ABOVE, BELOW, Gains
from camdrift.statistics.layers import all_gains
from camdrift.tables.arrays import Floats
from camdrift.tables.reading import AnyFrame

Bits = NDArray[np.uint64]

_UPPER: Final = 0.975
_CHUNK_BITS: Final = 2**20
_LEAST: Final = 2


class Draws(NamedTuple):
    """One side on some of its seeds, with its bootstrap replicates.

    Attributes:
        deviation: 1 - similarity under the attack, (strengths, layers, seeds).
        means: Its mean over seeds, (1 + replicates, strengths, layers), observed first.
        gains: Noise-equivalent gains, of the same shape.
    """

    deviation: Floats
    means: Floats
    gains: Gains


class Difference(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: Floats
    interval: Interval


def draws(
    similarity: AnyFrame,
    variants: pl.DataFrame,
    seeds: Sequence[str],
    strengths: Sequence[float],
    *,
    rng_seed: int,
    n_bootstrap: int = 1000,
) -> Draws:
    """Return deviations and gains of one side on `seeds`, with bootstrap replicates over them.

    Args:
        similarity: Rows of the table `similarity` by one measure and target; read piece by piece.
        variants: Table `variants`.
        seeds: Seeds that count, in the order in which they are drawn.
        strengths: Strengths of the attack to return, ascending.
        rng_seed: Fixes the bootstrap. The same number on two sides draws the same seeds on both.
        n_bootstrap: Number of replicates.
    """
    arrays = seed_arrays(similarity.filter(pl.col("seed_id").is_in(list(seeds))), seeds)
    resamples = resample_counts(len(seeds), n_bootstrap, rng_seed=rng_seed)
    at = np.searchsorted(arrays.strengths, strengths)
    deviation = 1 - arrays.adversarial.values[at, :, :, 0]
    gains = all_gains(arrays, variants, seeds, resamples)
    gains = Gains(gains.value[:, at], gains.censored[:, at], gains.least[:, at], gains.most[:, at])
    counts = np.concatenate([np.ones((1, len(seeds)), resamples.dtype), resamples])
    return Draws(deviation, _means(deviation, counts), gains)


def _means(deviation: Floats, counts: Counts) -> Floats:
    """Mean over the defined deviations in every replicate, (replicates, strengths, layers)."""
    flat = deviation.reshape(-1, deviation.shape[-1])
    is_defined = ~np.isnan(flat)
    total = resampled_totals(np.where(is_defined, flat, 0).T, counts)
    n = resampled_totals(is_defined.T.astype(np.float64), counts)
    return ratio(total, n).reshape(len(counts), *deviation.shape[:-1])


def paired_difference(a: Floats, b: Floats) -> Difference:
    """Mean of b - a over the seeds (last axis) where both are defined, with its t interval; NaN below two seeds."""
    n, mean, std = moments(b - a)
    half = scipy.stats.t.ppf(_UPPER, np.maximum(n - 1, 1)) * std / np.sqrt(np.maximum(n, 1))
    return Difference(mean, Interval(mean - half, mean + half))


def unpaired_difference(a: Floats, b: Floats) -> Difference:
    """Mean of b minus mean of a over different seeds (last axis of each), with Welch's interval; NaN below two."""
    (n_a, mean_a, std_a), (n_b, mean_b, std_b) = moments(a), moments(b)
    variance_a, variance_b = ratio(std_a**2, n_a), ratio(std_b**2, n_b)
    variance = variance_a + variance_b
    spread = ratio(variance_a**2, n_a - 1) + ratio(variance_b**2, n_b - 1)
    # Two sides without any spread: the interval has no width, whatever the degrees of freedom.
    degrees = np.where(variance > 0, ratio(variance**2, spread), 1.0)
    half = scipy.stats.t.ppf(_UPPER, degrees) * np.sqrt(variance)
    mean = mean_b - mean_a
    return Difference(mean, Interval(mean - half, mean + half))


def log2_ratio(a: Gains, b: Gains) -> Difference:
    """log2 of gain b over gain a, (strengths, layers), with its bootstrap interval; NaN where either is only a bound.

    All that is known of a censored gain is that it lies beyond its bound, so each replicate gives a range of ratios.
    The interval reaches from the lower ends to the upper ends, and is open where too many replicates have no end.

    Args:
        a: Gains of the first side, (1 + replicates, strengths, layers), observed first.
        b: Gains of the second, the same layers in the same order.
    """
    (low_a, high_a), (low_b, high_b) = _bounds(a), _bounds(b)
    low, high = low_b - high_a, high_b - low_a
    is_measured = (a.censored[0] == 0) & (b.censored[0] == 0)
    ends = Interval(percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
    is_known = ~np.isnan(low[0])
    intervals = Interval(*(np.where(is_known, end, np.nan) for end in ends))
    return Difference(np.where(is_measured, low[0], np.nan), intervals)


def _bounds(gains: Gains) -> Interval:
    """log2 of the smallest and the largest value that each gain may have, censored ones included."""
    with np.errstate(divide="ignore"):
        value = np.log2(gains.value)
    low = np.where(gains.censored == BELOW, -np.inf, value)
    return Interval(low, np.where(gains.censored == ABOVE, np.inf, value))


class Order(NamedTuple):
    """The order of every two elements of a lane, packed as one bit per pair so that rankings compare fast.

    Attributes:
        larger: Bits of the pairs whose first element is larger, (lanes, words).
        smaller: Bits of the pairs whose second element is larger, of the same shape.
        known: Bits of the pairs with both elements defined, of the same shape.
        shape: Shape of the lanes.
    """

    larger: Bits
    smaller: Bits
    known: Bits
    shape: tuple[int, ...]


def order(values: Floats) -> Order:
    """Return the order of the elements of each lane.

    Args:
        values: (..., elements); NaN where undefined.
    """
    lanes = values.reshape(-1, values.shape[-1])
    larger, smaller, both_known = (_pack(lanes, compare) for compare in (np.greater, np.less, _both_known))
    return Order(larger, smaller, both_known, values.shape[:-1])


def _both_known(one: Floats, others: Floats) -> NDArray[np.bool_]:
    return ~np.isnan(one) & ~np.isnan(others)


def _pack(lanes: Floats, compare: Callable[[Floats, Floats], NDArray[np.bool_]]) -> Bits:
    """Apply `compare` to every two elements of a lane; bits of whole words, (lanes, words)."""
    elements = lanes.shape[-1]
    bits = 64 * max(1, -(-(elements * (elements - 1) // 2) // 64))
    words = np.empty((len(lanes), bits // 64), np.uint64)
    chunk = max(1, _CHUNK_BITS // bits)
    for start in range(0, len(lanes), chunk):
        some = lanes[start : start + chunk]
        flags = np.zeros((len(some), bits), np.bool_)
        column = 0
        for place in range(elements - 1):
            others = elements - 1 - place
            flags[:, column : column + others] = compare(some[:, place, None], some[:, place + 1 :])
            column += others
        words[start : start + chunk] = np.packbits(flags.ravel()).view(np.uint64).reshape(len(some), -1)
    return words


def _count(bits: Bits) -> NDArray[np.int64]:
    ones: NDArray[np.int64] = np.bitwise_count(bits).sum(-1, dtype=np.int64)
    return ones


def kendall_tau(x: Floats | Order, y: Floats | Order) -> Floats:
    """Kendall's tau-b of two rankings along the last axis; NaN where either has fewer than two different values.

    An element counts where both rankings define it. The result equals `scipy.stats.kendalltau` of each lane.

    Args:
        x: (..., elements); NaN where undefined. Or the `order` of such an array, where it is needed more than once.
        y: The same, of the same shape.

    Example:
        >>> float(kendall_tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])).round(3))
        0.667
    """
    a, b = (values if isinstance(values, Order) else order(values) for values in (x, y))
    concordant = _count((a.larger & b.larger) | (a.smaller & b.smaller))
    discordant = _count((a.larger & b.smaller) | (a.smaller & b.larger))
    untied_a, untied_b = _count((a.larger | a.smaller) & b.known), _count((b.larger | b.smaller) & a.known)
    taus: Floats = np.clip(ratio(concordant - discordant, np.sqrt(untied_a * untied_b)), -1, 1).reshape(a.shape)
    return taus


def tau_interval(taus: Floats) -> Interval:
    """Symmetric 95 % bootstrap interval of tau over the first axis, whose first entry is the observed tau.

    Rankings of resampled seeds carry twice the noise and agree less, so plain percentiles lie too low. This interval
    reaches as far to either side of the observed tau as the further of the two percentiles, within [-1, 1]. In
    simulated studies of 8 to 20 seeds it held the tau of the true rankings in 94 to 98 % where layers differ more than
    they are uncertain. Noise in a ranking pulls tau towards 0; where the noise is large, this interval lies too low,
    too. `repeatability` says how large it is.
    """
    tau, ends = taus[0], percentile_interval(taus[1:])
    half = np.maximum(tau - ends.low, ends.high - tau)
    return Interval(np.maximum(tau - half, -1), np.minimum(tau + half, 1))


def repeatability(values: Floats) -> tuple[Floats, Interval]:
    """Tau between a ranking and itself on as many other seeds: median and 95 % range.

    Every two replicates stand for two studies of the same kind of seeds.

    Args:
        values: Quantity that layers are ranked by, (1 + replicates, ..., layers), observed first.
    """
    pairs = (len(values) - 1) // 2
    taus = kendall_tau(values[1 : 1 + pairs], values[1 + pairs : 1 + 2 * pairs])
    n = np.count_nonzero(~np.isnan(taus), axis=0)
    middle = np.maximum(n - 1, 0) // 2
    median = (
        np.take_along_axis(np.sort(taus, axis=0), middle[None], axis=0)[0] if pairs else np.full(taus.shape[1:], np.nan)
    )
    return median, percentile_interval(taus)
