"""What the chunks of a study share, and what is known of one seed of a chunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl
import torch

from camdrift.attacks.base import Attack
from camdrift.attacks.making import make_attack
from camdrift.attacks.stored import StoredImages
from camdrift.errors import ImageError, UserError
from camdrift.explanations.attribution import explain
from camdrift.explanations.base import Explainer
from camdrift.explanations.registry import make_explainer
from camdrift.images.pairs import pair_adversarial
from camdrift.images.pixels import ReadImage, read_image
from camdrift.images.places import ImageFile
from camdrift.models.class_names import class_index
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches, largest_batch
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.gallery import share
from camdrift.pipeline.seeds import Seed
from camdrift.pipeline.settings import Settings
from camdrift.pipeline.variants import Variant
from camdrift.tables.measures import Measure, measures
from camdrift.tensors import Maps


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


# Small batches are fastest on a processor: measured with VGG-16 and EfficientNet-Lite0 (docs/benchmarks.md).
ON_PROCESSOR: Final = 4


def checked(classifier: Any, name: str) -> Classifier:
    """The classifier, if it is one; raises `UserError` if not."""
    if not isinstance(classifier, Classifier):
        raise UserError(
            f"`{name}` must be a camdrift classifier, got: {type(classifier).__name__}",
            "camdrift.wrap(module, mean=..., std=..., size=...) makes one of any torch module",
        )
    return classifier


def _attack(
    classifier: Classifier, surrogate: Classifier | None, files: Sequence[ImageFile], chosen: Settings
) -> Attack:
    """The attack, fit for what it is to see."""
    if surrogate is not None and (surrogate.size, surrogate.classes) != (classifier.size, classifier.classes):
        first, second = (f"{c.size} px and {c.classes} classes" for c in (classifier, surrogate))
        raise UserError(
            f"`surrogate` must take the images and know the classes of the model, got: {second} for {first}",
            "perturbations are carried over pixel by pixel",
        )
    if chosen.adversarial is not None:
        return StoredImages(chosen.adversarial, pair_adversarial(chosen.adversarial, files))
    attack = make_attack(chosen.attack)
    attack.check(surrogate or classifier)
    return attack


def study_plan(
    classifier: Classifier,
    files: Sequence[ImageFile],
    settings: Settings,
    clock: Clock,
    *,
    surrogate: Classifier | None = None,
    examinations: tuple[Examination, ...] = (),
) -> Plan:
    """What the chunks of a study share, checked.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    checked(classifier, "classifier")
    explainers = tuple(make_explainer(spec) for spec in settings.explanations)
    layers = classifier.select_layers(settings.layers)
    plan = Plan(
        classifier=classifier,
        attack=_attack(classifier, surrogate, files, settings),
        settings=settings,
        explainers=explainers,
        measures=measures([explainer.spec for explainer in explainers], settings.similarities),
        layers=layers,
        labels=_folder_labels(classifier, files),
        batch_size=settings.batch_size or _batch_size(classifier, layers, explainers),
        chunks=len(parts(files, settings)),
        clock=clock,
        examinations=examinations,
        surrogate=surrogate,
    )
    if "label" in settings.targets and all(plan.label(file) is None for file in files):
        raise UserError(
            "`target` label must have images whose class is known, got: folders that are not all classes",
            "name the folders after the model's classes or WordNet IDs, or leave out `label`",
        )
    return plan


def _batch_size(classifier: Classifier, layers: Sequence[str], explainers: Sequence[Explainer]) -> int:
    """Images per pass: few on a processor, elsewhere as many as an explanation finds room for."""
    if classifier.device.type == "cpu" and ON_PROCESSOR:
        return ON_PROCESSOR

    def compute(size: int) -> None:
        images = torch.full((size, 3, classifier.size, classifier.size), 0.5, device=classifier.device)
        # Two classes per image, as when its prediction has changed.
        explain(
            classifier,
            images,
            [None, torch.zeros_like(images[:, 0, 0, 0], dtype=torch.long)],
            layers=layers,
            explainers=explainers,
        )

    with classifier.numerics():
        return largest_batch(compute)


def _folder_labels(classifier: Classifier, files: Sequence[ImageFile]) -> dict[str, int]:
    """Class index of every folder, if all of them are classes; else nothing."""
    if classifier.labels is None:
        return {}
    found = {name: class_index(name, classifier.labels) for name in {f.folder for f in files if f.folder is not None}}
    known = {name: index for name, index in found.items() if index is not None}
    return known if len(known) == len(found) else {}


def parts(files: Sequence[ImageFile], settings: Settings) -> list[Sequence[ImageFile]]:
    """The images, chunk by chunk."""
    return list(batches(files, settings.chunk_size or len(files)))


def image_checksum(plan: Plan, file: ImageFile) -> str | None:
    """SHA-256 of an image's file; None for an image that cannot be read."""
    try:
        return plan.read(file).sha256
    except ImageError:
        return None
