"""Gaussian noise with the mean and standard deviation of a perturbation."""

import torch

from camdrift.streams import stream_seed
from camdrift.tensors import Image


def matched_noise(perturbation: Image, *, rng_seed: int, seed_id: str, draw: int = 0) -> Image:
    """White Gaussian noise with the mean and standard deviation of `perturbation`, not clipped.

    Eq. 2, Renkhoff 2022: eta ~ N(mean(delta), std(delta)^2), i.i.d., both moments over all entries of delta.

    Args:
        perturbation: Base perturbation in pixel units.
        rng_seed: Seed of the study.
        seed_id: Name of the seed image; with `rng_seed` and `draw` it fixes the noise.
        draw: Number of the draw, from 0.

    Raises:
        ArithmeticError: The noise has not the moments it promises.
    """
    generator = torch.Generator().manual_seed(stream_seed(rng_seed, seed_id, f"noise {draw}"))
    standard = torch.randn(perturbation.shape, generator=generator, dtype=torch.float64)
    mean = perturbation.double().mean().item()
    std = perturbation.double().std(correction=0).item()
    _verify(standard)
    return (mean + std * standard).float().to(perturbation.device)


def _verify(standard: torch.Tensor) -> None:
    """Six standard errors on both moments: a chance of 4e-9 to reject a good draw."""
    error = standard.numel() ** -0.5
    mean, std = standard.mean().item(), standard.std(correction=0).item()
    if abs(mean) > 6 * error or abs(std - 1) > 6 * error:
        raise ArithmeticError(f"noise must have mean 0 and standard deviation 1 before scaling, got: {mean}, {std}")
