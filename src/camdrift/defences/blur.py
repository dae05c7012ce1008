"""Gaussian blur."""

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.tensors import Images


def blurred(images: Images, sigma: float) -> Images:
    """Images blurred by a Gaussian that is cut off at four standard deviations; borders repeat the outermost pixels.

    Args:
        images: Batch in pixel space.
        sigma: Standard deviation in pixels.
    """
    radius = ceil(4 * sigma)
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(images)
    frame = F.pad(images, (radius,) * 4, mode="replicate")
    channels = images.shape[1]
    rows = F.conv2d(frame, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """A blur of `sigma` pixels."""
    check_setting_names(spec, settings, "sigma")
    sigma = float(ranged_setting(spec, settings, "sigma", 0.1, 20))
    return Defence(spec, lambda images, _: blurred(images, sigma), gradient=EXACT)
