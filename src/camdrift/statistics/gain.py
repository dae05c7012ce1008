"""Noise-equivalent gain, its interval from bootstrap replicates, and the ranks of layers by it.

Inside this file an undefined value is NaN; `statistics.layers` turns it into null.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import Interval, Ints, percentile_interval
from camdrift.tables.arrays import Floats

# Side of the bound on which a censored gain lies.
BELOW: Final = -1
ABOVE: Final = 1


@dataclass(frozen=True)
class Gains:
    """Noise-equivalent gains, all arrays of one shape.

    Attributes:
        value: The gain; where censored, the bound beyond which it lies; NaN where undefined.
        censored: ABOVE where the gain is larger than `value`, BELOW where it is smaller, 0 where measured.
        least: The smallest gain the noise ladder can measure.
        most: The largest gain the noise ladder can measure.
    """

    value: Floats
    censored: Ints
    least: Floats
    most: Floats

    def __getitem__(self, index: int | slice | tuple[slice, int]) -> "Gains":
        """The gains of some replicates: `index` along the first axes."""
        return Gains(self.value[index], self.censored[index], self.least[index], self.most[index])

    def without(self, is_undefined: NDArray[np.bool_]) -> "Gains":
        """The gains, undefined where a flag says so; flags have the shape of the last axes."""
        value, least, most = (np.where(is_undefined, np.nan, a) for a in (self.value, self.least, self.most))
        return Gains(value, np.where(is_undefined, 0, self.censored), least, most)


def noise_equivalent_gain(deviation: Floats, l2: Floats, noise_deviation: Floats, noise_l2: Floats) -> Gains:
    """L2 norm of the noise that moves a layer's map as far as the attack does, over the attack's (method section 3).

    The noise curve is made monotone (`isotonic_fit`) and interpolated in log-log. On a plateau the least noise that
    reaches the deviation counts. Points without a deviation or without a positive L2 are left out. A deviation of 0 has
    no logarithm: from such a point to the next the curve runs straight, not in log-log, and an attack that does not
    move the map at all is censored below.

    Args:
        deviation: Deviation under the attack, (...), at least one axis.
        l2: Realised L2 norm of the attack, (...) or broadcastable to it.
        noise_deviation: Deviation under noise at every strength of the ladder, (..., ladder).
        noise_l2: Realised L2 norm of that noise, (..., ladder); any order.
    """
    noise_l2, curve = _noise_curve(noise_deviation, noise_l2)
    shape = np.broadcast_shapes(np.shape(deviation), np.shape(l2), curve.shape[:-1])
    deviation, l2 = np.broadcast_to(deviation, shape), np.broadcast_to(l2, shape)
    noise_l2, curve = (np.broadcast_to(a, (*shape, a.shape[-1])) for a in (noise_l2, curve))
    is_point = np.isfinite(noise_l2)
    reaches = (curve >= deviation[..., None]) & is_point
    is_below = (deviation <= 0) | (deviation < curve[..., 0])
    is_above = ~is_below & ~reaches.any(axis=-1)
    bottom, top = noise_l2[..., 0], _pick(noise_l2, is_point.sum(axis=-1) - 1)
    equivalent = _interpolate(noise_l2, curve, deviation, reaches.argmax(axis=-1))
    equivalent = np.where(is_below, bottom, np.where(is_above, top, equivalent))
    is_defined = is_point.any(axis=-1) & ~np.isnan(deviation) & (l2 > 0)
    value, least, most = (
        np.divide(a, l2, out=np.full(shape, np.nan), where=is_defined) for a in (equivalent, bottom, top)
    )
    return Gains(value, np.where(is_defined, BELOW * is_below + ABOVE * is_above, 0), least, most)


def gain_interval(sample: Gains, replicates: Gains) -> tuple[Interval, Interval]:
    """Percentile interval of the gain, and for either end ABOVE, BELOW or 0 as in `Gains.censored`.

    A censored replicate counts as infinitely far out on its side. An end that falls on one is the bound that the whole
    sample can measure, with a flag; a measured end is clipped to those bounds.

    Args:
        sample: Gains of the whole sample, (...).
        replicates: Gains of the resamples, (replicates, ...).
    """
    value = np.where(replicates.censored == ABOVE, np.inf, replicates.value)
    ends = percentile_interval(np.where(replicates.censored == BELOW, -np.inf, value))
    flags = (np.where(np.isinf(end), np.sign(end), 0.0) for end in ends)
    values = (np.clip(end, sample.least, sample.most) for end in ends)
    return Interval(*values), Interval(*flags)


def rank_by_gain(gains: Floats, *, ties: Literal["min", "max"] = "min") -> Floats:
    """Rank along the last axis, 1 = highest gain; NaN where the gain is.

    Args:
        gains: (..., layers).
        ties: Which of the places that equal gains take up they share: the smallest or the largest.
    """
    is_undefined = np.isnan(gains)
    ranks = scipy.stats.rankdata(np.where(is_undefined, np.inf, -gains), method=ties, axis=-1)
    return np.where(is_undefined, np.nan, ranks)


def rank_interval(gains: Floats) -> Interval:
    """Percentile interval of the rank by gain: (layers,) of (replicates, layers).

    Which of several layers at one bound comes first a replicate cannot tell, so the lower end takes the smallest of
    their places, and the upper end the largest.
    """
    low, high = (percentile_interval(rank_by_gain(gains, ties=ties)) for ties in ("min", "max"))
    return Interval(low.low, high.high)


def isotonic_fit(values: Floats) -> Floats:
    """Non-decreasing least-squares fit along the last axis, equal weights, same shape.

    fit_i = max over j <= i of min over k >= i of mean(values_j .. values_k). That is the result of
    pool-adjacent-violators, in a form that fits all replicates at once. An infinite tail pools with nothing.

    Args:
        values: (..., points), none of them NaN.
    """
    size = values.shape[-1]
    fit = np.full(values.shape, -np.inf)
    for j in range(size):
        means = np.cumsum(values[..., j:], axis=-1) / np.arange(1, size - j + 1)
        least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        fit[..., j:] = np.maximum(fit[..., j:], least)
    return fit


def _noise_curve(noise_deviation: Floats, noise_l2: Floats) -> tuple[Floats, Floats]:
    """L2 norms in ascending order and the monotone deviations there; points left out come last and are infinite."""
    l2, deviation = np.broadcast_arrays(noise_l2, noise_deviation)
    l2 = np.where((l2 > 0) & ~np.isnan(deviation), l2, np.inf)
    order = np.argsort(l2, axis=-1, kind="stable")
    l2 = np.take_along_axis(l2, order, axis=-1)
    deviation = np.take_along_axis(deviation, order, axis=-1)
    return l2, isotonic_fit(np.where(np.isfinite(l2), deviation, np.inf))


def _interpolate(l2: Floats, curve: Floats, deviation: Floats, right: Ints) -> Floats:
    """L2 at which the curve meets `deviation`, between the point `right` and the one before it."""
    left = np.maximum(right - 1, 0)
    x0, x1, y0, y1 = _pick(l2, left), _pick(l2, right), _pick(curve, left), _pick(curve, right)
    # Lanes that are censored or undefined divide by 0 here; the caller overwrites them.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logarithmic = x0 * (x1 / x0) ** (np.log(deviation / y0) / np.log(y1 / y0))
        straight = x0 + (x1 - x0) * ((deviation - y0) / (y1 - y0))
        between = np.clip(np.where(y0 > 0, logarithmic, straight), x0, x1)
    return np.where(deviation == y1, x1, between)


def _pick(values: Floats, index: Ints) -> Floats:
    """The entry of the last axis that `index` names, one per lane."""
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
