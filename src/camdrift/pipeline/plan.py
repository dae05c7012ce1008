"""The plan that the chunks of a study share: a design, which any process can get, and the means to carry it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any, Final, Protocol

import polars as pl
import torch

from camdrift.attacks.base import Attack
from camdrift.attacks.making import make_attack
from camdrift.attacks.registry import function_place
from camdrift.attacks.stored import StoredImages
from camdrift.errors import ImageError, UserError
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.base import Explainer
from camdrift.explanations.registry import find_metric, make_explainer
from camdrift.images.pairs import pair_adversarial
from camdrift.images.pixels import ReadImage, read_image
from camdrift.images.places import ImageFile
from camdrift.models.class_names import class_index
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches, fastest_batch
from camdrift.models.source_code import Code, code_of
from camdrift.perturbations.making import make_perturbation, perturbation_place
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.seeds import NoisySeed
from camdrift.pipeline.settings import Settings
from camdrift.tables.measures import Measure, measures


@dataclass(frozen=True)
class Design:
    """The choices of a study, the same in every process that computes a part of it; they can be pickled.

    Attributes:
        settings: The study's options.
        layers: Names of the layers, in execution order.
        labels: Class index of each folder; empty where folders are no classes.
        batch_size: Images per pass; 0 until the device's memory has been tried.
        chunks: Number of chunks.
        chunk: Number of the chunk in hand, from 0.
        extra_tables: Tables that every chunk makes beside those of a study.
        stored_images: Adversarial images that take the place of an attack; None for none.
    """

    settings: Settings
    layers: tuple[str, ...]
    labels: Mapping[str, int]
    batch_size: int
    chunks: int
    chunk: int = 0
    extra_tables: tuple["ExtraTable", ...] = ()
    stored_images: StoredImages | None = None


@dataclass(frozen=True)
class Plan:
    """A design, and the means to carry it out in this process.

    Attributes:
        design: The choices of the study.
        classifier: The model.
        attack: The attack.
        explainers: The explanations of layers.
        measures: Pairs of explanation and metric; figures and report show the first.
        clock: Counts the time of the stages.
        surrogate: The model that the attack sees; None if it is the studied one.
    """

    design: Design
    classifier: Classifier
    attack: Attack
    explainers: tuple[Explainer, ...]
    measures: tuple[Measure, ...]
    clock: Clock
    surrogate: Classifier | None = None

    @property
    def settings(self) -> Settings:
        """The study's options."""
        return self.design.settings

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in execution order."""
        return self.design.layers

    @property
    def layer_columns(self) -> dict[str, Sequence[Any]]:
        """Columns of a table with one value per layer: name, label and index."""
        labels = {info.name: info.label for info in self.classifier.layer_infos}
        return {
            "layer": self.layers,
            "layer_label": [labels[name] for name in self.layers],
            "layer_index": range(len(self.layers)),
        }

    @property
    def batch_size(self) -> int:
        """Images per pass."""
        return self.design.batch_size

    @property
    def victim(self) -> Classifier:
        """The model that the attack sees."""
        return self.classifier if self.surrogate is None else self.surrogate

    @property
    def classifiers(self) -> tuple[Classifier, ...]:
        """The model, and the surrogate if there is one."""
        return (self.classifier,) if self.surrogate is None else (self.classifier, self.surrogate)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return (self.classifier.size, self.classifier.size)

    def with_batch_size(self, size: int) -> "Plan":
        """The plan with `size` images per pass."""
        return replace(self, design=replace(self.design, batch_size=size))

    def at_chunk(self, index: int) -> "Plan":
        """The plan with the chunk of this number in hand."""
        return replace(self, design=replace(self.design, chunk=index))

    def chunk_share(self, count: int) -> int:
        """Return how many of `count` seeds the chunk in hand gives: all in the first, half in the second and so on.

        Chunks that follow change nothing, so that a study may grow.
        """
        return ceil(count / (1 + self.design.chunk))

    def read(self, file: ImageFile) -> ReadImage:
        """The pixels of an image as the model takes them, and its checksum; raises `ImageError` with the reason."""
        return read_image(file, **self.classifier.geometry)

    def label(self, file: ImageFile) -> int | None:
        """Index of an image's true class, where known."""
        return label_of(file, self.design.labels, self.classifier.classes)


