"""Total variation minimised (Rudin 1992), by Chambolle's dual iteration (2004), many images at once."""

from typing import Any, Final

import torch
from torch import Tensor

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.tensors import Images

_STEP: Final = 0.25
_ITERATIONS: Final = 50


def smoothed(images: Images, weight: float, iterations: int = _ITERATIONS) -> Images:
    """Images u near x that minimise TV(u) + |u - x|^2 / (2 weight), channel by channel (Chambolle 2004, Eqs. 7, 9).

    Args:
        images: Batch in pixel space.
        weight: Weight of the smoothness, in pixel units; larger is smoother.
        iterations: Steps of the dual iteration.
    """
    dual = images.new_zeros((2, *images.shape))
    for _ in range(iterations):
        down, right = _differences(_divergence(dual) - images / weight)
        length = 1 + _STEP * (down**2 + right**2).sqrt()
        dual = (dual + _STEP * torch.stack([down, right])) / length
    return images - weight * _divergence(dual)


def _differences(images: Images) -> tuple[Tensor, Tensor]:
    """Forward differences down and right; 0 at the last row and column."""
    down, right = torch.zeros_like(images), torch.zeros_like(images)
    down[..., :-1, :] = images[..., 1:, :] - images[..., :-1, :]
    right[..., :-1] = images[..., 1:] - images[..., :-1]
    return down, right


def _divergence(dual: Tensor) -> Tensor:
    """The negative adjoint of the forward differences."""
    down, right = dual[0].clone(), dual[1].clone()
    down[..., 1:, :] -= dual[0][..., :-1, :]
    right[..., 1:] -= dual[1][..., :-1]
    return down + right


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """Total variation of `weight`; attacks take the identity's gradient, since its own leads through 50 steps."""
    check_setting_names(spec, settings, "weight")
    weight = float(ranged_setting(spec, settings, "weight", 0.001, 10))
    return Defence(spec, lambda images, _: smoothed(images, weight).clamp(0, 1), is_iterative=True)
