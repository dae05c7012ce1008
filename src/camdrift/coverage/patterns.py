"""Criteria of the strongest neurons of each layer: which they are, and which of them occur together."""

from hashlib import blake2b
from typing import Final

import numpy as np
import torch
from torch import Tensor

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch, NeuronLayout
from camdrift.tables.arrays import Flags, Floats

_BYTES: Final = 16


def strongest(values: Tensor, layout: NeuronLayout, k: int) -> Tensor:
    """Is a neuron among the k of its layer with the largest outputs? Ties go to the lower number.

    `torch.topk` leaves ties open, and after ReLU they are common. NaN is below everything.

    Args:
        values: Outputs (batch, neurons).
        layout: Which neurons belong to which layer.
        k: How many of each layer; all of a layer that has fewer.
    """
    finite = values.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    return torch.cat([_strongest(finite[:, columns], k) for columns in layout.slices.values()], 1)


def _strongest(values: Tensor, k: int) -> Tensor:
    least = values.topk(min(k, values.shape[1]), dim=1).values[:, -1:]
    is_above, is_tie = values > least, values == least
    room = min(k, values.shape[1]) - is_above.sum(1, keepdim=True)
    return is_above | (is_tie & (is_tie.cumsum(1) <= room))


class PatternState:
    """The patterns that occurred: which neurons are the strongest of every layer, as a set (DeepGauge's TKNP).

    Each is kept as a hash of 128 bits.
    """

    def __init__(self, layout: NeuronLayout, k: int) -> None:
        self._layout, self._k = layout, k
        self._patterns: set[bytes] = set()

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """1 for each image with a new pattern, else 0."""
        flags = strongest(batch.raw, self._layout, self._k).cpu().numpy()
        gains = np.zeros(len(flags))
        for image, row in enumerate(np.packbits(flags, axis=1)):
            pattern = blake2b(row.tobytes(), digest_size=_BYTES).digest()
            gains[image] = pattern not in self._patterns
            if is_admitted[image]:
                self._patterns.add(pattern)
        return gains

    def reading(self) -> CoverageReading:
        """Number of patterns; there is no most."""
        return CoverageReading(float(len(self._patterns)), len(self._patterns))

    def by_layer(self) -> dict[str, CoverageReading]:
        """Nothing: a pattern runs through all layers."""
        return {}

    def arrays(self) -> Arrays:
        """The hashes, sorted (patterns, 16)."""
        data = b"".join(sorted(self._patterns))
        return {"patterns": np.frombuffer(data, np.uint8).reshape(-1, _BYTES)}

    def restore(self, arrays: Arrays) -> None:
        """Take over hashes."""
        self._patterns = {row.tobytes() for row in arrays["patterns"]}

    def merge(self, other: "PatternState") -> None:
        """Unite both sets."""
        self._patterns |= other._patterns
