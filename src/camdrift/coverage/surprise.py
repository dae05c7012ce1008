"""Surprise adequacy (Kim, Feldt and Yoo, ICSE 2019): how unlike the profile of its predicted class an image is.

Every function takes features in float64 and the profile's features by predicted class. A value that does not exist is
NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum, isfinite
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from torch import Tensor

from camdrift.coverage.base import Arrays, CoverageReading, NeuronBatch, NeuronLayout
from camdrift.coverage.bitmaps import SlotRule
from camdrift.coverage.profile import features_of
from camdrift.tables.arrays import Flags, Floats

_Classes = NDArray[np.int64]
# Features that vary less within a class are left out (SADL).
LEAST_VARIANCE: Final = 1e-5
# Images of a class from which on it has a density.
FEWEST_OF_CLASS: Final = 3
# The quantile of the profile's own surprise that bounds surprise coverage.
QUANTILE: Final = 0.999


@dataclass(frozen=True)
class Reference:
    """Features of the profile's images by predicted class.

    Attributes:
        rows: Features (images, features), in float64.
        classes: Predicted class of each.
    """

    rows: Floats
    classes: _Classes
    _nearest_others: dict[int, float] = field(default_factory=dict)
    _densities: dict[int, "ClassDensity | None"] = field(default_factory=dict)

    @cached_property
    def members(self) -> dict[int, NDArray[np.int64]]:
        """Numbers of the images of each class."""
        return {int(name): np.flatnonzero(self.classes == name) for name in np.unique(self.classes)}

    def nearest_other(self, image: int) -> float:
        """Distance of one of the images to the nearest of another class; infinite where there is none."""
        if image not in self._nearest_others:
            others = self.rows[self.classes != self.classes[image]]
            distances = cdist(self.rows[image][None], others) if len(others) else np.array([np.inf])
            self._nearest_others[image] = float(distances.min())
        return self._nearest_others[image]

    def density(self, name: int) -> "ClassDensity | None":
        """The density of a class; None where it has too few images, or images that are all alike."""
        if name not in self._densities:
            rows = self.rows[self.members.get(name, np.zeros(0, np.int64))]
            self._densities[name] = class_density(rows)
        return self._densities[name]


def dsa(reference: Reference, rows: Floats, classes: _Classes) -> Floats:
    """Distance-based surprise: |x - a| / |a - b|, with a the nearest image of the class and b the nearest other of a.

    Where we differ: NeuraL-Coverage's DSC takes b as the nearest other of x.

    Args:
        reference: The profile.
        rows: Features of images (images, features).
        classes: Their predicted classes.
    """
    values = np.full(len(rows), np.nan)
    for name in np.unique(classes):
        places, members = np.flatnonzero(classes == name), reference.members.get(int(name))
        if members is not None:
            distances = cdist(rows[places], reference.rows[members])
            values[places] = _ratios(reference, distances, members)
    return values


def _ratios(reference: Reference, distances: Floats, members: NDArray[np.int64]) -> Floats:
    """|x - a| / |a - b| of images from their distances to those of their class."""
    nearest = distances.argmin(1)
    others = np.array([reference.nearest_other(int(members[number])) for number in nearest])
    is_defined = np.isfinite(others) & (others > 0) & np.isfinite(distances.min(1))
    return np.where(is_defined, distances.min(1) / np.where(is_defined, others, 1.0), np.nan)


@dataclass(frozen=True)
class ClassDensity:
    """Images of one class in the features that are kept, whitened by their covariance (divided by n - 1).

    Attributes:
        columns: Features that vary.
        mean: Mean of those.
        whitening: Takes deviations from the mean to units of that covariance (kept, features). Where features are more
            than images, main components are kept in their place.
        log_volume: Half the logarithm of the covariance's determinant, of what is kept.
        white: The class's images in those units (images, kept).
    """

    columns: NDArray[np.int64]
    mean: Floats
    whitening: Floats
    log_volume: float
    white: Floats

    @property
    def kept(self) -> int:
        """Number of dimensions."""
        return int(self.white.shape[1])

    def whitened(self, rows: Floats) -> Floats:
        """Images in those units; one by one, so that no rounding depends on the others."""
        return np.stack([self.whitening @ (row[self.columns] - self.mean) for row in rows])

    @property
    def bandwidth(self) -> float:
        """Scott's factor n^(-1 / (d + 4)), on whitened features."""
        return float(len(self.white) ** (-1 / (self.kept + 4)))

    def surprise(self, squares: Floats) -> Floats:
        """-ln of the density, from squared whitened distances (images, images of the class); infinite ones count 0."""
        h, d = self.bandwidth, self.kept
        number = np.isfinite(squares).sum(1)
        scale = self.log_volume + d * np.log(h) + d / 2 * np.log(2 * np.pi)
        return np.asarray(np.log(number) + scale - logsumexp(-squares / (2 * h * h), axis=1))


