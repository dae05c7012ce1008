"""Defense-GAN: an image replaced by the nearest one that a generator makes (Samangouei et al., ICLR 2018)."""

from collections.abc import Callable
from math import sqrt
from typing import Any, Final

import torch
from torch import Generator, Tensor

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop, check_setting_names, code_checksum, ranged_setting
from camdrift.errors import UserError
from camdrift.tensors import Images
from camdrift.user_code import load_function

# Of the published program: momentum, step, and the share of the steps after which a tenth of it is left.
_MOMENTUM: Final = 0.7
_STEP: Final = 10.0
_DROP: Final = 0.8


def nearest_generated(
    images: Images, make: Callable[[Tensor], Tensor], latent: int, *, steps: int, restarts: int, generator: Generator
) -> Images:
    """The images nearest to some others that a generator makes, as the published program looks for them.

    z minimises the mean squared error of G(z) by `steps` steps with momentum from `restarts` random starts, N(0, 1/d);
    of each image the best start counts. Image and error are those before the last step, as published.

    Args:
        images: Batch in pixel space.
        make: The generator: latents (batch, latent) to images in pixel space.
        latent: Length d of a latent.
        steps: Steps of each start.
        restarts: Number of starts.
        generator: Source of the starts.
    """
    count = len(images)
    starts = torch.randn((count * restarts, latent), generator=generator) / sqrt(latent)
    points, speed = starts.to(images), torch.zeros_like(starts).to(images)
    aims = images.repeat_interleave(restarts, 0)
    answers, errors = aims, torch.zeros(len(aims))
    for number in range(steps):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            answers = make(points)
            errors = ((answers - aims) ** 2).flatten(1).mean(1)
            (slope,) = torch.autograd.grad(errors.sum(), points)
        speed = _MOMENTUM * speed + slope
        points = points - (_STEP if number < _DROP * steps else _STEP / 10) * speed
    best = errors.detach().view(count, restarts).argmin(1)
    rows = torch.arange(count, device=images.device) * restarts + best
    return answers.detach()[rows]


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """Defense-GAN with a generator of the user's; attacks take the identity's gradient.

    Raises:
        UserError: No generator is named, or what it builds has no `latent`.
    """
    check_setting_names(spec, settings, "generator", "steps", "restarts")
    place = settings.get("generator")
    if not isinstance(place, str):
        raise UserError(
            f"`defence` {spec} must have a generator of yours",
            "defense-gan(generator='file.py:build'): build() returns a module that makes images of (batch, latent)",
        )
    steps = ranged_setting(spec, settings, "steps", 1, 10**5, is_whole=True)
    restarts = ranged_setting(spec, settings, "restarts", 1, 1000, is_whole=True)
    make = load_function(place, option="generator")()
    latent = getattr(make, "latent", None)
    if not isinstance(latent, int) or not callable(make):
        raise UserError(
            f"`generator` {place} must build a module with an attribute `latent`, got: {type(make).__name__}",
            "`latent` is the length of the vector that it makes an image of",
        )
    if isinstance(make, torch.nn.Module):
        make.eval().requires_grad_(False).to(workshop.device)

    def purify(images: Images, generator: Generator | None) -> Images:
        assert generator is not None
        return nearest_generated(images, make, latent, steps=steps, restarts=restarts, generator=generator)

    return Defence(spec, purify, is_random=True, is_iterative=True, checksum=code_checksum(place))
