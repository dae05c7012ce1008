"""Rules that choose the next parent of a trial's corpus."""

from collections.abc import Callable
from typing import Final

import numpy as np

from camdrift.fuzzing.trial import Trial

# A rule gets the trial and the iteration's random numbers, and returns a place in the corpus.
ParentRule = Callable[[Trial, np.random.Generator], int]

# DeepHunter's selection probability (Eq. 3, Xie et al., ISSTA 2019).
GAMMA: Final = 5
P_MIN: Final = 0.3
# TensorFuzz looks at so many of the newest entries.
_NEWEST: Final = 5


def selection_probability(times: int, *, as_released: bool = False) -> float:
    """Return the probability of choosing an entry that was chosen so often: 1 - f / gamma, and then p_min.

    Args:
        times: f, how often it was chosen.
        as_released: DeepHunter 2.0 starts at 0.8, steps on only while above p_min, and so ends at 0.2, below p_min.

    Example:
        >>> [selection_probability(times) for times in range(6)]
        [1.0, 0.8, 0.6, 0.4, 0.3, 0.3]
    """
    if not as_released:
        return 1 - times / GAMMA if times < (1 - P_MIN) * GAMMA else P_MIN
    probability = 0.8
    for step in range(1, times + 1):
        if probability > P_MIN and step < GAMMA * (1 - P_MIN):
            probability = round(0.8 - step / GAMMA, 12)
    return probability


def cyclic(trial: Trial, rng: np.random.Generator) -> int:
    """DeepHunter: walk through the corpus again and again, and accept with the probability of an entry's history."""
    counts = trial.counts
    while True:
        place = counts.cursor % len(trial.corpus)
        counts.cursor = place + 1
        times = trial.corpus.entries[place].times
        if rng.random() < selection_probability(times, as_released=trial.design.as_released):
            return place


def newest_or_any(trial: Trial, rng: np.random.Generator) -> int:
    """TensorFuzz: one of the newest five entries or one of all, with equal odds."""
    size = len(trial.corpus)
    newest = range(max(0, size - _NEWEST), size)
    return int(rng.choice([*newest, int(rng.integers(size))]))
