"""APGD on the cross-entropy, many images at once, as AutoAttack's authors wrote it and torchattacks 3.5 has it."""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from camdrift.attacks.library import PixelModel
from camdrift.attacks.steps import uniform_draws
from camdrift.tensors import PIXELS, Classes, Images, Values

# torchattacks takes no larger seeds.
_SEEDS: Final = 2**31
# Share of the new step; the rest is the step before it.
_MOMENTUM: Final = 0.75
# Steps until the first check of the step size, the least between two checks, and how many fewer each time: of all.
_FIRST, _LEAST, _FEWER = 0.22, 0.06, 0.03


@dataclass(frozen=True)
class AutoPGD:
    """Steps along the sign of the gradient that halve where they bring little (Croce and Hein 2020, Algorithm 1).

    Attributes:
        epsilon: The bound on the largest change of a pixel, in pixel units.
        steps: Number of steps.
        rho: Share of the steps that must raise the loss.
    """

    epsilon: float
    steps: int
    rho: float

    def __call__(self, model: PixelModel, images: Images, classes: Classes, targets: Classes | None) -> Images:
        """The last of each image's points that fools the model; the image itself where none does."""
        walk = _Walk(model, images, classes, self._start(model, images))
        step = 2 * self.epsilon * torch.ones_like(images[:, :1, :1, :1])
        losses = torch.zeros((self.steps, len(images)), device=images.device)
        before, last_best = walk.point, walk.best_loss
        is_halved = torch.ones_like(walk.best_loss, dtype=torch.bool)
        wait, count = max(int(_FIRST * self.steps), 1), 0
        for number in range(self.steps):
            point = self._moved(images, walk, step, walk.point - before, _MOMENTUM if number else 1.0)
            before = walk.point
            losses[number] = walk.move(point)
            count += 1
            if count < wait:
                continue
            rises = sum((losses[number - back] > losses[number - back - 1]).long() for back in range(wait))
            is_stuck = ~is_halved & (last_best >= walk.best_loss)
            is_halved, last_best = (rises <= wait * self.rho) | is_stuck, walk.best_loss
            step = torch.where(is_halved.view(-1, 1, 1, 1), step / 2, step)
            walk.go_back(is_halved)
            wait, count = max(wait - max(int(_FEWER * self.steps), 1), max(int(_LEAST * self.steps), 1)), 0
        return torch.where(walk.is_fooled.view(-1, 1, 1, 1), walk.fooling, images)

    def _start(self, model: PixelModel, images: Images) -> Images:
        """Uniform, scaled until the largest change is the bound."""
        draws = 2 * uniform_draws([seed % _SEEDS for seed in model.streams], images) - 1
        return (images + self.epsilon * draws / draws.abs().amax((1, 2, 3), keepdim=True)).clamp(*PIXELS)

    def _moved(self, images: Images, walk: "_Walk", step: Tensor, last: Images, share: float) -> Images:
        new = self._within(images, walk.point + step * walk.gradient.sign())
        return self._within(images, walk.point + (new - walk.point) * share + last * (1 - share))

    def _within(self, images: Images, points: Images) -> Images:
        return points.maximum(images - self.epsilon).minimum(images + self.epsilon).clamp(*PIXELS)


class _Walk:
    """Where the images are, and the best places that they have been at."""

    def __init__(self, model: PixelModel, images: Images, classes: Classes, start: Images) -> None:
        self._model, self._classes = model, classes
        self.is_fooled = torch.zeros_like(classes, dtype=torch.bool)
        self.point = self.best = self.fooling = start
        self.gradient: Images = torch.zeros_like(start)
        self.best_loss = self._look()
        self.best_gradient = self.gradient

    def move(self, point: Images) -> Values:
        """Go there; return the loss of every image."""
        self.point = point
        loss = self._look()
        is_better = loss > self.best_loss
        rows = is_better.view(-1, 1, 1, 1)
        self.best, self.best_gradient = (
            torch.where(rows, new, old) for new, old in ((point, self.best), (self.gradient, self.best_gradient))
        )
        self.best_loss = torch.where(is_better, loss, self.best_loss)
        return loss

    def go_back(self, which: Tensor) -> None:
        """Put some images where their loss was largest."""
        rows = which.view(-1, 1, 1, 1)
        self.point = torch.where(rows, self.best, self.point)
        self.gradient = torch.where(rows, self.best_gradient, self.gradient)

    def _look(self) -> Values:
        inputs = self.point.clone().requires_grad_()
        logits = self._model(inputs)
        losses = F.cross_entropy(logits, self._classes, reduction="none")
        (self.gradient,) = torch.autograd.grad(losses.sum(), inputs)
        is_fooling = logits.detach().argmax(1) != self._classes
        self.fooling = torch.where(is_fooling.view(-1, 1, 1, 1), self.point, self.fooling)
        self.is_fooled = self.is_fooled | is_fooling
        return losses.detach()
