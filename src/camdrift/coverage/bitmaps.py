"""Criteria that are sets: an image hits slots, and coverage is the share of all slots that any image hit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch
from camdrift.coverage.profile import Profile
from camdrift.tables.arrays import Flags, Floats

# Slots of a batch (batch, columns): those that each image hits, each once, and `SlotRule.slots` for "none".
Slots = Callable[[NeuronBatch], Tensor]


@dataclass(frozen=True)
class SlotRule:
    """Which slots an image hits.

    Attributes:
        hit: Slots of a batch.
        slots: Number of slots.
        total: Number of slots that the published value divides by.
    """

    hit: Slots
    slots: int
    total: int


class SlotState:
    """The set of slots that any image hit."""

    def __init__(self, rule: SlotRule) -> None:
        self._rule = rule
        self._bits = torch.zeros(rule.slots + 1, dtype=torch.bool)
        self._bits[-1] = True  # "none" is never new

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """Number of slots that each image is the first to hit."""
        rows = self._rule.hit(batch)
        self._bits = self._bits.to(rows.device)
        gains = torch.zeros(len(rows), device=rows.device)
        for image, row in enumerate(rows):
            gains[image] = (~self._bits[row]).sum()
            if is_admitted[image]:
                self._bits[row] = True
        return gains.double().cpu().numpy()

    def reading(self) -> CoverageReading:
        """Covered slots of all."""
        covered = int(self._bits[:-1].sum())
        if not self._rule.total:
            return CoverageReading(None, covered, 0, "no neuron varies over the profile")
        return CoverageReading(covered / self._rule.total, covered, self._rule.total)

    def arrays(self) -> Arrays:
        """The slots, eight a byte."""
        return {"bits": np.packbits(self._bits[:-1].cpu().numpy())}

    def restore(self, arrays: Arrays) -> None:
        """Take over slots."""
        bits = np.unpackbits(arrays["bits"], count=self._rule.slots).astype(np.bool_)
        self._bits[:-1] = torch.from_numpy(bits).to(self._bits.device)

    def merge(self, other: "SlotState") -> None:
        """Unite both sets."""
        self._bits |= other._bits.to(self._bits.device)


def neuron_slots(neurons: int, threshold: float) -> SlotRule:
    """Slots of NC: a neuron is covered where its scaled value lies above the threshold (DLFuzz, ESEC/FSE 2018)."""

    def hit(batch: NeuronBatch) -> Tensor:
        return _where(batch.scaled > threshold, torch.arange(neurons, device=batch.scaled.device), neurons)

    return SlotRule(hit, neurons, neurons)


def section_slots(profile: Profile, k: int) -> SlotRule:
    """Slots of KMNC: k equal sections between a neuron's extremes over the profile (DeepGauge, ASE 2018).

    Section floor((phi - low) / (high - low) k), the last one closed; values outside hit nothing. Neurons that are
    constant over the profile have no sections. Where we differ from public code: `docs/libraries.md`.
    """
    low, high = profile.bounds(0.0)
    slots = profile.neurons * k

    def hit(batch: NeuronBatch) -> Tensor:
        lowest, highest = low.to(batch.raw.device), high.to(batch.raw.device)
        values = batch.raw.double()
        section = ((values - lowest) / (highest - lowest) * k).floor().clamp(0, k - 1)
        first = torch.arange(0, slots, k, device=values.device)
        is_inside = (values >= lowest) & (values <= highest) & (highest > lowest)
        return torch.where(is_inside, first + section.nan_to_num(0).long(), slots)

    return SlotRule(hit, slots, int((high > low).sum()) * k)


def corner_slots(profile: Profile, *, sigma: float, is_lower: bool) -> SlotRule:
    """Slots of NBC and SNAC: strictly above a neuron's highest value over the profile, or strictly below its lowest.

    Args:
        profile: The profile.
        sigma: Standard deviations over the profile by which the bounds are widened.
        is_lower: Does the lower side count too, as in NBC?
    """
    low, high = profile.bounds(sigma)
    neurons = profile.neurons
    slots = 2 * neurons if is_lower else neurons

    def hit(batch: NeuronBatch) -> Tensor:
        values, numbers = batch.raw.double(), torch.arange(neurons, device=batch.raw.device)
        above = _where(values > high.to(values.device), numbers, slots)
        is_below = values < low.to(values.device)
        return torch.where(is_below, numbers + neurons, above) if is_lower else above

    return SlotRule(hit, slots, slots)


def _where(is_hit: Tensor, numbers: Tensor, none: int) -> Tensor:
    return torch.where(is_hit, numbers, none)
