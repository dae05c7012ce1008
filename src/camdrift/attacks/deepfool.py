"""DeepFool, many images at once, as foolbox 3.3 defines it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from camdrift.attacks.library import PixelModel
from camdrift.tensors import PIXELS, Classes, Images, Logits

LOSSES: Final = ("logits", "crossentropy")
# foolbox's: no division by zero, and a step that does not end short of the boundary.
_TINY, _FURTHER = 1e-8, 1e-4


@dataclass(frozen=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised model, until the prediction changes (Moosavi-Dezfooli 2016).

    foolbox computes a forward pass for every class that it looks at; here one serves all, and images that are done
    take part in no further pass.

    Attributes:
        steps: Most steps.
        candidates: How many of the likeliest classes are looked at; None for all.
        overshoot: How much further than the boundary the images go.
        loss: Whose difference between two classes is linear: `logits`, or `crossentropy`.
    """

    steps: int
    candidates: int | None
    overshoot: float
    loss: str

    def __call__(self, model: PixelModel, images: Images, classes: Classes, targets: Classes | None) -> Images:
        """Images across the nearest boundary; those that do not get there are returned as far as they got."""
        answers, total = images.clone(), torch.zeros_like(images)
        rows = torch.arange(len(images), device=images.device)
        order: Tensor | None = None
        for _ in range(self.steps):
            inputs = answers[rows].requires_grad_()
            logits = model(inputs, rows)
            if order is None:
                order = logits.argsort(-1).flip(-1)[:, : self.candidates]
            is_done = logits.argmax(-1) != classes[rows]
            # The only value that is read from the device: which images go on.
            going = (~is_done).nonzero().squeeze(1)
            if not len(going):
                break
            delta = self._step(logits, inputs, order[rows])
            rows = rows[going]
            total[rows] += delta[going]
            answers[rows] = (images[rows] + (1.0 + self.overshoot) * total[rows]).clamp(*PIXELS)
        return answers

    def _step(self, logits: Logits, inputs: Images, order: Tensor) -> Images:
        """The shortest way to one of the boundaries, for every image."""
        nearest = torch.full_like(inputs[:, 0, 0, 0], inf, requires_grad=False)
        length, gradient = torch.ones_like(nearest), torch.zeros_like(inputs, requires_grad=False)
        last = order.shape[1] - 2
        for number, difference in enumerate(self._differences(logits, order)):
            (slope,) = torch.autograd.grad(difference.sum(), inputs, retain_graph=number < last)
            size = slope.flatten(1).square().sum(-1).sqrt() + _TINY
            distance = difference.detach().abs() / size
            is_nearer = distance < nearest
            nearest, length = torch.where(is_nearer, distance, nearest), torch.where(is_nearer, size, length)
            gradient = torch.where(is_nearer.view(-1, 1, 1, 1), slope, gradient)
        return ((nearest + _FURTHER) / length).view(-1, 1, 1, 1) * gradient

    def _differences(self, logits: Logits, order: Tensor) -> Iterator[Tensor]:
        """Yield, class by class, how far it lies above the clean one: one value an image."""
        score: Callable[[Tensor], Tensor] = (
            (lambda classes: logits.gather(1, classes[:, None])[:, 0])
            if self.loss == LOSSES[0]
            else (lambda classes: -F.cross_entropy(logits, classes, reduction="none"))
        )
        own = score(order[:, 0])
        for column in range(1, order.shape[1]):
            yield score(order[:, column]) - own
