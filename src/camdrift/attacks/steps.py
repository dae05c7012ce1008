"""Attacks along the sign of the gradient, many images at once: FGSM, PGD and MI-FGSM as foolbox 3.3 defines them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from camdrift.attacks.library import PixelModel
from camdrift.tensors import PIXELS, Classes, Images


@dataclass(frozen=True)
class SignedSteps:
    """Steps along the sign of the gradient of the cross-entropy, within a bound on the largest change of a pixel.

    FGSM is one step as long as the bound (Goodfellow 2015), PGD are many from a random start (Madry 2018). With
    `momentum` the signs of former steps count, too: foolbox's MI-FGSM, which adds up signs where Dong 2018 adds
    gradients over their L1 norm.

    Attributes:
        epsilon: The bound, in pixel units.
        step: Length of a step, in pixel units.
        steps: Number of steps.
        momentum: Factor on what the former steps have added up; 0 for none.
        is_random: Does an image start anywhere within the bound?
    """

    epsilon: float
    step: float
    steps: int
    momentum: float
    is_random: bool

    def __call__(self, model: PixelModel, images: Images, classes: Classes, targets: Classes | None) -> Images:
        """Images away from their classes, or towards their targets."""
        goal, sign = (classes, 1.0) if targets is None else (targets, -1.0)
        answers = (images + self._start(model, images)).clamp(*PIXELS) if self.is_random else images
        total = torch.zeros_like(images)
        for _ in range(self.steps):
            total = self.momentum * total + _gradient(model, answers, goal).sign()
            answers = answers + sign * (self.step * total.sign())
            answers = self._within(images, answers).clamp(*PIXELS)
        return self._within(images, answers)

    def _within(self, images: Images, answers: Images) -> Images:
        return images + (answers - images).clamp(-self.epsilon, self.epsilon)

    def _start(self, model: PixelModel, images: Images) -> Tensor:
        return uniform_draws(model.streams, images) * (2 * self.epsilon) - self.epsilon


def uniform_draws(streams: Sequence[int], images: Images) -> Tensor:
    """Numbers in [0, 1), for each image from its own stream: drawn where all devices draw the same."""
    draws = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in streams]
    return torch.stack(draws).to(images.device)


def _gradient(model: PixelModel, images: Images, classes: Classes) -> Images:
    """The gradient of every image's cross-entropy."""
    images = images.clone().requires_grad_()
    loss = F.cross_entropy(model(images), classes, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient
