"""NeuraL-Coverage (ICSE 2023): how far the outputs of each layer spread, by the norm of their covariance.

NLC = sum over layers of ||Sigma||_1 / m^2, with m neurons of the layer and Sigma divided by the number of images.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy.linalg.blas import dasum
from torch import Tensor

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch, NeuronLayout
from camdrift.coverage.profile import Profile
from camdrift.tables.arrays import Flags, Floats

# Images whose products are summed at once: a fixed number, so that batches change nothing.
_BLOCK: Final = 64
# Rows of a covariance that stay in a processor's cache.
_ROWS: Final = 256
_NO_IMAGE: Final = "no image with finite outputs"


@dataclass(frozen=True)
class Spread:
    """Which outputs NLC compares, and in what units.

    Attributes:
        columns: By layer the numbers of its neurons.
        mean, scale: What is subtracted from each neuron's output, and what that is divided by, in float64.
    """

    columns: Mapping[str, Tensor]
    mean: Tensor
    scale: Tensor

    def rows(self, batch: NeuronBatch) -> Tensor:
        """Outputs in these units, in float64."""
        return (batch.raw.double() - self.mean.to(batch.raw.device)) / self.scale.to(batch.raw.device)


def spread_of(layout: NeuronLayout, profile: Profile | None, widest: int) -> Spread:
    """The outputs of all layers.

    Args:
        layout: Which neurons belong to which layer.
        profile: Outputs are standardised by its mean and deviation, and neurons without deviation left out; None for
            outputs as they are.
        widest: Layers with more neurons are left out; 0 for none.
    """
    deviation = np.ones(layout.total) if profile is None else profile.deviation
    mean = np.zeros(layout.total) if profile is None else profile.mean
    columns = {
        name: torch.from_numpy(np.flatnonzero(deviation[place] > 0) + place.start)
        for name, place in layout.slices.items()
        if not 0 < widest < place.stop - place.start
    }
    scale = np.where(deviation > 0, deviation, 1.0)
    return Spread(
        {name: numbers for name, numbers in columns.items() if len(numbers)},
        torch.from_numpy(mean),
        torch.from_numpy(scale),
    )


@dataclass
class _Moments:
    """Mean and scatter matrix (sum of products of deviations) of one layer over some images."""

    images: int
    mean: Tensor
    scatter: Tensor

    def joined(self, other: "_Moments") -> "_Moments":
        """The moments of both (Chan, Golub and LeVeque 1983)."""
        images = self.images + other.images
        if not self.images or not other.images:
            return other if other.images else self
        mean, scatter = (tensor.to(other.mean.device) for tensor in (self.mean, self.scatter))
        step = other.mean - mean
        joint = torch.addr(scatter + other.scatter, step, step, alpha=self.images * other.images / images)
        return _Moments(images, mean + step * (other.images / images), joint)


def _moments(rows: Tensor) -> _Moments:
    mean = rows.mean(0)
    deviations = rows - mean
    return _Moments(len(rows), mean, deviations.T @ deviations)


class SuiteSpread:
    """NLC of all images at once, whatever their order: a measure of a suite, which gives no gain to an image."""

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._moments: dict[str, _Moments] = {}
        self._waiting: list[Tensor] = []

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """NaN for every image: NLC may fall with an image. All that are admitted and finite enter."""
        rows = self._spread.rows(batch)
        is_finite = rows.isfinite().all(1).cpu().numpy()
        for image in np.flatnonzero(is_finite & is_admitted):
            self._waiting.append(rows[image])
            if len(self._waiting) == _BLOCK:
                self._moments, self._waiting = dict(self._layers()), []
        return np.full(len(rows), np.nan)

    def _layers(self) -> Iterator[tuple[str, _Moments]]:
        """The moments of each layer over all images, layer by layer."""
        rows = torch.stack(self._waiting) if self._waiting else None
        for name, numbers in self._spread.columns.items():
            before = self._moments.get(name)
            news = None if rows is None else _moments(rows[:, numbers.to(rows.device)])
            both = [each for each in (before, news) if each is not None]
            if both:
                yield name, both[0] if len(both) == 1 else both[0].joined(both[1])

    def by_layer(self) -> dict[str, CoverageReading]:
        """The term of each layer."""
        return {
            name: CoverageReading(float(layer.scatter.abs().sum()) / layer.images / layer.scatter.numel())
            for name, layer in self._layers()
        }

    def reading(self) -> CoverageReading:
        """The sum of all terms."""
        return _sum(self.by_layer())

    def arrays(self) -> Arrays:
        """Moments of each layer, and the images that wait."""
        arrays = {"waiting": torch.stack(self._waiting).cpu().numpy() if self._waiting else np.empty((0, 0))}
        for number, layer in enumerate(self._moments.values()):
            arrays |= {"images": np.array(layer.images), f"mean_{number}": layer.mean.cpu().numpy()}
            arrays[f"scatter_{number}"] = layer.scatter.cpu().numpy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Take over moments."""
        self._waiting = list(torch.from_numpy(np.array(arrays["waiting"])))
        tensor = lambda key: torch.from_numpy(np.array(arrays[key]))  # noqa: E731
        self._moments = {
            name: _Moments(int(arrays["images"]), tensor(f"mean_{number}"), tensor(f"scatter_{number}"))
            for number, name in enumerate(self._spread.columns)
            if "images" in arrays
        }

    def merge(self, other: "SuiteSpread") -> None:
        """Add the moments of other images; equal to one state of all up to the rounding of sums in float64."""
        layers = dict(other._layers())
        mine = dict(self._layers())
        self._moments = {name: mine[name].joined(layers[name]) if name in mine else layers[name] for name in layers}
        self._moments = self._moments or mine
        self._waiting = []


