"""A cross-validated detector of adversarial images: folds of seeds, scores out of fold, AUC and its interval.

Inside this file an undefined similarity is NaN.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import percentile_interval, resample_counts
from camdrift.tables.arrays import Flags, Floats

MOST_FOLDS: Final = 5
LEAST_FOLDED_SEEDS: Final = 4

_CHUNK_ELEMENTS: Final = 2**20


@dataclass(frozen=True)
class Examples:
    """Images as the detector sees them.

    Attributes:
        features: Similarity per layer, (images, layers), in [0, 1]; NaN where undefined.
        is_adversarial: (images,); what is to be told.
        seeds: Seed image that each was made of, (images,).
    """

    features: Floats
    is_adversarial: Flags
    seeds: NDArray[np.str_]

    def __getitem__(self, chosen: Flags) -> "Examples":
        """Some of the images."""
        return Examples(self.features[chosen], self.is_adversarial[chosen], self.seeds[chosen])


@dataclass(frozen=True)
class Performance:
    """How well adversarial images are told from others.

    Attributes:
        auc: P(score of an adversarial image > score of another) + half the ties.
        low: Lower end of its 95 % interval.
        high: Upper end.
        false_positive_rate: ROC curve from (0, 0) to (1, 1), its corners.
        true_positive_rate: The same.
    """

    auc: float
    low: float
    high: float
    false_positive_rate: Floats
    true_positive_rate: Floats


def seed_folds(train: Iterable[str], test: Iterable[str]) -> dict[str, int]:
    """The fold of every seed: five folds, or as many as there are seeds to train on if those are fewer.

    Seeds are dealt out in sorted order, those to train on first, so that every fold leaves most of them to learn from.

    Example:
        >>> seed_folds(["b", "a", "d", "c"], ["x", "a"])
        {'a': 0, 'b': 1, 'c': 2, 'd': 3, 'x': 0}
    """
    first = sorted(set(train))
    order = [*first, *sorted(set(test) - set(first))]
    count = max(1, min(MOST_FOLDS, len(first)))
    return {seed: place % count for place, seed in enumerate(order)}


def out_of_fold(train: Examples, test: Examples) -> Floats:
    """Log-odds of being adversarial, (images of `test`,), each from a detector that saw no image of its seed.

    Fold by fold, a detector is trained on the images of `train` whose seeds lie outside the fold, and judges the
    images of `test` whose seeds lie in it; for one set of images, give it twice: that is grouped cross-validation.

    Args:
        train: Images to learn from, of at least two seeds, each with adversarial and other images.
        test: Images to judge, with the same layers.
    """
    fold = seed_folds(train.seeds.tolist(), test.seeds.tolist())
    train_folds, test_folds = (np.array([fold[s] for s in e.seeds.tolist()], np.int64) for e in (train, test))
    scores = np.full(len(test.seeds), np.nan)
    for number in np.unique(test_folds):
        seen, judged = train[train_folds != number], test_folds == number
        detector = _pipeline().fit(seen.features, seen.is_adversarial)
        scores[judged] = detector.decision_function(test.features[judged])
    return scores


def _pipeline() -> Any:
    """Imputation, standardisation, logistic regression; all of it is fitted inside the training fold.

    An undefined similarity becomes the layer's median in the training fold, and a flag beside says that it was
    undefined; a layer that is undefined throughout the training fold says nothing. Classes weigh the same however
    many noise draws there are. The ridge penalty is scikit-learn's default and not tuned, so no fold is needed for it.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=10_000),
    )


def assess(train: Examples, test: Examples, *, rng_seed: int, n_bootstrap: int = 1000) -> Performance:
    """How well a detector trained on `train` tells the adversarial images of `test`, no seed being on both sides.

    Scores of all folds are ranked together. The interval resamples the tested seeds, each with all its images, and
    leaves the detectors as they are: it says how the AUC varies with the images judged, not with those learnt from, and
    is therefore somewhat narrow. Where nothing can be told, it held 0.5 in 90 to 93 % of simulated studies whose
    images resemble their seed, and in 78 % of those of 12 seeds with 49 unrelated layers.
    Where all images are told it has no width, however few the seeds.

    Args:
        train: Images to learn from.
        test: Images to judge.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    scores = out_of_fold(train, test)
    names, place = np.unique(test.seeds, return_inverse=True)
    counts = resample_counts(len(names), n_bootstrap, rng_seed=rng_seed)
    chunk = max(1, _CHUNK_ELEMENTS // len(scores))
    parts = [
        weighted_auc(scores, test.is_adversarial, counts[start : start + chunk][:, place])
        for start in range(0, n_bootstrap, chunk)
    ]
    ends = percentile_interval(np.concatenate([np.empty(0), *parts])[:, None])
    auc = weighted_auc(scores, test.is_adversarial, np.ones((1, len(scores)), np.int64))
    rates = roc_corners(scores, test.is_adversarial)
    return Performance(float(auc[0]), float(ends.low[0]), float(ends.high[0]), *rates)


def weighted_auc(scores: Floats, is_adversarial: Flags, weights: NDArray[np.int16 | np.int64]) -> Floats:
    """P(score of an adversarial image > score of another) + half the ties, in every replicate, (replicates,).

    NaN where a replicate lacks one kind of image.

    Args:
        scores: (images,).
        is_adversarial: (images,).
        weights: How often each replicate counts each image, (replicates, images).

    Example:
        >>> flags = np.array([True, True, False, False])
        >>> weighted_auc(np.array([3.0, 1.0, 2.0, 1.0]), flags, np.array([[1, 1, 1, 1], [1, 0, 1, 1]]))
        array([0.625, 1.   ])
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    sorted_weights, flags = weights[:, order].astype(np.float64), is_adversarial[order]
    positive = np.add.reduceat(sorted_weights * flags, starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~flags, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    won = (positive * (below + negative / 2)).sum(1)
    auc: Floats = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return auc


def roc_corners(scores: Floats, is_adversarial: Flags) -> tuple[Floats, Floats]:
    """False and true positive rates of every threshold that is a corner of the ROC curve, from (0, 0) to (1, 1)."""
    from sklearn.metrics import roc_curve

    rates: tuple[Floats, Floats] = roc_curve(is_adversarial, scores)[:2]
    return rates
