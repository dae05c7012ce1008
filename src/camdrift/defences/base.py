"""The contract of a defence that purifies: images in, images of the same shape and range out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Generator, Tensor

from camdrift.errors import UserError, is_foreign, one_line
from camdrift.streams import stream_seed
from camdrift.tensors import PIXELS, Images

# Called with a batch of images, and for a random purifier with a source of random numbers: then with one image.
Purify = Callable[[Images, Generator | None], Any]

# Whose gradient an attack that knows the purifier follows: its own, or that of the identity (BPDA, Athalye 2018).
EXACT: Final = "exact"
BPDA: Final = "bpda"

# What a purified image may lie outside of the range of pixels, from rounding alone.
_SLACK: Final = 1e-4
_PURPOSE: Final = "purify"


@dataclass(frozen=True)
class Defence:
    """A purifier: it changes an image before the network sees it.

    Attributes:
        spec: Its spec, complete: parsing it gives the same defence.
        function: What it does to images in pixel space.
        gradient: `exact` if gradients flow through it, `bpda` if an attack takes it for the identity.
        is_random: Does it draw random numbers?
        is_iterative: Does it optimise or sample step by step, so that a gradient through it says little?
        checksum: Checksum of what it has learnt, or of the user's code; empty for none.
    """

    spec: str
    function: Purify
    gradient: str = BPDA
    is_random: bool = False
    is_iterative: bool = False
    checksum: str = ""

    def purify(self, images: Images, keys: Sequence[str], *, rng_seed: int) -> Images:
        """Purified images; each one's random numbers come from a stream of its own.

        Args:
            images: Batch in pixel space.
            keys: Name of every image's stream.
            rng_seed: Seed of the study.

        Raises:
            UserError: The purifier fails, or what it returns are no images of that shape in [0, 1].
        """
        if not self.is_random:
            return self._checked(images, partial(self.function, images, None))
        if not len(images):
            return images
        parts = []
        for image, key in zip(images.split(1), keys, strict=True):
            generator = Generator().manual_seed(stream_seed(rng_seed, key, f"{_PURPOSE} {self.spec}"))
            parts.append(self._checked(image, partial(self.function, image, generator)))
        return torch.cat(parts)

    def _checked(self, images: Images, call: Callable[[], Any]) -> Images:
        try:
            answer = call()
        except Exception as error:
            if isinstance(error, UserError) or not is_foreign(error):
                raise
            raise UserError(f"`defence` {self.spec} failed: {one_line(error)}") from error
        return purified(self.spec, images, answer)


def as_identity(change: Callable[[Images], Images], images: Images) -> Images:
    """Changed images whose gradient is that of the identity (BPDA, Athalye 2018).

    Args:
        change: What is done to the images.
        images: Batch in pixel space.
    """
    with torch.no_grad():
        answer = change(images)
    return _AsIdentity.apply(images, answer) if images.requires_grad else answer


class _AsIdentity(torch.autograd.Function):
    """Changed images that lead back to the images as if nothing had been done to them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, answer: Tensor) -> Tensor:
        """The changed images."""
        return answer.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient as it is."""
        return gradients[0], None


def purified(spec: str, images: Images, answer: Any) -> Images:
    """The answer of a purifier as images in [0, 1].

    Raises:
        UserError: It has another shape, is no float tensor, is not finite or leaves [0, 1].
    """
    if not isinstance(answer, torch.Tensor) or not answer.is_floating_point():
        kind = answer.dtype if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise UserError(f"`defence` {spec} must return a float tensor, got: {kind}", "images / 255 for bytes")
    if answer.shape != images.shape:
        raise UserError(f"`defence` {spec} must keep the shape {tuple(images.shape)}, got: {tuple(answer.shape)}")
    with torch.no_grad():
        lowest, highest = (float(value) for value in answer.aminmax()) if answer.numel() else PIXELS
    if not (lowest >= PIXELS.lower - _SLACK and highest <= PIXELS.upper + _SLACK):  # nor NaN
        raise UserError(
            f"`defence` {spec} must return pixels in [0, 1], got: values from {lowest:.3g} to {highest:.3g}",
            "images.clamp(0, 1) cuts them off",
        )
    return answer.to(images.device, images.dtype).clamp(*PIXELS)


def check_defence(defence: Defence, images: Images, *, rng_seed: int) -> None:
    """Raise `UserError` for a purifier that is random but says it is not, or whose answers depend on the batch.

    Args:
        defence: The purifier.
        images: Two images or more.
        rng_seed: Seed of the study.
    """
    keys = [f"check {place}" for place in range(len(images))]
    first, again = (defence.purify(images, keys, rng_seed=rng_seed) for _ in range(2))
    if not torch.equal(first, again):
        cure = (
            "draw from the generator that it gets"
            if defence.is_random
            else "a function of yours says so by `purify.random = True`, and draws from the generator that it gets"
        )
        raise UserError(f"`defence` {defence.spec} must give the same image twice, got: another one", cure)
    alone = defence.purify(images[:1], keys[:1], rng_seed=rng_seed)
    if not torch.allclose(alone, first[:1], atol=_SLACK):
        raise UserError(
            f"`defence` {defence.spec} must purify an image alone as in a batch, got: another image",
            "statistics of a batch (batch norm in training mode) make the difference",
        )
