"""The median filter, channel by channel."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.tensors import Images


def median_of_windows(images: Images, window: int) -> Images:
    """Images in which every value is the median of the `window` x `window` pixels around it, channel by channel.

    Borders mirror the image and repeat its outermost pixels (SciPy's mode `reflect`). Of an even number of values it
    is the upper one of the two in the middle, as in SciPy. Gradients flow to the value that is taken.

    Args:
        images: Batch in pixel space.
        window: Height and width of the window in pixels.
    """
    before, after = window // 2, window - 1 - window // 2
    rows, columns = (_mirrored(length, before, after).to(images.device) for length in images.shape[2:])
    patches = images[:, :, rows][..., columns].unfold(2, window, 1).unfold(3, window, 1).flatten(4)
    rank = window * window // 2
    if patches.requires_grad or patches.device.type != "cpu":
        return patches.kthvalue(rank + 1, dim=4).values
    # The same values without a gradient, in half the time.
    return torch.from_numpy(np.partition(patches.numpy(), rank, axis=4)[..., rank])


def _mirrored(length: int, before: int, after: int) -> Tensor:
    """Places of a row with its mirrored ends."""
    places = torch.arange(-before, length + after) % (2 * length)
    return torch.where(places < length, places, 2 * length - 1 - places)


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """The median of `window` x `window` pixels."""
    check_setting_names(spec, settings, "window")
    window = ranged_setting(spec, settings, "window", 2, 15, is_whole=True)
    return Defence(spec, lambda images, _: median_of_windows(images, window), gradient=EXACT)
