"""Similarity of two attributions; undefined where one of them has no direction."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camdrift.records import ZERO_MAP_SEED, ZERO_MAP_VARIANT
from camdrift.tensors import Maps, Values


def similarity(a: Maps, b: Maps, size: tuple[int, int] = (224, 224)) -> Values:
    """Cosine of two batches of maps after bilinear interpolation to `size`; NaN where a map is all zero.

    Eq. 5, Renkhoff 2022, on raw maps. No full-size map is made: with R the interpolation matrix of an axis
    (align_corners=False) and G = R^T R, the inner product of two interpolated maps is sum((G_h A G_w) * B), exact
    at layer resolution. Computed in float64, because raw maps of early layers are tiny.

    Args:
        a: Maps of shape (batch, h, w), at least 0.
        b: Maps of the same shape, or of batch 1.
        size: Height and width at which the maps are compared: the model's input.

    Returns:
        One value per pair, in [0, 1], float64.

    Example:
        >>> one = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> similarity(one, 3 * one, size=(4, 4))
        tensor([1.], dtype=torch.float64)
        >>> similarity(one, 0 * one, size=(4, 4))
        tensor([nan], dtype=torch.float64)
    """
    a, b = _unit_peak(a), _unit_peak(b)
    smoothed_a, smoothed_b = _gram(a, size), _gram(b, size)
    product = (smoothed_a * b).sum((1, 2))
    squares = (smoothed_a * a).sum((1, 2)) * (smoothed_b * b).sum((1, 2))
    cosine = (product / squares.sqrt()).clamp(max=1.0)
    return torch.where(squares > 0, cosine, torch.nan)


def undefined_reason(seed_map_is_zero: bool, variant_map_is_zero: bool) -> str | None:
    """Why a similarity is undefined, or None if it is defined."""
    if seed_map_is_zero:
        return ZERO_MAP_SEED
    return ZERO_MAP_VARIANT if variant_map_is_zero else None


def is_zero(maps: Maps) -> list[bool]:
    """For each map of a batch: is it zero everywhere?"""
    flags: list[bool] = (maps.flatten(1).amax(1) <= 0).tolist()
    return flags


def _unit_peak(maps: Maps) -> Float[Tensor, "batch h w"]:
    # Cosine ignores scale, and squares of raw early maps would underflow even in float32.
    peak = maps.flatten(1).amax(1).double()[:, None, None]
    return torch.where(peak > 0, maps.double() / peak, 0.0)


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
