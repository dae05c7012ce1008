"""Adversarial images that the user already has, in place of an attack."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from camdrift.attacks.base import NO_DRAWS, Advance, SeedBatch, Threat, all_results
from camdrift.errors import ImageError
from camdrift.images.files import file_checksum
from camdrift.images.pixels import read_adversarial
from camdrift.images.places import display_path
from camdrift.models.classifier import Classifier
from camdrift.tensors import Attacked, Image


@dataclass(frozen=True)
class StoredImages:
    """Reads images that others have made: the perturbation is the stored image minus the seed as the model sees it.

    Attributes:
        source: The place of the images, as the user wrote it.
        paths: The image of each seed that has one, by `seed_id`.
    """

    source: str
    paths: Mapping[str, Path]

    @property
    def spec(self) -> str:
        """The place of the images, in words."""
        return f"stored images of {self.source}"

    @property
    def threat(self) -> Threat | None:
        """None: nobody has said how the images were bounded."""
        return None

    @property
    def seeding(self) -> str:
        """The attack draws nothing."""
        return NO_DRAWS

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the seeds' names and the checksums of their images."""
        lines = [f"{seed_id} {file_checksum(path)}" for seed_id, path in sorted(self.paths.items())]
        return sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()

    def check(self, classifier: Classifier) -> None:
        """Images suit every classifier: they are resized as the seeds are."""

    def __call__(
        self, classifier: Classifier, seeds: SeedBatch, *, batch_size: int, advance: Advance
    ) -> list[Attacked]:
        """For each seed its stored image minus itself, whether or not that fools the model."""
        pairs = zip(seeds.images, seeds.seed_ids, strict=True)
        return all_results(([self._attack(classifier, image, seed_id)] for image, seed_id in pairs), advance)

    def _attack(self, classifier: Classifier, seed: Image, seed_id: str) -> Attacked:
        if seed_id not in self.paths:
            return Attacked(None, reason=f"no adversarial image with its name in {self.source}")
        path = self.paths[seed_id]
        try:
            read = read_adversarial(path, **classifier.geometry)
        except ImageError as error:
            return Attacked(
                None, reason=f"its adversarial image {display_path(path)}: {error.message}", is_failure=True
            )
        return Attacked(read.pixels.to(seed.device) - seed)
