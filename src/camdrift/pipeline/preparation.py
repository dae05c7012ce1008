"""Does camdrift prepare a picture as the model's own library does? One picture, prepared by both, tells."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from camdrift.errors import one_line
from camdrift.images.pixels import read_image
from camdrift.models.classifier import Classifier

# Mean difference of pixels, in levels of 255: libraries of resizing differ by 0.005, a crop one pixel aside by 6.
MOST_LEVELS: Final = 2.0
# Correlation of two preparations whose pixels are the same but for a mean and a factor.
_SAME: Final = 0.999
_CURE: Final = "the model sees other inputs than it was trained on: build it in Python (--model net.py:build), with "


@dataclass(frozen=True)
class _Picture:
    """An oblong picture of soft colours."""

    @cached_property
    def picture(self) -> PIL.Image.Image:
        """The picture, 611 wide and 430 high."""
        colours = (np.arange(20 * 30 * 3) ** 2 * 37 % 251).astype(np.uint8).reshape(20, 30, 3)
        return PIL.Image.fromarray(colours).resize((611, 430), PIL.Image.Resampling.BICUBIC)

    def read(self) -> bytes:
        """The picture as the bytes of a PPM file."""
        return b"P6 611 430 255\n" + self.picture.tobytes()


def preparation_warnings(classifier: Classifier) -> list[str]:
    """A warning where the model's own library prepares a picture otherwise, by how much and in which part."""
    prepare = classifier.settings.own_preparation
    if prepare is None:
        return []
    picture = _Picture()
    try:
        other = torch.as_tensor(prepare(picture.picture)).double()
    except Exception as error:  # of anybody's library; the model itself may work
        return [f"the model's own preparation of images could not be compared with camdrift's: {one_line(error)}"]
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (classifier.mean, classifier.std))
    own = (read_image(picture, **classifier.geometry).pixels.double() - mean) / std
    origin = classifier.configuration
    if own.shape != other.shape:
        shapes = " and ".join("x".join(map(str, tensor.shape)) for tensor in (own, other))
        return [f"an oblong picture becomes {shapes} here and by the {origin}: {_CURE}SIZE beside it"]
    levels = float(((own - other).abs() * std * 255).mean())
    if levels <= MOST_LEVELS:
        return []
    part, cure = _part(own, other)
    return [f"pixels differ by {levels:.1f} of 255 levels from those of the {origin} ({part}): {_CURE}{cure}"]


def _part(own: Tensor, other: Tensor) -> tuple[str, str]:
    """The part of the preparation in which two results differ, and what cures it."""
    if _is_affine(own, other):
        return "mean and std", "MEAN and STD beside it"
    if _is_affine(own.flip(0), other):
        return "order of the channels", "a forward that starts with `x = x.flip(1)`"
    return "size before the crop, the crop or its borders", "SIZE beside it, or images that are square already"


def _is_affine(own: Tensor, other: Tensor) -> bool:
    """Are two images the same but for a mean and a factor of each channel?"""
    pairs = zip(own.flatten(1), other.flatten(1), strict=True)
    return all(float(torch.corrcoef(torch.stack(pair))[0, 1]) > _SAME for pair in pairs)
