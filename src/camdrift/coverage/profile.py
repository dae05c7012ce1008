"""A profile: what neurons do on a set of ordinary images, against which criteria measure others."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.base import Arrays, NeuronBatch, NeuronLayout
from camdrift.errors import StoreError
from camdrift.tables.arrays import Flags, Floats

# Name of the logits among the features of a profile.
LOGIT_FEATURES: Final = "logits"
# Fewer images leave the extremes of neurons to chance: NBC and SNAC fall with the number of images.
FEWEST_IMAGES: Final = 1000
_FEATURES: Final = "features:"


@dataclass(frozen=True)
class Profile:
    """Statistics of every neuron over the profile's images.

    Attributes:
        images: Number of images.
        low, high: Smallest and largest output of each neuron.
        mean: Mean output of each.
        squares: Sum of squared deviations from the mean of each.
        classes: Predicted class of each image.
        features: Outputs of some layers, or `logits` (images, neurons), by name.
        checksums: SHA-256 of each image's file; empty where they are none of files.
        origin: What the profile was made of, in JSON values: the model's weights, the geometry of its input.
    """

    images: int
    low: Floats
    high: Floats
    mean: Floats
    squares: Floats
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    checksums: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.low)

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each neuron, divided by n."""
        return np.sqrt(self.squares / self.images)

    def bounds(self, sigma: float = 0.0) -> tuple[Tensor, Tensor]:
        """Smallest and largest output of each neuron, widened by `sigma` standard deviations; float64."""
        width = sigma * self.deviation
        return torch.from_numpy(self.low - width), torch.from_numpy(self.high + width)

    def arrays(self) -> Arrays:
        """The profile as arrays without objects, for a file."""
        return {
            **{name: getattr(self, name) for name in ("low", "high", "mean", "squares", "classes")},
            "images": np.array(self.images),
            "checksums": np.array(self.checksums, "U64"),
            "origin": np.array(json.dumps(self.origin, sort_keys=True)),
            **{f"{_FEATURES}{name}": rows for name, rows in self.features.items()},
        }


def profile_from(arrays: Mapping[str, NDArray[Any]]) -> Profile:
    """The profile that gave some arrays.

    Raises:
        StoreError: They are those of something else.
    """
    try:
        names = ("low", "high", "mean", "squares", "classes")
        return Profile(
            images=int(arrays["images"]),
            **{name: arrays[name] for name in names},
            features={name.removeprefix(_FEATURES): arrays[name] for name in arrays if name.startswith(_FEATURES)},
            checksums=tuple(arrays["checksums"].tolist()),
            origin=json.loads(str(arrays["origin"])),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"no profile: {error} is missing or wrong", "camdrift coverage makes it from --profile"
        ) from None


class ProfileBuilder:
    """Makes a profile of batch after batch; how images are cut into batches changes nothing."""

    def __init__(self, layout: NeuronLayout, layers: Iterable[str] = ()) -> None:
        """Start without images.

        Args:
            layout: Which neurons belong to which layer.
            layers: Layers, or `logits`, whose outputs are kept as features.
        """
        self._layout, self._count = layout, 0
        self._low, self._high = np.full(layout.total, np.inf), np.full(layout.total, -np.inf)
        self._mean, self._squares = np.zeros(layout.total), np.zeros(layout.total)
        self._classes: list[int] = []
        self._features: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}

    def add(self, batch: NeuronBatch) -> Flags:
        """Take in a batch but for images with an output that is not finite; which are in?"""
        rows = batch.raw.double().cpu().numpy()
        is_finite: Flags = np.isfinite(rows).all(1) & batch.logits.isfinite().all(1).cpu().numpy()
        for row in rows[is_finite]:
            self._add(row)
        self._classes += batch.logits.argmax(1).cpu().numpy()[is_finite].tolist()
        for layer, parts in self._features.items():
            parts.append(features_of(batch, self._layout, layer)[is_finite])
        return is_finite

    def _add(self, row: Floats) -> None:
        """Welford's update (1962), image by image."""
        self._low, self._high = np.minimum(self._low, row), np.maximum(self._high, row)
        self._count += 1
        step = row - self._mean
        self._mean += step / self._count
        self._squares += step * (row - self._mean)

    def profile(self, checksums: Iterable[str] = (), origin: Mapping[str, Any] | None = None) -> Profile:
        """The profile of all images so far."""
        return Profile(
            self._count,
            self._low,
            self._high,
            self._mean,
            self._squares,
            np.array(self._classes, np.int64),
            {layer: np.concatenate(parts) for layer, parts in self._features.items() if parts},
            tuple(checksums),
            origin or {},
        )


def features_of(batch: NeuronBatch, layout: NeuronLayout, layer: str) -> NDArray[np.float32]:
    """Outputs of a layer, or the logits, of each image (batch, neurons)."""
    rows = batch.logits if layer == LOGIT_FEATURES else batch.raw[:, layout.slices[layer]]
    return rows.cpu().numpy()
