"""Variants: the perturbed images of a seed, and their perturbations after clipping."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import PIXELS, Image, Images

# What is measured of a variant, in the order of `measure_variants`.
VARIANT_MEASURES: Final = ("realised_l2", "realised_linf", "clipped_fraction")


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


@dataclass(frozen=True)
class VariantBatch:
    """Some variants with their images.

    Attributes:
        variants: The variants.
        pixels: The clean image of each one's seed.
        unclipped: Their images before clipping.
        images: Their images.
    """

    variants: Sequence[Variant]
    pixels: Images
    unclipped: Images
    images: Images


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


def variant_batch(variants: Sequence[Variant], pixels: Images, deltas: Images) -> VariantBatch:
    """Some variants with their images: clip(x + s * delta, 0, 1), as `tensors.perturbed` has it.

    Args:
        variants: The variants.
        pixels: The clean image of each one's seed.
        deltas: The base perturbation or noise that each scales.
    """
    strengths = torch.tensor([v.strength for v in variants], dtype=pixels.dtype, device=pixels.device)
    unclipped = pixels + strengths.view(-1, 1, 1, 1) * deltas
    return VariantBatch(variants, pixels, unclipped, unclipped.clamp(*PIXELS))


def measure_variants(batch: VariantBatch) -> Float[Tensor, "3 batch"]:
    """What clipping leaves of the perturbations, by `VARIANT_MEASURES`, in pixel units, float64."""
    difference = (batch.images - batch.pixels).flatten(1)
    outside = (batch.unclipped < PIXELS.lower) | (batch.unclipped > PIXELS.upper)
    return torch.stack(
        [
            torch.linalg.vector_norm(difference.double(), dim=1),
            difference.abs().amax(1).double(),
            outside.flatten(1).double().mean(1),
        ]
    )


def describe_perturbations(seeds: Sequence[Image], deltas: Sequence[Image], noise: Sequence[Image]) -> list[Row]:
    """The columns of `seeds` on base perturbations and their first noise draws, in pixel units, in float64.

    An all-black seed has no relative norm. All values are read from the device at once.
    """
    values = [_describe(*triple) for triple in zip(seeds, deltas, noise, strict=True)]
    rows = torch.stack(values).tolist() if values else []
    return [
        {
            "perturbation_mean": mean,
            "perturbation_std": std,
            "perturbation_l2": length,
            "perturbation_linf": peak,
            "relative_l2": length / seed_length if seed_length > 0 else None,
            "noise_mean": noise_mean,
            "noise_std": noise_std,
        }
        for mean, std, length, peak, seed_length, noise_mean, noise_std in rows
    ]


def _describe(seed: Image, delta: Image, noise: Image) -> Float[Tensor, " 7"]:
    delta, eta = delta.double(), noise.double()
    return torch.stack(
        [
            delta.mean(),
            delta.std(correction=0),
            torch.linalg.vector_norm(delta),
            delta.abs().max(),
            torch.linalg.vector_norm(seed.double()),
            eta.mean(),
            eta.std(correction=0),
        ]
    )
