"""Watch over the gradients that an attack gets: an attack without any is blind, not weak."""

from typing import Any, Final

import torch
from torch import Tensor

CUT: Final = "the attack had no gradient: none of the logits' reaches the pixels"
ZERO: Final = "the attack had no gradient: it was exactly 0 at every pixel"


class GradientWatch:
    """Sees every gradient at the images of an attack on one seed.

    Attributes:
        is_cut: Do the logits not depend on the images, as far as torch knows?
    """

    def __init__(self) -> None:
        self.is_cut = False
        self._n, self._is_zero = 0, True

    def at(self, images: Tensor) -> Tensor:
        """The same images, on the way into the network; their gradients are seen on the way back."""
        is_asked = torch.is_grad_enabled() and images.requires_grad
        return _Seen.apply(images, self) if is_asked else images

    def judge(self, images: Tensor, logits: Tensor) -> None:
        """Take note of logits that have no gradient although the images ask for one."""
        self.is_cut |= torch.is_grad_enabled() and images.requires_grad and not logits.requires_grad

    def add(self, gradient: Tensor) -> None:
        """Take note of a gradient; NaN is not 0."""
        self._n += 1
        self._is_zero = self._is_zero and not bool(gradient.any())

    @property
    def fault(self) -> str:
        """Why the attack was blind; empty if it was not, or asked for no gradient."""
        return CUT if self.is_cut else ZERO if self._n and self._is_zero else ""


class _Seen(torch.autograd.Function):
    """Hands images on, and their gradient back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, watch: GradientWatch) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, GradientWatch], output: Tensor) -> None:
        ctx.watch = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.watch.add(gradient)
        return gradient, None
