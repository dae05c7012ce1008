"""Focus of the maps of a chunk: where each map's centre goes, and whether it goes where the perturbation lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from camdrift.explanations.focus import (
    Focus,
    Grids,
    Pattern,
    Patterns,
    average_down,
    local_rms,
    locate,
    measure_change,
    reduced_shape,
    unit_pattern,
)
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.receivers import TargetMaps
from camdrift.pipeline.seeds import NoisySeed
from camdrift.pipeline.variants import Variant, VariantBatch
from camdrift.tables.crossed import crossed
from camdrift.tables.study import FOCUS, FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import Maps


class FocusCollector:
    """Collects the table `focus` of a chunk's analysed seeds while their variants are explained."""

    def __init__(self, plan: Plan, seeds: Sequence[NoisySeed]) -> None:
        self._plan = plan
        self._seeds = seeds
        self._axes: dict[str, Sequence[Any]] = {
            "seed_id": [seed.seed_id for seed in seeds],
            "condition": (ADVERSARIAL, NOISE),
            "strength": plan.settings.strengths,
            "target": plan.settings.targets,
        }
        # Places along the axes of the variants of every batch, and their measures by target and layer.
        self._changes: list[tuple[list[tuple[int, int, int]], Tensor]] = []
        # Groups of the clean maps of every target, and which targets share them.
        self._clean: list[tuple[_Group, ...]] = []
        self._same_as: tuple[int, ...] = ()

    def add_clean(self, maps: TargetMaps) -> None:
        """Take the maps of the clean images, of all seeds of the chunk at once."""
        self._clean, self._same_as = maps.each(_grouped), maps.same_as

    def add_variants(self, batch: VariantBatch, maps: TargetMaps) -> None:
        """Take the maps of a batch of variants; those that have no row are ignored."""
        strengths, variants = self._plan.settings.strengths, batch.variants
        rows = [i for i, v in enumerate(variants) if v.draw == 0 and v.strength in strengths]
        if not rows:
            return
        subset = slice(None) if len(rows) == len(variants) else rows
        # The squares of what clipping leaves of the perturbations, mean over channels.
        squares = (batch.images[subset] - batch.pixels[subset]).double().square_().mean(1)
        patterns = {group.shape: unit_pattern(local_rms(squares, group.shape)) for group in self._clean[0]}
        positions = torch.tensor([variants[i].position for i in rows], device=squares.device)
        changes: dict[tuple[int, int], Tensor] = {}
        keys = [*zip(maps.same_as, self._same_as, strict=True)]
        for target, key in enumerate(keys):
            if key not in changes:
                part = {name: values[subset] for name, values in maps.maps[target].items()}
                changes[key] = _changes(self._clean[target], positions, part, patterns)
        places = [self._place(variants[i]) for i in rows]
        self._changes.append((places, torch.stack([changes[key] for key in keys], 1)))

    def table(self) -> pl.DataFrame:
        """The rows, sorted as those of `similarity`; a seed without a label has none for the target `label`."""
        by_place = np.full((*map(len, self._axes.values()), len(self._plan.layers), len(FOCUS_MEASURES)), np.nan)
        if self._changes:
            index = np.array([place for part, _ in self._changes for place in part]).T
            by_place[*index] = torch.cat([changes for _, changes in self._changes]).cpu().numpy()
        ranges = [range(len(axis)) for axis in self._axes.values()]
        rows = [place for place in product(*ranges) if self._has_class(place[0], place[3])]
        places = np.array(rows, dtype=np.int64).reshape(-1, len(ranges)).T
        keys = {
            name: [axis[index] for index in column]
            for (name, axis), column in zip(self._axes.items(), places, strict=True)
        }
        values = by_place[tuple(places)]
        measures = {name: values[..., number] for number, name in enumerate(FOCUS_MEASURES)}
        return FOCUS.frame(crossed(keys, self._plan.layer_columns, measures))

    def _has_class(self, position: int, target: int) -> bool:
        """Has a seed the class that a target explains?"""
        return self._plan.settings.targets[target] != "label" or self._seeds[position].label is not None

    def _place(self, variant: Variant) -> tuple[int, int, int]:
        strengths = self._plan.settings.strengths
        return variant.position, int(variant.condition == NOISE), strengths.index(variant.strength)


def _changes(
    groups: Sequence["_Group"], positions: Tensor, variants: Mapping[str, Maps], patterns: Patterns
) -> Float[Tensor, "batch layers measures"]:
    """The five measures of some variants of the seeds at `positions`."""
    by_index: dict[int, Tensor] = {}
    for group in groups:
        changes = group.change(positions, variants, patterns[group.shape])
        by_index |= dict(zip(group.indexes, changes.unbind(1), strict=True))
    return torch.stack([by_index[index] for index in range(len(variants))], 1)


@dataclass(frozen=True)
class _Group:
    """The clean maps of layers of one size, which go together: many layers cost little more than one.

    Attributes:
        names: Names of the layers.
        indexes: Their positions in execution order.
        cells: Their maps, reduced, (layers, seeds, rows, columns).
        focus: Where these have their focus, one after the other.
    """

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    cells: Float[Tensor, "layers seeds rows columns"]
    focus: Focus

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the maps."""
        return (self.cells.shape[2], self.cells.shape[3])

    def change(
        self, positions: Tensor, variants: Mapping[str, Maps], pattern: Pattern
    ) -> Float[Tensor, "batch layers measures"]:
        """The five measures of some variants of the seeds at `positions`."""
        layers, seeds = self.cells.shape[:2]
        before = self.cells.index_select(1, positions).flatten(0, 1)
        seed = Focus(*(values.view(layers, seeds)[:, positions].flatten() for values in self.focus))
        after = _joined([variants[name] for name in self.names])
        change = measure_change(before, seed, after, locate(after), pattern)
        return change.view(len(FOCUS_MEASURES), layers, len(positions)).permute(2, 1, 0)


def _grouped(maps: Mapping[str, Maps]) -> tuple[_Group, ...]:
    """The maps of a chunk's clean images, by layer, as groups."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    names = list(maps)
    for index, part in enumerate(maps.values()):
        by_shape.setdefault(reduced_shape(part), []).append(index)
    groups = []
    for shape, indexes in by_shape.items():
        members = tuple(names[index] for index in indexes)
        cells = _joined([maps[name] for name in members])
        groups.append(_Group(members, tuple(indexes), cells.view(len(members), -1, *shape), locate(cells)))
    return tuple(groups)


def _joined(maps: Sequence[Tensor]) -> Grids:
    """The maps of some layers, (batch, h, w) each, reduced, one layer after the other."""
    return torch.cat([average_down(part) for part in maps]).double()
