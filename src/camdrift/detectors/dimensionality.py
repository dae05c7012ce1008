"""Local intrinsic dimensionality (Ma et al., ICLR 2018)."""

import numpy as np
from scipy.spatial.distance import cdist

from camdrift.coverage.surprise import Reference
from camdrift.detectors.base import LayerScore, as_numpy_score
from camdrift.errors import UserError
from camdrift.tables.arrays import Floats


def local_dimensionality(distances: Floats, k: int) -> Floats:
    """-(1/k sum_i ln(r_i / r_k))^-1 over the k smallest distances of each row, (images,); NaN where it is infinite.

    Distances of 0 are left out: an image is no neighbour of itself. A row with fewer than k others has no value.

    Args:
        distances: Distances (images, reference images).
        k: Number of neighbours.

    Example:
        >>> local_dimensionality(np.array([[2.0, 4.0, 1.0]]), 3).round(6)
        array([1.442695])
    """
    nearest = np.sort(np.where(distances > 0, distances, np.inf), axis=1)[:, :k]
    values = np.full(len(distances), np.nan)
    is_full = (nearest.shape[1] == k) & np.isfinite(nearest).all(1)
    means = -np.log(nearest[is_full] / nearest[is_full, -1:]).mean(1)
    values[is_full] = np.divide(1.0, means, out=np.full(len(means), np.nan), where=means > 0)
    return values


def lid_score(reference: Reference, *, k: int, reference_size: int) -> LayerScore:
    """LID of an image among a batch of the profile's images.

    Where we differ: the code of Lee et al. takes the minibatch for reference, in which the clean original of an
    attacked image lies. Images of a profile are no seeds of the study.

    Args:
        reference: The profile.
        k: Number of neighbours.
        reference_size: Images of the reference batch, spread over the profile; 0 for all.
    """
    count = len(reference.rows)
    size = min(count, reference_size or count)
    rows = reference.rows[np.arange(size) * count // size]
    if k >= size:
        raise UserError(
            f"`detector` setting `k` of lid must be below the number of reference images, got: {k} of {size}",
            f"a larger profile, or for example lid(k={max(1, size // 5)})",
        )
    return as_numpy_score(lambda features, _: local_dimensionality(cdist(features, rows), k))
