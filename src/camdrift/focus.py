"""Where the focus of a map lies, how a variant moves it, and whether the map changes where the perturbation lies.

Camdrift's own measures, of raw maps, in float64. Maps with more than `LARGEST_SIDE` values along a side are averaged
down to that many there first. The distribution of a map of h by w cells is the map over its sum; the centre of cell
(i, j) lies at ((i + 0.5) / h, (j + 0.5) / w), so that distances count in sides of the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from camdrift.plan import Plan, Seed, known, stack
from camdrift.records import ADVERSARIAL, FOCUS, FOCUS_MEASURES, NOISE
from camdrift.tensors import Maps, Values, perturbed
from camdrift.variants import Variant

LARGEST_SIDE: Final = 56
TOP_SHARE: Final = 5
# Maps and pixels are float32: maps of length 1, or pixels of 1, that differ by less differ by rounding.
_ROUNDING: Final = 2.0**-23

# Maps of several layers may lie one after the other, all those of a layer together.
Cells = Float[Tensor, "maps rows columns"]
Flat = Float[Tensor, "maps cells"]
Squares = Float[Tensor, "batch height width"]
Pattern = Float[Tensor, "images cells"]
Patterns = Mapping[tuple[int, int], Pattern]
Changes = Float[Tensor, "measures maps"]


class Focus(NamedTuple):
    """What is read off each map of a batch, float64; NaN where a map is all zero or not finite.

    Attributes:
        row: Centre of mass from the upper edge, in [0, 1].
        column: Centre of mass from the left edge, in [0, 1].
        spread: Root mean square distance from the centre of mass, in sides of the image.
        entropy: Entropy of the distribution over log(h w), that of an even map, in [0, 1]; NaN for a single cell.
        threshold: The ceil(h w / 5)-th largest value, or the smallest positive one: from there up is the top fifth.
        length: L2 norm.
    """

    row: Values
    column: Values
    spread: Values
    entropy: Values
    threshold: Values
    length: Values


def focus_change(seeds: Maps, variants: Maps, squares: Squares) -> Changes:
    """How the focus moves from the maps of some seeds to those of their variants: one row per `FOCUS_MEASURES`.

    Args:
        seeds: Maps of shape (batch, h, w), at least 0.
        variants: Maps of the same shape.
        squares: Squared perturbation of each pixel, mean over channels, in pixel units.

    Returns:
        Shape (5, batch), float64; NaN where undefined.

    Raises:
        ValueError: Maps of different shapes.

    Example:
        >>> corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> focus_change(corner, corner.flip(2), corner)[:, 0].tolist()
        [0.5, 0.0, 0.0, 0.0, 0.5773502691896257]
    """
    if seeds.shape != variants.shape:
        shapes = f"{tuple(seeds.shape)} and {tuple(variants.shape)}"
        raise ValueError(f"`seeds` and `variants` must have the same shape, got: {shapes}")
    before, after = reduced(seeds), reduced(variants)
    pattern = _pattern(local_rms(squares, before.shape[1:]))
    return _change(before, locate(before), after, locate(after), pattern)


def reduced(maps: Maps) -> Cells:
    """The maps in float64, averaged down to `LARGEST_SIDE` values along every side that has more."""
    return _averaged(maps).double()


def _averaged(maps: Maps) -> Cells:
    """The maps themselves where none of their sides is longer than `LARGEST_SIDE`; else reduced, in float64."""
    shape = _reduced_shape(maps)
    return maps if shape == maps.shape[1:] else F.adaptive_avg_pool2d(maps.double(), shape)


def _reduced_shape(maps: Maps) -> tuple[int, int]:
    return (min(maps.shape[1], LARGEST_SIDE), min(maps.shape[2], LARGEST_SIDE))


def local_rms(squares: Squares, shape: Sequence[int]) -> Cells:
    """Root mean square of a perturbation over each of h by w cells: (batch, h, w), float64, in pixel units.

    Where h does not divide the image's height, cells reach to whole pixels and overlap, as in `adaptive_avg_pool2d`.
    """
    return F.adaptive_avg_pool2d(squares.double(), (shape[0], shape[1])).sqrt()


def locate(cells: Cells) -> Focus:
    """Where each map has its focus.

    Args:
        cells: What `reduced` returned.
    """
    batch, height, width = cells.shape
    rows, columns, flat = cells.sum(2), cells.sum(1), cells.view(batch, height * width)
    total = rows.sum(1)
    total = torch.where((total > 0) & torch.isfinite(total), total, torch.nan)
    row, row_variance = _moments(rows / total[:, None])
    column, column_variance = _moments(columns / total[:, None])
    # With p = m / t, -sum(p log p) = log t - sum(m log m) / t.
    entropy = total.log() + torch.special.entr(flat).sum(1) / total
    length = torch.linalg.vector_norm(flat, dim=1) + 0 * total
    return Focus(
        row=row,
        column=column,
        spread=(row_variance + column_variance).sqrt(),
        # log(1) is no yardstick: a single cell has no entropy.
        entropy=entropy / (log(height * width) or torch.nan),
        threshold=_largest(flat, ceil(height * width / TOP_SHARE)).clamp(min=torch.finfo(torch.float64).tiny),
        length=length,
    )


def _largest(flat: Flat, rank: int) -> Values:
    """The `rank`-th largest value of each row."""
    if flat.device.type == "cpu":
        # NumPy selects in half the time of topk.
        return torch.from_numpy(np.partition(flat.numpy(), -rank, axis=1)[:, -rank])
    return flat.topk(rank, sorted=False).values.amin(1)


def _moments(shares: Flat) -> tuple[Values, Values]:
    """Mean and variance of the place along one axis of the image, of length 1."""
    count = shares.shape[1]
    places = (torch.arange(count, dtype=torch.float64, device=shares.device) + 0.5) / count
    mean = shares @ places
    return mean, (shares * (places - mean[:, None]).square()).sum(1)


def _pattern(rms: Cells) -> Pattern:
    """The deviation of each cell from the mean of its image, at unit length.

    NaN where the perturbation is the same everywhere, but for the rounding of pixels.
    """
    flat = rms.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1)
    return centred / torch.where(length > _ROUNDING * sqrt(flat.shape[1]), length, torch.nan)[:, None]


def _change(before: Cells, seed: Focus, after: Cells, variant: Focus, pattern: Pattern) -> Changes:
    """The five measures, in the order of `FOCUS_MEASURES`; the maps of every layer share the images' pattern."""
    shift = torch.hypot(variant.row - seed.row, variant.column - seed.column)
    overlap = _dice(_top(before, seed.threshold), _top(after, variant.threshold))
    moved = after.flatten(1) / variant.length[:, None]
    moved = moved.sub_(before.flatten(1) / seed.length[:, None]).abs_()
    return torch.stack(
        [
            shift,
            variant.spread - seed.spread,
            variant.entropy - seed.entropy,
            torch.where(shift.isnan(), torch.nan, overlap),
            _correlation(moved, pattern),
        ]
    )


