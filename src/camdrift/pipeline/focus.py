"""Focus of the maps of a chunk: where each map's centre goes, and whether it goes where the perturbation lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
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
from camdrift.pipeline.seeds import Seed, known, stack
from camdrift.pipeline.variants import Variant
from camdrift.tables.study import FOCUS, FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import Maps, perturbed


class FocusCollector:
    """Collects the table `focus` of a chunk's analysed seeds while their variants are explained."""

    def __init__(self, plan: Plan, seeds: Sequence[Seed]) -> None:
        self._plan = plan
        self._seeds = seeds
        # The places of a row: position, condition, strength, target, layer.
        self._axes: tuple[Sequence[Any], ...] = (
            [seed.file.seed_id for seed in seeds],
            (ADVERSARIAL, NOISE),
            plan.settings.strengths,
            plan.settings.targets,
            plan.layers,
        )
        self._values = np.full((*map(len, self._axes), len(FOCUS_MEASURES)), np.nan)
        self._clean: list[tuple[_Group, ...]] = []

    def add_clean(self, maps: Sequence[Mapping[str, Maps]]) -> None:
        """Take the maps of the clean images, all seeds of the chunk, by target and layer."""
        done: dict[bool, tuple[_Group, ...]] = {}
        for target, part in zip(self._plan.settings.targets, maps, strict=True):
            # Of a clean image, `own` and `seed` explain the same class.
            if (target == "label") not in done:
                done[target == "label"] = _grouped(part)
            self._clean.append(done[target == "label"])

    def add_variants(self, batch: Sequence[Variant], maps: Sequence[Mapping[str, Maps]]) -> None:
        """Take the maps of a batch of variants, by target and layer; those without rows here are passed over."""
        taken = [i for i, v in enumerate(batch) if v.draw == 0 and v.strength in self._plan.settings.strengths]
        if not taken:
            return
        chosen = [batch[i] for i in taken]
        squares = stack(self._squares(v) for v in chosen)
        patterns = {group.shape: unit_pattern(local_rms(squares, group.shape)) for group in self._clean[0]}
        places = tuple(np.array([self._place(v) for v in chosen]).T)
        done: dict[tuple[int, int], NDArray[np.float64]] = {}
        for target, (part, clean) in enumerate(zip(maps, self._clean, strict=True)):
            # Targets share their maps where they explain the same classes.
            key = (id(part), id(clean))
            if key not in done:
                seen = part if len(taken) == len(batch) else {name: values[taken] for name, values in part.items()}
                done[key] = _changes(clean, [v.position for v in chosen], seen, patterns)
            self._values[*places, target] = done[key]

    def table(self) -> pl.DataFrame:
        """The rows, sorted as those of `similarity`; none for the class of a seed that has no label."""
        places = np.indices(self._values.shape[:-1]).reshape(len(self._axes), -1)
        kept = self._has_class(places[0], places[3])
        places, values = places[:, kept], self._values.reshape(-1, len(FOCUS_MEASURES))[kept]
        infos = {info.name: info for info in self._plan.classifier.layer_infos}
        labels = [infos[name].label for name in self._plan.layers]
        names = ("seed_id", "condition", "strength", "target", "layer", "layer_label", "layer_index")
        axes = (*self._axes, labels, range(len(labels)))
        indexes = (*places, places[-1], places[-1])
        columns = {
            name: np.array(axis, dtype=object)[index].tolist()
            for name, axis, index in zip(names, axes, indexes, strict=True)
        }
        measured = zip(FOCUS_MEASURES, values.T, strict=True)
        return FOCUS.frame(columns | {name: pl.Series(column, nan_to_null=True) for name, column in measured})

    def _has_class(self, positions: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows explain a class that is known."""
        unlabelled = np.array([seed.row["label"] is None for seed in self._seeds], dtype=np.bool_)
        is_label = np.array([target == "label" for target in self._plan.settings.targets])
        return np.asarray(~(unlabelled[positions] & is_label[targets]))

    def _place(self, variant: Variant) -> tuple[int, int, int]:
        strengths = self._plan.settings.strengths
        return variant.position, int(variant.condition == NOISE), strengths.index(variant.strength)

    def _squares(self, variant: Variant) -> Tensor:
        """The squares of what clipping leaves of the perturbation, mean over channels: (height, width), float64."""
        seed = self._seeds[variant.position]
        pixels = known(seed.pixels)
        realised = perturbed(pixels, seed.delta(variant), variant.strength) - pixels
        return realised.double().square_().mean(0)


def _changes(
    groups: Sequence["_Group"], positions: Sequence[int], variants: Mapping[str, Maps], patterns: Patterns
) -> NDArray[np.float64]:
    """The five measures of some variants of the seeds at `positions`: (batch, layers, measures)."""
    found = np.empty((len(positions), len(variants), len(FOCUS_MEASURES)))
    for group in groups:
        index = torch.tensor(positions, device=group.cells.device)
        found[:, group.indexes] = group.change(index, variants, patterns[group.shape])
    return found


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

    def change(self, positions: Tensor, variants: Mapping[str, Maps], pattern: Pattern) -> NDArray[np.float64]:
        """The five measures of some variants of the seeds at `positions`: (batch, layers, measures)."""
        layers, seeds = self.cells.shape[:2]
        before = self.cells.index_select(1, positions).flatten(0, 1)
        seed = Focus(*(values.view(layers, seeds)[:, positions].flatten() for values in self.focus))
        after = _joined([variants[name] for name in self.names])
        change = measure_change(before, seed, after, locate(after), pattern)
        parts = change.view(len(FOCUS_MEASURES), layers, len(positions))
        return np.asarray(parts.permute(2, 1, 0).cpu())


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
