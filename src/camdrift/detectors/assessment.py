"""How well detectors tell: AUC with its interval, and true positives at a false positive rate; without torch.

No threshold is set by an image whose seed it judges, and no detector that learns judges a seed that it learnt from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import Any, Final

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from camdrift.detectors.cross_validation import LEAST_FOLDED_SEEDS, Examples, out_of_fold, seed_folds, weighted_auc
from camdrift.detectors.sheet import Judged, ScoreSheet
from camdrift.statistics.estimates import wilson_interval
from camdrift.tables.arrays import Flags, Floats
from camdrift.tables.defences import STATIC_STAGE
from camdrift.tables.detection import DETECTORS_TABLE, SUPERVISED, UNSUPERVISED
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE

# False positive rates, in percent, at which true positives are counted; and the negatives that they need.
PERCENTS: Final = (1, 5)
FEWEST_NEGATIVES: Final = 100
_CLEAN_STRENGTH: Final = 0.0


@dataclass(frozen=True)
class AucInterval:
    """An area under the ROC curve and its 95 % interval."""

    auc: float
    low: float
    high: float


def clustered_auc(scores: Floats, is_positive: Flags, seeds: NDArray[np.str_]) -> AucInterval:
    """P(score of a positive > score of a negative) + half the ties, with its interval over seeds.

    The variance is DeLong's (1988) with all images of a seed as one cluster (Obuchowski 1997): V of an image is its
    share of pairs won, and with m positives, n negatives and I seeds var = I / (I - 1) sum_seeds (sum_pos (V - A) / m +
    sum_neg (V - A) / n)^2. The interval is Student's with I - 1 degrees on the scale of ln(A / (1 - A)).

    Where all pairs are won, or lost, it has no width, however few the seeds. NaN without positives or negatives; an
    interval without ends for a single seed.

    Args:
        scores: (images,), none of them NaN.
        is_positive: (images,).
        seeds: Seed of each image.
    """
    ones = np.ones((1, len(scores)), np.int64)
    auc = float(weighted_auc(scores, is_positive, ones)[0]) if len(scores) else np.nan
    names, place = np.unique(seeds, return_inverse=True)
    if np.isnan(auc) or len(names) < 2:
        return AucInterval(auc, np.nan, np.nan)
    components = _shares_won(scores, is_positive) - auc
    count = np.where(is_positive, is_positive.sum(), (~is_positive).sum())
    totals = np.bincount(place, components / count, minlength=len(names))
    error = sqrt(len(names) / (len(names) - 1) * float((totals**2).sum()))
    if auc in (0.0, 1.0):
        return AucInterval(auc, auc, auc)
    reach = float(scipy.stats.t.ppf(0.975, len(names) - 1)) * error / (auc * (1 - auc))
    low, high = (float(1 / (1 + np.exp(-(np.log(auc / (1 - auc)) + side)))) for side in (-reach, reach))
    return AucInterval(auc, low, high)


def _shares_won(scores: Floats, is_positive: Flags) -> Floats:
    """For every image the share of its pairs in which the positive one has the higher score; ties count half."""
    positive, negative = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    above_negative = (np.searchsorted(negative, scores, "left") + np.searchsorted(negative, scores, "right")) / 2
    below_positive = (np.searchsorted(positive, scores, "left") + np.searchsorted(positive, scores, "right")) / 2
    wins: Floats = np.where(is_positive, above_negative / len(negative), 1 - below_positive / len(positive))
    return wins


def threshold_at(negatives: Floats, percent: int) -> float:
    """The lowest of some scores that at most `percent` % of them exceed; what lies strictly above it is told.

    Args:
        negatives: Scores (images,), one or more.
        percent: False positive rate in percent.

    Example:
        >>> threshold_at(np.arange(200) / 200, 1)
        0.985
    """
    return float(np.sort(negatives)[::-1][len(negatives) * percent // 100])


def fold_thresholds(negatives: Judged, folds: dict[str, int], percent: int) -> dict[int, float]:
    """Threshold of every fold, from the negatives of seeds outside it; NaN for a fold that holds all.

    Args:
        negatives: Clean or noisy images.
        folds: Fold of each seed.
        percent: False positive rate in percent.
    """
    number = np.array([folds[seed] for seed in negatives.seeds.tolist()], np.int64)
    values, is_defined = negatives.scores.combined, negatives.is_defined
    thresholds = {}
    for fold in sorted(set(folds.values())):
        outside = values[(number != fold) & is_defined]
        thresholds[fold] = threshold_at(outside, percent) if len(outside) else np.nan
    return thresholds


def seed_thresholds(sheet: ScoreSheet, detector: str, *, percent: int = 5) -> dict[str, float]:
    """Threshold for the images of each seed, from the clean images of seeds in other folds; by checksum.

    An attack that must pass unnoticed stays below it.

    Args:
        sheet: The scores of a run.
        detector: Name of the detector.
        percent: False positive rate in percent.
    """
    clean = sheet.judged(detector, CLEAN, [_CLEAN_STRENGTH])
    folds = seed_folds(clean.seeds.tolist(), [])
    thresholds = fold_thresholds(clean, folds, percent)
    return {seed: thresholds[fold] for seed, fold in folds.items()}


def detector_rows(sheets: Sequence[ScoreSheet]) -> list[Row]:
    """The rows of the table `detectors`.

    A detector stands as it is (`unsupervised`: no attacked image was needed), and as a logistic regression over its
    layers (`supervised`), trained on each run and tested on each, with no seed on both sides.

    Args:
        sheets: Scores of runs of one model: one, or one for each attack; and of attacks that know the detectors.
    """
    rows = []
    for sheet in sheets:
        for detector in sheet.detectors:
            rows += [_row(sheet, detector, task, None) for task in _tasks(sheet, has_noise_task=True)]
    runs = [sheet for sheet in sheets if sheet.stage == STATIC_STAGE]
    for train, test in product(runs, repeat=2):
        for detector in test.detectors:
            if len(test.columns.get(detector, ())) > 1 and detector in train.parts:
                rows += [_row(test, detector, task, train) for task in _tasks(test, has_noise_task=False)]
    order = {row["detector"]: number for number, row in reversed([*enumerate(rows)])}
    rows.sort(key=lambda row: order[row["detector"]])
    return [{name: row.get(name) for name in DETECTORS_TABLE.schema} for row in rows]


@dataclass(frozen=True)
class _Task:
    """What is told from what, at a strength; None for all strengths together."""

    positive: str
    negative: str
    strength: float | None
    strengths: tuple[float, ...]

    def judged(self, sheet: ScoreSheet, detector: str) -> tuple[Judged, Judged]:
        """Positives and negatives."""
        return tuple(  # type: ignore[return-value]
            sheet.judged(detector, name, [_CLEAN_STRENGTH] if name == CLEAN else self.strengths)
            for name in (self.positive, self.negative)
        )


def _tasks(sheet: ScoreSheet, *, has_noise_task: bool) -> Iterator[_Task]:
    strengths = sheet.strengths(ADVERSARIAL)
    pairs = [(ADVERSARIAL, CLEAN), (ADVERSARIAL, NOISE)]
    pairs += [(NOISE, CLEAN)] if has_noise_task else []
    for positive, negative in pairs:
        if NOISE in (positive, negative) and not sheet.strengths(NOISE):
            continue
        for strength in strengths:
            yield _Task(positive, negative, strength, (strength,))
        if len(strengths) > 1:
            yield _Task(positive, negative, None, tuple(strengths))


def _row(sheet: ScoreSheet, detector: str, task: _Task, train: ScoreSheet | None) -> Row:
    """One row: the detector as it is, or trained on a run."""
    positives, negatives = task.judged(sheet, detector)
    setting = {"setting": UNSUPERVISED} if train is None else {"setting": SUPERVISED, "trained_on": train.attack}
    epsilon = sheet.epsilon * task.strength if sheet.epsilon is not None and task.strength is not None else None
    keys = {
        "detector": detector,
        **setting,
        "tested_on": sheet.attack,
        "stage": sheet.stage,
        "positive": task.positive,
        "negative": task.negative,
        "strength": task.strength,
        "eps": epsilon,
    }
    if train is not None:
        both = _trained(train, task, detector, positives, negatives)
        if both is None:
            reason = f"fewer than {LEAST_FOLDED_SEEDS} seeds to train on"
            return {**keys, **_counts(positives, negatives), "undefined_reason": reason}
        positives, negatives = both
    values = assessed(positives, negatives, sheet.reasons.get(detector, ""))
    return {**keys, **values, **(_undetected(sheet, detector) if task.positive == ADVERSARIAL else {})}


def _undetected(sheet: ScoreSheet, detector: str) -> dict[str, float]:
    """Share of images of an attack that knows the detector which fool the network and pass, with Wilson's interval."""
    flags = sheet.undetected.get(detector)
    if not flags:
        return {}
    low, high = (float(end[0]) for end in wilson_interval(np.array([sum(flags)]), np.array([len(flags)])))
    return {"undetected": sum(flags) / len(flags), "undetected_low": low, "undetected_high": high}


