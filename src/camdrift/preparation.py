"""What the chunks of a study share: its attack and its plan, checked before the first of them."""

from collections.abc import Sequence
from typing import Any, Final

import torch

from camdrift.attacks import Attack, StoredImages, make_attack
from camdrift.clock import Clock
from camdrift.errors import UserError
from camdrift.explain import explain
from camdrift.explanations import Explainer, make_explainer
from camdrift.labels import class_index
from camdrift.measures import measures
from camdrift.memory import largest_batch
from camdrift.models import Classifier
from camdrift.pairs import pair_adversarial
from camdrift.places import ImageFile
from camdrift.plan import Examination, Plan, batches
from camdrift.settings import Settings

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
