"""Classifiers as objects, in the protocol of maite 0.10 for image classification; maite itself is not needed.

Such a classifier answers a list of images with a list of arrays, through which no gradient runs. What is studied is
the torch network that it holds, after a check that both answer alike.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from camdrift.errors import FOREIGN, ModelError, one_line
from camdrift.models.classifier import Classifier

# Share of the largest log-probability by which classifier and network may differ: rounding, and images of 8 bits.
_ROUNDING: Final = 0.02
_LEAST_PROBABILITY: Final = 1e-6


@runtime_checkable
class ProtocolModel(Protocol):
    """A classifier of the protocol `maite.protocols.image_classification.Model`."""

    metadata: Any

    def __call__(self, batch: Sequence[Any], /) -> Sequence[Any]:
        """Return probabilities or logits, (classes,), of each image."""
        ...


def is_protocol_model(model: Any) -> TypeGuard[ProtocolModel]:
    """Is it a classifier of the protocol, and no torch module?"""
    has_id = isinstance(getattr(model, "metadata", None), Mapping) and "id" in model.metadata
    return has_id and callable(model) and not isinstance(model, nn.Module | type)


def network_of(model: ProtocolModel) -> nn.Module:
    """Return the torch network that a classifier of the protocol holds as an attribute.

    Raises:
        ModelError: It holds none, or several.
    """
    networks = {name: part for name, part in getattr(model, "__dict__", {}).items() if isinstance(part, nn.Module)}
    if len(networks) != 1:
        raise ModelError(
            f"`model` {model.metadata['id']} must hold one torch network as an attribute, got: "
            f"{', '.join(networks) or 'none'}",
            "camdrift.wrap(NETWORK, mean=..., std=..., size=...) takes the network itself, as a factory may return it",
        )
    return next(iter(networks.values()))


def names_of_classes(model: ProtocolModel) -> Mapping[int, str] | None:
    """Return the names of its classes, if it says them."""
    names: Mapping[int, str] | None = model.metadata.get("index2label")
    return names or None


def check_answers(model: ProtocolModel, classifier: Classifier) -> None:
    """Raise `ModelError` unless a classifier of the protocol answers as the network that it holds.

    It is asked for two images, as floats in [0, 1] and then as bytes, since the protocol leaves open which it takes.
    """
    side = classifier.size
    levels = (37 * torch.arange(2 * 3 * side * side) % 256).to(torch.uint8).view(2, 3, side, side)
    with torch.no_grad(), classifier.numerics():
        logits = classifier((levels / 255).to(classifier.device)).cpu().log_softmax(1)
    ways: tuple[Callable[[Tensor], Any], ...] = (lambda image: (image / 255).numpy(), Tensor.numpy)
    if not any(_is_alike(_answers(model, [way(image) for image in levels]), logits) for way in ways):
        raise ModelError(
            f"`model` {model.metadata['id']} must answer as its network does on pixels in [0, 1], got: other numbers",
            "wrap(..., mean=..., std=..., size=...), or MEAN, STD, SIZE beside a factory, say what it does to pixels",
        )


def _answers(model: ProtocolModel, images: list[Any]) -> Tensor:
    """Return the logarithms of its probabilities."""
    try:
        rows = [answer.detach().cpu() if isinstance(answer, Tensor) else answer for answer in model(images)]
        answers = torch.as_tensor(np.stack([np.asarray(row, dtype=np.float32) for row in rows]))
    except FOREIGN as error:
        raise ModelError(f"`model` {model.metadata['id']} failed on two images: {one_line(error)}") from error
    if (answers >= 0).all() and torch.allclose(answers.sum(-1), torch.ones(len(answers)), atol=1e-3):
        answers = answers.clamp_min(1e-30).log()
    return answers.log_softmax(-1)


def _is_alike(answers: Tensor, logits: Tensor) -> bool:
    """Are these the same logarithms of probabilities, but for rounding?"""
    if answers.shape != logits.shape:
        return False
    floor = float(np.log(_LEAST_PROBABILITY))
    ours, theirs = logits.clamp_min(floor), answers.clamp_min(floor)
    return bool((ours - theirs).abs().max() <= _ROUNDING * ours.abs().max())
