"""Detectors at work: scores of images by all of them, from passes that they share."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from camdrift.coverage.profile import Profile
from camdrift.detectors.base import Detector
from camdrift.detectors.making import DetectorSetup, explanations_of, make_detector, reads_neurons
from camdrift.detectors.passes import DifferentiableBatch, ImageBatch
from camdrift.detectors.registry import parse_detector
from camdrift.detectors.sheet import DetectorScores, ScoreSheet
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.tables.defences import STATIC_STAGE
from camdrift.tables.words import count
from camdrift.tensors import Images


@dataclass(frozen=True)
class Detectors:
    """Detectors of one model.

    Attributes:
        setup: What they are made for.
        by_name: The detectors by their complete spec.
        explanations: Explanations whose maps they read.
        reads_neurons: Does one of them read outputs of layers?
    """

    setup: DetectorSetup
    by_name: Mapping[str, Detector]
    explanations: tuple[str, ...]
    reads_neurons: bool

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of them, a line each."""
        return tuple(line for detector in self.by_name.values() for line in detector.remarks)

    def sheet(self, attack: str, *, stage: str = STATIC_STAGE, epsilon: float | None = None) -> ScoreSheet:
        """An empty sheet for the scores of a run.

        Args:
            attack: Spec of the run's attack.
            stage: static, or adaptive for images of an attack that knows the detector.
            epsilon: Bound on the perturbation at strength 1, in pixel units; None where there is none.
        """
        columns = {name: detector.columns for name, detector in self.by_name.items()}
        reasons = {name: detector.undefined_reason for name, detector in self.by_name.items()}
        return ScoreSheet(attack, stage, epsilon, columns, reasons)

    def columns(self, name: str) -> tuple[str, ...]:
        """Layers of a detector's scores; one empty name where it reads none."""
        return self.by_name[name].columns

    def is_differentiable(self, name: str) -> bool:
        """Can an attack follow the gradient of a detector's score?"""
        return self.by_name[name].is_differentiable

    def scores(self, images: Images) -> dict[str, DetectorScores]:
        """Scores of every detector; each image's are the same in any batch.

        Args:
            images: Batch in pixel space.
        """
        place = self.setup.classifier.device
        pixels = images.detach().to(place, torch.float32)
        batch = ImageBatch(
            self.setup.classifier,
            pixels,
            self.setup.layers,
            explanations=self.explanations,
            reads_neurons=self.reads_neurons,
        )
        results = {}
        with torch.no_grad():
            for name, detector in self.by_name.items():
                layers = detector.score(batch).double()
                layers = torch.where(layers.isfinite(), layers, torch.nan)
                whole = detector.combined(layers)
                results[name] = DetectorScores(whole.cpu().numpy(), layers.cpu().numpy())
        return results

    def differentiable_score(self, name: str, images: Images) -> tuple[Tensor, Tensor]:
        """Logits of images and the combined score of one detector (images,), with the graph that leads to the images.

        Raises:
            UserError: The detector has no gradient.
        """
        detector = self.by_name[name]
        if not detector.is_differentiable:
            able = [other for other in self.by_name if self.is_differentiable(other)]
            raise UserError(
                f"`detector` must have a gradient for an attack on it, got: {name}",
                f"these have one: {', '.join(able)}" if able else "mahalanobis has one",
            )
        batch = DifferentiableBatch(self.setup.classifier, images, self.setup.layers)
        return batch.logits, detector.combined(detector.score(batch).double())


def open_detectors(
    specs: Iterable[str], classifier: Classifier, *, layers: Sequence[str], profile: Profile | None = None
) -> Detectors:
    """The detectors that specs name, fitted to a profile.

    Args:
        specs: Detectors of `registry.DETECTORS`, or `pytorch-ood:NAME`, with settings if wanted.
        classifier: The model.
        layers: Layers of the study.
        profile: Neurons on ordinary images, with features of `making.profile_layers`.

    Raises:
        UserError: An unknown detector or setting, a missing profile or library.
    """
    setup = DetectorSetup(classifier, tuple(layers), profile)
    detectors = [make_detector(spec, setup) for spec in dict.fromkeys(specs)]
    requests = [parse_detector(detector.name) for detector in detectors]
    read = {name for request in requests for name in explanations_of(request)}
    by_name = {detector.name: detector for detector in detectors}
    return Detectors(setup, by_name, tuple(sorted(read)), any(map(reads_neurons, requests)))


def check_profile_images(profile: Profile, seeds: Collection[str]) -> None:
    """Raise `UserError` for a profile with images that are seeds of the run: detectors would know them.

    Args:
        profile: The profile.
        seeds: SHA-256 of the files of the seed images.
    """
    both = {*profile.checksums} & {*seeds}
    if both:
        raise UserError(
            f"`profile` must hold no seed image of the run, got: {count(len(both), 'image')} that are in both",
            f"leave them out of the profile's folder; the first has SHA-256 {min(both)[:12]}...",
        )
