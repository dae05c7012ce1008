"""Trials of frameworks compared: medians, effect sizes and tests over trials."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from camdrift.statistics.estimates import holm
from camdrift.streams import stream_seed
from camdrift.tables.campaign import FAILURE_COUNTS, FRAMEWORKS_TABLE, PAIRS

_REPLICATES: Final = 10_000
_LEVEL: Final = 0.95

TrialCounts = NDArray[np.float64]


def a12(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Vargha and Delaney's A12: the chance that a draw of `one` is larger, half the ties included (2000).

    Example:
        >>> round(a12([3, 5, 7], [1, 5, 6]), 4)
        0.6111
    """
    first, second = np.asarray(one, float)[:, None], np.asarray(other, float)[None]
    return float(((first > second) + 0.5 * (first == second)).mean())


def summarised(finals: pl.DataFrame, *, rng_seed: int) -> pl.DataFrame:
    """The table `frameworks`: median and interval of every count over the trials of each framework.

    Args:
        finals: The last row of `growth` of every finished trial.
        rng_seed: Seed of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for framework, counts in _by_framework(finals).items():
        for count, values in counts.items():
            low, high = (
                _interval(values, np.random.default_rng(stream_seed(rng_seed, framework, "bootstrap")))
                if len(values) > 1
                else (None, None)
            )
            rows.append(
                {
                    "framework": framework,
                    "count": count,
                    "trials": len(values),
                    "median": float(np.median(values)),
                    "low": low,
                    "high": high,
                    "least": int(values.min()),
                    "most": int(values.max()),
                }
            )
    return FRAMEWORKS_TABLE.frame(rows)


def compared(finals: pl.DataFrame) -> pl.DataFrame:
    """The table `pairs`: effect size and test for every pair of frameworks; empty where one has a single trial.

    Args:
        finals: The last row of `growth` of every finished trial.
    """
    by_framework = _by_framework(finals)
    rows: list[dict[str, Any]] = []
    pairs = [
        (one, other)
        for one, other in combinations(by_framework, 2)
        if all(len(values) > 1 for name in (one, other) for values in by_framework[name].values())
    ]
    for count in FAILURE_COUNTS if pairs else ():
        values = [(by_framework[one][count], by_framework[other][count]) for one, other in pairs]
        p_values = np.array([mann_whitney_p(first, second) for first, second in values])
        for (one, other), (first, second), p_value, p_holm in zip(pairs, values, p_values, holm(p_values), strict=True):
            rows.append(
                {
                    "framework": one,
                    "other": other,
                    "count": count,
                    "a12": a12(first.tolist(), second.tolist()),
                    "p_value": float(p_value),
                    "p_holm": float(p_holm),
                }
            )
    return PAIRS.frame(rows)


def _by_framework(finals: pl.DataFrame) -> Mapping[str, dict[str, TrialCounts]]:
    names = finals["framework"].unique(maintain_order=True).to_list()
    return {
        name: {
            count: finals.filter(pl.col("framework") == name)[count].to_numpy().astype(float)
            for count in FAILURE_COUNTS
        }
        for name in names
    }


def _interval(values: TrialCounts, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap interval of the median over trials."""
    medians = np.median(rng.choice(values, size=(_REPLICATES, len(values))), axis=1)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(medians, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def mann_whitney_p(one: TrialCounts, other: TrialCounts) -> float:
    """Mann-Whitney U test, two-sided; 1 where all values are equal."""
    if len(np.unique(np.concatenate([one, other]))) == 1:
        return 1.0
    return float(mannwhitneyu(one, other, alternative="two-sided").pvalue)
