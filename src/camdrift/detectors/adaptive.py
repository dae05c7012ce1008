"""Attacks that know a detector: they must fool the network and stay below the detector's threshold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from camdrift.coverage.base import observe_batch
from camdrift.detectors.assessment import seed_thresholds
from camdrift.detectors.opening import Detectors
from camdrift.detectors.passes import images_per_pass
from camdrift.detectors.sheet import ScoreSheet
from camdrift.specs import write_spec
from camdrift.tables.arrays import Flags
from camdrift.tables.defences import ADAPTIVE_STAGE
from camdrift.tables.words import ADVERSARIAL, CLEAN
from camdrift.tensors import PIXELS, Classes, Images

# Name of the attack in tables, and the strength of its images.
SELECTIVE_PGD: Final = "selective-pgd"
_STRENGTH: Final = 1.0
# A step as a share of the bound, as PGD's.
_RELATIVE_STEP: Final = 1 / 8


class SeedImages(NamedTuple):
    """Some seeds of a run.

    Attributes:
        images: Clean images, in pixel space.
        classes: Classes that the network predicts for them.
        seeds: Checksum of each.
    """

    images: Images
    classes: Classes
    seeds: Sequence[str]


@dataclass(frozen=True)
class Undetected:
    """What an attack that knows a detector has made of some images.

    Attributes:
        images: The images; those of its last step where nothing was found.
        is_fooling: Does the network predict another class? (images,)
        is_passing: Is the score at most the threshold? (images,)
    """

    images: Images
    is_fooling: Flags
    is_passing: Flags

    @property
    def is_undetected(self) -> Flags:
        """Does an image do both?"""
        return self.is_fooling & self.is_passing


def undetected_attack(
    detectors: Detectors,
    name: str,
    images: Images,
    classes: Classes,
    thresholds: Tensor,
    *,
    epsilon: float,
    steps: int = 40,
) -> Undetected:
    """Images within L-inf `epsilon` that fool the network and pass a detector, as far as they are found.

    Selective projected gradient descent, with and without orthogonal steps (Bryniarski et al. 2021, section 4). While
    an image is not misclassified it climbs the cross-entropy; while it is and its score lies above the threshold, it
    descends the score. Orthogonal steps go along the part of a gradient at a right angle to the other one. They stall
    where both are nearly parallel, as for `softmax`, so that both ways are tried. Steps are those of signs. The first
    image that does both is kept.

    Args:
        detectors: The detectors.
        name: One of them, with a gradient.
        images: Clean images, in pixel space.
        classes: Classes that the network predicts for them.
        thresholds: Threshold of each (images,).
        epsilon: Bound, in pixel units.
        steps: Number of steps, each way.

    Raises:
        UserError: The detector has no gradient.
    """
    classifier = detectors.setup.classifier
    seeds = images.detach().to(classifier.device, torch.float32)
    limits, labels = thresholds.to(seeds.device, torch.float64), classes.to(seeds.device)
    current, best = seeds.clone(), seeds.clone()
    is_done = torch.zeros(len(seeds), dtype=torch.bool, device=seeds.device)
    ways = [(is_orthogonal, number) for is_orthogonal in (False, True) for number in range(steps + 1)]
    with classifier.undisturbed():
        for is_orthogonal, number in ways:
            current = seeds.clone() if number == 0 else current
            step, is_both = _step(detectors, name, current, labels, limits, is_orthogonal=is_orthogonal)
            best = torch.where((is_both & ~is_done)[:, None, None, None], current, best)
            is_done |= is_both
            if bool(is_done.all()):
                break
            if number < steps:
                further = current + epsilon * _RELATIVE_STEP * step.sign()
                current = (seeds + (further - seeds).clamp(-epsilon, epsilon)).clamp(*PIXELS)
    best = torch.where(is_done[:, None, None, None], best, current)
    return _judged(detectors, name, best, labels, limits)


def _step(
    detectors: Detectors, name: str, images: Images, classes: Classes, thresholds: Tensor, *, is_orthogonal: bool
) -> tuple[Tensor, Tensor]:
    """The direction in which each image goes on, and whether it already fools and passes."""
    pixels = images.detach().clone().requires_grad_()
    logits, scores = detectors.differentiable_score(name, pixels)
    loss = F.cross_entropy(logits, classes, reduction="sum")
    (climb,) = torch.autograd.grad(loss, pixels, retain_graph=True)
    (rise,) = torch.autograd.grad(scores.nan_to_num().sum(), pixels)
    is_fooling, is_passing = logits.argmax(1) != classes, scores <= thresholds
    away, up = (_orthogonal(-rise, climb), _orthogonal(climb, rise)) if is_orthogonal else (-rise, climb)
    toward = torch.where(is_fooling[:, None, None, None], away, up)
    return toward, is_fooling & is_passing


def _orthogonal(gradient: Tensor, other: Tensor) -> Tensor:
    """The part of each image's gradient at a right angle to another one; all of it where that is zero."""
    product, square = (gradient * other).sum((1, 2, 3)), (other**2).sum((1, 2, 3))
    share = torch.where(square > 0, product / square, 0.0)
    return gradient - share[:, None, None, None] * other


