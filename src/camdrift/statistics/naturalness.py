"""How far two sets of features lie apart, and how evenly predictions are spread over classes."""

import numpy as np
from scipy.linalg import sqrtm

from camdrift.statistics.bootstrap import Ints
from camdrift.tables.arrays import Floats


def frechet(one: Floats, other: Floats) -> float:
    """Frechet distance of two Gaussians with the means and covariances of two sets of features.

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); covariances divided by n - 1. It is no FID, whose features are those
    of one Inception network.

    Args:
        one: (images, features), more images than features.
        other: (images, features), the same.

    Raises:
        ValueError: As few images as features, or fewer: a covariance has no full rank, and the distance no meaning.
    """
    features = one.shape[1]
    if min(len(one), len(other)) <= features:
        raise ValueError(f"`frechet` must have more images than features, got: {min(len(one), len(other))}, {features}")
    means = one.mean(0) - other.mean(0)
    first, second = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other))
    return frechet_of_moments(means, first, second)


def frechet_of_moments(difference: Floats, first: Floats, second: Floats) -> float:
    """Frechet distance of two Gaussians by the difference of their means and their covariances.

    Example:
        >>> round(frechet_of_moments(np.array([1.0, 0.0]), np.diag([1.0, 4.0]), np.diag([4.0, 4.0])), 9)
        2.0
    """
    root = np.real(sqrtm(first @ second))
    return float(difference @ difference + np.trace(first + second - 2 * root))


def kid(one: Floats, other: Floats, seeds: tuple[Ints, Ints] | None = None) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (u v / features + 1)^3 (KID, Binkowski, ICLR 2018).

    It may be below 0. Where both sets are made of the same seeds, pairs of one seed are left out: they are more alike
    than independent images, and would pull it below 0.

    Args:
        one: (images, features), two images or more.
        other: (images, features), the same.
        seeds: The seed of each image of both sets; None where all images are independent.

    Example:
        >>> round(kid(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 2.0], [2.0, 2.0]])), 9)
        13.0
    """
    first, second = seeds or (np.arange(len(one)), len(one) + np.arange(len(other)))
    inside = _mean_kernel(one, one, first, first) + _mean_kernel(other, other, second, second)
    return inside - 2 * _mean_kernel(one, other, first, second)


def _mean_kernel(one: Floats, other: Floats, first: Ints, second: Ints) -> float:
    """Mean over all pairs of images of different seeds."""
    kernel = (one @ other.T / one.shape[1] + 1) ** 3
    return float(kernel[first[:, None] != second].mean())


def evenness(counts: Ints) -> float:
    """How evenly predictions are spread over classes: entropy over ln(classes) (Pielou); NaN without predictions.

    Args:
        counts: Predictions of each class, two classes or more.

    Example:
        >>> round(evenness(np.array([6, 3, 1])), 6)
        0.817345
    """
    total = counts.sum()
    if not total or len(counts) < 2:
        return np.nan
    shares = counts[counts > 0] / total
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def evenness_null(counts: Ints, size: int, replicates: int, rng: np.random.Generator) -> Floats:
    """Evenness of random suites (replicates,): so few predictions are uneven by themselves.

    Args:
        counts: Predictions of each class that suites are drawn from.
        size: Predictions of a suite.
        replicates: Number of suites.
        rng: Random numbers.
    """
    draws = rng.multinomial(size, counts / counts.sum(), size=replicates)
    return np.array([evenness(row) for row in draws])
