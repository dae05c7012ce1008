"""The contract of a coverage criterion: what it gets of a batch, what state it keeps, what it tells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.neurons import NeuronObserver
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.models.replicas import on_replicas
from camdrift.tables.arrays import Flags, Floats
from camdrift.tensors import Images

# Images of every pass.
_ON_PROCESSOR: Final = 4
_ELSEWHERE: Final = 16
# Arrays of a state by name: all that a checkpoint keeps of it.
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class NeuronBatch:
    """Outputs of all neurons on a batch of images, from one forward pass, in float32.

    Attributes:
        scaled: Min-max scaled over the whole layer and image (batch, neurons); NaN where a layer is constant. None
            where the pass was made for criteria that do not read it.
        raw: Spatial means as the network makes them (batch, neurons), the softmax units last.
        logits: Logits (batch, classes).
    """

    scaled: Float[Tensor, "batch neurons"] | None
    raw: Float[Tensor, "batch neurons"]
    logits: Float[Tensor, "batch classes"]

    def __len__(self) -> int:
        return len(self.raw)

    def first(self, count: int) -> "NeuronBatch":
        """The first images of the batch."""
        values = None if self.scaled is None else self.scaled[:count]
        return NeuronBatch(values, self.raw[:count], self.logits[:count])

    def above(self, threshold: float) -> Bool[Tensor, "batch neurons"]:
        """Neurons whose scaled output lies above a threshold.

        Raises:
            ValueError: Nothing was scaled.
        """
        if self.scaled is None:
            raise ValueError("outputs must be scaled to be compared with a threshold, got: raw ones alone")
        return self.scaled > threshold


def joined(parts: Sequence[NeuronBatch]) -> NeuronBatch:
    """One batch of several."""
    values = [part.scaled for part in parts if part.scaled is not None]
    raw, logits = torch.cat([part.raw for part in parts]), torch.cat([part.logits for part in parts])
    return NeuronBatch(torch.cat(values) if values else None, raw, logits)


def observe_batch(classifier: Classifier, images: Images, size: int = 0, *, is_scaled: bool = True) -> NeuronBatch:
    """All neurons on a batch, from one forward pass of each image without gradients.

    The pass is in float32 even where the classifier computes in a lower precision: that would move values across the
    borders of sections. Only a network whose weights are of a lower type computes in that.

    Libraries of kernels round otherwise for another number of images per pass, so that an image of the profile would
    leave its bounds. Therefore each pass has the same number; a last one is filled up.

    Args:
        classifier: The model.
        images: Batch in pixel space; it may be empty.
        size: Images of every pass; 0 for a number that suits the device.
        is_scaled: Are outputs scaled, too? That takes 6 % of a pass of EfficientNet-Lite0.
    """
    full, count = full_precision(classifier), size or pass_size(classifier)
    look = lambda replica, part: _pass(replica, part, count, is_scaled=is_scaled)  # noqa: E731
    with full.numerics(), on_replicas(full, look, images.split(count)) as results:
        return joined([*results])


def full_precision(classifier: Classifier) -> Classifier:
    """The classifier, or a copy of it that computes in float32."""
    return classifier if classifier.precision == "fp32" else classifier.at_precision("fp32")


def pass_size(classifier: Classifier) -> int:
    """Images of every pass: few on a processor, where that is as fast as any."""
    return _ON_PROCESSOR if classifier.device.type == "cpu" else _ELSEWHERE


def filled(images: Images, size: int) -> Tensor:
    """Images with black ones behind them, `size` in all."""
    missing = size - len(images)
    return torch.cat([images, images.new_zeros((missing, *images.shape[1:]))]) if missing else images


def _pass(classifier: Classifier, images: Images, size: int, *, is_scaled: bool) -> NeuronBatch:
    """Some images in a pass of exactly `size`."""
    observer = NeuronObserver(classifier, is_scaled=is_scaled)
    with torch.no_grad(), hooks.capturing({}, observer.receivers):
        logits = classifier(filled(images, size))
    if is_scaled:
        record = observer.record(logits)
        outputs, values = record.outputs, record.values.float()
    else:
        outputs, values = observer.outputs(logits), None
    raw = torch.cat([outputs[group.name] for group in classifier.neuron_groups], 1)
    return NeuronBatch(values, raw.float(), logits.float()).first(len(images))


@dataclass(frozen=True)
class NeuronLayout:
    """Which neurons belong to which layer.

    Attributes:
        layers: Names, in execution order; the softmax units are the last layer.
        sizes: Number of neurons of each.
    """

    layers: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of neurons."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The columns of each layer."""
        ends = np.cumsum(self.sizes).tolist()
        return {name: slice(end - size, end) for name, size, end in zip(self.layers, self.sizes, ends, strict=True)}


def neuron_layout(classifier: Classifier) -> NeuronLayout:
    """The neurons of a model, layer by layer."""
    groups = classifier.neuron_groups
    return NeuronLayout(tuple(group.name for group in groups), tuple(group.neurons for group in groups))


@dataclass(frozen=True)
class CoverageReading:
    """What a criterion says of all images that entered.

    Attributes:
        value: Its value; None where it has none.
        covered: What is covered; None where it counts nothing.
        total: What could be covered at most; None where it counts nothing, or where there is no most.
        undefined_reason: Why there is no value, or none of some images; else None.
    """

    value: float | None
    covered: int | None = None
    total: int | None = None
    undefined_reason: str | None = None


class CoverageState(Protocol):
    """What a criterion keeps of the images so far."""

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """Gain of every image, in order: what it adds to the state and to the images before it that entered.

        An image enters when it is admitted and its gain is above 0. How images are cut into batches changes nothing.
        """

    def reading(self) -> CoverageReading:
        """The criterion's value now."""

    def by_layer(self) -> Mapping[str, CoverageReading]:
        """The criterion's value now, layer by layer; empty where it is none of layers."""

    def arrays(self) -> Arrays:
        """All of the state, for a checkpoint."""

    def restore(self, arrays: Arrays) -> None:
        """Take over the state that `arrays` gave."""

    def merge(self, other: Any) -> None:
        """Add what another state of the same criterion has, as if its images had entered here.

        Raises:
            TypeError: The criterion depends on the order of images.
        """


@dataclass(frozen=True)
class Criterion:
    """A coverage criterion of one model.

    Attributes:
        name: Its spec, normalised: `kmnc(k=1000)`.
        start: Makes an empty state.
        needs_profile: Does it measure against a profile?
        is_order_free: Does the order of images change nothing, so that states of shards merge?
        is_guide: Does it give every image a gain, so that a fuzzer can follow it? Otherwise gains are NaN, and every
            image that is admitted enters.
        is_of_scaled: Does it read scaled outputs?
    """

    name: str
    start: Callable[[], CoverageState]
    needs_profile: bool = False
    is_order_free: bool = True
    is_guide: bool = True
    is_of_scaled: bool = False
