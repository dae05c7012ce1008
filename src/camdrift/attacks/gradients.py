"""Watch over the gradients that an attack gets: an attack without any is blind, not weak."""

from typing import Any, Final

import torch
from torch import Tensor

CUT: Final = "the attack had no gradient: none of the logits' reaches the pixels"
ZERO: Final = "the attack had no gradient: it was exactly 0 at every pixel"


class GradientWatch:
    """Sees every gradient at the images of an attack.

    Nothing is read from the device before `faults` is.

    Attributes:
        is_cut: Do the logits not depend on the images, as far as torch knows?
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self.is_cut = False
        # Was one taken together with others, where values cannot be read?
        self._is_hidden = False
        # By image: was a gradient asked for, and was one of them not 0?
        self._is_asked = torch.zeros(images, dtype=torch.bool, device=device)
        self._is_moved = torch.zeros(images, dtype=torch.bool, device=device)

    def at(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The same images, on the way into the network; their gradients are seen on the way back."""
        is_asked = torch.is_grad_enabled() and images.requires_grad
        return _Seen.apply(images, self, rows) if is_asked else images

    def judge(self, images: Tensor, logits: Tensor) -> None:
        """Take note of logits that have no gradient although the images ask for one."""
        self.is_cut |= torch.is_grad_enabled() and images.requires_grad and not logits.requires_grad

    def add(self, gradient: Tensor, rows: Tensor | None) -> None:
        """Take note of the gradients of some images; NaN is not 0.

        Args:
            gradient: One row an image; of any other number of rows, each may belong to any image.
            rows: The images' positions; None for all.
        """
        if _is_transformed(gradient):
            self._is_hidden = True
            return
        places = slice(None) if rows is None else rows
        is_moved = (gradient != 0).flatten(1).any(1)
        if rows is None and len(gradient) != len(self._is_asked):
            is_moved = is_moved.any()
        self._is_asked[places] = True
        self._is_moved[places] |= is_moved

    def faults(self) -> list[str]:
        """Why the attack was blind, image by image; empty where it was not, asked for no gradient, or hid one."""
        if self.is_cut:
            return [CUT] * len(self._is_asked)
        is_blind = self._is_asked & ~self._is_moved & (not self._is_hidden)
        return [ZERO if is_fault else "" for is_fault in is_blind.tolist()]


def _is_transformed(tensor: Tensor) -> bool:
    """Does a tensor stand for many, inside `torch.func` or where torch takes a batch of gradients at once?"""
    functorch = torch._C._functorch
    return bool(functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor))


class _Seen(torch.autograd.Function):
    """Hands images on, and their gradient back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, watch: GradientWatch, rows: Tensor | None) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, GradientWatch, Tensor | None], output: Tensor) -> None:
        _, ctx.watch, ctx.rows = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.watch.add(gradient, ctx.rows)
        return gradient, None, None
