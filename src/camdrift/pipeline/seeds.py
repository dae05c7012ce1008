"""Seed images on their way through a chunk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.images.places import ImageFile
from camdrift.pipeline.variants import Variant
from camdrift.tables.words import ADVERSARIAL, ANALYSED
from camdrift.tensors import Image, Images

_T = TypeVar("_T")


@dataclass
class Seed:
    """One seed of the chunk, from its file to its rows.

    Attributes:
        file: Where it lies.
        row: Its row of the `seeds` table, as far as it is known.
        pixels: The image; None if it cannot be studied.
        clean_class: The model's prediction for it.
        target_class: The class that the attack was to reach; None if any other than `clean_class` would do.
        covered: Neurons that it covers.
        perturbation: Base perturbation; None without success.
        noise: Noise draws, not clipped.
        variant_rows: Rows of the `variants` table.
        variants_covered: Neurons that its variants of the first draw cover, by (condition, strength).
    """

    file: ImageFile
    row: dict[str, Any]
    pixels: Image | None = None
    clean_class: int = -1
    target_class: int | None = None
    covered: NDArray[np.bool_] | None = None
    perturbation: Image | None = None
    noise: list[Image] = field(default_factory=list)
    variant_rows: list[dict[str, Any]] = field(default_factory=list)
    variants_covered: dict[tuple[str, float], NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def is_analysed(self) -> bool:
        """Has it an adversarial example, and finite logits for all of its variants?"""
        return bool(self.row["status"] == ANALYSED)

    def fail(self, status: str, reason: str) -> None:
        """Leave the seed out from here on."""
        self.row |= {"status": status, "reason": reason}
        self.pixels = self.perturbation = None

    def is_fooled(self, predicted: int) -> bool:
        """Is `predicted` what the attack was after?"""
        return predicted != self.clean_class if self.target_class is None else predicted == self.target_class

    def delta(self, variant: Variant) -> Image:
        """The base perturbation or the noise draw that `variant` scales."""
        if variant.condition == ADVERSARIAL:
            assert self.perturbation is not None
            return self.perturbation
        return self.noise[variant.draw]


def stack(images: Iterable[Image]) -> Images:
    """One batch of some images."""
    return torch.stack(list(images))


def known(value: _T | None) -> _T:
    """A value that an earlier step of the chunk has found."""
    assert value is not None
    return value
