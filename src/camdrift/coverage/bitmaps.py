"""Criteria that are sets: an image hits slots, and coverage is the share of all slots that any image hit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch, NeuronLayout
from camdrift.coverage.profile import Profile
from camdrift.tables.arrays import Flags, Floats

# Slots of a batch (batch, columns): those that each image hits, each once; the number of all slots stands for "none".
Slots = Callable[[NeuronBatch], Tensor]


@dataclass(frozen=True)
class SlotRule:
    """Which slots an image hits. Slot (side * neurons + neuron) * sections + section belongs to a neuron.

    Attributes:
        hit: Slots of a batch.
        is_counted: Which sides of which neurons coverage divides by (sides, neurons).
        sections: Slots of each side of a neuron.
        if_none: Why nothing is counted, where that is so.
    """

    hit: Slots
    is_counted: Flags
    sections: int = 1
    if_none: str = "no neuron varies over the profile"

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self.is_counted.size * self.sections

    def counted(self, batch: NeuronBatch) -> NDArray[np.int64]:
        """Slots of a batch that coverage counts (batch, columns); the number of all slots stands for "none"."""
        slots: NDArray[np.int64] = self.hit(batch).cpu().numpy()
        is_counted = np.append(np.repeat(self.is_counted.ravel(), self.sections), False)
        return np.asarray(np.where(is_counted[slots], slots, self.slots))

    def neurons(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The neuron of each slot."""
        return np.asarray(slots // self.sections % self.is_counted.shape[1])


class SlotState:
    """The set of slots that any image hit.

    Attributes:
        rule: Which slots an image hits.
        layout: Which neurons belong to which layer; None where slots belong to no neurons.
    """

    def __init__(self, rule: SlotRule, layout: NeuronLayout | None) -> None:
        self.rule, self.layout = rule, layout
        self._bits = torch.zeros(rule.slots + 1, dtype=torch.bool)
        self._bits[-1] = True  # "none" is never new

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """Number of slots that each image is the first to hit."""
        rows = self.rule.hit(batch)
        self._bits = self._bits.to(rows.device)
        gains = torch.zeros(len(rows), device=rows.device)
        for image, row in enumerate(rows):
            gains[image] = (~self._bits[row]).sum()
            if is_admitted[image]:
                self._bits[row] = True
        return gains.double().cpu().numpy()

    def reading(self) -> CoverageReading:
        """Covered slots of all."""
        return self._reading(slice(None))

    def by_layer(self) -> Mapping[str, CoverageReading]:
        """The same, of each layer; nothing where slots belong to no neurons."""
        slices = {} if self.layout is None else self.layout.slices
        return {name: self._reading(columns) for name, columns in slices.items()}

    def _reading(self, columns: slice) -> CoverageReading:
        is_counted = self.rule.is_counted[:, columns]
        hits = self._bits[:-1].view(*self.rule.is_counted.shape, self.rule.sections).sum(2).cpu().numpy()
        count, total = int(hits[:, columns][is_counted].sum()), int(is_counted.sum()) * self.rule.sections
        if not total:
            return CoverageReading(None, count, total, self.rule.if_none)
        return CoverageReading(count / total, count, total)

    def arrays(self) -> Arrays:
        """The slots, eight a byte."""
        return {"bits": np.packbits(self._bits[:-1].cpu().numpy())}

    def restore(self, arrays: Arrays) -> None:
        """Take over slots."""
        bits = np.unpackbits(arrays["bits"], count=self.rule.slots).astype(np.bool_)
        self._bits[:-1] = torch.from_numpy(bits).to(self._bits.device)

    def merge(self, other: "SlotState") -> None:
        """Unite both sets."""
        self._bits |= other._bits.to(self._bits.device)


def neuron_slots(neurons: int, is_covered: Callable[[NeuronBatch], Tensor]) -> SlotRule:
    """One slot per neuron.

    Args:
        neurons: Their number.
        is_covered: Which neurons each image covers (batch, neurons).
    """

    def hit(batch: NeuronBatch) -> Tensor:
        flags = is_covered(batch)
        return torch.where(flags, torch.arange(neurons, device=flags.device), neurons)

    return SlotRule(hit, np.ones((1, neurons), np.bool_))


def section_slots(profile: Profile, k: int) -> SlotRule:
    """Slots of KMNC: k equal sections between a neuron's extremes over the profile (DeepGauge, ASE 2018).

    Section floor((value - low) / (high - low) * k), the last one closed; values outside hit nothing. Neurons that are
    constant over the profile have no sections. Where we differ: dnn-tip leaves out a value that equals `high`, and
    NeuraL-Coverage one that equals `low`, so that the images that set the bounds do not hit their own sections.

    Args:
        profile: The profile.
        k: Number of sections.
    """
    bounds, slots = profile.bounds(), profile.neurons * k

    def hit(batch: NeuronBatch) -> Tensor:
        values = batch.raw.double()
        low, high = (bound.to(values.device) for bound in bounds)
        section = ((values - low) / (high - low) * k).clamp(0, k - 1).nan_to_num(0).long()
        first = torch.arange(0, slots, k, device=values.device)
        return torch.where((values >= low) & (values <= high) & (high > low), first + section, slots)

    return SlotRule(hit, (profile.high > profile.low)[None], k)


def corner_slots(
    profile: Profile, *, sigma: float, is_lower: bool, is_reachable: bool = False, is_released: bool = False
) -> SlotRule:
    """Slots of NBC and SNAC: strictly above a neuron's highest value over the profile, or strictly below its lowest.

    Strictly, so that the images of the profile hit nothing (DeepGauge, ASE 2018). Where we differ: dnn-tip counts
    values that equal a bound, so that the profile's own images score.

    Args:
        profile: The profile.
        sigma: Standard deviations over the profile by which the bounds are widened.
        is_lower: Does the lower side count too, as in NBC?
        is_reachable: Is coverage divided by those sides alone that can be hit? Nothing lies below a lowest value of
            exactly 0, which an activation like ReLU bounds.
        is_released: Do both sides of a neuron share a slot, and half of all slots stay empty, as in DeepHunter 2.0?
    """
    bounds, neurons = profile.bounds(sigma), profile.neurons
    sides = 2 if is_lower else 1

    def hit(batch: NeuronBatch) -> Tensor:
        values = batch.raw.double()
        low, high = (bound.to(values.device) for bound in bounds)
        numbers = torch.arange(neurons, device=values.device)
        above = torch.where(values > high, numbers, sides * neurons)
        below = numbers if is_released else numbers + neurons
        return torch.where(values < low, below, above) if is_lower else above

    is_counted = np.ones((sides, neurons), np.bool_)
    if is_lower and is_reachable:
        is_counted[1] = profile.low != 0
    return SlotRule(hit, is_counted)
