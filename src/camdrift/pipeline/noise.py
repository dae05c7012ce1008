"""Gaussian noise with the mean and standard deviation of a perturbation, and noise that shares more with it."""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from camdrift.normal import piece_on, row_moments, standard_normal
from camdrift.streams import stream_seed
from camdrift.tensors import Image

# Pieces that are drawn and scaled together, in float64: bounds the memory.
_PIECES: Final = 8


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
    (noise,) = matched_draws([perturbation], [(seed_id, draw)], rng_seed=rng_seed)
    return noise


def matched_draws(perturbations: Sequence[Image], keys: Sequence[tuple[str, int]], *, rng_seed: int) -> list[Image]:
    """`matched_noise` of several perturbations of one size at once: the same bits, in less time.

    Args:
        perturbations: Base perturbations in pixel units.
        keys: Of each the name of its seed image and the number of its draw.
        rng_seed: Seed of the study.

    Raises:
        ArithmeticError: A draw does not have the moments of standard normal noise.
    """
    if not perturbations:
        return []
    streams = [stream_seed(rng_seed, seed_id, f"noise {draw}") for seed_id, draw in keys]
    noise, moments = list[Image](), list[Tensor]()
    for images, group in _groups(perturbations, streams):
        standard = standard_normal(group, images[0].numel(), device=images.device)
        moments.append(torch.stack([standard.mean(1), standard.square().mean(1)], 1))
        mean, std = row_moments(images.flatten(1))
        noise += standard.mul_(std).add_(mean).float().view_as(images)
    _verify(torch.cat(moments), perturbations[0].numel())
    return noise


def _groups(perturbations: Sequence[Image], streams: Sequence[int]) -> Iterator[tuple[Tensor, Sequence[int]]]:
    """Perturbations and streams by groups that fit into memory."""
    first = perturbations[0]
    size = max(1, _PIECES * piece_on(first.device) // first.numel())
    for start in range(0, len(perturbations), size):
        yield torch.stack(list(perturbations[start : start + size])), streams[start : start + size]


def channel_noise(perturbation: Image, *, rng_seed: int, seed_id: str) -> Image:
    """White Gaussian noise with the mean and standard deviation that `perturbation` has in each channel, not clipped.

    A control: `matched_noise` has one mean and one standard deviation for all channels.

    Args:
        perturbation: Base perturbation in pixel units.
        rng_seed: Seed of the study.
        seed_id: Name of the seed image; with `rng_seed` it fixes the noise.
    """
    standard = _standard(perturbation.numel(), (rng_seed, seed_id, "channel noise"), perturbation.device)
    mean, std = row_moments(perturbation.flatten(1))
    return (standard.view(3, -1) * std + mean).float().view_as(perturbation)


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
    size = perturbation.shape[1:]
    white = _standard(size.numel(), (rng_seed, seed_id, "spectrum noise"), torch.device("cpu")).view(1, *size)
    # The phases of a real field keep the result real; one field for all channels keeps their correlation.
    turn = torch.fft.rfft2(white)
    turn = turn / turn.abs()
    turn[..., 0, 0] = 1.0
    spectrum = torch.fft.rfft2(perturbation.double().cpu())
    noise: torch.Tensor = torch.fft.irfft2(spectrum * turn, s=size)
    return noise.float().to(perturbation.device)


def _standard(entries: int, key: tuple[int, str, str], device: torch.device) -> Float[Tensor, "1 entries"]:
    return standard_normal([stream_seed(*key)], entries, device=device)


def _verify(moments: Float[Tensor, "draws 2"], entries: int) -> None:
    """Raises `ArithmeticError` beyond six standard errors of a moment: a good draw is rejected with chance 4e-9.

    The moments are the mean, and the mean square.
    """
    for mean, square in moments.tolist():
        std = sqrt(square - mean**2)
        if max(abs(mean), abs(std - 1)) > 6 * entries**-0.5:
            raise ArithmeticError(f"noise must have mean 0 and standard deviation 1 before scaling, got: {mean}, {std}")
