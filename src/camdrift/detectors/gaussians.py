"""Mahalanobis distances to the classes of a profile (Lee 2018), and relative ones (Ren 2021). Differentiable."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.surprise import Reference
from camdrift.detectors.base import LayerScore
from camdrift.tables.arrays import Floats

# Images per feature below which the covariance is shrunk.
ENOUGH_PER_FEATURE: Final = 2
# A feature whose variance is this much smaller than the largest one is constant but for rounding.
_LEAST_SHARE: Final = 1e-10


@dataclass(frozen=True)
class Whitened:
    """Distances by the inverse of a covariance, along its main axes and across them.

    Attributes:
        columns: Features that vary.
        axes: Main axes (axes, kept features), each divided by the square root of the variance along it.
        across: Variance in every other direction; infinite where a deviation there does not count.
        shrinkage: Share of the even covariance that was mixed in.
    """

    columns: NDArray[np.int64]
    axes: Floats
    across: float
    shrinkage: float

    def squares(self, rows: Tensor, centres: Tensor) -> Tensor:
        """Squared distance of every image from every centre (images, centres), image by image."""
        columns, axes = torch.from_numpy(self.columns).to(rows.device), torch.from_numpy(self.axes).to(rows.device)
        lengths = axes.norm(dim=1)
        values = []
        for row in rows:
            deviations = row[columns] - centres[:, columns]
            places = deviations @ axes.T
            rest = (deviations**2).sum(1) - ((places / lengths) ** 2).sum(1)
            values.append((places**2).sum(1) + rest / self.across)
        return torch.stack(values)


def whitened(deviations: Floats, shrinkage: float | None) -> Whitened | None:
    """Distances by the covariance of deviations from a mean, divided by n; None where there is none.

    The covariance is shrunk towards an even one, (1 - a) S + a tr(S) / d I. Where `shrinkage` is None, a is 0 if there
    are two images per feature, and Ledoit and Wolf's (2004) if there are fewer. Where a is 0, directions in which
    nothing varies do not count (pseudo-inverse, as in Lee's code).

    Args:
        deviations: Deviations (images, features).
        shrinkage: a.
    """
    variances = (deviations**2).mean(0)
    columns = np.flatnonzero(variances > _LEAST_SHARE * variances.max(initial=0.0))
    if not len(columns):
        return None
    varying = deviations[:, columns]
    share = shrinkage
    if share is None:
        share = 0.0 if len(varying) >= ENOUGH_PER_FEATURE * len(columns) else _ledoit_wolf(varying)
    spread, axes = _main_axes(varying)
    across = share * float(variances[columns].mean())
    scales = (1 - share) * spread + across
    return Whitened(columns, axes / np.sqrt(scales)[:, None], across or np.inf, share)


def _main_axes(deviations: Floats) -> tuple[Floats, Floats]:
    """Variances along the main axes in which anything varies, and these axes (axes, features)."""
    images, features = deviations.shape
    if images < features:
        _, sizes, axes = np.linalg.svd(deviations, full_matrices=False)
        spread = sizes**2 / images
    else:
        spread, directions = np.linalg.eigh(deviations.T @ deviations / images)
        axes = directions.T
    is_main = spread > _LEAST_SHARE * spread.max()
    return spread[is_main], axes[is_main]


def _ledoit_wolf(deviations: Floats) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(deviations, assume_centered=True))


def mahalanobis_score(reference: Reference, *, shrinkage: float | None = None) -> LayerScore:
    """Half of min_c (f - mu_c)^T S^-1 (f - mu_c), with S the covariance around class means, divided by n (Lee 2018).

    Classes are those that the network predicts on the profile.
    """
    centres, distances = _tied(reference, shrinkage)

    def score(rows: Tensor, classes: Tensor) -> Tensor:
        if distances is None:
            return _undefined(rows)
        return distances.squares(rows, centres.to(rows.device)).amin(1) / 2

    return score


def relative_score(reference: Reference, *, shrinkage: float | None = None) -> LayerScore:
    """min_c d_c^2 - d_0^2, with d_0 the distance from all images' mean by their covariance (Ren 2021)."""
    centres, distances = _tied(reference, shrinkage)
    mean = reference.rows.mean(0)
    background = whitened(reference.rows - mean, shrinkage)
    centre = torch.from_numpy(mean)[None]

    def score(rows: Tensor, classes: Tensor) -> Tensor:
        if distances is None or background is None:
            return _undefined(rows)
        nearest = distances.squares(rows, centres.to(rows.device)).amin(1)
        return nearest - background.squares(rows, centre.to(rows.device))[:, 0]

    return score


def _tied(reference: Reference, shrinkage: float | None) -> tuple[Tensor, Whitened | None]:
    """Means of the classes (classes, features), and distances by the covariance around them."""
    members = reference.members
    means = np.stack([reference.rows[places].mean(0) for places in members.values()])
    numbers = np.searchsorted(np.array(list(members)), reference.classes)
    return torch.from_numpy(means), whitened(reference.rows - means[numbers], shrinkage)


def _undefined(rows: Tensor) -> Tensor:
    return rows.new_full((len(rows),), torch.nan)