def _trained(
    train: ScoreSheet, task: _Task, detector: str, positives: Judged, negatives: Judged
) -> tuple[Judged, Judged] | None:
    """The images with log-odds of a logistic regression over layers for scores; None where it cannot be trained."""
    learnt = _examples(*task.judged(train, detector))
    test = _examples(positives, negatives)
    if len(set(learnt.seeds.tolist())) < LEAST_FOLDED_SEEDS or not len(test.seeds):
        return None
    if not np.isfinite(learnt.features).any() or len(set(learnt.is_adversarial.tolist())) < 2:
        return None
    values = out_of_fold(learnt, test)
    count = len(positives)
    return tuple(  # type: ignore[return-value]
        Judged(part.scores._replace(combined=odds), part.seeds)
        for part, odds in ((positives, values[:count]), (negatives, values[count:]))
    )


def _examples(positives: Judged, negatives: Judged) -> Examples:
    features = np.concatenate([positives.scores.layers, negatives.scores.layers])
    flags = np.arange(len(features)) < len(positives)
    return Examples(features, flags, np.concatenate([positives.seeds, negatives.seeds]))


def assessed(positives: Judged, negatives: Judged, reason: str = "") -> dict[str, Any]:
    """The values of a row: AUC, interval, rates and counts.

    Args:
        positives: Images that are to be told.
        negatives: Images from which.
        reason: Why an image may have no score.
    """
    values = _counts(positives, negatives)
    ones, others = positives[positives.is_defined], negatives[negatives.is_defined]
    if not len(ones) or not len(others):
        return {**values, "undefined_reason": reason or "no image has a score"}
    flags = np.arange(len(ones) + len(others)) < len(ones)
    totals = np.concatenate([ones.scores.combined, others.scores.combined])
    seeds = np.concatenate([ones.seeds, others.seeds])
    interval = clustered_auc(totals, flags, seeds)
    ends = {"auc_low": interval.low, "auc_high": interval.high}
    values |= {"auc": interval.auc, **{name: None if np.isnan(end) else end for name, end in ends.items()}}
    if len(others) < FEWEST_NEGATIVES:
        few = f"rates need {FEWEST_NEGATIVES} negatives, got {len(others)}"
        return {**values, "undefined_reason": few}
    for percent in PERCENTS:
        values |= _rates(ones, others, percent)
    is_lone = any(values[f"tpr_{percent}"] is None for percent in PERCENTS)
    return {**values, "undefined_reason": "rates need negatives of two seeds or more" if is_lone else None}


def _rates(positives: Judged, negatives: Judged, percent: int) -> dict[str, float | None]:
    """Shares of positives and negatives above the threshold of their fold."""
    folds = seed_folds(negatives.seeds.tolist(), positives.seeds.tolist())
    thresholds = fold_thresholds(negatives, folds, percent)
    names = (f"tpr_{percent}", f"fpr_{percent}")
    if any(map(np.isnan, thresholds.values())):
        return dict.fromkeys(names)
    shares = []
    for part in (positives, negatives):
        limits = np.array([thresholds[folds[seed]] for seed in part.seeds.tolist()])
        shares.append(float((part.scores.combined > limits).mean()))
    return dict(zip(names, shares, strict=True))


def _counts(positives: Judged, negatives: Judged) -> dict[str, Any]:
    seeds = {*positives.seeds[positives.is_defined].tolist(), *negatives.seeds[negatives.is_defined].tolist()}
    positive, negative = (int(part.is_defined.sum()) for part in (positives, negatives))
    without = len(positives) + len(negatives) - positive - negative
    return {"n_seeds": len(seeds), "n_positives": positive, "n_negatives": negative, "n_undefined": without}
