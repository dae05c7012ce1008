"""Training of heads on features that a frozen network has made: seconds on a processor, the same every time."""

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from camdrift.models.head_specs import HeadSpec
from camdrift.models.heads import new_layer

_Features = Float[Tensor, "images features"]
_Places = Int[Tensor, " images"]

_FOLDS: Final = 5
_STEPS: Final = 600
_RATE: Final = 0.01
_BATCH: Final = 1024


def train_layer(
    spec: HeadSpec, features: _Features, classes: _Places, n_classes: int, *, rng_seed: int = 0
) -> nn.Module:
    """Return a layer trained by 600 steps of Adam on the cross-entropy of its logits.

    _Features are divided by the root of their mean square while it trains, and its first weights by the same
    afterwards, so that one rate of learning suits all networks.

    Args:
        spec: Kind and scale.
        features: What the last linear layer is given.
        classes: Class of each image, below `n_classes`.
        n_classes: Number of classes, two or more.
        rng_seed: Seed of first weights and batches.
    """
    generator = torch.Generator().manual_seed(rng_seed)
    layer = new_layer(spec, features.shape[1], n_classes, generator)
    unit = features.square().mean().sqrt().clamp_min(torch.finfo(features.dtype).tiny)
    inputs, size = features / unit, min(_BATCH, len(features))
    optimiser = torch.optim.Adam(layer.parameters(), lr=_RATE)
    order = torch.arange(len(features))
    with torch.enable_grad():
        for step in range(_STEPS):
            if size < len(features):
                if (step * size) % len(features) < size:
                    order = torch.rand(len(features), generator=generator).argsort()
                order = order.roll(-size)
            batch = order[:size]
            optimiser.zero_grad()
            F.cross_entropy(layer(inputs[batch]), classes[batch]).backward()
            optimiser.step()
    first = next(part for part in layer.modules() if getattr(part, "weight", None) is not None)
    with torch.no_grad():
        if isinstance(first, nn.Linear):
            first.weight /= unit
    return layer.requires_grad_(False).eval()


def folds_of(classes: _Places, *, rng_seed: int = 0) -> _Places:
    """Return the fold of every image, from 0: the images of each class are spread over five, or as many as there are.

    Args:
        classes: Class of each image.
        rng_seed: Seed of the order within a class.
    """
    generator = torch.Generator().manual_seed(rng_seed)
    order = torch.cat([_shuffled(classes, index, generator) for index in classes.unique().tolist()])
    folds = torch.empty_like(classes)
    folds[order] = torch.arange(len(order)) % min(_FOLDS, len(order))
    return folds


def _shuffled(classes: _Places, index: int, generator: torch.Generator) -> Int[Tensor, " members"]:
    places = (classes == index).nonzero()[:, 0]
    return places[torch.rand(len(places), generator=generator).argsort()]


def cross_validated(
    train: Callable[[_Features, _Places], nn.Module], features: _Features, classes: _Places, folds: _Places
) -> Float[Tensor, "images classes"]:
    """Return the probabilities of every image by a layer that was trained without its fold.

    Args:
        train: Trains a layer on features and classes.
        features: What the last linear layer is given.
        classes: Class of each image.
        folds: Fold of each image.
    """
    parts = []
    for fold in folds.unique().tolist():
        is_left_out = folds == fold
        parts.append(train(features[~is_left_out], classes[~is_left_out])(features[is_left_out]).softmax(1))
    order = torch.cat([(folds == fold).nonzero()[:, 0] for fold in folds.unique().tolist()])
    return torch.cat(parts)[order.argsort()]