def class_density(rows: Floats) -> ClassDensity | None:
    """What the density of a class is made of; None where there is none.

    Features that hardly vary are left out. A class needs more images than features: otherwise it is reduced to as many
    main components as a third of its images.
    """
    images = len(rows)
    if images < FEWEST_OF_CLASS:
        return None
    columns = np.flatnonzero(rows.var(0) >= LEAST_VARIANCE)
    if not len(columns):
        return None
    mean = rows[:, columns].mean(0)
    deviations, axes = rows[:, columns] - mean, np.eye(len(columns))
    if images <= len(columns):
        axes = np.linalg.svd(deviations, full_matrices=False)[2][: images // 3]
    parts = deviations @ axes.T
    try:
        factor = cholesky(parts.T @ parts / (images - 1), lower=True)
    except np.linalg.LinAlgError:
        return None
    whitening = solve_triangular(factor, axes, lower=True)
    return ClassDensity(columns, mean, whitening, float(np.log(np.diag(factor)).sum()), deviations @ whitening.T)


def lsa(reference: Reference, rows: Floats, classes: _Classes) -> Floats:
    """Likelihood-based surprise: -ln of a Gaussian kernel density of the class, with Scott's bandwidth; natural logs.

    Args:
        reference: The profile.
        rows: Features of images (images, features).
        classes: Their predicted classes.
    """
    return _by_class(reference, rows, classes, _likelihood)


def mdsa(reference: Reference, rows: Floats, classes: _Classes) -> Floats:
    """Mahalanobis distance to the class, by its mean and covariance (divided by n - 1); arguments as for `lsa`."""
    return _by_class(reference, rows, classes, _mahalanobis)


def _likelihood(density: ClassDensity, rows: Floats) -> Floats:
    return density.surprise(cdist(density.whitened(rows), density.white, "sqeuclidean"))


def _mahalanobis(density: ClassDensity, rows: Floats) -> Floats:
    return np.asarray(np.linalg.norm(density.whitened(rows), axis=1))


def _by_class(
    reference: Reference, rows: Floats, classes: _Classes, compute: Callable[[ClassDensity, Floats], Floats]
) -> Floats:
    values = np.full(len(rows), np.nan)
    for name in np.unique(classes):
        density, places = reference.density(int(name)), np.flatnonzero(classes == name)
        if density is not None:
            values[places] = compute(density, rows[places])
    return values


def own_dsa(reference: Reference) -> Floats:
    """DSA of each of the profile's images with itself left out."""
    values = np.full(len(reference.rows), np.nan)
    for members in reference.members.values():
        if len(members) > 1:
            distances = cdist(reference.rows[members], reference.rows[members])
            np.fill_diagonal(distances, np.inf)
            values[members] = _ratios(reference, distances, members)
    return values


def own_lsa(reference: Reference) -> Floats:
    """LSA of each of the profile's images, its own kernel left out; features and bandwidth stay those of all."""
    values = np.full(len(reference.rows), np.nan)
    for name, members in reference.members.items():
        if (density := reference.density(name)) is not None:
            squares = cdist(density.white, density.white, "sqeuclidean")
            np.fill_diagonal(squares, np.inf)
            values[members] = density.surprise(squares)
    return values


def own_mdsa(reference: Reference) -> Floats:
    """MDSA of each of the profile's images with itself left out of mean and covariance.

    With q the squared distance by all n images (covariance divided by n - 1) it is, by Sherman and Morrison,
    q * n^2 (n - 2) / ((n - 1)^3 - n (n - 1) q); infinite where the others alone span no such direction.
    """
    values = np.full(len(reference.rows), np.nan)
    for name, members in reference.members.items():
        if (density := reference.density(name)) is not None:
            n, q = len(members), (density.white**2).sum(1)
            room = (n - 1) ** 3 - n * (n - 1) * q
            values[members] = np.sqrt(np.where(room > 0, q * n**2 * (n - 2) / np.where(room > 0, room, 1), np.inf))
    return values


SURPRISES: Final = {"lsa": lsa, "dsa": dsa, "mdsa": mdsa}
OWN_SURPRISES: Final = {"lsa": own_lsa, "dsa": own_dsa, "mdsa": own_mdsa}


@dataclass(frozen=True)
class Surprise:
    """A measure of surprise against one layer of a profile.

    Attributes:
        name: lsa, dsa or mdsa.
        layer: The layer, or `logits`.
        layout: Which neurons belong to which layer.
        reference: The profile's features of that layer.
    """

    name: str
    layer: str
    layout: NeuronLayout
    reference: Reference

    def __call__(self, batch: NeuronBatch) -> Floats:
        """Surprise of each image of a batch; NaN where it has none."""
        rows = features_of(batch, self.layout, self.layer).astype(np.float64)
        classes = batch.logits.argmax(1).cpu().numpy()
        values, is_finite = np.full(len(rows), np.nan), np.isfinite(rows).all(1)
        values[is_finite] = SURPRISES[self.name](self.reference, rows[is_finite], classes[is_finite])
        return values

    def sections(self, k: int) -> SlotRule:
        """Slots of surprise coverage: k equal sections of [0, U], the last one closed; values outside hit nothing.

        U is a quantile of the profile's own surprise, each image left out of its reference. LSA, which has no least
        value, has sections from the opposite quantile on. Where we differ: SADL counts what lies outside as well and
        divides by k, which gives up to 125 % at k = 4.
        """
        own = OWN_SURPRISES[self.name](self.reference)
        finite = own[np.isfinite(own)]
        if_none = "no class of the profile has enough images"
        if not len(finite):
            return SlotRule(lambda batch: torch.ones((len(batch), 1), dtype=torch.long), _NOTHING, if_none=if_none)
        low = float(np.quantile(finite, 1 - QUANTILE)) if self.name == "lsa" else 0.0
        high = float(np.quantile(finite, QUANTILE))

        def hit(batch: NeuronBatch) -> Tensor:
            values = torch.from_numpy(self(batch))
            section = ((values - low) / (high - low) * k).clamp(0, k - 1).nan_to_num(0).long()
            return torch.where((values >= low) & (values <= high) & (high > low), section, k)[:, None]

        return SlotRule(hit, ~_NOTHING, k)


_NOTHING: Final = np.zeros((1, 1), np.bool_)


class SurpriseState:
    """The mean surprise of images: a measure of a suite, which gives no gain to an image."""

    def __init__(self, surprise: Surprise) -> None:
        self._surprise = surprise
        self._values: list[float] = []

    def fold(self, batch: NeuronBatch, is_admitted: Flags) -> Floats:
        """NaN for every image. All that are admitted enter."""
        self._values += self._surprise(batch)[is_admitted].tolist()
        return np.full(len(batch), np.nan)

    def reading(self) -> CoverageReading:
        """The mean; images with a value are counted, of all."""
        values = [value for value in self._values if isfinite(value)]
        if not values:
            return CoverageReading(None, 0, len(self._values), "the profile has too few images of each class")
        rest = len(self._values) - len(values)
        reason = f"{rest:,} of {len(self._values):,} images have no value" if rest else None
        return CoverageReading(fsum(values) / len(values), len(values), len(self._values), reason)

    def by_layer(self) -> dict[str, CoverageReading]:
        """Nothing: one layer is measured."""
        return {}

    def arrays(self) -> Arrays:
        """Surprise of each image."""
        return {"values": np.array(self._values, np.float64)}

    def restore(self, arrays: Arrays) -> None:
        """Take over images."""
        self._values = arrays["values"].tolist()

    def merge(self, other: "SurpriseState") -> None:
        """Add the images of another state."""
        self._values += other._values
