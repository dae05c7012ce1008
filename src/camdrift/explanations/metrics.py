"""Metrics of attributions. Each is 1 for two attributions that are the same, and undefined (NaN) where it has no value.

All but SSIM are computed in float64. Unless a metric interpolates, it compares maps at the resolution of their layer.
A distance d is turned into the similarity 1 - d, so that the deviation 1 - similarity is the distance. Below, the type
`Maps` also stands for values of either sign on the cells of maps, such as deviations from a mean.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from math import ceil
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camdrift.explanations.focus import TOP_DIVISOR
from camdrift.tensors import Activations, Images, Maps, Values

# Transport between maps with more cells along a side takes minutes; such maps are averaged down to that many.
EMD_SIDE: Final = 14

# SSIM: pixels on either side of a window, its standard deviation, and the constants for a range of 1.
_REACH: Final = 5
_WINDOW_STD: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2

Size = tuple[int, int]
Metric = Callable[[Tensor, Tensor, Size], Values]


def cosine(a: Maps, b: Maps, size: Size) -> Values:
    """Cosine after bilinear interpolation to `size`, in [0, 1]; undefined for an all-zero map (Eq. 5, Renkhoff 2022).

    No full-size map is made: with R the interpolation matrix of an axis (align_corners=False) and G = R^T R, the
    inner product of two interpolated maps is sum((G_h A G_w) * B), exact at layer resolution.
    """
    return _cosine(_unit_peak(a), _unit_peak(b), size)


def pearson(a: Maps, b: Maps, size: Size) -> Values:
    """Pearson correlation over the pixels after bilinear interpolation to `size`, in [-1, 1]; undefined for even maps.

    Interpolation keeps constants: the mean over pixels is taken off the cells, and the cosine is that of the rest.
    """
    return _cosine(_centred(_unit_peak(a), size), _centred(_unit_peak(b), size), size)


def spearman(a: Maps, b: Maps, size: Size) -> Values:
    """Spearman rank correlation over the cells, ties at their mean rank, in [-1, 1]; undefined for even maps."""
    from scipy.stats import rankdata  # takes a third of the time that a worker needs to start

    ranks = [torch.as_tensor(rankdata(_finite(maps).flatten(1).cpu().numpy(), axis=1)) for maps in (a, b)]
    native = (a.shape[1], a.shape[2])
    first, second = (_centred(rank.view(a.shape).to(a.device), native) for rank in ranks)
    return torch.where(_are_finite(a, b), _cosine(first, second, native), torch.nan)


def ssim(a: Maps, b: Maps, size: Size) -> Values:
    """Structural similarity (Wang 2004) of the maps scaled to a peak of 1 and interpolated to `size`, in [-1, 1].

    Fixed range 1, Gaussian window of 11 pixels and standard deviation 1.5, borders mirrored, mean over all pixels: as
    in torchmetrics. Undefined where a map is all zero.
    """
    # The convolutions of float64 take a hundred times as long.
    first, second = (_upsampled(_unit_peak(maps), size)[:, None].float() for maps in (a, b))
    is_defined = (_peak(a) > 0) & (_peak(b) > 0) & _are_finite(a, b)
    return torch.where(is_defined, _similar_structure(first, second), torch.nan)


def picture_ssim(a: Images, b: Images) -> Values:
    """Structural similarity (Wang 2004) of images in pixel space: as `ssim`, mean over the channels; float64.

    Args:
        a: Images of at least 6 pixels along a side.
        b: As many, of the same size.
    """
    planes = [images.flatten(0, 1)[:, None].float() for images in (a, b)]
    return _similar_structure(*planes).view(len(a), -1).mean(1)


def _similar_structure(first: Tensor, second: Tensor) -> Values:
    """Mean index of structural similarity of planes (batch, 1, h, w) in [0, 1]."""
    products = torch.cat([first, second, first * first, second * second, first * second])
    mean_1, mean_2, square_1, square_2, product = _blurred(products).chunk(5)
    # Eq. 13 of Wang 2004, with its K1 = 0.01 and K2 = 0.03; variances below 0 are rounding.
    variances = (square_1 - mean_1**2).clamp(min=0) + (square_2 - mean_2**2).clamp(min=0)
    means = (2 * mean_1 * mean_2 + _C1) / (mean_1**2 + mean_2**2 + _C1)
    indexes = means * (2 * (product - mean_1 * mean_2) + _C2) / (variances + _C2)
    return indexes.double().mean((1, 2, 3))


def _blurred(images: Tensor) -> Tensor:
    """Images (batch, 1, h, w) under the window of SSIM, one axis after the other."""
    places = torch.arange(-_REACH, _REACH + 1, dtype=images.dtype, device=images.device)
    window = torch.exp(-((places / _WINDOW_STD) ** 2) / 2)
    window = window / window.sum()
    larger = F.pad(images, (_REACH,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(larger, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def topk_iou(a: Maps, b: Maps, size: Size) -> Values:
    """Intersection over union of the largest fifth of the cells, in [0, 1]; about 0.11 by chance.

    Of h w cells these are all from the ceil(h w / 5)-th largest value up, but none that is 0.
    """
    first, second = _top(a), _top(b)
    intersection = (first & second).sum(1).double()
    union = (first | second).sum(1).double()
    is_defined = first.any(1) & second.any(1) & _are_finite(a, b)
    return torch.where(is_defined, intersection / union, torch.nan)


def emd(a: Maps, b: Maps, size: Size) -> Values:
    """1 - earth mover's distance of the maps over their sums, in sides of the image; in [1 - sqrt(2), 1].

    Maps of more than 14 cells along a side are averaged down to 14. Exact transport between cell centres, by POT.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its source, when it is compiled
        import ot

    masses = [_mass(_pooled(_unit_peak(maps))) for maps in (a, b)]
    height, width = masses[0].shape[1:]
    cost = _distances(height, width)
    values = []
    for first, second in zip(*(mass.flatten(1).cpu().numpy() for mass in masses), strict=True):
        is_defined = np.isfinite(first).all() and np.isfinite(second).all()
        # The solver wants sums that agree to the last digit.
        values.append(1.0 - float(ot.emd2(first / first.sum(), second / second.sum(), cost)) if is_defined else np.nan)
    return torch.tensor(values, dtype=torch.float64, device=a.device)


