"""Ablation-CAM: a channel counts by what the class's logit loses without it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from camdrift.layers import hooks
from camdrift.layers.taps import AnyTap
from camdrift.models.classifier import Classifier
from camdrift.tensors import Classes, Images, Maps


def ablation_cam(classifier: Classifier, images: Images, classes: Classes, layers: Sequence[str]) -> dict[str, Maps]:
    """Ablation-CAM (Ramaswamy 2020): ReLU(sum_k w_k A_k) with w_k = (y - y_k) / |y|, y_k the logit without channel k.

    The publication divides by y itself, which turns the map around where the logit is negative; the sign of what a
    channel adds does not depend on where zero lies. Where y is 0 the weights are y - y_k.

    Every channel of every layer costs a forward pass: name the layers that you want.

    Args:
        classifier: The model.
        images: Batch in pixel space.
        classes: Classes to explain, one per image.
        layers: Layer names.

    Returns:
        For each layer a map, shape (batch, h, w).
    """
    taps = classifier.taps(layers)
    with torch.no_grad(), hooks.capturing(taps) as capture:
        score = classifier(images).gather(1, classes[:, None])
    grids = {name: capture.grid(name).float() for name in layers}
    maps = {}
    for name in layers:
        channels = grids[name].shape[1]
        logits = [_without(classifier, images, classes, taps[name], channel) for channel in range(channels)]
        loss = score - torch.cat(logits, dim=1)
        weights = loss / torch.where(score == 0, 1.0, score.abs())
        maps[name] = torch.einsum("bk,bkhw->bhw", weights, grids[name]).relu()
    return maps


def _without(classifier: Classifier, images: Images, classes: Classes, tap: AnyTap, channel: int) -> Tensor:
    """The logits of `classes` with one channel of a layer set to zero, shape (batch, 1)."""

    def silence(activation: Tensor) -> Tensor:
        copy = activation.clone()
        copy.select(1, channel).zero_()
        return copy

    with torch.no_grad(), hooks.replacing(tap, silence):
        return classifier(images).gather(1, classes[:, None])
