"""Detectors made from specs, for one model and one profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from camdrift.coverage.base import NeuronLayout, neuron_layout
from camdrift.coverage.criteria import feature_layer
from camdrift.coverage.profile import LOGIT_FEATURES, Profile
from camdrift.coverage.surprise import SURPRISES, Reference
from camdrift.detectors.base import WHOLE, Detector, Fit, as_numpy_score, profile_scale
from camdrift.detectors.confidence import LOGIT_SCORES
from camdrift.detectors.dimensionality import lid_score
from camdrift.detectors.from_pytorch_ood import (
    check_head,
    head_of,
    library_class,
    library_fit,
    reads_logits,
    requires_fit,
)
from camdrift.detectors.gaussians import mahalanobis_score, relative_score
from camdrift.detectors.maps import denoised_score, noisecam_score
from camdrift.detectors.mixtures import FEWEST_FOR_MIXTURE, classes_without_mixture, mixture_score
from camdrift.detectors.passes import GLOBAL_MAPS, LOCAL_MAPS, ImageBatch
from camdrift.detectors.registry import (
    DETECTORS,
    LIBRARY_NAMES,
    PROFILE_HINT,
    PYTORCH_OOD,
    READS_LAST,
    READS_LAYERS,
    READS_LOGITS,
    READS_MAPS,
    READS_PROFILE_LOGITS,
    parse_detector,
)
from camdrift.detectors.squeezing import WITHOUT_PATCHES, squeeze_score, squeezers_of
from camdrift.errors import UserError
from camdrift.layers.layers import SOFTMAX
from camdrift.models.classifier import Classifier
from camdrift.specs import Spec, nearest, write_spec

_FEWEST_FOR_PROFILE: Final = 10
_MAP_SCORES: Final[Mapping[str, Callable[..., Tensor]]] = {"denoised": denoised_score, "noisecam-like": noisecam_score}


@dataclass(frozen=True)
class DetectorSetup:
    """What detectors are made for.

    Attributes:
        classifier: The model.
        layers: Layers of the study.
        profile: Neurons on ordinary images; None for none.
    """

    classifier: Classifier
    layers: tuple[str, ...]
    profile: Profile | None = None

    @property
    def layout(self) -> NeuronLayout:
        """Which neurons belong to which layer."""
        return neuron_layout(self.classifier)

    def reference(self, detector: str, layer: str) -> Reference:
        """The profile's features of a layer.

        Raises:
            UserError: There is no profile, or one without them, or of too few images.
        """
        if self.profile is None:
            raise UserError(f"`detector` {detector} needs a profile: what layers do on ordinary images", PROFILE_HINT)
        if layer not in self.profile.features:
            raise UserError(
                f"`detector` {detector} needs a profile with features of {layer}, got: one without",
                "give its images instead, and it is made anew",
            )
        if self.profile.images < _FEWEST_FOR_PROFILE:
            raise UserError(
                f"`profile` must have {_FEWEST_FOR_PROFILE} images or more for {detector}, got: {self.profile.images}",
                "hundreds are usual",
            )
        return Reference(self.profile.features[layer].astype(np.float64), self.profile.classes)


def make_detector(spec: str, setup: DetectorSetup) -> Detector:
    """The detector that `spec` names, fitted to the profile.

    Args:
        spec: One of `registry.DETECTORS`, or `pytorch-ood:NAME`, with settings if wanted.
        setup: What it is made for.

    Raises:
        UserError: An unknown detector or setting, a missing profile or library.
    """
    request = parse_detector(spec)
    name, reads = _complete(request), reads_of(request)
    if reads == READS_LOGITS:
        return _of_logits(name, request, setup)
    if reads in (READS_LAYERS, READS_LAST, READS_PROFILE_LOGITS):
        return _of_profile(name, request, setup, reads)
    if reads == READS_MAPS:
        settings = {} if request.name == "denoised" else request.settings
        score = partial(_MAP_SCORES[request.name], setup.layers, **settings)
        return Detector(name, setup.layers, score, undefined_reason="every layer has a zero map")
    squeezers = squeezers_of(request.settings)
    if not squeezers:
        raise UserError("`detector` squeeze must have a squeezer, got: none", "squeeze(bits=5)")
    remarks = () if len(squeezers) > 2 or "non-local means" in squeezers else (WITHOUT_PATCHES,)
    return Detector(name, (WHOLE,), partial(squeeze_score, squeezers), is_differentiable=True, remarks=remarks)


def profile_layers(specs: Sequence[str], classifier: Classifier, layers: Sequence[str]) -> tuple[str, ...]:
    """Layers whose features a profile must hold for some detectors, and the logits; empty where none needs a profile.

    Args:
        specs: The detectors.
        classifier: The model.
        layers: Layers of the study.

    Raises:
        UserError: An unknown detector or setting.
    """
    setup = DetectorSetup(classifier, tuple(layers))
    names: list[str] = []
    for spec in specs:
        request = parse_detector(spec)
        reads = reads_of(request)
        if reads in (READS_LAYERS, READS_LAST, READS_PROFILE_LOGITS):
            names += [*_columns(request, setup, reads), LOGIT_FEATURES]
    return tuple(dict.fromkeys(names))


def reads_of(request: Spec) -> str:
    """What the detector of a spec reads, in the words of the registry."""
    if request.name in DETECTORS:
        return DETECTORS[request.name].reads
    kind = library_class(request.name.partition(":")[2])
    if not reads_logits(kind):
        return READS_LAST
    return READS_PROFILE_LOGITS if requires_fit(kind) else READS_LOGITS


def explanations_of(request: Spec) -> tuple[str, ...]:
    """Explanations whose maps the detector of a spec reads."""
    if reads_of(request) != READS_MAPS:
        return ()
    return (GLOBAL_MAPS,) if request.name == "denoised" else (GLOBAL_MAPS, LOCAL_MAPS)


def reads_neurons(request: Spec) -> bool:
    """Does the detector of a spec read outputs of layers?"""
    return reads_of(request) in (READS_LAYERS, READS_LAST)


def _complete(request: Spec) -> str:
    """The spec, with what is set: what is off says nothing."""
    defaults = DETECTORS[request.name].settings if request.name in DETECTORS else {}
    others = {key: value for key, value in request.settings.items() if defaults.get(key, ...) != value}
    return write_spec(request.name, others)


def _of_logits(name: str, request: Spec, setup: DetectorSetup) -> Detector:
    """A detector that reads the logits alone."""
    if request.name not in LOGIT_SCORES:
        kind = library_class(request.name.partition(":")[2])
        fit = library_fit(kind, request.settings, None, setup.classifier.classes)
        empty = Reference(np.zeros((0, setup.classifier.classes)), np.zeros(0, np.int64))
        score = fit(empty)
        return Detector(name, (WHOLE,), lambda batch: _scores(batch, (LOGIT_FEATURES,), [score], setup.layout))
    of_logits = LOGIT_SCORES[request.name]
    compute = partial(of_logits, **request.settings)
    return Detector(name, (WHOLE,), lambda batch: compute(batch.logits.double())[:, None], is_differentiable=True)


def _of_profile(name: str, request: Spec, setup: DetectorSetup, reads: str) -> Detector:
    """A detector that compares features of one or more layers with those of the profile."""
    columns, layout = _columns(request, setup, reads), setup.layout
    references = [setup.reference(request.name, column) for column in columns]
    fit, remarks = _fit_of(request, setup, references)
    scores = [fit(reference) for reference in references]
    scales = np.stack([profile_scale(fit, reference) for reference in references], 1)
    return Detector(
        name,
        columns,
        lambda batch: _scores(batch, columns, scores, layout),
        np.nan_to_num(scales, nan=0.0),
        is_differentiable=request.name in DETECTORS and DETECTORS[request.name].is_differentiable,
        undefined_reason="the profile has too few images of the predicted class, or scores that do not vary",
        remarks=remarks,
    )


def _scores(batch: ImageBatch, columns: Sequence[str], scores: Sequence[Any], layout: NeuronLayout) -> Tensor:
    """Scores of all layers (images, layers)."""
    classes = batch.logits.detach().argmax(1)
    rows = [
        batch.logits if column == LOGIT_FEATURES else batch.neurons.raw[:, layout.slices[column]] for column in columns
    ]
    return torch.stack([score(part.double(), classes) for score, part in zip(scores, rows, strict=True)], 1)


def _columns(request: Spec, setup: DetectorSetup, reads: str) -> tuple[str, ...]:
    """The layers that a detector reads.

    Raises:
        UserError: The setting `layer` names none.
    """
    layout = setup.layout
    if reads == READS_PROFILE_LOGITS:
        return (LOGIT_FEATURES,)
    layer = request.settings.get("layer", "") if request.name in DETECTORS else ""
    if layer and layer != LOGIT_FEATURES and layer not in layout.slices:
        raise UserError(
            f"`detector` setting `layer` of {request.name} must be a layer with neurons, got: {layer}",
            f"{nearest(layer, layout.layers)}there are {LOGIT_FEATURES}, {', '.join(layout.layers[:3])}, ...",
        )
    if reads == READS_LAST or layer:
        return (feature_layer(request.name, layout, layer),)
    with_neurons = [name for name in layout.layers if name != SOFTMAX]
    # blocks have no neurons of their own: then all layers that have take their place
    return tuple(name for name in setup.layers if name in layout.slices) or tuple(with_neurons)


def _fit_of(request: Spec, setup: DetectorSetup, references: Sequence[Reference]) -> tuple[Fit, tuple[str, ...]]:
    """What fits a detector to the features of one layer, and remarks."""
    name, settings = request.name, {key: value for key, value in request.settings.items() if key != "layer"}
    if name in SURPRISES:
        return _surprise_fit(name), ()
    fits: Mapping[str, Callable[..., Any]] = {
        "mahalanobis": partial(mahalanobis_score, **settings),
        "rmd": partial(relative_score, **settings),
        "lid": lambda reference: lid_score(reference, k=settings["k"], reference_size=settings["reference"]),
        "i-defender": partial(mixture_score, **settings),
    }
    if name == "i-defender":
        few, all_classes = classes_without_mixture(references[0]), len(references[0].members)
        words = f"{few} of {all_classes} classes have fewer than {FEWEST_FOR_MIXTURE} images in the profile"
        return fits[name], (f"i-defender: {words}; images of these have no score",) if few else ()
    if name in fits:
        return fits[name], ()
    return _library_fit(name, settings, setup, references[0]), ()


def _surprise_fit(name: str) -> Fit:
    return lambda reference: as_numpy_score(lambda rows, classes: SURPRISES[name](reference, rows, classes))


def _library_fit(name: str, settings: dict[str, Any], setup: DetectorSetup, reference: Reference) -> Fit:
    kind = library_class(LIBRARY_NAMES.get(name, name.removeprefix(f"{PYTORCH_OOD}:")))
    head = None if reads_logits(kind) else head_of(setup.classifier)
    fit = library_fit(kind, settings, head, reference.rows.shape[1])
    if head is not None and setup.profile is not None and name != "knn":
        check_head(head, reference.rows, setup.profile.features[LOGIT_FEATURES])
    return fit
