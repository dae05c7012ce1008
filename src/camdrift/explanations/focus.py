"""The focus of a map: its place, how a variant moves it, and whether the map changes where the perturbation lies.

These are camdrift's own measures. They take raw maps and compute in float64. Maps with more than `LARGEST_GRID_SIDE`
values along a side are first averaged down to that many. The distribution of a map of h by w cells is the map over its
sum. The centre of cell (i, j) lies at ((i + 0.5) / h, (j + 0.5) / w), so that distances count in sides of the image.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log, sqrt
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camdrift.tensors import Maps, Values

LARGEST_GRID_SIDE: Final = 56
# The top fifth of a map are its ceil(cells / 5) largest cells.
TOP_DIVISOR: Final = 5
# Maps and pixels are float32: maps of length 1, or pixels of 1, that differ by less differ by rounding.
_ROUNDING: Final = 2.0**-23

# Maps of several layers may lie one after the other, all those of a layer together.
Grids = Float[Tensor, "maps rows columns"]
Flat = Float[Tensor, "maps cells"]
Squares = Float[Tensor, "batch height width"]
Pattern = Float[Tensor, "images cells"]
Patterns = Mapping[tuple[int, int], Pattern]
Changes = Float[Tensor, "measures maps"]


class Focus(NamedTuple):
    """Focus of each map of a batch, float64; NaN where a map is all zero or not finite.

    Attributes:
        row: Centre of mass from the upper edge, in [0, 1].
        column: Centre of mass from the left edge, in [0, 1].
        spread: Root mean square distance from the centre of mass, in sides of the image.
        entropy: Entropy of the distribution over log(h w), that of an even map, in [0, 1]; NaN for a single cell.
        threshold: Smallest value of the top fifth: the ceil(h w / 5)-th largest, or the smallest positive number.
        length: L2 norm.
    """

    row: Values
    column: Values
    spread: Values
    entropy: Values
    threshold: Values
    length: Values


def focus_change(seeds: Maps, variants: Maps, squares: Squares) -> Changes:
    """Change of focus from the maps of some seeds to those of their variants: one row per `FOCUS_MEASURES`.

    Args:
        seeds: Maps of shape (batch, h, w), at least 0.
        variants: Maps of the same shape.
        squares: Squared perturbation of each pixel, mean over channels, in pixel units.

    Returns:
        Shape (5, batch), float64; NaN where undefined.

    Raises:
        ValueError: Maps of different shapes.

    Example:
        >>> corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> focus_change(corner, corner.flip(2), corner)[:, 0].tolist()
        [0.5, 0.0, 0.0, 0.0, 0.5773502691896257]
    """
    if seeds.shape != variants.shape:
        shapes = f"{tuple(seeds.shape)} and {tuple(variants.shape)}"
        raise ValueError(f"`seeds` and `variants` must have the same shape, got: {shapes}")
    before, after = reduced(seeds), reduced(variants)
    pattern = unit_pattern(local_rms(squares, before.shape[1:]))
    return measure_change(before, locate(before), after, locate(after), pattern)


def reduced(maps: Maps) -> Grids:
    """The maps in float64, averaged down to `LARGEST_GRID_SIDE` values along every side that has more."""
    return average_down(maps).double()


def average_down(maps: Maps) -> Grids:
    """The maps themselves where none of their sides is longer than `LARGEST_GRID_SIDE`; else reduced, in float64."""
    shape = reduced_shape(maps)
    return maps if shape == maps.shape[1:] else F.adaptive_avg_pool2d(maps.double(), shape)


def reduced_shape(maps: Maps) -> tuple[int, int]:
    """Shape of the maps after `reduced`."""
    return (min(maps.shape[1], LARGEST_GRID_SIDE), min(maps.shape[2], LARGEST_GRID_SIDE))


def local_rms(squares: Squares, shape: Sequence[int]) -> Grids:
    """Root mean square of a perturbation over each of h by w cells: (batch, h, w), float64, in pixel units.

    Where h does not divide the image's height, cells reach to whole pixels and overlap, as in `adaptive_avg_pool2d`.
    """
    return F.adaptive_avg_pool2d(squares.double(), (shape[0], shape[1])).sqrt()


def locate(cells: Grids) -> Focus:
    """Focus of each map.

    Args:
        cells: Maps that `reduced` returned.
    """
    batch, height, width = cells.shape
    rows, columns, flat = cells.sum(2), cells.sum(1), cells.view(batch, height * width)
    total = rows.sum(1)
    total = torch.where((total > 0) & torch.isfinite(total), total, torch.nan)
    row, row_variance = _mean_and_variance(rows / total[:, None])
    column, column_variance = _mean_and_variance(columns / total[:, None])
    # With p = m / t, -sum(p log p) = log t - sum(m log m) / t.
    entropy = total.log() + torch.special.entr(flat).sum(1) / total
    length = torch.linalg.vector_norm(flat, dim=1) + 0 * total
    return Focus(
        row=row,
        column=column,
        spread=(row_variance + column_variance).sqrt(),
        # log(1) is no yardstick: a single cell has no entropy.
        entropy=entropy / (log(height * width) or torch.nan),
        threshold=_largest(flat, ceil(height * width / TOP_DIVISOR)).clamp(min=torch.finfo(torch.float64).tiny),
        length=length,
    )


def unit_pattern(rms: Grids) -> Pattern:
    """Deviation of each cell of a perturbation from the mean over its image, scaled to unit length.

    NaN where the perturbation is the same everywhere, but for the rounding of pixels.

    Args:
        rms: Local root mean squares that `local_rms` returned.
    """
    flat = rms.flatten(1)
    deviation = flat - flat.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(deviation, dim=1)
    return deviation / torch.where(length > _ROUNDING * sqrt(flat.shape[1]), length, torch.nan)[:, None]


def measure_change(before: Grids, seed: Focus, after: Grids, variant: Focus, pattern: Pattern) -> Changes:
    """The five measures, in the order of `FOCUS_MEASURES`; the maps of every layer share the images' pattern.

    Args:
        before: Maps of the seeds.
        seed: Their focus.
        after: Maps of the variants.
        variant: Their focus.
        pattern: Patterns of the images' perturbations.
    """
    shift = torch.hypot(variant.row - seed.row, variant.column - seed.column)
    overlap = _dice(_top(before, seed.threshold), _top(after, variant.threshold))
    change = after.flatten(1) / variant.length[:, None]
    change = change.sub_(before.flatten(1) / seed.length[:, None]).abs_()
    return torch.stack(
        [
            shift,
            variant.spread - seed.spread,
            variant.entropy - seed.entropy,
            torch.where(shift.isnan(), torch.nan, overlap),
            _correlation(change, pattern),
        ]
    )


def _largest(flat: Flat, rank: int) -> Values:
    """The `rank`-th largest value of each row."""
    if flat.device.type == "cpu":
        # NumPy selects in half the time of topk.
        return torch.from_numpy(np.partition(flat.numpy(), -rank, axis=1)[:, -rank])
    return flat.topk(rank, sorted=False).values.amin(1)


def _mean_and_variance(shares: Flat) -> tuple[Values, Values]:
    """Mean and variance of the place along one axis of the image, of length 1."""
    count = shares.shape[1]
    places = (torch.arange(count, dtype=torch.float64, device=shares.device) + 0.5) / count
    mean = shares @ places
    return mean, (shares * (places - mean[:, None]).square()).sum(1)


def _top(cells: Grids, threshold: Values) -> Tensor:
    """Flags of the cells in the top fifth of each map, (maps, cells); equal values are in together."""
    return (cells >= threshold[:, None, None]).flatten(1)


def _dice(one: Tensor, other: Tensor) -> Values:
    """Dice overlap of two sets of cells."""
    intersection, *sizes = (part.count_nonzero(1).double() for part in (one & other, one, other))
    return 2 * intersection / (sizes[0] + sizes[1])


def _correlation(change: Flat, pattern: Pattern) -> Values:
    """Pearson correlation with `pattern` of `change`, which is overwritten; NaN where it is even but for rounding."""
    deviation = change.sub_(change.mean(1, keepdim=True))
    length = torch.linalg.vector_norm(deviation, dim=1)
    product = torch.linalg.vecdot(deviation.view(-1, *pattern.shape), pattern).flatten()
    return torch.where(length > _ROUNDING, (product / length).clamp(-1, 1), torch.nan)
