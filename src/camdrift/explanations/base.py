"""The contract of an explainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from camdrift.models.classifier import Classifier
from camdrift.tensors import Activations, Classes, Images, Maps


@dataclass(frozen=True)
class Explainer:
    """One way to explain a layer: a spec and exactly one of the three functions.

    A map has the shape (batch, h, w), is at least 0 and raw. Only `activation` yields a representation, of shape
    (batch, channels, h, w). All are float32.

    Attributes:
        spec: Complete spec of the explanation: parsing it again gives the same explanation.
        of_gradient: From the activation A of some channels and the gradient of the class's logit with respect to A,
            computes what these channels add to the map before ReLU. All such explanations share one forward and one
            backward pass.
        of_activation: Computes the attribution from the activation alone, the same for every target.
        of_passes: Computes maps of some layers by passes of its own: (classifier, images, classes, layers).
    """

    spec: str
    of_gradient: Callable[[Activations, Activations], Maps] | None = None
    of_activation: Callable[[Activations], Tensor] | None = None
    of_passes: Callable[[Classifier, Images, Classes, Sequence[str]], dict[str, Maps]] | None = None
