"""Images on their way through the detectors: every pass through the network is made once, however many read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from camdrift.coverage.base import NeuronBatch, filled, full_precision, joined, observe_batch, pass_size
from camdrift.coverage.neurons import NeuronObserver
from camdrift.defences.median import median_of_windows
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.registry import make_explainer
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tensors import Classes, Images, Logits

# The explanations that detectors read: globally weighted and cell by cell.
GLOBAL_MAPS: Final = "gradcam"
LOCAL_MAPS: Final = "layercam"
_WINDOW: Final = 3

# Maps (images, h, w) by explanation and layer.
MapsOf = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Explained:
    """Logits, maps and neurons, if they are read, from one forward and one backward pass of each image."""

    logits: Logits
    maps: MapsOf
    neurons: NeuronBatch | None


class ImageBatch:
    """A batch of images as detectors see it.

    Every pass has the same number of images, on a processor one, so that no score depends on the others of a batch.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        layers: Sequence[str],
        *,
        explanations: Sequence[str] = (),
        reads_neurons: bool = True,
    ) -> None:
        """Prepare the passes.

        Args:
            classifier: The model.
            images: Batch in pixel space.
            layers: Layers whose maps are read.
            explanations: Explanations whose maps are read. If there are any, neurons come from the same pass.
            reads_neurons: Are neurons read?
        """
        self.images, self._reads_neurons = images, reads_neurons
        self._classifier, self._layers, self._explanations = classifier, tuple(layers), tuple(explanations)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def logits(self) -> Logits:
        """Logits of the images, from the pass that makes maps or neurons if these are read."""
        if self._explanations:
            return self._explained.logits
        return self.neurons.logits if self._reads_neurons else self.logits_of(self.images)

    @cached_property
    def neurons(self) -> NeuronBatch:
        """Neurons and logits of the images."""
        if not self._explanations:
            return observe_batch(self._classifier, self.images, images_per_pass(self._classifier))
        assert self._explained.neurons is not None  # else they were not to be read
        return self._explained.neurons

    @property
    def maps(self) -> MapsOf:
        """Maps of the images, each for its own class."""
        return self._explained.maps

    @cached_property
    def maps_of_denoised(self) -> MapsOf:
        """Maps of the median-filtered images, each for the class of the image itself."""
        copies, own = median_of_windows(self.images, _WINDOW), self.logits.argmax(1)
        size, full = images_per_pass(self._classifier), full_precision(self._classifier)
        with full.numerics():
            parts = zip(copies.split(size), own.split(size), strict=True)
            maps = [
                _explained(full, part, self._layers, self._explanations, classes, None)[1] for part, classes in parts
            ]
            return joined_maps(maps)

    def logits_of(self, copies: Images) -> Tensor:
        """Logits of changed images, from a forward pass of each that nobody looks into."""
        size, full = images_per_pass(self._classifier), full_precision(self._classifier)
        with full.numerics(), torch.no_grad():
            return torch.cat([full(filled(part, size))[: len(part)].float() for part in copies.split(size)])

    @cached_property
    def _explained(self) -> Explained:
        return explained(
            self._classifier, self.images, self._layers, self._explanations, reads_neurons=self._reads_neurons
        )


def images_per_pass(classifier: Classifier) -> int:
    """One on a processor, where it takes no longer: the last bits of an image also depend on its place in a pass."""
    return 1 if classifier.device.type == "cpu" else pass_size(classifier)


def explained(
    classifier: Classifier,
    images: Images,
    layers: Sequence[str],
    explanations: Sequence[str],
    *,
    reads_neurons: bool,
) -> Explained:
    """Logits, maps and neurons of a batch, each image for its own class, in passes of a fixed size and in float32.

    Args:
        classifier: The model.
        images: Batch in pixel space.
        layers: Layers whose maps are made.
        explanations: How they are made.
        reads_neurons: Are neurons read, too?
    """
    full, logits, maps, neurons = full_precision(classifier), list[Tensor](), list[MapsOf](), list[NeuronBatch]()
    with full.numerics():
        for part in images.split(images_per_pass(classifier)):
            observer = NeuronObserver(full) if reads_neurons else None
            of_pass, of_part = _explained(full, part, layers, explanations, None, observer)
            logits.append(of_pass[: len(part)].float())
            maps.append(of_part)
            if observer is not None:
                neurons.append(_neurons(full, observer, of_pass, is_detached=True).first(len(part)))
    return Explained(torch.cat(logits), joined_maps(maps), joined(neurons) if neurons else None)


def joined_maps(parts: Sequence[MapsOf]) -> MapsOf:
    """Maps of several passes, one behind the other."""
    return {
        spec: {layer: torch.cat([part[spec][layer] for part in parts]) for layer in of_layers}
        for spec, of_layers in parts[0].items()
    }


def _explained(
    classifier: Classifier,
    images: Images,
    layers: Sequence[str],
    explanations: Sequence[str],
    classes: Classes | None,
    observer: NeuronObserver | None,
) -> tuple[Tensor, MapsOf]:
    """Logits of a pass that is filled up, and the maps of its images."""
    count, size = len(images), images_per_pass(classifier)
    explanation = explain_batch(
        classifier,
        filled(images, size),
        [None if classes is None else torch.cat([classes, classes.new_zeros(size - count)])],
        layers=layers,
        explainers=[make_explainer(name) for name in explanations],
        observer=observer,
    )
    maps = {
        spec: {layer: maps[:count] for layer, maps in of_layers.items()}
        for spec, of_layers in explanation.attributions[0].items()
    }
    return explanation.logits, maps


def differentiable_neurons(classifier: Classifier, images: Images) -> NeuronBatch:
    """Neurons and logits of a batch in one pass, with the graph that leads to the images."""
    full, observer = full_precision(classifier), NeuronObserver(classifier)
    with full.numerics(), full.undisturbed():
        with torch.enable_grad(), hooks.capturing({}, observer.receivers):
            logits = full(images)
        return _neurons(full, observer, logits, is_detached=False)


class DifferentiableBatch(ImageBatch):
    """A batch whose neurons lead back to the images by a graph."""

    @cached_property
    def neurons(self) -> NeuronBatch:
        """Neurons and logits of the images, with their graph."""
        return differentiable_neurons(self._classifier, self.images)

    def logits_of(self, copies: Images) -> Tensor:
        """Logits of changed images, with their graph."""
        full = full_precision(self._classifier)
        with full.numerics(), full.undisturbed(), torch.enable_grad():
            return full(copies).float()


def _neurons(classifier: Classifier, observer: NeuronObserver, logits: Tensor, *, is_detached: bool) -> NeuronBatch:
    """What an observer saw, with or without its graph."""
    record = observer.record(logits)
    raw = torch.cat([record.outputs[group.name] for group in classifier.neuron_groups], 1).float()
    raw, scores = (raw.detach(), logits.detach()) if is_detached else (raw, logits)
    return NeuronBatch(record.values.float(), raw, scores.float())
