"""Pictures of the seeds that span the range of deviation, 8 bit, for display only: tables come from raw maps.

A gallery is a mapping of arrays; `gallery.npz` holds that of a study. With n seeds, S strengths, T targets:

    seed_ids         (n,) str             the seeds, largest deviation first, at the strength that the page opens at
    strengths        (S,) float64         the study's strengths, ascending
    targets          (T,) str             the study's targets, in its order
    i/clean          (H, W, 3) uint8      clean image of the i-th seed: round(255 x)
    i/perturbation   (H, W, 3) int8       round(127 delta / peak), delta the base perturbation, not clipped
    i/noise          (H, W, 3) int8       the same of the first noise draw
    i/peaks          (2,) float64         largest |delta| and largest |noise|, in pixel units; 0 if all zero
    i/map/L          (T, 1 + 2 S, h, w) uint8   heatmaps of the study's L-th layer, from 0: of the clean image, of the
                                                adversarial images by ascending strength, of the noisy images (first
                                                draw) by ascending strength
    i/change/K       (H, W, 3) uint8      the image after the study's K-th natural change, at the strength nearest to 1
    i/change/K/map/L (h, w) uint8         its heatmap of the study's L-th layer

clip(clean / 255 + s * peak * value / 127, 0, 1) is the variant of strength s to within rounding: an error of at most
1/510 + s * peak / 254 in pixel units. Heatmaps are scaled by their own maximum to 0..255; those of a layer with more
than 112 values along a side are averaged down to 112 there, then scaled. A map that is not finite is stored as zeros.
For the target `label`, a seed without a label is explained by its own class.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, Final

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from camdrift.pipeline.receivers import TargetMaps
from camdrift.pipeline.settings import Settings
from camdrift.pipeline.variants import Variant, VariantBatch
from camdrift.tables.arrays import Bytes, Gallery
from camdrift.tables.measures import of_first_measure
from camdrift.tables.words import ADVERSARIAL, ANALYSED
from camdrift.tensors import Image, Maps

LARGEST_HEATMAP_SIDE: Final = 112
# So that many small chunks offer not only the extremes of each, but what lies between.
_LEAST_SHARE: Final = 3


class HeatmapCollector:
    """Collects the heatmaps of a chunk's analysed seeds while their variants are explained."""

    def __init__(self, seeds: int, *, layers: Sequence[str], settings: Settings) -> None:
        self._layers = tuple(layers)
        self._strengths = settings.strengths
        self._slots = (seeds, len(settings.targets), 1 + 2 * len(settings.strengths))
        self._shapes: list[tuple[int, int]] = []
        self._values: Bytes = np.zeros((*self._slots, 0), dtype=np.uint8)

    def add_clean(self, maps: TargetMaps) -> None:
        """Take the maps of the clean images, of all seeds of the chunk at once."""
        self._shapes = [_stored_shape(maps.maps[0][name]) for name in self._layers]
        total = sum(height * width for height, width in self._shapes)
        self._values = np.zeros((*self._slots, total), dtype=np.uint8)
        for target, values in enumerate(maps.each(self._heatmaps)):
            self._values[:, target, 0] = values

    def add_variants(self, batch: VariantBatch, maps: TargetMaps) -> None:
        """Take the maps of a batch of variants; those that the gallery does not show are ignored."""
        slots = [self._slot(variant) for variant in batch.variants]
        if not any(slots):
            return
        for target, values in enumerate(maps.each(self._heatmaps)):
            for variant, slot, value in zip(batch.variants, slots, values, strict=True):
                if slot:
                    self._values[variant.position, target, slot] = value

    def arrays(self, position: int) -> dict[str, Bytes]:
        """The heatmaps of one seed, by key `map/LAYER_INDEX`."""
        ends = np.cumsum([height * width for height, width in self._shapes])
        parts = np.split(self._values[position], ends[:-1], axis=-1)
        return {
            f"map/{index}": part.reshape(*part.shape[:2], *shape)
            for index, (part, shape) in enumerate(zip(parts, self._shapes, strict=True))
        }

    def _slot(self, variant: Variant) -> int:
        """Place among the heatmaps of a seed and target; 0, the clean image's, where a variant has none."""
        if variant.draw or variant.strength not in self._strengths:
            return 0
        place = 1 + self._strengths.index(variant.strength)
        return place if variant.condition == ADVERSARIAL else place + len(self._strengths)

    def _heatmaps(self, maps: Mapping[str, Maps]) -> Bytes:
        """The heatmaps of a batch for one target, all layers in a row: (batch, values)."""
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name in self._layers:
            by_shape.setdefault(tuple(maps[name].shape), []).append(name)
        heatmaps: dict[str, Tensor] = {}
        for shape, names in by_shape.items():
            # Layers of one size together cost little more than one.
            values = display_heatmaps(torch.cat([maps[name] for name in names])).flatten(1)
            heatmaps |= dict(zip(names, values.split(shape[0]), strict=True))
        return np.asarray(torch.cat([heatmaps[name] for name in self._layers], dim=1).cpu().numpy())


def header(seed_ids: Sequence[str], settings: Settings) -> dict[str, NDArray[Any]]:
    """The arrays of a gallery beside the pictures of its seeds."""
    return {
        "seed_ids": np.array(seed_ids, dtype=np.str_),
        "strengths": np.array(settings.strengths, dtype=np.float64),
        "targets": np.array(settings.targets, dtype=np.str_),
    }


