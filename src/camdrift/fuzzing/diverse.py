"""PGD that is pushed to spread activations over neurons, or to gather them (Harel-Canada, FSE 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from camdrift.coverage.neurons import NeuronRecord
from camdrift.fuzzing.gradients import differentiate
from camdrift.layers.layers import SOFTMAX
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.tensors import PIXELS, Classes, Images, Logits

# Added to every share, so that a silent neuron has a logarithm; that of the published code.
_TINY = 1e-20
_LAYERS = 5


def uniform_divergence(outputs: Tensor) -> Tensor:
    """KL(uniform || shares) of each image in nats: how unevenly its activations are spread over neurons.

    Args:
        outputs: Outputs of the neurons (batch, neurons); those below 0 count as 0.

    Example:
        >>> uniform_divergence(torch.tensor([[3.0, 1.0, 2.0, 2.0]]))
        tensor([0.0719])
    """
    active = outputs.relu()
    shares = active / active.sum(1, keepdim=True).clamp_min(_TINY) + _TINY
    return -shares.log().mean(1) - float(np.log(outputs.shape[1]))


@dataclass(frozen=True)
class DiversePGD:
    """Steps along the sign of the gradient of cross-entropy - weight x divergence, from a random start.

    With a weight above 0 activations are spread over more neurons, below 0 over fewer. The divergence is the mean over
    five layers, evenly spaced.

    Attributes:
        epsilon: Bound on the largest change of an entry, in pixel units.
        steps: Number of steps, each 2.5 epsilon / steps long (Madry 2018).
        weight: Weight of the divergence; 0 is PGD.
    """

    epsilon: float
    steps: int
    weight: float = 0.0

    def __call__(
        self, classifier: Classifier, images: Images, classes: Classes, streams: Sequence[int], *, batch_size: int
    ) -> Images:
        """Images away from their classes.

        Args:
            classifier: The classifier.
            images: Images in pixel space.
            classes: Their classes.
            streams: Seed of the random start of each.
            batch_size: Images per pass.
        """
        parts = []
        for rows in batches(range(len(images)), batch_size):
            part = slice(rows[0], rows[-1] + 1)
            parts.append(self._walk(classifier, images[part], classes[part], streams[part]))
        return torch.cat(parts)

    def _walk(self, classifier: Classifier, images: Images, classes: Classes, streams: Sequence[int]) -> Images:
        starts = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in streams]
        answers = images + (2 * torch.stack(starts).to(images.device) - 1) * self.epsilon
        for _ in range(self.steps):
            answers = answers.clamp(*PIXELS)
            gradient = differentiate(classifier, answers, lambda logits, record: self._value(logits, record, classes))
            answers = answers + 2.5 * self.epsilon / self.steps * gradient[1].sign()
            answers = images + (answers - images).clamp(-self.epsilon, self.epsilon)
        return answers.clamp(*PIXELS)

    def _value(self, logits: Logits, record: NeuronRecord, classes: Classes) -> Tensor:
        loss = F.cross_entropy(logits, classes, reduction="none")
        if not self.weight:
            return loss
        names = [name for name in record.outputs if name != SOFTMAX]
        places = {names[round(place)] for place in np.linspace(0, len(names) - 1, _LAYERS)}
        terms = [uniform_divergence(record.outputs[name]) for name in names if name in places]
        return loss - self.weight * torch.stack(terms).mean(0)
