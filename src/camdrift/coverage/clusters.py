"""Cluster coverage: an image is new where it lies far from all that are kept (TensorFuzz, ICML 2019)."""

import numpy as np
from scipy.spatial.distance import cdist

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch
from camdrift.tables.arrays import Flags, Floats


class ClusterState:
    """Images kept so far: each lay further than the threshold from all before it."""

    def __init__(self, threshold: float, columns: slice | None) -> None:
        """Start without images.

        Args:
            threshold: Squared Euclidean distance beyond which an image is new.
            columns: Neurons that are compared; None for the logits.
        """
        self._threshold, self._columns = threshold, columns
        # Rows beyond the first `_count` are room to grow.
        self._rows: Floats = np.empty((0, 0))
        self._count = 0

    @property
    def _centres(self) -> Floats:
        return self._rows[: self._count]

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """1 for each image that is new, else 0."""
        rows = (batch.logits if self._columns is None else batch.raw[:, self._columns]).double().cpu().numpy()
        nearest = nearest_squared(rows, self._centres) if self._count else np.full(len(rows), np.inf)
        is_new = np.zeros(len(rows), np.bool_)
        for image, row in enumerate(rows):
            is_new[image] = np.isfinite(row).all() and nearest[image] > self._threshold
            if is_new[image] and is_admitted[image]:
                self._add(row)
                nearest = np.minimum(nearest, nearest_squared(rows, row[None]))
        return is_new.astype(np.float64)

    def _add(self, row: Floats) -> None:
        if self._count == len(self._rows):
            rows = np.empty((2 * self._count + 1, len(row)))
            rows[: self._count] = self._centres.reshape(self._count, len(row))
            self._rows = rows
        self._rows[self._count] = row
        self._count += 1

    def reading(self) -> CoverageReading:
        """Number of images kept."""
        return CoverageReading(float(self._count), self._count)

    def by_layer(self) -> dict[str, CoverageReading]:
        """Nothing: one layer is compared."""
        return {}

    def arrays(self) -> Arrays:
        """The images kept."""
        return {"centres": self._centres}

    def restore(self, arrays: Arrays) -> None:
        """Take over the images kept."""
        self._rows, self._count = np.array(arrays["centres"]), len(arrays["centres"])

    def merge(self, other: "ClusterState") -> None:
        """Refuse: what is kept depends on the order of images."""
        raise TypeError("cluster coverage depends on the order of images: its states do not merge")


def nearest_squared(rows: Floats, centres: Floats) -> Floats:
    """Squared distance of each row to the nearest centre: exact, by differences in float64."""
    return np.asarray(cdist(rows, centres, "sqeuclidean").min(1))


def median_nearest_squared(rows: Floats) -> float:
    """Median over rows of the squared distance to the nearest other row: a threshold for cluster coverage.

    TensorFuzz's 1.0 is made for ten logits of MNIST and means nothing for a thousand of ImageNet.

    Args:
        rows: Features or logits (images, features) of clean images, two or more.
    """
    distances: Floats = cdist(rows, rows, "sqeuclidean")
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(1)))
