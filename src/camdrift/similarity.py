"""Similarity of two attributions; undefined where one of them has no direction."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from camdrift.records import NON_FINITE_MAP, ZERO_MAP_SEED, ZERO_MAP_VARIANT
from camdrift.tensors import Maps, Values


class Comparison(NamedTuple):
    """Seed maps against variant maps, layer by layer: NumPy arrays of shape (layers, batch).

    Attributes:
        similarity: Cosine in [0, 1]; NaN where undefined.
        seed_is_zero: The seed's map is all zero.
        variant_is_zero: The variant's map is all zero.
    """

    similarity: NDArray[np.float64]
    seed_is_zero: NDArray[np.bool_]
    variant_is_zero: NDArray[np.bool_]

    def reasons(self) -> NDArray[np.object_]:
        """Why a similarity is undefined; None where it is defined."""
        reasons = np.full(self.similarity.shape, None, dtype=object)
        reasons[np.isnan(self.similarity)] = NON_FINITE_MAP
        reasons[self.variant_is_zero] = ZERO_MAP_VARIANT
        reasons[self.seed_is_zero] = ZERO_MAP_SEED
        return reasons


def similarity(a: Maps, b: Maps, size: tuple[int, int] = (224, 224)) -> Values:
    """Cosine of two batches of maps after bilinear interpolation to `size`; NaN where a map is all zero or not finite.

    Eq. 5, Renkhoff 2022, on raw maps. No full-size map is made: with R the interpolation matrix of an axis
    (align_corners=False) and G = R^T R, the inner product of two interpolated maps is sum((G_h A G_w) * B), exact
    at layer resolution. Computed in float64, because raw maps of early layers are tiny.

    Args:
        a: Maps of shape (batch, h, w), at least 0.
        b: Maps of the same shape.
        size: Height and width at which the maps are compared: the model's input.

    Returns:
        One value per pair, in [0, 1], float64.

    Raises:
        ValueError: Maps of different shapes.

    Example:
        >>> one = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> similarity(one, 3 * one, size=(4, 4))
        tensor([1.], dtype=torch.float64)
        >>> similarity(one, 0 * one, size=(4, 4))
        tensor([nan], dtype=torch.float64)
    """
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` must have the same shape, got: {tuple(a.shape)} and {tuple(b.shape)}")
    return _cosine(*_products(a, b, size))


def compare_layers(seeds: Mapping[str, Maps], variants: Mapping[str, Maps], size: tuple[int, int]) -> Comparison:
    """The similarity of seeds and variants at every layer.

    Args:
        seeds: Maps of the seeds by layer, shape (batch, h, w).
        variants: Maps of their variants by layer, in the same order and shapes.
        size: Height and width at which the maps are compared: the model's input.
    """
    names = list(seeds)
    batch = len(seeds[names[0]])
    rows = np.empty((3, len(names), batch))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, name in enumerate(names):
        by_shape.setdefault(tuple(seeds[name].shape), []).append(index)
    for indexes in by_shape.values():
        # Layers of one size go through one product: many layers cost little more than one.
        a = torch.cat([seeds[names[index]] for index in indexes])
        b = torch.cat([variants[names[index]] for index in indexes])
        product, square_a, square_b = _products(a, b, size)
        found = torch.stack([_cosine(product, square_a, square_b), square_a, square_b])
        rows[:, indexes] = found.view(3, len(indexes), batch).cpu().numpy()
    return Comparison(rows[0], rows[1] <= 0, rows[2] <= 0)


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


def _products(a: Maps, b: Maps, size: tuple[int, int]) -> tuple[Values, Values, Values]:
    """<a, b>, <a, a> and <b, b> of the interpolated maps, each map scaled to a peak of 1."""
    a, b = _unit_peak(a), _unit_peak(b)
    smoothed_a, smoothed_b = _gram(a, size), _gram(b, size)
    return (smoothed_a * b).sum((1, 2)), (smoothed_a * a).sum((1, 2)), (smoothed_b * b).sum((1, 2))


def _cosine(product: Values, square_a: Values, square_b: Values) -> Values:
    squares = square_a * square_b
    return torch.where(squares > 0, (product / squares.sqrt()).clamp(max=1.0), torch.nan)


def _unit_peak(maps: Maps) -> Float[Tensor, "batch h w"]:
    # Cosine ignores scale, and squares of raw early maps would underflow. A map that is not finite has peak NaN or
    # infinity, and gives NaN from here on.
    peak = maps.flatten(1).amax(1).double()[:, None, None]
    return torch.where(peak == 0, 0.0, maps.double() / peak)


def _gram(maps: Float[Tensor, "batch h w"], size: tuple[int, int]) -> Float[Tensor, "batch h w"]:
    height, width = maps.shape[1:]
    if (height, width) == size:
        return maps
    rows, columns = _axis_gram(height, size[0]), _axis_gram(width, size[1])
    return rows.to(maps.device) @ maps @ columns.to(maps.device)


@lru_cache(maxsize=64)
def _axis_gram(length: int, size: int) -> Float[Tensor, "length length"]:
    """G = R^T R of one axis, R being the (size, length) matrix of bilinear interpolation."""
    identity = torch.eye(length, dtype=torch.float64)[None]
    matrix = F.interpolate(identity, size=size, mode="linear", align_corners=False)[0].T
    return matrix.T @ matrix
