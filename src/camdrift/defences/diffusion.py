"""Purification by a diffusion model: noise up to a time t*, and the way back (Nie et al., ICML 2022)."""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Generator

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop, check_setting_names, code_checksum, ranged_setting
from camdrift.errors import UserError
from camdrift.tensors import Images
from camdrift.user_code import load_function

# The parts of a pipeline of diffusers that are used.
_PARTS: Final = ("unet", "scheduler")


def diffused(images: Images, pipeline: Any, *, time: float, steps: int, generator: Generator) -> Images:
    """Images with noise up to a time, and then taken back by a diffusion model.

    x(t*) = sqrt(a) x + sqrt(1 - a) e with the scheduler's a at t*, for x in [-1, 1]; then its steps from t* to 0. An
    image of another size than the model's is resized to it and back.

    Args:
        images: Batch in pixel space.
        pipeline: A pipeline as diffusers has it, with `unet` and `scheduler`.
        time: t* as a share of the times that the model was trained on.
        steps: Steps of the scheduler over all times, of which those up to t* are taken.
        generator: Source of all noise.
    """
    scheduler, unet = pipeline.scheduler, pipeline.unet
    last = int(time * (scheduler.config.num_train_timesteps - 1))
    scheduler.set_timesteps(steps)
    side = getattr(unet.config, "sample_size", None) or images.shape[2:]
    copies = _resized(images, side)
    noise = torch.randn(copies.shape, generator=generator).to(copies)
    x = scheduler.add_noise(2 * copies - 1, noise, torch.full((len(copies),), last, device=copies.device))
    with torch.no_grad():
        for step in scheduler.timesteps:
            if step <= last:
                x = scheduler.step(unet(x, step).sample, step, x, generator=generator).prev_sample
    return _resized(((x + 1) / 2).clamp(0, 1), images.shape[2:]).clamp(0, 1)


def _resized(images: Images, size: Any) -> Images:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(images.shape[2:]) == sides:
        return images
    return F.interpolate(images, size=sides, mode="bilinear", align_corners=False, antialias=True)


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """Diffusion with a pipeline of the user's; attacks take the identity's gradient.

    Raises:
        UserError: No pipeline is named, or what it builds has no `unet` and `scheduler`.
    """
    check_setting_names(spec, settings, "pipeline", "time", "steps")
    place = settings.get("pipeline")
    if not isinstance(place, str):
        raise UserError(
            f"`defence` {spec} must have a pipeline of yours",
            "diffusion(pipeline='file.py:build'): build() returns a pipeline of diffusers for images without text",
        )
    time = float(ranged_setting(spec, settings, "time", 0, 1))
    steps = ranged_setting(spec, settings, "steps", 1, 10**4, is_whole=True)
    pipeline = load_function(place, option="pipeline")()
    if not all(hasattr(pipeline, part) for part in _PARTS):
        raise UserError(
            f"`pipeline` {place} must build a pipeline with {' and '.join(_PARTS)}, got: {type(pipeline).__name__}",
            "DDPMPipeline.from_pretrained(FOLDER) of diffusers is one",
        )
    pipeline.unet.eval().requires_grad_(False).to(workshop.device)

    def purify(images: Images, generator: Generator | None) -> Images:
        assert generator is not None
        return diffused(images, pipeline, time=time, steps=steps, generator=generator)

    return Defence(spec, purify, is_random=True, is_iterative=True, checksum=code_checksum(place))
