"""Maps of a chunk's clean images, for the classes of every target."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from camdrift.explanations.attribution import OfTarget, explain_batch
from camdrift.explanations.base import Explainer
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import by_all_threads, on_replicas
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, stack
from camdrift.tables.measures import CAPTUM
from camdrift.tensors import Classes, Explanation, Images

_T = TypeVar("_T")
_R = TypeVar("_R")


def target_classes(plan: Plan, seeds: Sequence[NoisySeed]) -> list[Classes | None]:
    """The classes to explain, one set per target. Seeds without a label stand in with their own class."""
    device = plan.classifier.device
    clean = [seed.clean_class for seed in seeds]
    labels = [seed.clean_class if seed.label is None else seed.label for seed in seeds]
    sets = {
        "own": None,
        "seed": torch.tensor(clean, device=device),
        "label": torch.tensor(labels, device=device),
    }
    return [sets[target] for target in plan.settings.targets]


def explain_clean(
    plan: Plan,
    seeds: Sequence[NoisySeed],
    *,
    change: Callable[[Images], Images] = lambda images: images,
    further: tuple[Explainer, ...] = (),
) -> Explanation:
    """The explanation of clean images, all seeds at once.

    Args:
        plan: The plan of the study.
        seeds: The seeds.
        change: Changes a batch of images before it is explained.
        further: Explainers beside those of the plan.
    """

    def explain(classifier: Classifier, batch: Sequence[NoisySeed]) -> Explanation:
        return explain_batch(
            classifier,
            change(stack(seed.pixels for seed in batch)),
            target_classes(plan, batch),
            layers=plan.layers,
            explainers=(*plan.explainers, *further),
        )

    with explaining(plan, explain, [*batches(seeds, plan.batch_size)], further=further) as results:
        return _joined([*results])


@contextmanager
def explaining(
    plan: Plan,
    explain: Callable[[Classifier, _T], _R],
    items: Sequence[_T],
    *,
    further: tuple[Explainer, ...] = (),
) -> Iterator[Iterator[_R]]:
    """The results of `explain` in the order of the items: side by side, but those of Captum one after the other.

    Args:
        plan: The plan of the study.
        explain: Called with the classifier, or a replica of it, and an item.
        items: What to explain.
        further: Explainers beside those of the plan.
    """
    if any(explainer.spec.startswith(CAPTUM) for explainer in (*plan.explainers, *further)):
        with by_all_threads(plan.classifier):
            yield (explain(plan.classifier, item) for item in items)
    else:
        with on_replicas(plan.classifier, explain, items) as results:
            yield results


def of_positions(attributions: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    """By layer the attributions of some images."""
    return {name: part[positions] for name, part in attributions.items()}


def _joined(parts: Sequence[Explanation]) -> Explanation:
    """The explanations of several batches as one."""
    # Targets share their attributions if they do so in every batch.
    by_target = list(zip(*(part.same_as for part in parts), strict=True))
    same_as = tuple(by_target.index(firsts) for firsts in by_target)
    attributions = {target: _concatenated([part.attributions[target] for part in parts]) for target in {*same_as}}
    return Explanation(
        torch.cat([part.logits for part in parts]), tuple(attributions[target] for target in same_as), same_as
    )


def _concatenated(parts: Sequence[OfTarget]) -> OfTarget:
    """By explanation and layer the attributions of several batches, one after the other."""
    return {
        spec: {name: torch.cat([part[spec][name] for part in parts]) for name in layers}
        for spec, layers in parts[0].items()
    }
