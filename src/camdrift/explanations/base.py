"""The contract of an explainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from camdrift.models.classifier import Classifier
from camdrift.tensors import Activations, Classes, Images, Maps


@dataclass(frozen=True)
class Explainer:
    """One way to explain a layer; exactly one of the three functions is given.

    A map has shape (batch, h, w), is at least 0 and raw; `activation` alone yields a representation
    (batch, channels, h, w). All are float32.

    Attributes:
        spec: What it was made from, complete: parsing it again gives the same explanation.
        of_gradient: What some channels of a layer add to its map before ReLU, from their activation A and the gradient
            of the class's logit with respect to A. All such explanations share one forward and one backward pass.
        of_activation: Attribution from the activation alone: the same for every target.
        of_passes: Maps of some layers from passes of its own: (classifier, images, classes, layers).
    """

    spec: str
    of_gradient: Callable[[Activations, Activations], Maps] | None = None
    of_activation: Callable[[Activations], Tensor] | None = None
    of_passes: Callable[[Classifier, Images, Classes, Sequence[str]], dict[str, Maps]] | None = None
