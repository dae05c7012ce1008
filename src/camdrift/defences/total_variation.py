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
    # On a processor one after the other: what a step reads stays in its cache.
    size = 1 if images.device.type == "cpu" else max(1, len(images))
    return torch.cat([_smoothed(part, weight, iterations) for part in images.split(size)])


def _smoothed(images: Images, weight: float, iterations: int) -> Images:
    dual, aim = images.new_zeros((2, *images.shape)), images / weight
    change = torch.zeros_like(dual)
    for _ in range(iterations):
        values = _divergence(dual).sub_(aim)
        # Forward differences down and right; 0 at the last row and column.
        torch.sub(values[..., 1:, :], values[..., :-1, :], out=change[0][..., :-1, :])
        torch.sub(values[..., 1:], values[..., :-1], out=change[1][..., :-1])
        length = change.square().sum(0).sqrt_().mul_(_STEP).add_(1)
        dual.add_(change, alpha=_STEP).div_(length)
    return images - weight * _divergence(dual)


def _divergence(dual: Tensor) -> Tensor:
    """The negative adjoint of the forward differences."""
    down, right = dual[0].clone(), dual[1].clone()
    down[..., 1:, :] -= dual[0][..., :-1, :]
    right[..., 1:] -= dual[1][..., :-1]
    return down.add_(right)


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """Total variation of `weight`; attacks take the identity's gradient, since its own leads through 50 steps."""
    check_setting_names(spec, settings, "weight")
    weight = float(ranged_setting(spec, settings, "weight", 0.001, 10))
    return Defence(spec, lambda images, _: smoothed(images, weight).clamp(0, 1), is_iterative=True)
