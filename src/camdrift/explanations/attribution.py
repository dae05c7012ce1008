"""Attributions at every layer, raw, never normalised: all that are made of gradients from one pass."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from camdrift.coverage.neurons import NeuronObserver
from camdrift.errors import UserError
from camdrift.explanations.base import Explainer
from camdrift.explanations.gradient import maps_of_gradients
from camdrift.explanations.registry import make_explainer
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tables.measures import ExplanationName
from camdrift.tables.words import DEFAULT_EXPLANATIONS
from camdrift.tensors import PIXELS, Classes, Explanation, Images, Logits

GRADCAM: Final = tuple(make_explainer(name) for name in DEFAULT_EXPLANATIONS)

# Pixels may leave [0, 1] by so much before they are taken for bytes, or for normalised already.
_OUTSIDE: Final = 0.5

# By layer, and by explanation and layer.
OfLayers = dict[str, Tensor]
OfTarget = dict[str, OfLayers]


def attribute(
    classifier: Classifier,
    images: Any,
    target: Literal["own"] | int | Sequence[int] | Tensor = "own",
    *,
    layers: Sequence[str] | None = None,
    explanation: ExplanationName | str = "gradcam",
) -> dict[str, Tensor]:
    """Raw maps of every layer, by default Grad-CAM: one forward and one backward pass.

    Eq. 4, Renkhoff 2022 as Grad-CAM (Selvaraju 2017) states it: M_l = ReLU(sum_k alpha_k A_l,k) with alpha_k the
    spatial mean of d y / d A_l,k and y the logit of the target class.

    Args:
        classifier: The model.
        images: Batch in pixel space, (batch, 3, height, width) in [0, 1], of torch or NumPy; bytes are divided by 255.
        target: Class to explain: `own` (each image's prediction), one class for all, or one per image.
        layers: Layer names; all by default.
        explanation: One of `tables.measures.EXPLANATIONS`, such as `hirescam`, or `captum:CLASS` with settings if
            wanted; docs/explanations.md lists them.

    Returns:
        For each layer, in execution order, a map at the layer's resolution, shape (batch, h, w), at least 0;
        `activation` gives representations, shape (batch, channels, h, w).

    Raises:
        UserError: Images that are no pixels in [0, 1], a class the model does not have, a count of targets that is not
            the batch's, an unknown layer or explanation.
    """
    if isinstance(target, str) and target != "own":
        raise UserError(f"`target` must be `own`, a class or one class per image, got: {target}")
    if isinstance(layers, str):
        raise UserError(f"`layers` must be a list of names, got: {layers}", f"layers=[{layers!r}]")
    place = {info.name: number for number, info in enumerate(classifier.layer_infos)}
    names = None if layers is None else sorted(layers, key=lambda name: place.get(name, -1))
    with classifier.numerics():
        images = _as_images(classifier, images)
        classes = None if isinstance(target, str) else _as_classes(classifier, images, target)
        return explain_batch(
            classifier, images, [classes], layers=names, explainers=[make_explainer(explanation)]
        ).maps[0]


def explain_batch(
    classifier: Classifier,
    images: Images,
    targets: Sequence[Classes | None],
    *,
    layers: Sequence[str] | None = None,
    explainers: Sequence[Explainer] = GRADCAM,
    observer: NeuronObserver | None = None,
    scores: Literal["logit", "probability"] = "logit",
) -> Explanation:
    """Logits and raw attributions of one batch, from one forward pass and one backward pass per different target.

    Args:
        classifier: The model.
        images: Batch in pixel space.
        targets: Sets of classes to explain, one class per image each; None for each image's own prediction.
        layers: Layer names; all by default.
        explainers: The explanations; all that are made of gradients share the backward pass.
        observer: Collects neuron outputs from the same forward pass.
        scores: The score y: the class's logit, or its softmax probability, whose map also holds the other classes'
            gradients and vanishes where the probability rounds to 1 (a defect of the released code, see
            `paper.defects`).
    """
    names = classifier.select_layers() if layers is None else layers
    receivers = {} if observer is None else observer.receivers
    # The backward pass, too, must see the module as the forward pass did.
    with classifier.undisturbed():
        with torch.enable_grad(), hooks.capturing(classifier.taps(names), receivers) as capture:
            logits = classifier(images.detach())
        own = logits.detach().argmax(1)
        classes_of = [own if target is None else target for target in targets]
        # Read from the device only where two sets of classes may be the same.
        keys = [*map(tuple, torch.stack(classes_of).tolist())] if len(classes_of) > 1 else [()]
        different = dict(zip(keys, classes_of, strict=True))
        from_activations = {
            e.spec: {n: e.of_activation(capture.grid(n)) for n in names} for e in explainers if e.of_activation
        }
        attributions: dict[tuple[int, ...], OfTarget] = {}
        for position, (key, classes) in enumerate(different.items()):
            is_last = position == len(different) - 1
            score = _score(logits, classes, scores)
            by_spec = {**from_activations, **_of_gradients(score, capture, names, explainers, retain_graph=not is_last)}
            by_spec |= {e.spec: e.of_passes(classifier, images, classes, names) for e in explainers if e.of_passes}
            attributions[key] = {explainer.spec: by_spec[explainer.spec] for explainer in explainers}
    return Explanation(logits.detach(), tuple(attributions[key] for key in keys), tuple(map(keys.index, keys)))


def _score(logits: Logits, classes: Classes, scores: str) -> Tensor:
    """Sum over the images of the score of each one's class: the gradient of an image is the one it would have alone."""
    with torch.enable_grad():
        values = logits if scores == "logit" else logits.softmax(1)
        return values.gather(1, classes[:, None]).sum()


def _of_gradients(
    score: Tensor, capture: hooks.Capture, names: Sequence[str], explainers: Sequence[Explainer], *, retain_graph: bool
) -> Mapping[str, OfLayers]:
    """The maps of all explainers that are made of gradients, from one backward pass."""
    functions = {explainer.spec: explainer.of_gradient for explainer in explainers if explainer.of_gradient}
    if not functions:
        return {}
    reduce = partial(maps_of_gradients, functions)
    maps = hooks.reduce_gradients(score, capture, reduce, retain_graph=retain_graph)
    return {spec: {n: maps[n][spec] if n in maps else _zero_map(capture, n) for n in names} for spec in functions}


def _zero_map(capture: hooks.Capture, name: str) -> Tensor:
    """The map of a layer that these logits do not depend on: every gradient is 0."""
    return torch.zeros_like(capture.grid(name)[:, 0], dtype=torch.float32)


def _as_images(classifier: Classifier, images: Any) -> Images:
    """The images as float32 pixels in [0, 1] where the classifier computes, checked."""
    pixels = torch.as_tensor(images) if isinstance(images, np.ndarray) else images
    if not isinstance(pixels, Tensor):
        raise UserError(
            f"`images` must be a tensor or an array, got: {type(images).__name__}",
            "camdrift.images.pixels.read_image(path, size=classifier.size).pixels[None] reads a file",
        )
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        is_last = pixels.ndim == 4 and pixels.shape[-1] == 3
        cure = "channels come second: images.permute(0, 3, 1, 2), or np.moveaxis(images, 3, 1)" if is_last else ""
        cure = "a batch of one: images[None]" if pixels.ndim == 3 and pixels.shape[0] == 3 else cure
        raise UserError(f"`images` must have shape (batch, 3, height, width), got: {tuple(pixels.shape)}", cure)
    if pixels.dtype == torch.uint8:
        return pixels.to(classifier.device).float() / 255
    if not pixels.is_floating_point():
        raise UserError(
            f"`images` must be floats in [0, 1] or bytes (uint8), got: {pixels.dtype}", "images.float() / 255"
        )
    lowest, highest = (float(value) for value in pixels.detach().aminmax()) if pixels.numel() else (0.0, 1.0)
    if not (lowest >= PIXELS.lower - _OUTSIDE and highest <= PIXELS.upper + _OUTSIDE):  # nor NaN
        cure = (
            ""
            if not isfinite(highest)
            else "divide them by 255"
            if highest > 10
            else "the classifier normalises itself: leave mean and std to it"
        )
        raise UserError(f"`images` must be pixels in [0, 1], got: values from {lowest:.3g} to {highest:.3g}", cure)
    return pixels.to(classifier.device).float()


def _as_classes(classifier: Classifier, images: Images, target: Any) -> Classes:
    """The classes to explain, one per image, checked."""
    try:
        classes = torch.as_tensor(target, device=images.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"`target` must be `own`, a class or one class per image, got: {target!r}") from error
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise UserError(f"`target` must be class indexes, got: {classes.dtype}")
    if classes.ndim == 0:
        classes = classes.expand(len(images))
    if classes.shape != (len(images),):
        raise UserError(f"`target` must have one class per image ({len(images)}), got: shape {tuple(classes.shape)}")
    if len(images) and not (int(classes.min()) >= 0 and int(classes.max()) < classifier.classes):
        raise UserError(f"`target` must lie in 0..{classifier.classes - 1}, got: {classes.tolist()}")
    return classes.long().clone()  # a normal tensor, wherever it was made
