"""Suites drawn from a pool of images, what they cover, and whether that goes with their failures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from camdrift.statistics.bootstrap import Ints, percentile_interval
from camdrift.streams import stream_seed
from camdrift.tables.arrays import Floats
from camdrift.tables.meaning import MIXED, WITHIN

# Words of 64 bits that are taken from every image at once.
_BLOCK: Final = 2**22
# Bits of an image that the bootstrap looks at; of more every so manieth is taken.
_BOOTSTRAP_BITS: Final = 2**18
RATE, UNIQUE_FAILURES = "failure rate", "unique failures"
OUTCOMES: Final = (RATE, UNIQUE_FAILURES)


class CoverageSets:
    """What each image of a pool covers, as bits, so that the union of many is quick.

    Slots that one image alone covers are only counted.
    """

    def __init__(self, slots: NDArray[Any], none: int) -> None:
        """Pack the slots.

        Args:
            slots: Slots that each image covers (images, columns), each once.
            none: Stands for no slot.
        """
        values, where, times = np.unique(slots, return_inverse=True, return_counts=True)
        is_slot = values != none
        is_shared = is_slot & (times > 1)
        places = np.where(is_shared, np.cumsum(is_shared) - 1, -1)[where].reshape(slots.shape)
        self._own = (is_slot & (times == 1))[where].reshape(slots.shape).sum(1)
        self._bits = int(is_shared.sum())
        self._words = np.stack([_packed(row[row >= 0], self._bits) for row in places])
        self._scale = 1

    def thinned(self, most: int = _BOOTSTRAP_BITS) -> "CoverageSets":
        """The same with every so manieth word of shared slots, at most so many bits, each counted as often."""
        other = object.__new__(CoverageSets)
        step = -(-self._bits // most) if self._bits else 1
        other._own, other._bits, other._scale = self._own, self._bits, step
        other._words = np.ascontiguousarray(self._words[:, ::step])
        return other

    def covered(self, suites: Ints) -> Floats:
        """Number of slots that the images of each suite cover together.

        Args:
            suites: Places of images in the pool (suites, images); one may come twice.
        """
        members = np.sort(suites, axis=1)
        is_first = np.concatenate([np.ones((len(suites), 1), bool), members[:, 1:] != members[:, :-1]], axis=1)
        totals = (self._own[members] * is_first).sum(1).astype(np.float64)
        step = max(1, _BLOCK // max(1, self._words.shape[1] * suites.shape[1]))
        for start in range(0, len(suites), step):
            part = self._words[suites[start : start + step, 0]]
            for column in suites[start : start + step, 1:].T:
                part |= self._words[column]
            totals[start : start + step] += self._scale * np.bitwise_count(part).sum(1, dtype=np.int64)
        return np.asarray(totals)


def _packed(places: Ints, bits: int) -> NDArray[np.uint64]:
    flags = np.zeros(-(-bits // 64) * 64, np.bool_)
    flags[places] = True
    return np.packbits(flags).view(np.uint64)


@dataclass(frozen=True)
class SuitePool:
    """The images that suites are drawn from.

    Attributes:
        cells: Places of images (strata, seeds, draws); the images of a stratum differ in their seed and draw alone.
        failures: Of each image the number of its pair of seed and wrong class; -1 where it is no failure.
    """

    cells: Ints
    failures: Ints

    @property
    def strata(self) -> Ints:
        """Stratum of each image."""
        strata = np.zeros(len(self.failures), np.int64)
        for number, cells in enumerate(self.cells):
            strata[cells.ravel()] = number
        return strata

    def of_seeds(self, seeds: Ints) -> "SuitePool":
        """The pool of some seeds, which may come several times."""
        return SuitePool(self.cells[:, seeds], self.failures)

    def suites(self, kind: str, number: int, rng: np.random.Generator) -> Ints:
        """Suites of one size (suites, images).

        Args:
            kind: `WITHIN`: an image of each stratum, the seeds in turns, so that all suites have one composition.
                `MIXED`: as many images, with shares of the strata that are drawn for each suite.
            number: Number of suites.
            rng: Random numbers.
        """
        strata, seeds, draws = self.cells.shape
        if kind == WITHIN:
            turns = np.argsort(rng.random((number, strata)), axis=1) % seeds
            seats = np.take_along_axis(np.argsort(rng.random((number, seeds)), axis=1), turns, axis=1)
            which = np.broadcast_to(np.arange(strata), seats.shape)
        else:
            ends = np.cumsum(rng.exponential(size=(number, strata)), axis=1)
            points = rng.random((number, strata)) * ends[:, -1:]
            which = (points[:, :, None] >= ends[:, None, :-1]).sum(2)
            seats = rng.integers(seeds, size=which.shape)
        return np.asarray(self.cells[which, seats, rng.integers(draws, size=which.shape)])

    def permuted(self, number: int, rng: np.random.Generator) -> Ints:
        """Failures permuted within strata (permutations, images)."""
        rows = np.tile(self.failures, (number, 1))
        for stratum in np.unique(strata := self.strata):
            columns = np.flatnonzero(strata == stratum)
            rows[:, columns] = rng.permuted(rows[:, columns], axis=1)
        return rows


def outcome_values(failures: Ints, suites: Ints) -> dict[str, Floats]:
    """Failure rate and number of unique failures of each suite, by name.

    Args:
        failures: Of each image the number of its failure, -1 for none.
        suites: Places of images (suites, images).
    """
    rows = np.sort(failures[suites], axis=1)
    is_new = np.concatenate([rows[:, :1] >= 0, (rows[:, 1:] > rows[:, :-1])], axis=1)
    return {RATE: (rows >= 0).mean(1), UNIQUE_FAILURES: is_new.sum(1).astype(np.float64)}


def rank_correlation(one: Floats, other: Floats) -> Floats:
    """Spearman's correlation along the last axis, ties at their mean rank; NaN where one side is constant.

    Args:
        one: (..., n).
        other: (..., n), of a shape that fits.

    Example:
        >>> round(float(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 4.0]))), 4)
        0.866
    """
    first, second = (rankdata(each, axis=-1) - (each.shape[-1] + 1) / 2 for each in (one, other))
    product = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    total = (first * second).sum(-1)
    return np.asarray(np.divide(total, product, out=np.full(np.shape(total), np.nan), where=product > 0))


@dataclass(frozen=True)
class SuiteDesign:
    """How much is drawn.

    Attributes:
        suites: Suites.
        permutations: Permutations of failures within strata.
        replicates: Bootstrap replicates over seeds; 0 for no interval.
    """

    suites: int = 1000
    permutations: int = 1000
    replicates: int = 200


@dataclass(frozen=True)
class Association:
    """How coverage of suites goes with an outcome.

    Attributes:
        criterion: Name of the criterion.
        kind: Kind of the suites.
        outcome: One of `OUTCOMES`.
        estimate: Spearman's correlation over suites; NaN where all suites are alike.
        interval: Its bootstrap 95 % interval over seeds; NaN where there is none.
        null: 2.5 and 97.5 % quantiles where failures are permuted within strata.
        p_value: Two-sided p against the same permutations.
    """

    criterion: str
    kind: str
    outcome: str
    estimate: float
    interval: tuple[float, float]
    null: tuple[float, float]
    p_value: float


def associations(
    pool: SuitePool, sets: Mapping[str, CoverageSets], design: SuiteDesign, *, rng_seed: int
) -> list[Association]:
    """Correlations of coverage and failures over suites, by criterion, kind of suites and outcome.

    Args:
        pool: The images.
        sets: What each image covers, by criterion.
        design: How much is drawn.
        rng_seed: Seed of the draws.
    """
    return [each for kind in (WITHIN, MIXED) for each in _of_kind(pool, sets, kind, design, rng_seed)]


def _of_kind(
    pool: SuitePool, sets: Mapping[str, CoverageSets], kind: str, design: SuiteDesign, rng_seed: int
) -> list[Association]:
    rng = np.random.default_rng(stream_seed(rng_seed, kind, "suites"))
    suites = pool.suites(kind, design.suites, rng)
    values = outcome_values(pool.failures, suites)
    nulls = [outcome_values(row, suites) for row in pool.permuted(design.permutations, rng)]
    by_outcome = {name: np.stack([each[name] for each in nulls]) for name in OUTCOMES}
    replicates = _replicates(pool, sets, kind, design, rng)
    results = []
    for criterion, each in sets.items():
        sizes = each.covered(suites)
        for outcome in OUTCOMES:
            estimate = float(rank_correlation(sizes, values[outcome]))
            null = rank_correlation(sizes, by_outcome[outcome])
            interval = percentile_interval(replicates[criterion, outcome])
            results.append(
                Association(
                    criterion,
                    kind,
                    outcome,
                    estimate,
                    (float(interval.low), float(interval.high)),
                    middle_range(null),
                    permutation_p(estimate, null),
                )
            )
    return results


def _replicates(
    pool: SuitePool, sets: Mapping[str, CoverageSets], kind: str, design: SuiteDesign, rng: np.random.Generator
) -> dict[tuple[str, str], Floats]:
    """The correlations of suites from resamples of the seeds."""
    thin = {name: each.thinned() for name, each in sets.items()}
    rows: dict[tuple[str, str], list[float]] = {(name, outcome): [] for name in sets for outcome in OUTCOMES}
    n_seeds = pool.cells.shape[1]
    for _ in range(design.replicates):
        seeds: Ints = np.asarray(rng.integers(n_seeds, size=n_seeds))
        suites = pool.of_seeds(seeds).suites(kind, design.suites, rng)
        values = outcome_values(pool.failures, suites)
        for name, each in thin.items():
            sizes = each.covered(suites)
            for outcome in OUTCOMES:
                rows[name, outcome].append(float(rank_correlation(sizes, values[outcome])))
    return {key: np.array(row, np.float64) for key, row in rows.items()}


def permutation_p(estimate: float, null: Floats) -> float:
    """Two-sided p of an estimate among values of a permutation test, itself included; NaN where it is NaN.

    Twice the smaller tail (Phipson and Smyth 2010: no p is 0). NaN among the values counts as no more extreme than
    anything.

    Example:
        >>> permutation_p(2.0, np.array([0.0, 1.0, -1.0]))
        0.5
    """
    if np.isnan(estimate):
        return np.nan
    tails = [np.count_nonzero(~(null < estimate)), np.count_nonzero(~(null > estimate))]
    return float(min(1.0, 2 * (1 + min(tails)) / (1 + len(null))))


def middle_range(values: Floats) -> tuple[float, float]:
    """2.5 and 97.5 % quantiles of the defined values; NaN where there are none."""
    interval = percentile_interval(values)
    return float(interval.low), float(interval.high)
