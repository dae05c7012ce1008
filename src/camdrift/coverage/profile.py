"""A profile: what neurons do on a set of ordinary images, against which criteria measure others."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from camdrift.tables.arrays import Floats


@dataclass(frozen=True)
class Profile:
    """Statistics of every neuron over the profile's images.

    Attributes:
        images: Number of images.
        low, high: Smallest and largest output of each neuron.
        mean: Mean output of each.
        squares: Sum of squared deviations from the mean of each.
    """

    images: int
    low: Floats
    high: Floats
    mean: Floats
    squares: Floats

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.low)

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each neuron, divided by n."""
        return np.sqrt(self.squares / self.images)

    def bounds(self, sigma: float) -> tuple[Tensor, Tensor]:
        """Smallest and largest output of each neuron, widened by `sigma` standard deviations; float64."""
        width = sigma * self.deviation
        return torch.from_numpy(self.low - width), torch.from_numpy(self.high + width)


def profile_of(rows: Floats) -> Profile:
    """The profile of outputs (images, neurons)."""
    mean = rows.mean(0)
    return Profile(len(rows), rows.min(0), rows.max(0), mean, ((rows - mean) ** 2).sum(0))
