"""Similarity of two attributions, of single pairs or layer by layer, and why it is undefined where it is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from camdrift.explanations.registry import find_metric
from camdrift.tables.measures import MAP_METRICS, METRICS, MapMetricName
from camdrift.tables.words import CONSTANT_MAP, NON_FINITE_MAP, ZERO_MAP_SEED, ZERO_MAP_VARIANT
from camdrift.tensors import Maps, Values


class LayerSimilarities(NamedTuple):
    """Similarities of seed and variant attributions, layer by layer: NumPy arrays of shape (layers, batch).

    Attributes:
        similarity: Value of the metric; NaN where undefined.
        seed_is_zero: Is the seed's attribution all zero?
        variant_is_zero: Is the variant's attribution all zero?
        are_finite: Are both attributions finite?
    """

    similarity: NDArray[np.float64]
    seed_is_zero: NDArray[np.bool_]
    variant_is_zero: NDArray[np.bool_]
    are_finite: NDArray[np.bool_]

    def reasons(self) -> NDArray[np.object_]:
        """Reason why each similarity is undefined; None where it is defined."""
        reasons = np.full(self.similarity.shape, None, dtype=object)
        is_undefined = np.isnan(self.similarity)
        reasons[is_undefined] = CONSTANT_MAP
        reasons[is_undefined & self.variant_is_zero] = ZERO_MAP_VARIANT
        reasons[is_undefined & self.seed_is_zero] = ZERO_MAP_SEED
        reasons[is_undefined & ~self.are_finite] = NON_FINITE_MAP
        return reasons


def similarity(a: Maps, b: Maps, size: tuple[int, int] = (224, 224), *, metric: MapMetricName = "cosine") -> Values:
    """Similarity of two batches of maps, 1 where they are the same; NaN where undefined.

    By default Eq. 5, Renkhoff 2022, on raw maps: the cosine after bilinear interpolation to `size`, NaN where a map
    is all zero or not finite. `explanations.metrics` defines the other metrics.

    Args:
        a: Maps of shape (batch, h, w), at least 0.
        b: Maps of the same shape.
        size: Height and width at which the maps are compared: the model's input.
        metric: A metric of maps, one of `tables.measures.MAP_METRICS`.

    Returns:
        One value per pair, float64; cosine lies in [0, 1].

    Raises:
        ValueError: Maps of different shapes, or an unknown metric.

    Example:
        >>> one = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> similarity(one, 3 * one, size=(4, 4))
        tensor([1.], dtype=torch.float64)
        >>> similarity(one, 0 * one, size=(4, 4))
        tensor([nan], dtype=torch.float64)
    """
    if metric not in MAP_METRICS:
        raise ValueError(f"`metric` must be one of {', '.join(MAP_METRICS)}, got: {metric}")
    if a.ndim != 3:
        raise ValueError(f"`a` must be maps of shape (batch, h, w), got: {tuple(a.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` must have the same shape, got: {tuple(a.shape)} and {tuple(b.shape)}")
    return find_metric(metric)(a, b, size)


def compare_layers(
    seeds: Mapping[str, Tensor], variants: Mapping[str, Tensor], size: tuple[int, int], *, metric: str = "cosine"
) -> LayerSimilarities:
    """The similarity of seeds and variants at every layer.

    Args:
        seeds: Attributions of the seeds by layer: maps (batch, h, w), or representations (batch, channels, h, w).
        variants: Those of their variants by layer, in the same order and shapes.
        size: Height and width at which maps are compared: the model's input.
        metric: Any metric that suits the attributions.
    """
    return layer_similarities(measure_layers(seeds, variants, size, metric=metric).cpu().numpy())


def measure_layers(
    seeds: Mapping[str, Tensor], variants: Mapping[str, Tensor], size: tuple[int, int], *, metric: str = "cosine"
) -> Float[Tensor, "3 layers batch"]:
    """`compare_layers` where the attributions lie: similarity, and the peaks of both, for `layer_similarities`."""
    assert metric in METRICS
    names, value_of = list(seeds), find_metric(metric)
    batch = len(seeds[names[0]])
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, name in enumerate(names):
        by_shape.setdefault(tuple(seeds[name].shape), []).append(index)
    columns: dict[int, Tensor] = {}
    for indexes in by_shape.values():
        # Layers of one size go through one product: many layers cost little more than one.
        a = torch.cat([seeds[names[index]] for index in indexes])
        b = torch.cat([variants[names[index]] for index in indexes])
        peaks = [part.flatten(1).abs().amax(1).double() for part in (a, b)]
        block = torch.stack([value_of(a, b, size), *peaks]).view(3, len(indexes), batch)
        columns |= dict(zip(indexes, block.unbind(1), strict=True))
    return torch.stack([columns[index] for index in range(len(names))], 1)


def layer_similarities(columns: NDArray[np.float64]) -> LayerSimilarities:
    """What `measure_layers` returned, read: any shape whose first axis has its three values."""
    values, seed_peaks, variant_peaks = columns
    are_finite = np.isfinite(seed_peaks) & np.isfinite(variant_peaks)
    return LayerSimilarities(values, seed_peaks == 0, variant_peaks == 0, are_finite)


def unrelated_pairs(count: int) -> list[tuple[int, int]]:
    """Pairs (seed, other seed) for the floor: a fixed permutation without fixed points, half the chunk apart.

    Half the chunk, because neighbours in a sorted list of class folders mostly show the same class.

    Example:
        >>> unrelated_pairs(4)
        [(0, 2), (1, 3), (2, 0), (3, 1)]
        >>> unrelated_pairs(1)
        []
    """
    return [(i, (i + count // 2) % count) for i in range(count)] if count > 1 else []