def picture_arrays(pixels: Image, perturbation: Image, noise: Image) -> dict[str, NDArray[Any]]:
    """Clean image, base perturbation and noise of one seed, and the peaks that the latter two were scaled by."""
    clean = (pixels.detach() * 255).round().byte()
    delta, delta_peak = _as_signed_bytes(perturbation)
    eta, noise_peak = _as_signed_bytes(noise)
    arrays = {"clean": clean, "perturbation": delta, "noise": eta}
    hwc = {key: np.ascontiguousarray(value.permute(1, 2, 0).cpu().numpy()) for key, value in arrays.items()}
    return {**hwc, "peaks": np.array([delta_peak, noise_peak])}


def numbered(place: int, arrays: Gallery) -> dict[str, NDArray[Any]]:
    """The arrays of one seed, under the keys of the gallery's `place`-th seed."""
    return {f"{place}/{key}": value for key, value in arrays.items()}


def renumbered(gallery: Gallery, seed_ids: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of those seeds of a gallery that are among `seed_ids`, under the keys of their places there."""
    places = {seed_id: place for place, seed_id in enumerate(seed_ids)}
    new_places = [places.get(seed_id) for seed_id in gallery["seed_ids"].tolist()]
    for key in gallery:
        number, slash, rest = key.partition("/")
        if slash and (place := new_places[int(number)]) is not None:
            yield f"{place}/{rest}", gallery[key]


def deviations(
    seeds: pl.DataFrame, similarity: pl.DataFrame, *, settings: Settings, strength: float | None = None
) -> pl.DataFrame:
    """Deviation of the maps of each analysed seed under the attack, in the seeds' order: columns seed_id, deviation.

    The deviation of a seed is the mean of 1 - similarity over its layers, of the adversarial image at one strength,
    for the target `seed` if the study has it, else for the first; null if no layer has a similarity.

    Args:
        seeds: Rows of the `seeds` table.
        similarity: Their rows of the `similarity` table; its first measure counts.
        settings: The study's options.
        strength: The strength; None for the one nearest to 1.
    """
    reference = min(settings.strengths, key=lambda value: abs(value - 1)) if strength is None else strength
    target = "seed" if "seed" in settings.targets else settings.targets[0]
    rows = of_first_measure({"similarity": similarity})["similarity"].filter(
        pl.col("condition") == ADVERSARIAL, pl.col("strength") == reference, pl.col("target") == target
    )
    means = rows.group_by("seed_id", maintain_order=True).agg((1 - pl.col("similarity")).mean().alias("deviation"))
    seed_ids = seeds.filter(pl.col("status") == ANALYSED).select("seed_id")
    return seed_ids.join(means, on="seed_id", how="left", maintain_order="left")


def spanning(deviations: pl.DataFrame, count: int | None, available: Collection[str] | None = None) -> list[str]:
    """`count` seeds that span the range of deviation, largest first.

    Of the n seeds with a deviation, sorted (ties as they come), these are `count` evenly spaced ranks with the first
    and the last; one alone is the median, of two the larger. Seeds without a deviation fill places that are left.

    Args:
        deviations: What `deviations` returned, for all seeds.
        count: Number of seeds; None for all.
        available: The seeds to choose from; the nearest of them stands in for a rank that is not among them. None for
            all.
    """
    ranking = deviations.drop_nulls().sort("deviation", descending=True, maintain_order=True)["seed_id"].to_list()
    others = deviations.filter(pl.col("deviation").is_null())["seed_id"].to_list()
    names = set(deviations["seed_id"] if available is None else available)
    free = np.array([rank for rank, seed_id in enumerate(ranking) if seed_id in names], dtype=np.int64)
    others = [seed_id for seed_id in others if seed_id in names]
    if count is None or count >= len(free):
        return ([ranking[rank] for rank in free] + others)[:count]
    ranks = []
    for rank in _even_ranks(len(ranking), count):
        nearest = int(np.abs(free - rank).argmin())
        ranks.append(int(free[nearest]))
        free = np.delete(free, nearest)
    return [ranking[rank] for rank in sorted(ranks)]


def share(count: int | None, chunks: int) -> int | None:
    """Number of seeds whose pictures the last of so many chunks keeps: twice its part of `count`; None keeps all."""
    return None if count is None else min(count, max(_LEAST_SHARE, ceil(2 * count / chunks)))


def _even_ranks(n: int, count: int) -> list[int]:
    if count == 1:
        return [(n - 1) // 2]
    return [round(rank) for rank in np.linspace(0, n - 1, count).tolist()]


def _stored_shape(maps: Maps) -> tuple[int, int]:
    return (min(maps.shape[1], LARGEST_HEATMAP_SIDE), min(maps.shape[2], LARGEST_HEATMAP_SIDE))


def display_heatmaps(maps: Maps) -> Tensor:
    """Attributions of one layer as heatmaps of 8 bit, (batch, h, w)."""
    shape = _stored_shape(maps)
    cells = maps if shape == maps.shape[1:] else F.adaptive_avg_pool2d(maps, shape)
    peak = cells.amax((1, 2), keepdim=True)
    shares = torch.where((peak > 0) & (peak < torch.inf), cells / peak, 0.0)
    return (shares * 255).round().byte()


def _as_signed_bytes(difference: Image) -> tuple[Tensor, float]:
    values = difference.detach().double()
    peak = values.abs().max().item()
    return (values / peak * 127 if peak > 0 else values).round().to(torch.int8), peak
