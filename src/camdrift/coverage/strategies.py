"""DLFuzz's strategies, which choose the neurons to activate next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camdrift.layers.layers import SOFTMAX, NeuronGroup
from camdrift.layers.operations import LINEAR
from camdrift.models.classifier import Classifier

STRATEGIES: Final = ("none", "0", "1", "2", "3")
TOP_ONE_IN: Final = 10
ABOVE, BELOW = 0.25, 0.2

CoveredTimes = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class ChosenNeurons:
    """Neurons to push, by index, and the sign of the push."""

    neurons: NDArray[np.int64]
    signs: Scores


@dataclass(frozen=True)
class NeuronTable:
    """Facts about a model's neurons that the strategies need, fixed for a whole study.

    Attributes:
        strongest: Strategy 2's candidates: neurons of the highest mean weight.
        is_dense: Does a neuron belong to a linear layer or the softmax? Strategy 3 leaves those out.
    """

    strongest: NDArray[np.int64]
    is_dense: NDArray[np.bool_]


def neuron_table(classifier: Classifier) -> NeuronTable:
    """The table of a classifier's neurons.

    Strategy 2's candidates are a tenth of all neurons, rounded up (1,489 of VGG-16's 14,888): those with the highest
    mean over their kernel, among layers with weights and positive means; biases do not count.
    """
    groups = classifier.neuron_groups
    means = np.concatenate([_mean_weights(classifier, group) for group in groups])
    order = np.argsort(-means, kind="stable")
    top = order[: -(-means.size // TOP_ONE_IN)]
    dense = np.concatenate([np.full(g.neurons, g.kind in (LINEAR, SOFTMAX)) for g in groups])
    return NeuronTable(top[means[top] > 0], dense)


def _mean_weights(classifier: Classifier, group: NeuronGroup) -> Scores:
    """Mean weight per neuron; minus infinity where a layer has none."""
    none = np.full(group.neurons, -np.inf)
    if group.tap is not None and group.kind == "pool":
        return none
    weight = getattr(classifier.module.get_submodule(group.module), "weight", None) if group.module else None
    if weight is None or weight.shape[0] != group.neurons:
        return none
    return np.asarray(weight.detach().float().flatten(1).mean(1).cpu().double().numpy())


def select_neurons(
    strategies: Sequence[str],
    count: int,
    *,
    table: NeuronTable,
    times: CoveredTimes,
    values: Scores,
    threshold: float,
    rng: np.random.Generator,
) -> ChosenNeurons:
    """The neurons of one popped image: `count` of them, split evenly over `strategies` (specification 1.6).

    none: uniformly among neurons never covered. 0: the more often covered, the likelier. 1: the more rarely. 2: the
    strongest by weight. 3: half just above the threshold (pushed up), half just below it (pushed down, as published).

    Where we differ: strategy 3 adds to the others instead of discarding them, and draws among its candidates at
    random where the original walks them in dictionary order; where too few neurons qualify, fewer are taken, and
    where all were covered equally often, strategy 1 draws uniformly (the original fails there).

    Args:
        strategies: Any of `STRATEGIES`.
        count: Neurons in all.
        table: The model's neurons.
        times: How often each neuron was covered so far.
        values: Scaled value of each neuron on the popped image.
        threshold: Value above which a neuron is covered.
        rng: The seed image's own stream.
    """
    share = count // len(strategies)
    if not times.any() and {"0", "1"} & set(strategies):
        return _positive(_uncovered(times, 1, rng))
    parts = [
        _near_threshold(values, share, threshold=threshold, table=table, rng=rng)
        if strategy == "3"
        else _positive(_select(strategy, share, table=table, times=times, rng=rng))
        for strategy in strategies
    ]
    return ChosenNeurons(np.concatenate([p.neurons for p in parts]), np.concatenate([p.signs for p in parts]))


def _select(
    strategy: str, count: int, *, table: NeuronTable, times: CoveredTimes, rng: np.random.Generator
) -> NDArray[np.int64]:
    match strategy:
        case "0":
            return _weighted(times.astype(float), count, rng)
        case "1":
            rarity = (times.max() - times).astype(float)
            return _weighted(rarity if rarity.any() else np.ones_like(rarity), count, rng)
        case "2":
            return _uniform(table.strongest, count, rng)
        case _:
            return _uncovered(times, count, rng)


def _positive(neurons: NDArray[np.int64]) -> ChosenNeurons:
    return ChosenNeurons(neurons, np.ones(len(neurons)))


def _uniform(candidates: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(candidates, size=min(count, len(candidates)), replace=False)


def _uncovered(times: CoveredTimes, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    candidates = np.flatnonzero(times == 0)
    return _uniform(candidates if len(candidates) else np.arange(times.size), count, rng)


def _weighted(weights: Scores, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    size = min(count, int(np.count_nonzero(weights)))
    return rng.choice(weights.size, size=size, replace=False, p=weights / weights.sum())


def _near_threshold(
    values: Scores, count: int, *, threshold: float, table: NeuronTable, rng: np.random.Generator
) -> ChosenNeurons:
    finite = np.nan_to_num(values, nan=np.inf)
    above = np.flatnonzero((finite > threshold) & (finite < threshold + ABOVE) & ~table.is_dense)
    below = np.flatnonzero((finite > threshold - BELOW) & (finite < threshold) & ~table.is_dense)
    up, down = _uniform(above, count // 2, rng), _uniform(below, count - count // 2, rng)
    return ChosenNeurons(np.concatenate([up, down]), np.concatenate([np.ones(len(up)), -np.ones(len(down))]))