def centroid(a: Maps, b: Maps, size: Size) -> Values:
    """1 - distance of the centres of mass, in sides of the image; undefined where a map is all zero."""
    first, second = (_centre(_mass(_unit_peak(maps))) for maps in (a, b))
    distance: Values = torch.linalg.vector_norm(first - second, dim=1)
    return 1 - distance


def relative_error(a: Tensor, b: Tensor, size: Size) -> Values:
    """1 - |b - a| / |a| with the seed's attribution a, L2 norms, at most 1 (Eq. 3 of Khalooei 2022 as a similarity).

    Maps count after bilinear interpolation to `size`, representations as they are. It is undefined where the seed's
    attribution is all zero; where the variant's alone is, the error is 1. No other metric here sees how large an
    attribution is.
    """
    scale = torch.where(_peak(a) == 0, torch.nan, _peak(a)).view(-1, *([1] * (a.ndim - 1)))
    first, change = a.double() / scale, (b.double() - a.double()) / scale
    if a.ndim == 3:
        squares = [(_gram(part, size) * part).sum((1, 2)) for part in (change, first)]
    else:
        squares = [part.square().flatten(1).sum(1) for part in (change, first)]
    # An infinite variant would be infinitely far away: it has no attribution to compare.
    return torch.where(_are_finite(a, b), 1 - (squares[0].clamp(min=0) / squares[1]).sqrt(), torch.nan)


def cka(a: Activations, b: Activations, size: Size) -> Values:
    """Linear centred kernel alignment of two representations, in [0, 1]; positions are samples (Kornblith 2019).

    With X and Y of shape (h w, channels), column means taken off: |Y^T X|^2 / (|X^T X| |Y^T Y|), Frobenius norms.
    Undefined where every position holds the same vector.
    """
    x, y = (part.double().flatten(2).transpose(1, 2) for part in (a, b))
    x, y = (part - part.mean(1, keepdim=True) for part in (x, y))
    cross, own, other = (_product_square(*pair) for pair in ((y, x), (x, x), (y, y)))
    squares = own * other
    return torch.where(squares > 0, (cross / squares.sqrt()).clamp(max=1.0), torch.nan)


def _cosine(a: Maps, b: Maps, size: Size) -> Values:
    """Cosine of maps after interpolation to `size`; NaN where one of them is all zero."""
    smoothed_a, smoothed_b = _gram(a, size), _gram(b, size)
    product = (smoothed_a * b).sum((1, 2))
    squares = (smoothed_a * a).sum((1, 2)) * (smoothed_b * b).sum((1, 2))
    return torch.where(squares > 0, (product / squares.sqrt()).clamp(-1.0, 1.0), torch.nan)


def _peak(values: Tensor) -> Values:
    """Largest absolute entry of each attribution; NaN or infinity where the attribution is not finite."""
    return values.flatten(1).abs().amax(1).double()


def _are_finite(a: Tensor, b: Tensor) -> Tensor:
    """Are both attributions of a pair finite? One flag a pair."""
    return torch.isfinite(_peak(a)) & torch.isfinite(_peak(b))


def _finite(maps: Tensor) -> Tensor:
    """The maps, with zeros in place of maps that are not finite."""
    return torch.where(torch.isfinite(_peak(maps)).view(-1, *([1] * (maps.ndim - 1))), maps, 0.0)


