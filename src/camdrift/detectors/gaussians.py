"""Mahalanobis distances to the classes of a profile (Lee 2018), and relative ones (Ren 2021). Differentiable."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
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
    """Distances by the inverse of a covariance.

    Attributes:
        columns: Features that vary.
        whitening: Takes deviations to units of the covariance (kept, kept), lower triangular.
        shrinkage: Share of the even covariance that was mixed in.
    """

    columns: NDArray[np.int64]
    whitening: Floats
    shrinkage: float

    def squares(self, rows: Tensor, centres: Tensor) -> Tensor:
        """Squared distance of every image from every centre (images, centres), image by image."""
        columns = torch.from_numpy(self.columns).to(rows.device)
        whitening = torch.from_numpy(self.whitening).to(rows.device)
        places = (whitening @ centres[:, columns].T).T
        return torch.stack([((whitening @ row[columns] - places) ** 2).sum(1) for row in rows])


def whitened(deviations: Floats, shrinkage: float | None) -> Whitened | None:
    """Distances by the covariance of deviations from a mean, divided by n; None where there is none.

    The covariance is shrunk towards an even one, (1 - a) S + a tr(S) / d I. Where `shrinkage` is None, a is 0 if there
    are two images per feature, and Ledoit and Wolf's (2004) if there are fewer.

    Args:
        deviations: Deviations (images, features).
        shrinkage: a.
    """
    variances = (deviations**2).mean(0)
    columns = np.flatnonzero(variances > _LEAST_SHARE * variances.max(initial=0.0))
    if not len(columns):
        return None
    varying = deviations[:, columns]
    even = float(variances[columns].mean())
    amounts = [shrinkage]
    if shrinkage is None:
        amounts = [0.0, None] if len(varying) >= ENOUGH_PER_FEATURE * len(columns) else [None]
    for amount in amounts:
        share = _ledoit_wolf(varying) if amount is None else amount
        covariance = (1 - share) * (varying.T @ varying / len(varying)) + share * even * np.eye(len(columns))
        try:
            factor = cholesky(covariance, lower=True)
        except np.linalg.LinAlgError:
            continue
        return Whitened(columns, solve_triangular(factor, np.eye(len(columns)), lower=True), share)
    return None


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
