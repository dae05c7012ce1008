"""Resizing and padding at random (Xie et al., ICLR 2018)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.tensors import Images


def moved_at_random(images: Images, least: float, generator: Generator) -> Images:
    """Images shrunk to a random size and put at a random place of a black square of the old size.

    Args:
        images: Batch in pixel space; all its images move alike.
        least: Smallest size, as a share of the side.
        generator: Source of the draws.
    """
    height, width = images.shape[2:]
    share = least + (1 - least) * float(torch.rand((), generator=generator))
    size = (max(1, round(share * height)), max(1, round(share * width)))
    small = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    down, right = height - size[0], width - size[1]
    top, left = (int((room + 1) * float(torch.rand((), generator=generator))) for room in (down, right))
    return F.pad(small, (left, right - left, top, down - top))


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """A random size of at least `least` of the side, at a random place."""
    check_setting_names(spec, settings, "least")
    least = float(ranged_setting(spec, settings, "least", 0.1, 1))

    def purify(images: Images, generator: Generator | None) -> Images:
        assert generator is not None
        return moved_at_random(images, least, generator)

    return Defence(spec, purify, gradient=EXACT, is_random=True)
