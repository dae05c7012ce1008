"""Gaussian noise with the mean and standard deviation of a perturbation, and noise that shares more with it."""

from collections.abc import Sequence

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
        ArithmeticError: The draw does not have the moments of standard normal noise.
    """
    standard = _standard(perturbation.shape, (rng_seed, seed_id, f"noise {draw}"))
    mean = perturbation.double().mean().item()
    std = perturbation.double().std(correction=0).item()
    _verify(standard)
    return (mean + std * standard).float().to(perturbation.device)


def channel_noise(perturbation: Image, *, rng_seed: int, seed_id: str) -> Image:
    """White Gaussian noise with the mean and standard deviation that `perturbation` has in each channel, not clipped.

    A control: `matched_noise` has one mean and one standard deviation for all channels.

    Args:
        perturbation: Base perturbation in pixel units.
        rng_seed: Seed of the study.
        seed_id: Name of the seed image; with `rng_seed` it fixes the noise.
    """
    standard = _standard(perturbation.shape, (rng_seed, seed_id, "channel noise"))
    delta = perturbation.double().cpu()
    mean, std = delta.mean((1, 2), keepdim=True), delta.std((1, 2), correction=0, keepdim=True)
    return (mean + std * standard).float().to(perturbation.device)


def spectrum_noise(perturbation: Image, *, rng_seed: int, seed_id: str) -> Image:
    """Noise with the power spectrum of `perturbation` and random phases, not clipped.

    A control: unlike white noise it keeps the perturbation's L2 norm, its mean, its spatial correlation and the
    correlation between its channels. It loses the places in the image (phase-randomised surrogates: Theiler et al.
    1992).

    Args:
        perturbation: Base perturbation in pixel units.
        rng_seed: Seed of the study.
        seed_id: Name of the seed image; with `rng_seed` it fixes the noise.
    """
    white = _standard((1, *perturbation.shape[1:]), (rng_seed, seed_id, "spectrum noise"))
    # The phases of a real field keep the result real; one field for all channels keeps their correlation.
    turn = torch.fft.rfft2(white)
    turn = turn / turn.abs()
    turn[..., 0, 0] = 1.0
    size = perturbation.shape[1:]
    spectrum = torch.fft.rfft2(perturbation.double().cpu())
    noise: torch.Tensor = torch.fft.irfft2(spectrum * turn, s=size)
    return noise.float().to(perturbation.device)


def _standard(shape: Sequence[int], key: tuple[int, str, str]) -> torch.Tensor:
    """Standard normal float64 from the stream `key`."""
    generator = torch.Generator().manual_seed(stream_seed(*key))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def _verify(standard: torch.Tensor) -> None:
    """Raises `ArithmeticError` beyond six standard errors of a moment: a good draw is rejected with chance 4e-9."""
    error = standard.numel() ** -0.5
    mean, std = standard.mean().item(), standard.std(correction=0).item()
    if abs(mean) > 6 * error or abs(std - 1) > 6 * error:
        raise ArithmeticError(f"noise must have mean 0 and standard deviation 1 before scaling, got: {mean}, {std}")
