"""Bootstrap over seeds: resamples, their totals and medians, and percentile intervals."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from camdrift.tables.arrays import Floats

# Share of the replicates beyond either end of a 95 % interval.
_TAIL: Final = 0.025
# Most elements of an array that is made for a block of replicates: of counts, and of running totals.
_BLOCK_ELEMENTS: Final = 2**22
_SORT_ELEMENTS: Final = 2**18
# Columns whose medians are computed together.
_COLUMNS: Final = 64
# The medians of resamples are looked for in a window around the median. This is half its width in square roots of the
# sample's size: eight standard deviations of the place of these medians.
_HALF_WINDOW: Final = 4.0

Ints = npt.NDArray[np.int64]
# Number of times that each replicate draws each seed: far below 2^15.
Counts = npt.NDArray[np.int16]


class Interval(NamedTuple):
    """Both ends of a 95 % interval, NaN where there is none."""

    low: Floats
    high: Floats


def resample_counts(n_seeds: int, n_replicates: int, *, rng_seed: int) -> Counts:
    """Number of times that each bootstrap replicate draws each seed, (n_replicates, n_seeds); rows sum to n_seeds.

    Raises:
        ValueError: `n_seeds` below 1, or `n_replicates` below 0.
    """
    if n_seeds < 1:
        raise ValueError(f"`n_seeds` must be at least 1, got: {n_seeds}")
    if n_replicates < 0:
        raise ValueError(f"`n_replicates` must not be negative, got: {n_replicates}")
    generator = np.random.Generator(np.random.PCG64(rng_seed))
    shares, counts = np.full(n_seeds, 1 / n_seeds), np.empty((n_replicates, n_seeds), np.int16)
    for block in _blocks(n_replicates, n_seeds):
        counts[block] = generator.multinomial(n_seeds, shares, size=len(counts[block]))
    return counts


def resampled_totals(values: Floats, counts: Counts) -> Floats:
    """Sum of the values in every resample of the seeds, (replicates, ...).

    Args:
        values: (seeds, ...), at most two axes, none of them NaN.
        counts: Number of times that each replicate draws each seed, (replicates, seeds).
    """
    parts = [counts[block].astype(np.float64) @ values for block in _blocks(*counts.shape)]
    return np.concatenate([np.empty((0, *values.shape[1:])), *parts])


def resampled_medians(values: Floats, counts: Counts) -> Floats:
    """Median of the defined values in every resample of the seeds, (replicates, ...).

    Equal to `np.median` of the resample written out: the mean of the two middle values where their number is
    even. A seed is drawn with all its draws.

    Args:
        values: (..., seeds, draws); NaN where undefined: medians leave these out.
        counts: Number of times that each replicate draws each seed, (replicates, seeds).
    """
    *lead, n_seeds, n_draws = values.shape
    flat = values.reshape(-1, n_seeds * n_draws)
    medians = np.full((len(counts), len(flat)), np.nan)
    by_seed = np.ascontiguousarray(counts.T)
    for first in range(0, len(flat), _COLUMNS):
        part = slice(first, first + _COLUMNS)
        samples = [_sample(column, n_draws) for column in flat[part]]
        medians[:, part] = _sample_medians(samples, counts, by_seed)
    return medians.reshape(len(counts), *lead)


def percentile_interval(replicates: Floats) -> Interval:
    """The 2.5 and 97.5 percentiles over the first axis; NaN replicates are left out.

    Each end is the value of one replicate, the lower one below and the higher one above the percentile, so that
    infinities and ranks stay as they are.
    """
    if len(replicates) == 0:
        return Interval(*np.full((2, *replicates.shape[1:]), np.nan))
    ascending = np.sort(replicates, axis=0)
    last = np.maximum(np.count_nonzero(~np.isnan(replicates), axis=0) - 1, 0)
    low = np.floor(_TAIL * last).astype(np.int64)
    low_values = np.take_along_axis(ascending, low[None], axis=0)[0]
    high_values = np.take_along_axis(ascending, (last - low)[None], axis=0)[0]
    return Interval(low_values, high_values)


def _blocks(n_replicates: int, elements: int) -> list[slice]:
    """The replicates in blocks of a bounded number of elements, at so many elements a replicate."""
    step = max(1, _BLOCK_ELEMENTS // max(1, elements))
    return [slice(start, start + step) for start in range(0, n_replicates, step)]


class _Sample(NamedTuple):
    """The defined values of one column.

    Attributes:
        values: The values in ascending order.
        seeds: Position of the seed of each.
        window: The values among which the medians of resamples are looked for.
    """

    values: Floats
    seeds: Ints
    window: slice


def _sample(column: Floats, n_draws: int) -> _Sample:
    """The sample of one column, (seeds * draws,)."""
    ranking = np.argsort(column, kind="stable")[: np.count_nonzero(~np.isnan(column))]
    n, half = len(ranking), ceil(_HALF_WINDOW * sqrt(len(ranking) * n_draws))
    window = slice(n // 2 - half, n // 2 + half) if 4 * half < n else slice(0, n)
    return _Sample(column[ranking], ranking // n_draws, window)


def _sample_medians(samples: Sequence[_Sample], counts: Counts, by_seed: Counts) -> Floats:
    """Median of every sample in every replicate, (replicates, samples); NaN where nothing is drawn.

    Args:
        samples: The samples.
        counts: Number of times that each replicate draws each seed, (replicates, seeds).
        by_seed: The same, seeds first.
    """
    medians = np.full((len(counts), len(samples)), np.nan)
    with_window = [i for i, sample in enumerate(samples) if sample.window.start > 0]
    if with_window:
        below, sizes = _resampled_sizes([samples[i] for i in with_window], counts)
        for place, i in enumerate(with_window):
            medians[:, i] = _window_medians(samples[i], by_seed, below[:, place], sizes[:, place])
    for i, sample in enumerate(samples):
        if (is_missing := np.isnan(medians[:, i])).any() and len(sample.values):
            medians[is_missing, i] = _sorted_medians(sample.values, counts[is_missing], sample.seeds)
    return medians


def _resampled_sizes(samples: Sequence[_Sample], counts: Counts) -> tuple[Ints, Ints]:
    """Number of values of a resample below the window and number of all its values, both (replicates, samples)."""
    parts = [*(sample.seeds[: sample.window.start] for sample in samples), *(sample.seeds for sample in samples)]
    weights = np.empty((counts.shape[1], len(parts)))
    for column, part in enumerate(parts):
        weights[:, column] = np.bincount(part, minlength=len(weights))
    # Sums of whole numbers, which float64 holds exactly.
    sizes = resampled_totals(weights, counts).astype(np.int64)
    return sizes[:, : len(samples)], sizes[:, len(samples) :]


def _window_medians(sample: _Sample, by_seed: Counts, below: Ints, sizes: Ints) -> Floats:
    """Median of a sample in the replicates in which it lies within the window, NaN in the others; (replicates,).

    Args:
        sample: The sample.
        by_seed: Number of times that each seed is drawn in each replicate, (seeds, replicates).
        below: Number of values of each resample below the window.
        sizes: Number of all its values.
    """
    values = sample.values[sample.window]
    running = np.take(by_seed, sample.seeds[sample.window], axis=0).astype(np.int32)
    for before, row in pairwise(running):  # np.cumsum along the first axis takes five times as long
        row += before
    lower, upper = np.maximum(sizes - 1, 0) // 2 - below, sizes // 2 - below
    is_inside = (lower >= 0) & (upper < running[-1])
    places = [np.count_nonzero(running <= rank, axis=0) % len(values) for rank in (lower, upper)]
    return np.where(is_inside, (values[places[0]] + values[places[1]]) / 2, np.nan)


def _sorted_medians(values: Floats, counts: Counts, seeds: Ints) -> Floats:
    """Median of ascending `values`, each drawn as often as its seed; NaN where none is drawn."""
    step = max(1, _SORT_ELEMENTS // len(values))
    parts = [_block_medians(values, counts[i : i + step], seeds) for i in range(0, len(counts), step)]
    return np.concatenate([np.empty(0), *parts])


def _block_medians(values: Floats, counts: Counts, seeds: Ints) -> Floats:
    """As `_sorted_medians`, of one block of replicates."""
    n = len(values)
    # One running total through all replicates. The value of rank r in replicate b lies at the first place where the
    # total exceeds (total before b) + r: one binary search finds it.
    running = np.cumsum(np.take(counts, seeds, axis=1).ravel())
    ends = running[n - 1 :: n]
    starts = np.concatenate([[0], ends[:-1]])
    sizes = ends - starts
    lower = np.searchsorted(running, starts + np.maximum(sizes - 1, 0) // 2, side="right") % n
    upper = np.searchsorted(running, starts + sizes // 2, side="right") % n
    return np.where(sizes > 0, (values[lower] + values[upper]) / 2, np.nan)
