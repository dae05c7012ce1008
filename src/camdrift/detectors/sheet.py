"""Scores of all images of a run, by detector, condition and strength; without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camdrift.tables.arrays import Flags, Floats
from camdrift.tables.defences import STATIC_STAGE

# Condition and strength; a clean image has strength 0.
SheetCell = tuple[str, float]


class DetectorScores(NamedTuple):
    """Scores of some images by one detector; NaN where undefined, high where an image looks attacked.

    Attributes:
        combined: One score of each image (images,).
        layers: Scores by layer (images, layers).
    """

    combined: Floats
    layers: Floats


@dataclass(frozen=True)
class Judged:
    """Scores of some images by one detector, and the seed of each.

    Attributes:
        scores: The scores.
        seeds: Checksum of each image's seed (images,).
    """

    scores: DetectorScores
    seeds: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, flags: Flags) -> "Judged":
        """The images whose flags are set."""
        return Judged(DetectorScores(self.scores.combined[flags], self.scores.layers[flags]), self.seeds[flags])

    @property
    def is_defined(self) -> Flags:
        """Has an image a combined score?"""
        return ~np.isnan(self.scores.combined)


@dataclass(frozen=True)
class ScoreSheet:
    """Scores of all images of one run.

    Attributes:
        attack: Spec of the run's attack.
        stage: `static`, or `adaptive` for images of an attack that knows the detector.
        epsilon: Bound on the perturbation at strength 1, in pixel units; None where there is none.
        columns: Layers of each detector's scores, by detector.
        reasons: Why an image may have no score, by detector.
        parts: Scores by detector and cell, batch by batch.
        undetected: By detector, of each image of an attack that knows it: does it fool the network and pass?
    """

    attack: str
    stage: str = STATIC_STAGE
    epsilon: float | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    parts: dict[str, dict[SheetCell, list[Judged]]] = field(default_factory=dict)
    undetected: dict[str, list[bool]] = field(default_factory=dict)

    def add(self, condition: str, strength: float, scores: Mapping[str, DetectorScores], seeds: Sequence[str]) -> None:
        """Take in the scores of a batch of images.

        Args:
            condition: clean, adversarial or noise.
            strength: Factor on the base perturbation; 0 for clean images.
            scores: By detector.
            seeds: Checksum of each image's seed.
        """
        for name, values in scores.items():
            cells = self.parts.setdefault(name, {})
            cells.setdefault((condition, strength), []).append(Judged(values, np.array(seeds, np.str_)))

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors."""
        return tuple(self.parts)

    def strengths(self, condition: str) -> list[float]:
        """Strengths at which there are images of a condition."""
        return sorted({strength for cells in self.parts.values() for name, strength in cells if name == condition})

    def judged(self, detector: str, condition: str, strengths: Iterable[float]) -> Judged:
        """Scores of a detector for the images of a condition at some strengths."""
        cells = self.parts[detector]
        parts = [part for strength in strengths for part in cells.get((condition, strength), [])]
        if not parts:
            width = max(1, len(self.columns.get(detector, ("",))))
            return Judged(DetectorScores(np.zeros(0), np.zeros((0, width))), np.zeros(0, np.str_))
        totals = np.concatenate([part.scores.combined for part in parts])
        layers = np.concatenate([part.scores.layers for part in parts])
        return Judged(DetectorScores(totals, layers), np.concatenate([part.seeds for part in parts]))
