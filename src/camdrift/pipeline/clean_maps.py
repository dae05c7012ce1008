"""Maps of a chunk's clean images, for the classes of every target."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from camdrift.explanations.attribution import OfTarget, explain_batch
from camdrift.explanations.base import Explainer
from camdrift.models.memory import batches
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, stack
from camdrift.tensors import Classes, Explanation, Images


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
    return _joined(
        [
            explain_batch(
                plan.classifier,
                change(stack(seed.pixels for seed in batch)),
                target_classes(plan, batch),
                layers=plan.layers,
                explainers=(*plan.explainers, *further),
            )
            for batch in batches(seeds, plan.batch_size)
        ]
    )


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
