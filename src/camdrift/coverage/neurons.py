"""Neuron coverage of a batch of images, as DLFuzz counts it (all layers, one rule for every image)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from camdrift.layers import hooks
from camdrift.layers.hooks import Receiver
from camdrift.layers.layers import NeuronGroup
from camdrift.layers.taps import Tap
from camdrift.models.classifier import Classifier
from camdrift.tensors import Covered, Images, Logits

THRESHOLD: Final = 0.25

NeuronValues = Float[Tensor, "batch neurons"]


@dataclass(frozen=True)
class NeuronRecord:
    """Outputs of a classifier's neurons on one batch.

    Attributes:
        outputs: Raw output of every neuron, its layer's spatial mean; differentiable if the pass was. By group name.
        values: The same, min-max scaled over the whole layer and image; NaN where a layer is constant.
    """

    outputs: Mapping[str, Tensor]
    values: NeuronValues

    def covered(self, threshold: float = THRESHOLD) -> Covered:
        """Neurons whose value lies above `threshold`; those of a constant layer are not covered."""
        return self.values > threshold


class NeuronObserver:
    """Collects a `NeuronRecord` from one forward pass: hand `receivers` to the pass, then call `record`.

    Args:
        classifier: The model.
        is_scaled: Are outputs scaled? Otherwise there are `outputs` alone: extremes of whole layers take time.
    """

    def __init__(self, classifier: Classifier, *, is_scaled: bool = True) -> None:
        self.groups = classifier.neuron_groups
        self._is_scaled = is_scaled
        self._outputs: dict[str, Tensor] = {}
        # Smallest and largest output of every layer, one value an image.
        self._extremes: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def receivers(self) -> dict[Tap, list[Receiver]]:
        """The functions to call with the output at each place of the network."""
        receivers: dict[Tap, list[Receiver]] = {}
        for group in self.groups:
            if group.tap is not None:
                receivers.setdefault(group.tap, []).append(self._receiver(group))
        return receivers

    def _receiver(self, group: NeuronGroup) -> Callable[[Tensor], None]:
        return lambda output: self._add(group, output)

    def _add(self, group: NeuronGroup, output: Tensor) -> None:
        places = [axis for axis in range(1, output.ndim) if axis != group.channel_axis % output.ndim]
        self._outputs[group.name] = output.float().mean(places) if places else output.float()
        if self._is_scaled:
            # Of a detached view: the extremes only scale, no gradient runs through them. Both take less time than
            # aminmax along an axis: torch 2.15 is 8 to 26 times slower with that.
            values, axes = output.detach(), list(range(1, output.ndim))
            self._extremes[group.name] = values.amin(axes).float(), values.amax(axes).float()

    def outputs(self, logits: Logits) -> Mapping[str, Tensor]:
        """Raw outputs of the last pass, which returned `logits`, as `NeuronRecord` has them."""
        self._add(self.groups[-1], logits.softmax(1))
        outputs, self._outputs = self._outputs, {}
        return outputs

    def record(self, logits: Logits) -> NeuronRecord:
        """The record of the last pass, which returned `logits`."""
        outputs, names = self.outputs(logits), [group.name for group in self.groups]
        # All layers at once: each neuron looks up its layer's extremes.
        layer = _layer_of_neuron(tuple(group.neurons for group in self.groups), logits.device)
        lowest, highest = (torch.stack(rows, 1) for rows in zip(*(self._extremes[n] for n in names), strict=True))
        means = torch.cat([outputs[name].detach() for name in names], 1)
        self._extremes = {}
        return NeuronRecord(outputs, _min_max(means, lowest, highest, layer))


def _min_max(mean: Tensor, lowest: Tensor, highest: Tensor, layer: Tensor) -> Tensor:
    # The mean of scaled values is the scaled mean. A constant layer's mean may be rounded off its only value, so that
    # 0/0 has to be made: it is NaN, which no threshold lies below.
    span = torch.where(highest > lowest, highest - lowest, torch.nan)
    return (mean - lowest.index_select(1, layer)) / span.index_select(1, layer)


@lru_cache(maxsize=16)
def _layer_of_neuron(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """The number of its layer for every neuron, layer by layer."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(device)


def neuron_count(classifier: Classifier) -> int:
    """Number of neurons: 14,888 for VGG-16 with a thousand classes."""
    return sum(group.neurons for group in classifier.neuron_groups)


def neuron_coverage(classifier: Classifier, images: Images, *, threshold: float = THRESHOLD) -> Covered:
    """Neurons that each image covers.

    A neuron is a channel of a convolution, pool or linear layer after its activation, or a softmax unit. Its value
    is the spatial mean of its layer's output, min-max scaled over that whole layer and image; it is covered if the
    value is above `threshold` (DLFuzz, ESEC/FSE 2018).

    Args:
        classifier: The model.
        images: Batch in pixel space.
        threshold: Between 0 and 1.
    """
    return observe(classifier, images)[1].covered(threshold)


def observe(classifier: Classifier, images: Images) -> tuple[Logits, NeuronRecord]:
    """Logits and neurons of a batch, from one forward pass without gradients."""
    observer = NeuronObserver(classifier)
    with torch.no_grad(), hooks.capturing({}, observer.receivers):
        logits = classifier(images)
    return logits, observer.record(logits)
