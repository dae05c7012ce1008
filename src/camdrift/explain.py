"""Grad-CAM at every layer from one forward and one backward pass: raw maps, never normalised."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from camdrift import hooks
from camdrift.coverage import NeuronObserver
from camdrift.errors import UserError
from camdrift.models import Classifier
from camdrift.tensors import Activations, Classes, Explanation, Images, Maps


def attribute(
    classifier: Classifier,
    images: Images,
    target: Literal["own"] | int | Sequence[int] | Tensor = "own",
    *,
    layers: Sequence[str] | None = None,
) -> dict[str, Maps]:
    """Raw Grad-CAM maps of every layer, from one forward and one backward pass.

    Eq. 4, Renkhoff 2022 as Grad-CAM (Selvaraju 2017) states it: M_l = ReLU(sum_k alpha_k A_l,k) with alpha_k the
    spatial mean of d y / d A_l,k and y the logit of the target class.

    Args:
        classifier: The model.
        images: Batch in pixel space.
        target: Class to explain: `own` (each image's prediction), one class for all, or one per image.
        layers: Layer names; all by default.

    Returns:
        For each layer, in execution order, a map at the layer's resolution, shape (batch, h, w), at least 0.

    Raises:
        UserError: A class the model does not have, a count of targets that is not the batch's, an unknown layer.
    """
    if isinstance(target, str) and target != "own":
        raise UserError(f"`target` must be `own`, a class or one class per image, got: {target}")
    wanted = None if isinstance(target, str) else _as_classes(classifier, images, target)
    place = {info.name: number for number, info in enumerate(classifier.layer_infos)}
    names = None if layers is None else sorted(layers, key=lambda name: place.get(name, -1))
    with classifier.numerics():
        return explain(classifier, images, [wanted], layers=names).maps[0]


def explain(
    classifier: Classifier,
    images: Images,
    targets: Sequence[Classes | None],
    *,
    layers: Sequence[str] | None = None,
    observer: NeuronObserver | None = None,
    scores: Literal["logit", "probability"] = "logit",
) -> Explanation:
    """Logits and raw maps of one batch: one forward pass, and one backward pass per different set of targets.

    Args:
        classifier: The model.
        images: Batch in pixel space.
        targets: Sets of classes to explain, one class per image each; None for each image's own prediction.
        layers: Layer names; all by default.
        observer: Collects neuron outputs from the same forward pass.
        scores: What y is: the class's logit, or its softmax probability, whose map also holds the other classes'
            gradients and vanishes where the probability rounds to 1 (a defect of the released code, see `defects`).
    """
    names = classifier.select_layers() if layers is None else layers
    receivers = {} if observer is None else observer.receivers
    with torch.enable_grad(), hooks.capturing(classifier.taps(names), receivers) as capture:
        logits = classifier(images.detach())
    own = logits.detach().argmax(1)
    wanted = [own if target is None else target for target in targets]
    unique = list({tuple(classes.tolist()): classes for classes in wanted}.items())
    maps: dict[tuple[int, ...], dict[str, Maps]] = {}
    for position, (key, classes) in enumerate(unique):
        with torch.enable_grad():
            explained = logits if scores == "logit" else logits.softmax(1)
            score = explained.gather(1, classes[:, None]).sum()
        is_last = position == len(unique) - 1
        reduced = hooks.reduce_gradients(score, capture, grad_cam, retain_graph=not is_last)
        maps[key] = {name: reduced.get(name, _zero_map(capture.activations[name])) for name in names}
    return Explanation(logits.detach(), tuple(maps[tuple(classes.tolist())] for classes in wanted))


def grad_cam(activation: Activations, gradient: Activations) -> Maps:
    """Eq. 4: ReLU(sum_k alpha_k A_k) with alpha_k the spatial mean of the gradient; float32, shape (batch, h, w)."""
    alpha = gradient.float().mean((2, 3))
    batch, channels, height, width = activation.shape
    weighted = torch.bmm(alpha[:, None], activation.float().reshape(batch, channels, height * width))
    return weighted.view(batch, height, width).relu()


def _zero_map(activation: Tensor) -> Maps:
    """The map of a layer that these logits do not depend on: every alpha_k is 0."""
    batch, _, height, width = activation.shape
    return torch.zeros((batch, height, width), device=activation.device)


def _as_classes(classifier: Classifier, images: Images, target: int | Sequence[int] | Tensor) -> Classes:
    classes = torch.as_tensor(target, device=images.device)
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise UserError(f"`target` must be class indexes, got: {classes.dtype}")
    if classes.ndim == 0:
        classes = classes.expand(len(images))
    if classes.shape != (len(images),):
        raise UserError(f"`target` must have one class per image ({len(images)}), got: shape {tuple(classes.shape)}")
    if len(images) and not (int(classes.min()) >= 0 and int(classes.max()) < classifier.classes):
        raise UserError(f"`target` must lie in 0..{classifier.classes - 1}, got: {classes.tolist()}")
    return classes.long()
