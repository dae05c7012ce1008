"""Variants: the perturbed images of a seed, and their perturbations after clipping."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import PIXELS, Image, Images, perturbed


@dataclass(frozen=True)
class Variant:
    """One perturbed image, named.

    Attributes:
        position: Number of its seed among those of the chunk that are explained.
        condition: adversarial or noise.
        strength: Factor on the base perturbation.
        draw: Noise draw; 0 for adversarial.
    """

    position: int
    condition: str
    strength: float
    draw: int = 0


def plan_variants(
    seeds: int, *, strengths: Sequence[float], noise_strengths: Sequence[float], draws: int
) -> list[Variant]:
    """All variants of `seeds` seeds, in the order in which they are best computed.

    The strongest attacks come first and lie together: most of them change the prediction, and only a batch in which
    some prediction has changed needs a second backward pass for the target `seed`.
    """
    kinds = [(ADVERSARIAL, strength, 0) for strength in sorted(strengths, reverse=True)]
    kinds += [(NOISE, s, d) for s in sorted(noise_strengths, reverse=True) for d in range(draws)]
    return [Variant(position, *kind) for kind in kinds for position in range(seeds)]


def describe_perturbation(seed: Image, perturbation: Image, noise: Image) -> dict[str, float | None]:
    """The columns of `seeds` on a base perturbation and its first noise draw, in pixel units, in float64.

    An all-black seed has no relative norm.
    """
    delta, eta = perturbation.double(), noise.double()
    length = torch.linalg.vector_norm(delta).item()
    seed_length = torch.linalg.vector_norm(seed.double()).item()
    return {
        "perturbation_mean": delta.mean().item(),
        "perturbation_std": delta.std(correction=0).item(),
        "perturbation_l2": length,
        "perturbation_linf": delta.abs().max().item(),
        "relative_l2": length / seed_length if seed_length > 0 else None,
        "noise_mean": eta.mean().item(),
        "noise_std": eta.std(correction=0).item(),
    }


def measure_variant(seed: Image, perturbation: Image, strength: float) -> dict[str, Any]:
    """The columns of `variants` on strength times `perturbation` after clipping, in pixel units."""
    image = seed + strength * perturbation
    difference = perturbed(seed, perturbation, strength) - seed
    outside = (image < PIXELS.lower) | (image > PIXELS.upper)
    return {
        "realised_l2": torch.linalg.vector_norm(difference.double()).item(),
        "realised_linf": difference.abs().max().item(),
        "clipped_fraction": outside.double().mean().item(),
    }


def rounded_to_bytes(images: Images) -> Images:
    """Images as 8 bits store them."""
    return (images * 255).round() / 255
