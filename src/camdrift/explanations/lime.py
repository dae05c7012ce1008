"""LIME on the input (Ribeiro 2016): how a class changes as segments of an image are painted over.

Masks, their weights and so the solution of the weighted ridge regression depend on the design alone: one matrix serves
every image and every class. `lime` 0.2.0.1 segments the image that it explains, so that noise alone changes the map;
here all variants of a seed share the segments of its clean image, and the masks in their order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from camdrift.errors import UserError, install_hint
from camdrift.explanations.lime_design import LIME_GRID, LimeDesign
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas
from camdrift.tables.arrays import Flags, Floats
from camdrift.tensors import Image

Segments = Int[Tensor, "height width"]

# quickshift as lime 0.2.0.1 calls it.
_QUICKSHIFT: Final = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}


@dataclass(frozen=True)
class LimeMasks:
    """Masks over segments, and the matrix that solves their regression.

    Attributes:
        masks: Is a segment on? (samples, segments)
        weights: Weight of each mask, (samples,).
        solution: Coefficients of segments per value of each mask, (segments, samples).
    """

    masks: Flags
    weights: Floats
    solution: Floats

    def coefficients(self, values: Floats) -> Floats:
        """Return the coefficient of every segment, (..., segments), for the values of all masks, (..., samples)."""
        centred = values - (values * self.weights).sum(-1, keepdims=True) / self.weights.sum()
        coefficients: Floats = centred @ self.solution.T
        return coefficients


def lime_masks(masks: Flags, *, alpha: float, kernel: float = 0.25) -> LimeMasks:
    """Return masks with their weights, and the solution of the ridge regression with an intercept.

    Args:
        masks: Is a segment on? (samples, segments)
        alpha: Penalty on the squares of the coefficients.
        kernel: Width of the kernel: the weight is sqrt(exp(-d^2 / kernel^2)), d the cosine distance to all on.

    Example:
        >>> design = lime_masks(np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool), alpha=1.0)
        >>> design.coefficients(np.array([0.9, 0.7, 0.3, 0.1])).round(6)
        array([0.147287, 0.013344])
    """
    distances = 1 - np.sqrt(masks.mean(1))
    weights = np.sqrt(np.exp(-(distances**2) / kernel**2))
    centred = masks - (weights[:, None] * masks).sum(0) / weights.sum()
    weighted = centred.T * weights
    solution = np.linalg.solve(weighted @ centred + alpha * np.eye(masks.shape[1]), weighted)
    return LimeMasks(masks, weights, solution)


def draw_masks(segments: int, samples: int, rng: np.random.Generator) -> Flags:
    """Return masks, (samples, segments): the first all on, in the others each segment on with 1/2.

    Args:
        segments: Number of segments.
        samples: Number of masks.
        rng: Draws them.
    """
    masks = rng.random((samples, segments)) < 0.5
    masks[0] = True
    return masks


def segments_of(image: Image, design: LimeDesign) -> Segments:
    """Return the segment of every pixel, from 0 up without gaps.

    Args:
        image: The clean image.
        design: Says how it is segmented.

    Raises:
        UserError: quickshift without scikit-image.
    """
    height, width = image.shape[1:]
    if design.segments == LIME_GRID:
        rows, columns = (torch.arange(side) * design.grid // side for side in (height, width))
        return rows[:, None] * design.grid + columns
    try:
        from skimage.segmentation import quickshift
    except ImportError as error:
        raise UserError(
            "`lime` with quickshift needs scikit-image, which is not installed",
            f"{install_hint('segments')}; lime(segments='grid') needs nothing",
        ) from error
    labels = quickshift(image.permute(1, 2, 0).double().cpu().numpy(), **_QUICKSHIFT)
    return torch.as_tensor(np.unique(labels, return_inverse=True)[1].reshape(height, width))


def masked_values(
    classifier: Classifier,
    image: Image,
    segments: Segments,
    masks: Flags,
    value: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
) -> Floats:
    """Return what a network says of an image under every mask, (samples,), in float64.

    A segment that is off is painted with its mean colour in this very image.

    Args:
        classifier: The classifier.
        image: The image, in pixel space.
        segments: Segment of every pixel.
        masks: Is a segment on? (samples, segments)
        value: From logits, (batch, classes), to one value an image.
        batch_size: Images per pass.
    """
    places = segments.to(image.device).flatten()
    flat = image.flatten(1)
    sums = torch.zeros((3, masks.shape[1]), dtype=image.dtype, device=image.device).index_add_(1, places, flat)
    means = (sums / places.bincount(minlength=masks.shape[1]))[:, places]

    def look(replica: Classifier, part: Sequence[int]) -> Tensor:
        is_on = torch.as_tensor(masks[part[0] : part[-1] + 1], device=image.device)[:, None, places]
        images = torch.where(is_on, flat, means).view(-1, *image.shape)
        with torch.no_grad():
            return value(replica(images)).double().cpu()

    with on_replicas(classifier, look, [*batches(range(len(masks)), batch_size)]) as results:
        values: NDArray[np.float64] = torch.cat([*results]).numpy()
    return values


def lime_similarity(one: Floats, other: Floats, areas: Floats) -> float:
    """Return the cosine of two maps of coefficients, each segment by its area; NaN where one of them is zero.

    It is that of the maps of pixels. It is 1 exactly of a map and itself: the square root of a square is exact.

    Args:
        one: Coefficients of a map, (segments,).
        other: Of the other.
        areas: Pixels of each segment.
    """
    product, first, second = ((areas * a * b).sum() for a, b in ((one, other), (one, one), (other, other)))
    if not (first > 0 and second > 0):
        return float("nan")
    return float(np.clip(product / np.sqrt(first * second), -1, 1))