class GuidedSpread:
    """NLC as guidance: an image moves those layers alone whose term it raises, in the order of images.

    The value depends on that order, and may exceed the suite's. Where we differ from the released code: its layers
    start from nothing, where single images never raise a term, and its total starts at 1; here the first image that
    is admitted starts every layer, with gain 0.
    """

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._layers: list[_Layer] = []

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """What each image adds to the terms of the layers that it raises."""
        rows = self._spread.rows(batch)
        is_finite = rows.isfinite().all(1).cpu().numpy()
        gains = np.zeros(len(rows))
        for image in np.flatnonzero(is_finite):
            parts = [rows[image, numbers.to(rows.device)] for numbers in self._spread.columns.values()]
            if self._layers:
                gains[image] = self._gain(parts, has_entry=bool(is_admitted[image]))
            elif is_admitted[image]:
                self._layers = [_Layer(1, part.clone(), part.new_zeros((len(part),) * 2)) for part in parts]
        return gains

    def _gain(self, parts: list[Tensor], *, has_entry: bool) -> float:
        gain = 0.0
        for layer, part in zip(self._layers, parts, strict=True):
            norm = layer.norm_with(part)
            if norm > layer.norm:
                gain += (norm - layer.norm) / len(part) ** 2
                if has_entry:
                    layer.add(part, norm)
        return gain

    def by_layer(self) -> dict[str, CoverageReading]:
        """The term of each layer."""
        names = self._spread.columns
        return {
            name: CoverageReading(layer.norm / len(layer.mean) ** 2)
            for name, layer in zip(names, self._layers, strict=bool(self._layers))
        }

    def reading(self) -> CoverageReading:
        """The sum of all terms."""
        return _sum(self.by_layer())

    def arrays(self) -> Arrays:
        """Images, mean, scatter matrix (its upper half) and norm of each layer."""
        return {
            f"{key}_{number}": value
            for number, layer in enumerate(self._layers)
            for key, value in {
                "images": np.array(layer.images),
                "mean": layer.mean.cpu().numpy(),
                "scatter": layer.scatter.cpu().numpy(),
                "norm": np.array(layer.norm),
            }.items()
        }

    def restore(self, arrays: Arrays) -> None:
        """Take over the layers."""
        tensor = lambda key: torch.from_numpy(np.array(arrays[key]))  # noqa: E731
        self._layers = [
            _Layer(
                int(arrays[f"images_{number}"]),
                tensor(f"mean_{number}"),
                tensor(f"scatter_{number}"),
                float(arrays[f"norm_{number}"]),
            )
            for number in range(len(arrays) // 4)
        ]

    def merge(self, other: "GuidedSpread") -> None:
        """Refuse: what enters depends on the order of images."""
        raise TypeError("guided NLC depends on the order of images: its states do not merge")


@dataclass
class _Layer:
    """Moments of one layer: images, mean, scatter matrix, and the norm of its covariance.

    The matrix is symmetric: only blocks from the diagonal on are kept up.
    """

    images: int
    mean: Tensor
    scatter: Tensor
    norm: float = 0.0

    def norm_with(self, row: Tensor) -> float:
        """The entrywise norm ||.||_1 of the covariance with one image more.

        With d = mean - x that is ||scatter + n / (n + 1) d d^T||_1 / (n + 1).
        """
        # A state that was restored lies in the processor's memory until the first image comes.
        self.mean, self.scatter = self.mean.to(row.device), self.scatter.to(row.device)
        weight, step = self.images / (self.images + 1), self.mean - row
        total = 0.0
        for rows, columns, times in self._blocks():
            block = self.scatter[rows, columns]
            total += times * _norm(torch.addcmul(block, step[rows, None], step[columns], value=weight))
        return total / (self.images + 1)

    def add(self, row: Tensor, norm: float) -> None:
        """Take in an image, with which the norm is known."""
        weight, step = self.images / (self.images + 1), self.mean - row
        for rows, columns, _ in self._blocks():
            self.scatter[rows, columns].addcmul_(step[rows, None], step[columns], value=weight)
        self.mean = self.mean - step / (self.images + 1)
        self.images, self.norm = self.images + 1, norm

    def _blocks(self) -> Iterator[tuple[slice, slice, int]]:
        """Rows and columns of blocks small enough for a cache, and how often each stands in the whole matrix."""
        size = len(self.mean)
        for start in range(0, size, _ROWS):
            rows = slice(start, min(start + _ROWS, size))
            yield rows, rows, 1
            if rows.stop < size:
                yield rows, slice(rows.stop, size), 2


def _norm(block: Tensor) -> float:
    """Sum of absolute values: by BLAS in one go on a processor, where torch goes over them twice."""
    return float(dasum(block.numpy().ravel()) if block.device.type == "cpu" else block.abs().sum())


def _sum(layers: Mapping[str, CoverageReading]) -> CoverageReading:
    if not layers:
        return CoverageReading(None, undefined_reason=_NO_IMAGE)
    return CoverageReading(sum(float(reading.value or 0) for reading in layers.values()))