def _unit_peak(maps: Maps) -> Maps:
    """The maps in float64 over their peaks."""
    # No metric but relative error sees the scale, and squares of raw early maps would underflow. A map that is not
    # finite has the peak NaN or infinity and gives NaN from here on.
    peak = _peak(maps)[:, None, None]
    return torch.where(peak == 0, 0.0, maps.double() / peak)


def _centred(maps: Maps, size: Size) -> Maps:
    """The cells minus the mean over the interpolated map's pixels; exact zeros for an even map."""
    first = maps[:, :1, :1]
    rows, columns = _axis_weights(maps.shape[1], size[0]), _axis_weights(maps.shape[2], size[1])
    change = maps - first
    mean = torch.einsum("h,bhw,w->b", rows.to(maps.device), change, columns.to(maps.device))
    return change - mean[:, None, None]


def _upsampled(maps: Maps, size: Size) -> Float[Tensor, "batch height width"]:
    """The maps after bilinear interpolation to `size`."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _top(maps: Maps) -> Tensor:
    """Flags of the cells that are the largest fifth of each map, (batch, cells); a zero is never among them."""
    flat = maps.flatten(1)
    count = ceil(flat.shape[1] / TOP_DIVISOR)
    least = flat.topk(count, dim=1).values[:, -1:]
    return (flat >= least) & (flat > 0)


def _pooled(maps: Maps) -> Float[Tensor, "batch rows columns"]:
    """The maps, averaged down to `EMD_SIDE` cells along every side that has more."""
    height, width = (min(side, EMD_SIDE) for side in maps.shape[1:])
    return F.adaptive_avg_pool2d(maps[:, None], (height, width))[:, 0]


def _mass(maps: Maps) -> Maps:
    """The map over its sum; NaN where it is all zero."""
    return maps / maps.sum((1, 2), keepdim=True)


def _centre(mass: Maps) -> Float[Tensor, "batch 2"]:
    """Centres of mass, row and column, in sides of the image."""
    rows, columns = _centres(mass.shape[1]).to(mass.device), _centres(mass.shape[2]).to(mass.device)
    return torch.stack([mass.sum(2) @ rows, mass.sum(1) @ columns], dim=1)


def _centres(cells: int) -> Float[Tensor, " cells"]:
    """Centres of the cells along one side of the image, of length 1."""
    return (torch.arange(cells, dtype=torch.float64) + 0.5) / cells


@lru_cache(maxsize=64)
def _distances(height: int, width: int) -> np.ndarray:
    """Distance between the centres of every two cells, in sides of the image."""
    centres = torch.cartesian_prod(_centres(height), _centres(width)).view(-1, 2)
    return torch.cdist(centres, centres).numpy()


def _product_square(x: Tensor, y: Tensor) -> Values:
    """|X^T Y|^2, Frobenius, by whichever product is smaller."""
    samples, features = x.shape[1:]
    if features <= samples:
        return (x.transpose(1, 2) @ y).square().sum((1, 2))
    return ((x @ x.transpose(1, 2)) * (y @ y.transpose(1, 2))).sum((1, 2))


def _gram(maps: Maps, size: Size) -> Maps:
    """G_h M G_w of every map M: its inner product with another map is that of the two interpolated maps."""
    if maps.shape[1:] == size:
        return maps
    return _times_gram(_times_gram(maps, 1, size[0]), 2, size[1])


def _times_gram(maps: Maps, axis: int, size: int) -> Maps:
    """G M along one axis, by the diagonals of G: a pixel lies between two cells, so that all but three are zero."""
    length = maps.shape[axis]
    gram = _axis_gram(length, size).to(maps.device)
    main, beside = (gram.diagonal(offset).view(-1, *([1] * (2 - axis))) for offset in (0, 1))
    product = maps * main
    if length > 1:
        lower, upper = (partial(torch.narrow, dim=axis, start=start, length=length - 1) for start in (0, 1))
        lower(product).addcmul_(upper(maps), beside)
        upper(product).addcmul_(lower(maps), beside)
    return product


@lru_cache(maxsize=64)
def _axis_matrix(length: int, size: int) -> Float[Tensor, "size length"]:
    """R, the matrix of bilinear interpolation of one axis."""
    identity = torch.eye(length, dtype=torch.float64)[None]
    return F.interpolate(identity, size=size, mode="linear", align_corners=False)[0].T


@lru_cache(maxsize=64)
def _axis_gram(length: int, size: int) -> Float[Tensor, "length length"]:
    """G = R^T R of one axis."""
    matrix = _axis_matrix(length, size)
    return matrix.T @ matrix


def _axis_weights(length: int, size: int) -> Float[Tensor, " length"]:
    """Share of each cell in the mean over the interpolated pixels."""
    return _axis_matrix(length, size).mean(0)
