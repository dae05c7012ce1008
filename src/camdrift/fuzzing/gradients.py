"""Objectives of the fuzzers that walk uphill, and one step along their gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from camdrift.coverage.criteria import NeuronBatch
from camdrift.coverage.neurons import NeuronObserver, NeuronRecord
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tensors import Images, Logits

# Gets one model's logits and neurons; returns one value per image.
Objective = Callable[[Logits, NeuronRecord], Tensor]


def joint_objective(
    scores: Sequence[Tensor], neurons: Sequence[Tensor], classes: Tensor, *, w_diff: float, w_nc: float
) -> Tensor:
    """Return DeepXplore's objective (Pei et al., SOSP 2017): others keep the class, the first loses it.

    sum_{m > 0} F_m(x)[c] - w_diff F_0(x)[c] + w_nc sum_m n_m(x), one value per image.

    Args:
        scores: F_m, class scores of every model, (batch, classes); the first model's are to change.
        neurons: n_m, output of one neuron of every model, (batch,).
        classes: c, the class of each image.
        w_diff: Weight of the model that is to change its mind.
        w_nc: Weight of the neurons.
    """
    own, *others = (each.gather(1, classes[:, None])[:, 0] for each in scores)
    return torch.stack(others).sum(0) - w_diff * own + w_nc * torch.stack(list(neurons)).sum(0)


def differentiate(classifier: Classifier, images: Images, objective: Objective) -> tuple[NeuronBatch, Tensor]:
    """Return what a classifier does on some images, and the gradient of an objective at them.

    Args:
        classifier: The classifier.
        images: Images in pixel space.
        objective: Of its logits and neurons.
    """
    points = images.detach().clone().requires_grad_()
    observer = NeuronObserver(classifier)
    with torch.enable_grad(), hooks.capturing({}, observer.receivers):
        logits = classifier(points)
        record = observer.record(logits)
        value = objective(logits, record).sum()
    gradient = torch.zeros_like(points)
    if value.requires_grad:
        gradient = torch.autograd.grad(value, points, materialize_grads=True)[0]
    return neuron_batch(classifier, logits.detach(), record), gradient


def neuron_batch(classifier: Classifier, logits: Logits, record: NeuronRecord) -> NeuronBatch:
    """Return what a criterion gets of a pass that was made with gradients."""
    raw = torch.cat([record.outputs[group.name].detach() for group in classifier.neuron_groups], 1)
    return NeuronBatch(record.values.float(), raw.float(), logits)
