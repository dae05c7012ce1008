"""What the chunks of a study share, and what is known of one seed of a chunk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.attacks import Attack
from camdrift.clock import Clock
from camdrift.explanations import Explainer
from camdrift.gallery import share
from camdrift.images import ReadImage, read_image
from camdrift.measures import Measure
from camdrift.models import Classifier
from camdrift.places import ImageFile
from camdrift.records import ADVERSARIAL, ANALYSED
from camdrift.settings import Settings
from camdrift.tensors import Image, Images, Maps
from camdrift.variants import Variant

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """What every chunk of a study shares.

    Attributes:
        classifier: The model.
        attack: The attack.
        settings: The study's options.
        explainers: How layers are explained.
        measures: Which explanations are compared by which metrics, the first of them first.
        layers: Names of the layers, in execution order.
        labels: Class index of each folder; empty where folders are no classes.
        batch_size: Images per pass.
        chunks: How many chunks there are.
        clock: Counts the time of the stages.
        examinations: What else is learnt of every chunk.
        surrogate: The model that the attack sees, if that is not the one that is studied.
    """

    classifier: Classifier
    attack: Attack
    settings: Settings
    explainers: tuple[Explainer, ...]
    measures: tuple[Measure, ...]
    layers: tuple[str, ...]
    labels: Mapping[str, int]
    batch_size: int
    chunks: int
    clock: Clock
    examinations: tuple["Examination", ...] = ()
    surrogate: Classifier | None = None

    def read(self, file: ImageFile) -> ReadImage:
        """The pixels of an image as the model takes them, and its checksum; raises `ImageError` with the reason."""
        model = self.classifier
        return read_image(file, size=model.size, resize=model.resize, interpolation=model.interpolation)

    @property
    def victim(self) -> Classifier:
        """The model that the attack sees."""
        return self.classifier if self.surrogate is None else self.surrogate

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return (self.classifier.size, self.classifier.size)

    def label(self, file: ImageFile) -> int | None:
        """Index of an image's true class, where known; names of classes are surer than numbers."""
        if file.folder is not None and file.folder in self.labels:
            return self.labels[file.folder]
        return file.label if file.place.counts(self.classifier.classes) else None

    @property
    def gallery_share(self) -> int | None:
        """How many of its seeds each chunk keeps the pictures of; None for all."""
        return share(self.settings.gallery, self.chunks)


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


class MapReceiver(Protocol):
    """Receives the maps of a chunk while its images are explained."""

    def add_clean(self, maps: Sequence[Mapping[str, Maps]]) -> None:
        """Take the maps of the clean images, all seeds of the chunk, by target and layer."""
        ...

    def add_variants(self, batch: Sequence[Variant], maps: Sequence[Mapping[str, Maps]]) -> None:
        """Take the maps of a batch of variants, by target and layer."""
        ...


class Examination(Protocol):
    """One more table about the analysed seeds of a chunk, from passes of its own."""

    @property
    def table(self) -> str:
        """Name of the table."""
        ...

    def __call__(self, plan: Plan, seeds: Sequence[Seed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds; calls `advance` with the number of seeds done."""
        ...


def stack(images: Iterable[Image]) -> Images:
    """One batch of some images."""
    return torch.stack(list(images))


def known(value: _T | None) -> _T:
    """A value that an earlier step of the chunk has found."""
    assert value is not None
    return value


def batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """The items, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
