"""I-Defender (Zheng and Hong 2018), as far as its abstract says it: a mixture of Gaussians of each class.

Ours where it says nothing: main components, shrunk covariances, the number of Gaussians by BIC.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

from camdrift.coverage.surprise import Reference
from camdrift.detectors.base import LayerScore, as_numpy_score
from camdrift.tables.arrays import Floats

# Images of a class from which on it has a mixture.
FEWEST_FOR_MIXTURE: Final = 10
MOST_DIMENSIONS: Final = 32
COMPONENTS: Final = (1, 2, 4)


@dataclass(frozen=True)
class ClassMixture:
    """A mixture of Gaussians on main components of the features of a class.

    Attributes:
        mean: Mean of the class's features.
        axes: Main components (dimensions, features).
        weights: Weight of every Gaussian.
        centres: Its mean (components, dimensions).
        covariances: Its covariance (components, dimensions, dimensions).
    """

    mean: Floats
    axes: Floats
    weights: Floats
    centres: Floats
    covariances: Floats

    def log_density(self, rows: Floats) -> Floats:
        """ln of the density of each image on the main components; image by image."""
        parts = [
            mixture_log_density((self.axes @ (row - self.mean))[None], self.weights, self.centres, self.covariances)
            for row in rows
        ]
        return np.concatenate(parts)


def mixture_log_density(places: Floats, weights: Floats, centres: Floats, covariances: Floats) -> Floats:
    """ln sum_j w_j N(x; m_j, S_j) of each image.

    Args:
        places: Images (images, dimensions).
        weights: (components,), sum 1.
        centres: (components, dimensions).
        covariances: (components, dimensions, dimensions).

    Example:
        >>> one = mixture_log_density(np.array([[1.0, 2.0]]), np.ones(1), np.zeros((1, 2)), np.diag([0.5, 2.0])[None])
        >>> one.round(6)  # -ln 2 pi - 2
        array([-3.837877])
    """
    columns = []
    for weight, centre, covariance in zip(weights, centres, covariances, strict=True):
        factor = cholesky(covariance, lower=True)
        squares = (solve_triangular(factor, (places - centre).T, lower=True) ** 2).sum(0)
        volume = np.log(np.diag(factor)).sum() + len(centre) / 2 * np.log(2 * np.pi)
        columns.append(np.log(weight) - volume - squares / 2)
    return np.asarray(logsumexp(np.stack(columns, 1), axis=1))


def class_mixture(rows: Floats, *, rng_seed: int = 0) -> ClassMixture | None:
    """The mixture of a class; None for fewer than ten images, or images that are all alike.

    Features are reduced to min(32, n / 3) main components. To every covariance Ledoit and Wolf's share of the mean
    variance is added. Of 1, 2 and 4 Gaussians the number with the least BIC is taken.

    Args:
        rows: Features of its images (images, features).
        rng_seed: Where EM begins.
    """
    if len(rows) < FEWEST_FOR_MIXTURE:
        return None
    mean = rows.mean(0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    rank = int((sizes > 1e-10 * sizes.max(initial=0.0)).sum()) if sizes.max(initial=0.0) > 0 else 0
    axes = directions[: min(MOST_DIMENSIONS, len(rows) // 3, rank)]
    if not len(axes):
        return None
    places = (rows - mean) @ axes.T
    ridge = _shrinkage(places) * float((places**2).mean())
    fits = [_fitted(places, number, ridge, rng_seed) for number in COMPONENTS]
    best = min((fit for fit in fits if fit is not None), key=lambda fit: fit.bic(places), default=None)
    if best is None:
        return None
    return ClassMixture(mean, axes, best.weights_, best.means_, best.covariances_)


def _shrinkage(places: Floats) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(places, assume_centered=True))


def _fitted(places: Floats, components: int, ridge: float, rng_seed: int) -> Any:
    """scikit-learn's mixture; None where EM fails."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(components, reg_covar=max(ridge, 1e-12), random_state=rng_seed, max_iter=200)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return mixture.fit(places)
    except ValueError:
        return None


def mixture_score(reference: Reference, *, rng_seed: int = 0) -> LayerScore:
    """-ln p(h) under the mixture of the predicted class; NaN for a class without one."""
    mixtures = {name: class_mixture(reference.rows[places], rng_seed=rng_seed) for name, places in _members(reference)}
    return as_numpy_score(lambda rows, classes: _surprises(mixtures, rows, classes))


def _members(reference: Reference) -> list[tuple[int, NDArray[np.int64]]]:
    """Class and places of the images of every class."""
    return list(reference.members.items())


def classes_without_mixture(reference: Reference) -> int:
    """Number of the profile's classes with fewer than ten images."""
    return sum(len(places) < FEWEST_FOR_MIXTURE for _, places in _members(reference))


def _surprises(mixtures: Mapping[int, ClassMixture | None], rows: Floats, classes: NDArray[np.int64]) -> Floats:
    values = np.full(len(rows), np.nan)
    for name in np.unique(classes):
        mixture, places = mixtures.get(int(name)), np.flatnonzero(classes == name)
        if mixture is not None:
            values[places] = -mixture.log_density(rows[places])
    return values