def _top(cells: Cells, threshold: Values) -> Tensor:
    """Which cells of each map are its largest fifth; equal values are in together."""
    return (cells >= threshold[:, None, None]).flatten(1)


def _dice(one: Tensor, other: Tensor) -> Values:
    shared, *sizes = (part.count_nonzero(1).double() for part in (one & other, one, other))
    return 2 * shared / (sizes[0] + sizes[1])


def _correlation(moved: Flat, pattern: Pattern) -> Values:
    """Pearson correlation of `moved`, which is used up, and `pattern`; NaN where `moved` is even but for rounding."""
    centred = moved.sub_(moved.mean(1, keepdim=True))
    length = torch.linalg.vector_norm(centred, dim=1)
    product = torch.linalg.vecdot(centred.view(-1, *pattern.shape), pattern).flatten()
    return torch.where(length > _ROUNDING, (product / length).clamp(-1, 1), torch.nan)


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
        patterns = {group.shape: _pattern(local_rms(squares, group.shape)) for group in self._clean[0]}
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
        change = _change(before, seed, after, locate(after), pattern)
        parts = change.view(len(FOCUS_MEASURES), layers, len(positions))
        return np.asarray(parts.permute(2, 1, 0).cpu())


def _grouped(maps: Mapping[str, Maps]) -> tuple[_Group, ...]:
    """The maps of a chunk's clean images, by layer, as groups."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    names = list(maps)
    for index, part in enumerate(maps.values()):
        by_shape.setdefault(_reduced_shape(part), []).append(index)
    groups = []
    for shape, indexes in by_shape.items():
        members = tuple(names[index] for index in indexes)
        cells = _joined([maps[name] for name in members])
        groups.append(_Group(members, tuple(indexes), cells.view(len(members), -1, *shape), locate(cells)))
    return tuple(groups)


def _joined(maps: Sequence[Tensor]) -> Cells:
    """The maps of some layers, (batch, h, w) each, reduced, one layer after the other."""
    return torch.cat([_averaged(part) for part in maps]).double()