class ExtraTable(Protocol):
    """One more table about the analysed seeds of a chunk, from passes of its own; it can be pickled."""

    @property
    def table(self) -> str:
        """Name of the table."""
        ...

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds; calls `advance` with the number of seeds done."""
        ...


# Small batches are fastest on a processor, and of large layers the smallest (docs/benchmarks.md): so many images, as
# long as their layers have no more values than that.
ON_PROCESSOR: Final = 4
_MOST_VALUES: Final = 2**25
# Where layers are small, Python's work for a batch outweighs the network's: a batch then has so many values of the
# layers, but no more images than this.
_BATCH_VALUES: Final = 2**21
_MOST_SMALL: Final = 64


def checked(classifier: Any, name: str) -> Classifier:
    """The classifier, if it is one; raises `UserError` if not."""
    if not isinstance(classifier, Classifier):
        raise UserError(
            f"`{name}` must be a camdrift classifier, got: {type(classifier).__name__}",
            "camdrift.wrap(module, mean=..., std=..., size=...) makes one of any torch module",
        )
    return classifier


def assemble(
    design: Design, classifier: Classifier, *, surrogate: Classifier | None = None, clock: Clock | None = None
) -> Plan:
    """The plan that carries out a design in this process.

    Args:
        design: The choices of the study.
        classifier: The model.
        surrogate: The model that the attack sees; None for the studied one.
        clock: Counts the time of the stages; None for a new one.

    Raises:
        UserError: An attack or explanation cannot be made here.
    """
    settings = design.settings
    explainers = tuple(make_explainer(spec) for spec in settings.explanations)
    for name in settings.similarities:
        find_metric(name)
    return Plan(
        design=design,
        classifier=classifier,
        attack=design.stored_images or make_attack(settings.attack),
        explainers=explainers,
        measures=measures([explainer.spec for explainer in explainers], settings.similarities),
        clock=clock or Clock(),
        surrogate=surrogate,
    )


def check_makable(settings: Settings) -> None:
    """Raise `UserError` for an attack, an explanation or a natural change that cannot be made here."""
    if settings.adversarial is None:
        make_attack(settings.attack)
    for spec in settings.explanations:
        make_explainer(spec)
    for spec in settings.perturb:
        make_perturbation(spec)
    for name in settings.similarities:
        find_metric(name)


def study_plan(
    classifier: Classifier,
    files: Sequence[ImageFile],
    settings: Settings,
    clock: Clock,
    *,
    surrogate: Classifier | None = None,
    extra_tables: tuple[ExtraTable, ...] = (),
) -> Plan:
    """The plan of a study, checked.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    checked(classifier, "classifier")
    if surrogate is not None:
        _check_surrogate(surrogate, classifier)
    design = Design(
        settings=settings,
        layers=classifier.select_layers(settings.layers),
        labels=folder_labels(classifier, files),
        batch_size=settings.batch_size,
        chunks=len(parts(files, settings)),
        extra_tables=extra_tables,
        stored_images=_stored_images(settings, files),
    )
    plan = assemble(design, classifier, surrogate=surrogate, clock=clock)
    plan.attack.check(plan.victim)
    if "label" in settings.targets and all(plan.label(file) is None for file in files):
        raise UserError(
            "`target` label must have images whose class is known, got: folders that are not all classes",
            "name the folders after the model's classes or WordNet IDs, or leave out `label`",
        )
    return plan.with_batch_size(settings.batch_size or _fitting_batch_size(plan))


def _check_surrogate(surrogate: Classifier, classifier: Classifier) -> None:
    """Raises `UserError` unless the surrogate takes the same images and knows the same classes."""
    if (surrogate.size, surrogate.classes) != (classifier.size, classifier.classes):
        first, second = (f"{c.size} px and {c.classes} classes" for c in (classifier, surrogate))
        raise UserError(
            f"`surrogate` must take the images and know the classes of the model, got: {second} for {first}",
            "perturbations are carried over pixel by pixel",
        )


def _stored_images(settings: Settings, files: Sequence[ImageFile]) -> StoredImages | None:
    if settings.adversarial is None:
        return None
    return StoredImages(settings.adversarial, pair_adversarial(settings.adversarial, files))


def _fitting_batch_size(plan: Plan) -> int:
    """Images per pass: few on a processor, elsewhere those with which an explanation takes the least time an image."""
    classifier = plan.classifier
    if classifier.device.type == "cpu" and ON_PROCESSOR:
        # A pass holds all layers, whichever are looked at.
        values = sum(prod(info.shape) for info in classifier.layer_infos)
        return max(1, min(ON_PROCESSOR, _MOST_VALUES // values), min(_MOST_SMALL, _BATCH_VALUES // values))

    def compute(size: int) -> None:
        images = torch.full((size, 3, *plan.size), 0.5, device=classifier.device)
        # Two classes per image, as when its prediction has changed.
        explanation = explain_batch(
            classifier,
            images,
            [None, torch.zeros_like(images[:, 0, 0, 0], dtype=torch.long)],
            layers=plan.layers,
            explainers=plan.explainers,
        )
        # A card computes in order: once the last map can be read, everything is done.
        explanation.maps[-1][plan.layers[0]].sum().item()

    with classifier.numerics():
        return fastest_batch(compute)


def folder_labels(classifier: Classifier, files: Sequence[ImageFile]) -> dict[str, int]:
    """Return the class index of every folder, if all of them are classes; else nothing."""
    if classifier.labels is None:
        return {}
    folders = {file.folder for file in files if file.folder is not None}
    labels = {name: class_index(name, classifier.labels) for name in folders}
    return {} if None in labels.values() else {name: index for name, index in labels.items() if index is not None}


def label_of(file: ImageFile, labels: Mapping[str, int], classes: int) -> int | None:
    """Return the index of an image's true class; None where it is not known. Names of classes are surer than numbers.

    Args:
        file: The image.
        labels: Class index of each folder, as `folder_labels` returns them.
        classes: Number of the model's classes.
    """
    if file.folder is not None and file.folder in labels:
        return labels[file.folder]
    return file.label if file.place.counts(classes) else None


def attack_code(attack: Attack) -> Code | None:
    """Checksums of the user's code behind an attack; None for one of a library, or for stored images."""
    place = None if isinstance(attack, StoredImages) else function_place(attack.spec)
    return None if place is None else code_of(place)


def perturbation_code(specs: Sequence[str]) -> Code | None:
    """Checksums of the user's code behind natural changes; None for those of nrtk alone."""
    places = dict.fromkeys(filter(None, map(perturbation_place, specs)))
    try:
        codes = [code_of(place) or {} for place in places]
    except OSError:
        return None  # a file that is not here is none of those that a study began with
    return {name: checksum for code in codes for name, checksum in code.items()} or None


def parts(files: Sequence[ImageFile], settings: Settings) -> list[Sequence[ImageFile]]:
    """The images, chunk by chunk."""
    return list(batches(files, settings.chunk_size or len(files)))


def image_checksum(plan: Plan, file: ImageFile) -> str | None:
    """SHA-256 of an image's file; None for an image that cannot be read."""
    try:
        return plan.read(file).sha256
    except ImageError:
        return None
