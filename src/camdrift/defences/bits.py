"""Bit depth: every entry rounded to few levels (feature squeezing, Xu et al., NDSS 2018)."""

from typing import Any

import torch

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.tensors import Images


def squeezed_to_bits(images: Images, depth: int) -> Images:
    """Images with 2^depth levels per entry: rint(x (2^depth - 1)) / (2^depth - 1), ties to even (Xu 2018, 5.2).

    Example:
        >>> squeezed_to_bits(torch.tensor([0.4, 0.5]), 1)
        tensor([0., 0.])
    """
    levels = 2**depth - 1
    answer: Images = torch.round(images * levels) / levels
    return answer


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """Rounding to `depth` bits; its gradient is zero almost everywhere, so that attacks take the identity's."""
    check_setting_names(spec, settings, "depth")
    depth = ranged_setting(spec, settings, "depth", 1, 8, is_whole=True)
    return Defence(spec, lambda images, _: squeezed_to_bits(images, depth))
