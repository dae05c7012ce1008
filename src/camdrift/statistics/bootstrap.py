"""Bootstrap over seeds: resamples, their totals and medians, and percentile intervals."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from camdrift.tables.arrays import Floats

Ints = npt.NDArray[np.int64]
# How often each replicate draws each seed: far below 2^15 times.
Counts = npt.NDArray[np.int16]
_CONFIDENCE_TAIL: Final = 0.025
_CHUNK_ELEMENTS: Final = 2**18
_BLOCK_ELEMENTS: Final = 2**22
# Half the width of the window in which the medians of resamples are looked for, in square roots of the sample's size:
# eight standard deviations of where they lie.
_HALF_WINDOW: Final = 4.0
_COLUMNS: Final = 64


class Interval(NamedTuple):
    """Both ends of a 95 % interval, NaN where there is none."""

    low: Floats
    high: Floats


def resample_counts(n_seeds: int, n_replicates: int, *, rng_seed: int) -> Counts:
    """How often each bootstrap replicate draws each seed, (n_replicates, n_seeds); rows sum to n_seeds.

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


def _blocks(n_replicates: int, elements: int) -> list[slice]:
    """The replicates in blocks of a bounded number of elements, each replicate having so many."""
    step = max(1, _BLOCK_ELEMENTS // max(1, elements))
    return [slice(start, start + step) for start in range(0, n_replicates, step)]


def resampled_totals(values: Floats, counts: Counts) -> Floats:
    """Sum of the values in every resample of the seeds, (replicates, ...).

    Args:
        values: (seeds, ...), at most two axes, none of them NaN.
        counts: How often each replicate draws each seed, (replicates, seeds).
    """
    parts = [counts[block].astype(np.float64) @ values for block in _blocks(*counts.shape)]
    return np.concatenate([np.empty((0, *values.shape[1:])), *parts])


def resampled_medians(values: Floats, counts: Counts) -> Floats:
    """Median of the defined values in every resample of the seeds, (replicates, ...).

    Equal to `np.median` of the resample written out: the mean of the two middle values where their number is
    even. A seed is drawn with all its draws.

    Args:
        values: (..., seeds, draws); NaN where undefined, which no median sees.
        counts: How often each replicate draws each seed, (replicates, seeds).
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


class _Sample(NamedTuple):
    """The defined values of one column in ascending order, and where the medians of its resamples are looked for."""

    values: Floats
    seeds: Ints
    window: slice


def _sample(column: Floats, n_draws: int) -> _Sample:
    ranking = np.argsort(column, kind="stable")[: np.count_nonzero(~np.isnan(column))]
    n, half = len(ranking), ceil(_HALF_WINDOW * sqrt(len(ranking) * n_draws))
    window = slice(n // 2 - half, n // 2 + half) if 4 * half < n else slice(0, n)
    return _Sample(column[ranking], ranking // n_draws, window)


def _sample_medians(samples: Sequence[_Sample], counts: Counts, by_seed: Counts) -> Floats:
    """Median of every sample in every replicate, (replicates, samples); NaN where nothing is drawn.

    Args:
        samples: The samples.
        counts: How often each replicate draws each seed, (replicates, seeds).
        by_seed: The same, seeds first.
    """
    medians = np.full((len(counts), len(samples)), np.nan)
    windowed = [i for i, sample in enumerate(samples) if sample.window.start > 0]
    if windowed:
        below, drawn = _resampled_sizes([samples[i] for i in windowed], counts)
        for place, i in enumerate(windowed):
            medians[:, i] = _window_medians(samples[i], by_seed, below[:, place], drawn[:, place])
    for i, sample in enumerate(samples):
        if (missed := np.isnan(medians[:, i])).any() and len(sample.values):
            medians[missed, i] = _sorted_medians(sample.values, counts[missed], sample.seeds)
    return medians


def _resampled_sizes(samples: Sequence[_Sample], counts: Counts) -> tuple[Ints, Ints]:
    """How many values of a resample lie below the window and how many there are in all, both (replicates, samples)."""
    parts = [*(sample.seeds[: sample.window.start] for sample in samples), *(sample.seeds for sample in samples)]
    weights = np.empty((counts.shape[1], len(parts)))
    for column, part in enumerate(parts):
        weights[:, column] = np.bincount(part, minlength=len(weights))
    # Sums of whole numbers, which float64 holds exactly.
    sizes = resampled_totals(weights, counts).astype(np.int64)
    return sizes[:, : len(samples)], sizes[:, len(samples) :]


def _window_medians(sample: _Sample, by_seed: Counts, below: Ints, drawn: Ints) -> Floats:
    """Median of a sample in the replicates in which it lies within the window, NaN in the others; (replicates,).

    Args:
        sample: The sample.
        by_seed: How often each seed is drawn in each replicate, (seeds, replicates).
        below: How many values of each resample lie below the window.
        drawn: How many there are in all.
    """
    values = sample.values[sample.window]
    running = np.take(by_seed, sample.seeds[sample.window], axis=0).astype(np.int32)
    for before, row in pairwise(running):  # np.cumsum along the first axis takes five times as long
        row += before
    lower, upper = np.maximum(drawn - 1, 0) // 2 - below, drawn // 2 - below
    is_inside = (lower >= 0) & (upper < running[-1])
    places = [np.count_nonzero(running <= rank, axis=0) % len(values) for rank in (lower, upper)]
    return np.where(is_inside, (values[places[0]] + values[places[1]]) / 2, np.nan)


def _sorted_medians(values: Floats, counts: Counts, seeds: Ints) -> Floats:
    """Median of ascending `values`, each drawn as often as its seed; NaN where none is drawn."""
    chunk = max(1, _CHUNK_ELEMENTS // len(values))
    parts = [_chunk_medians(values, counts[i : i + chunk], seeds) for i in range(0, len(counts), chunk)]
    return np.concatenate([np.empty(0), *parts])


def _chunk_medians(values: Floats, counts: Counts, seeds: Ints) -> Floats:
    n = len(values)
    # One running total through all replicates: the value of rank r in replicate b is the first place where
    # the total exceeds (total before b) + r, so that one binary search finds it.
    running = np.cumsum(np.take(counts, seeds, axis=1).ravel())
    ends = running[n - 1 :: n]
    starts = np.concatenate([[0], ends[:-1]])
    drawn = ends - starts
    lower = np.searchsorted(running, starts + np.maximum(drawn - 1, 0) // 2, side="right") % n
    upper = np.searchsorted(running, starts + drawn // 2, side="right") % n
    return np.where(drawn > 0, (values[lower] + values[upper]) / 2, np.nan)


def percentile_interval(replicates: Floats) -> Interval:
    """The 2.5 and 97.5 percentiles over the first axis; NaN replicates are left out.

    Each end is the value of one replicate, the lower one below and the higher one above the percentile, so
    that infinities and ranks stay what they are.
    """
    if len(replicates) == 0:
        return Interval(*np.full((2, *replicates.shape[1:]), np.nan))
    ordered = np.sort(replicates, axis=0)
    last = np.maximum(np.count_nonzero(~np.isnan(replicates), axis=0) - 1, 0)
    low = np.floor(_CONFIDENCE_TAIL * last).astype(np.int64)
    low_values = np.take_along_axis(ordered, low[None], axis=0)[0]
    high_values = np.take_along_axis(ordered, (last - low)[None], axis=0)[0]
    return Interval(low_values, high_values)