def _judged(detectors: Detectors, name: str, images: Images, classes: Classes, thresholds: Tensor) -> Undetected:
    """The images, as the detector and the network judge them without gradients."""
    classifier = detectors.setup.classifier
    values = detectors.scores(images)[name].combined
    logits = observe_batch(classifier, images, images_per_pass(classifier)).logits
    is_fooling = (logits.argmax(1) != classes).cpu().numpy()
    return Undetected(images, is_fooling, values <= thresholds.cpu().numpy())


def attackable(detectors: Detectors, static: ScoreSheet) -> list[str]:
    """Names of the detectors that an attack can follow."""
    return [name for name in static.detectors if detectors.is_differentiable(name)]


def adaptive_sheet(detectors: Detectors, static: ScoreSheet, *, epsilon: float, steps: int = 40) -> ScoreSheet:
    """An empty sheet for attacks that know the detectors, with the clean images of the run.

    Args:
        detectors: The detectors.
        static: Scores of the run.
        epsilon: Bound, in pixel units.
        steps: Number of steps.
    """
    spec = write_spec(SELECTIVE_PGD, {"eps": epsilon, "steps": steps})
    clean = {name: {(CLEAN, 0.0): static.parts[name][CLEAN, 0.0]} for name in attackable(detectors, static)}
    return replace(static, attack=spec, stage=ADAPTIVE_STAGE, epsilon=epsilon, parts=clean, undetected={})


def undetected_sheet(
    detectors: Detectors,
    static: ScoreSheet,
    batches: Iterable[SeedImages],
    *,
    epsilon: float,
    steps: int = 40,
    percent: int = 5,
) -> ScoreSheet:
    """Scores of attacks on every detector that has a gradient, each held against the clean images of the run.

    The threshold of a seed comes from clean images of other seeds.

    Args:
        detectors: The detectors.
        static: Scores of the run, with its clean images.
        batches: The seeds.
        epsilon: Bound, in pixel units.
        steps: Number of steps.
        percent: False positive rate of the thresholds, in percent.
    """
    names = attackable(detectors, static)
    sheet = adaptive_sheet(detectors, static, epsilon=epsilon, steps=steps)
    limits = {name: seed_thresholds(static, name, percent=percent) for name in names}
    for batch in batches:
        for name in names:
            thresholds = torch.tensor([limits[name].get(seed, np.nan) for seed in batch.seeds], dtype=torch.float64)
            attack = undetected_attack(
                detectors, name, batch.images, batch.classes, thresholds, epsilon=epsilon, steps=steps
            )
            sheet.add(ADVERSARIAL, _STRENGTH, {name: detectors.scores(attack.images)[name]}, batch.seeds)
            sheet.undetected.setdefault(name, []).extend(attack.is_undetected.tolist())
    return sheet
