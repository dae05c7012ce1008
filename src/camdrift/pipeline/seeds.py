"""The stages of a seed on its way through a chunk; each knows what the stage before it knew, and more."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from camdrift.images.places import ImageFile, display_path
from camdrift.masking import without_home
from camdrift.pipeline.variants import Variant, VariantBatch, variant_batch
from camdrift.tables.arrays import Flags
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CLEAN
from camdrift.tensors import Image, Images, perturbed


@dataclass(frozen=True)
class Seed:
    """A seed image that is not read yet.

    Attributes:
        file: Its place.
        label: Index of its true class; None where unknown.
    """

    file: ImageFile
    label: int | None

    @property
    def seed_id(self) -> str:
        """Its name in the study."""
        return self.file.seed_id

    def row(self) -> Row:
        """Its row of the table `seeds`, as far as this stage knows it."""
        return {"seed_id": self.seed_id, "path": without_home(display_path(self.file.path)), "label": self.label}


@dataclass(frozen=True)
class ReadSeed(Seed):
    """A seed whose image is read.

    Attributes:
        sha256: Checksum of its file.
        pixels: Its image, on the model's device.
    """

    sha256: str
    pixels: Image

    def row(self) -> Row:
        """Its row, with the checksum."""
        return {**super().row(), "sha256": self.sha256}


@dataclass(frozen=True)
class CleanSeed(ReadSeed):
    """A seed whose clean image the model has classified.

    Attributes:
        clean_class: The model's prediction.
        clean_probability: Its softmax probability.
        covered: The neurons that the image covers.
        logits: Logits of the attacked model: the studied model or its surrogate.
        neurons: Values of the attacked model's neurons.
    """

    clean_class: int
    clean_probability: float
    covered: Flags
    logits: Tensor
    neurons: Tensor

    def row(self) -> Row:
        """Its row, with the prediction for the clean image."""
        return {
            **super().row(),
            "clean_class": self.clean_class,
            "clean_probability": self.clean_probability,
        }


@dataclass(frozen=True)
class AttackedSeed(CleanSeed):
    """A seed that the attack has worked on.

    Attributes:
        iterations: The attack's steps; None where the attack does not tell.
        target_class: The class that the attack was to reach; None if any other than `clean_class` would do.
    """

    iterations: int | None
    target_class: int | None

    def is_fooled(self, prediction: int) -> bool:
        """Is `prediction` what the attack was after?"""
        return prediction != self.clean_class if self.target_class is None else prediction == self.target_class

    def row(self) -> Row:
        """Its row, with the attack's steps and target."""
        return {**super().row(), "iterations": self.iterations, "target_class": self.target_class}


@dataclass(frozen=True)
class AdversarialSeed(AttackedSeed):
    """A seed with an adversarial example, which the studied model has judged.

    Attributes:
        perturbation: Base perturbation, in pixel units.
        adversarial_class: The model's prediction for the adversarial image.
        adversarial_probability: Its softmax probability.
        survives_uint8: Does the adversarial image still fool the model when rounded to 8 bits?
        within_threat: Does the perturbation keep the attack's bound? None if it has none.
    """

    perturbation: Image
    adversarial_class: int
    adversarial_probability: float
    survives_uint8: bool
    within_threat: bool | None

    def row(self) -> Row:
        """Its row, with the model's judgement of the adversarial image."""
        names = ("adversarial_class", "adversarial_probability", "survives_uint8", "within_threat")
        return {**super().row(), "status": ANALYSED, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class NoisySeed(AdversarialSeed):
    """A seed with an adversarial example, and noise to compare it with: the last stage.

    Attributes:
        noise: Noise draws, not clipped.
        description: Columns of its row on the perturbation and the first draw.
    """

    noise: tuple[Image, ...]
    description: Row

    def row(self) -> Row:
        """The whole row."""
        return {**super().row(), **self.description}

    def delta(self, variant: Variant) -> Image:
        """The base perturbation or the noise draw that `variant` scales."""
        return self.perturbation if variant.condition == ADVERSARIAL else self.noise[variant.draw]

    def image(self, variant: Variant) -> Image:
        """The image of a variant; the clean image for condition `clean`."""
        if variant.condition == CLEAN:
            return self.pixels
        return perturbed(self.pixels, self.delta(variant), variant.strength)


@dataclass(frozen=True)
class LeftOut:
    """A seed that goes no further.

    Attributes:
        seed: The last stage that it reached.
        status: unreadable, failed or no_adversarial.
        reason: Why, in words.
    """

    seed: Seed
    status: str
    reason: str

    def row(self) -> Row:
        """Its row of the table `seeds`."""
        return {**self.seed.row(), "status": self.status, "reason": self.reason}


_Stage = TypeVar("_Stage", bound=Seed)
_NextStage = TypeVar("_NextStage", bound=Seed)


def further(
    seeds: Sequence[_Stage | LeftOut], step: Callable[[Sequence[_Stage]], Iterable[_NextStage | LeftOut]]
) -> list[_NextStage | LeftOut]:
    """The seeds one stage further, in their order.

    Args:
        seeds: Seeds of one stage; those that are left out stay as they are.
        step: Called with all the others; returns the next stage of each.
    """
    stages = iter(step([seed for seed in seeds if not isinstance(seed, LeftOut)]))
    return [seed if isinstance(seed, LeftOut) else next(stages) for seed in seeds]


def in_hand(seeds: Iterable[_Stage | LeftOut]) -> list[_Stage]:
    """The seeds that are not left out."""
    return [seed for seed in seeds if not isinstance(seed, LeftOut)]


def variant_columns(seeds: Sequence[NoisySeed], variants: Sequence[Variant]) -> dict[str, list[Any]]:
    """Columns of a table with one value per variant: its seed and its name."""
    return {
        "seed_id": [seeds[variant.position].seed_id for variant in variants],
        "condition": [variant.condition for variant in variants],
        "strength": [variant.strength for variant in variants],
        "draw": [variant.draw for variant in variants],
    }


def batch_of(seeds: Sequence[NoisySeed], variants: Sequence[Variant]) -> VariantBatch:
    """Some variants of the seeds, with their images."""
    pixels = stack(seeds[variant.position].pixels for variant in variants)
    return variant_batch(variants, pixels, stack(seeds[variant.position].delta(variant) for variant in variants))


def stack(images: Iterable[Image]) -> Images:
    """One batch of some images."""
    return torch.stack(list(images))
