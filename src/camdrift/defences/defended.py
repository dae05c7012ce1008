"""A classifier behind a purifier, as an attack sees it that knows the purifier."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from camdrift.defences.base import BPDA, Defence, as_identity
from camdrift.models.classifier import Classifier
from camdrift.tensors import Images, Logits


class DefendedNetwork(nn.Module):
    """A purifier, then a classifier: images in pixel space in, logits out.

    The gradient is the purifier's own, or that of the identity where it has none (BPDA, Athalye 2018). A random
    purifier is drawn `draws` times, and the logits are averaged, so that a gradient is one of the mean (EOT). Random
    numbers come from the image itself: an image that has changed is purified by new draws, and one image by the same
    draws in every batch.

    Attributes:
        network: The classifier's network.
    """

    def __init__(self, classifier: Classifier, defence: Defence, *, draws: int, role: str, rng_seed: int) -> None:
        super().__init__()
        self.network = classifier.module
        self._classifier, self._defence = classifier, defence
        self._draws, self._role, self._rng_seed = draws if defence.is_random else 1, role, rng_seed
        self.training = False

    def forward(self, images: Images) -> Logits:
        """Logits of purified images, the mean over the draws."""
        keys = _keys(images) if self._defence.is_random else [""] * len(images)
        total: Any = 0
        for draw in range(self._draws):
            total = total + self._classifier(self._purified(images, [f"{self._role} {draw} {key}" for key in keys]))
        logits: Logits = total / self._draws
        return logits

    def _purified(self, images: Images, keys: Sequence[str]) -> Images:
        def purify(batch: Images) -> Images:
            return self._defence.purify(batch, keys, rng_seed=self._rng_seed)

        return as_identity(purify, images) if self._defence.gradient == BPDA else purify(images)


def _keys(images: Images) -> list[str]:
    """A name for every image, made of its pixels."""
    return [sha256(image.numpy().tobytes()).hexdigest() for image in images.detach().cpu().contiguous()]


def defended(classifier: Classifier, defence: Defence, *, draws: int, role: str, rng_seed: int) -> Classifier:
    """The classifier behind a purifier.

    Args:
        classifier: The classifier.
        defence: The purifier.
        draws: Draws of a random purifier whose logits are averaged.
        role: What the draws are for, such as `attack`: other words, other draws.
        rng_seed: Seed of the study.
    """
    network = DefendedNetwork(classifier, defence, draws=draws, role=role, rng_seed=rng_seed)
    return Classifier(
        network,
        spec=f"{classifier.spec} behind {defence.spec}",
        device=classifier.device,
        precision=classifier.precision,
        size=classifier.size,
        labels=classifier.labels,
        resize=classifier.resize,
        interpolation=classifier.interpolation,
        rounding=classifier.rounding,
    )


def majority_classes(
    classifier: Classifier, defence: Defence, images: Images, *, draws: int, rng_seed: int
) -> list[int]:
    """The class that most of some fresh draws of a purifier predict, (batch,); of a deterministic one the prediction.

    Ties go to the class with the smaller number. Draws are others than those that an attack has seen.
    """
    if not defence.is_random:
        keys = [""] * len(images)
        with torch.no_grad():
            return [*classifier(defence.purify(images, keys, rng_seed=rng_seed)).argmax(1).tolist()]
    names, votes = _keys(images), []
    for draw in range(draws):
        keys = [f"verdict {draw} {name}" for name in names]
        with torch.no_grad():
            votes.append(classifier(defence.purify(images, keys, rng_seed=rng_seed)).argmax(1))
    tallies = torch.nn.functional.one_hot(torch.stack(votes), classifier.classes).sum(0)
    return [*tallies.argmax(1).tolist()]
