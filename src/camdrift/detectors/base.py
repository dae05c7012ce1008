"""The contract of a detector: what it gets of a batch of images, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.surprise import Reference
from camdrift.detectors.passes import ImageBatch
from camdrift.tables.arrays import Floats

# Score of each image from its features (images, features) in float64 and its predicted class (images,): float64, NaN
# where it has none.
LayerScore = Callable[[Tensor, Tensor], Tensor]
# Makes the score of one layer from the profile's features there.
Fit = Callable[[Reference], LayerScore]
# Score of each image of a batch, (images,) or (images, columns).
ImageScore = Callable[[ImageBatch], Tensor]

# The column of a detector that reads no layers.
WHOLE: Final = ""
# Parts of the profile: each is judged by a detector that was fitted to the others.
FOLDS: Final = 5


@dataclass(frozen=True)
class Detector:
    """A detector of one model.

    Attributes:
        name: Its spec, complete.
        columns: Layers that its scores belong to; `WHOLE` alone where it reads none.
        score: Scores of a batch (images, columns), float64; NaN where undefined. High where an image looks attacked.
        scale: Mean and standard deviation of each column's scores on the profile, out of fold (2, columns); None for a
            detector without a profile, whose columns are averaged as they are.
        is_differentiable: Can an attack follow the gradient of its score?
        undefined_reason: Why an image may have no score.
        remarks: What a person should know of it, a line each.
    """

    name: str
    columns: tuple[str, ...]
    score: Callable[[ImageBatch], Tensor]
    scale: Floats | None = None
    is_differentiable: bool = False
    undefined_reason: str = "the score is not a number"
    remarks: tuple[str, ...] = ()

    def combined(self, scores: Tensor) -> Tensor:
        """One score of each image from those of its layers: the mean of their z-scores on the profile.

        A layer without a score, or whose scores do not vary on the profile, is left out.

        Args:
            scores: Scores (images, columns).
        """
        if self.scale is None:
            return scores.nanmean(1)
        mean, deviation = torch.from_numpy(self.scale).to(scores.device)
        usable = deviation > 0
        if not bool(usable.any()):
            return scores.new_full((len(scores),), torch.nan)
        values: Tensor = (scores[:, usable] - mean[usable]) / deviation[usable]
        return values.nanmean(1)


def as_numpy_score(compute: Callable[[Floats, NDArray[np.int64]], Floats]) -> LayerScore:
    """A score of features that is computed without torch, and has no gradient."""

    def score(rows: Tensor, classes: Tensor) -> Tensor:
        values, is_finite = np.full(len(rows), np.nan), rows.isfinite().all(1).cpu().numpy()
        features = rows.detach().cpu().numpy().astype(np.float64)[is_finite]
        if len(features):
            values[is_finite] = compute(features, classes.cpu().numpy().astype(np.int64)[is_finite])
        return torch.from_numpy(np.where(np.isfinite(values), values, np.nan)).to(rows.device)

    return score


def profile_scale(fit: Fit, reference: Reference) -> Floats:
    """Mean and standard deviation of the scores of the profile's images, each judged by a fit to the others, (2,).

    Every fifth image is in one part. A fit to fewer images may be impossible; its part has no scores then. NaN where
    there are fewer than two scores.
    """
    places = np.arange(len(reference.rows)) % FOLDS
    values = np.full(len(reference.rows), np.nan)
    for number in range(FOLDS):
        is_in = places == number
        if not is_in.any() or is_in.all():
            continue
        score = fit(Reference(reference.rows[~is_in], reference.classes[~is_in]))
        rows, classes = torch.from_numpy(reference.rows[is_in]), torch.from_numpy(reference.classes[is_in])
        values[is_in] = score(rows, classes).detach().cpu().numpy()
    finite = values[np.isfinite(values)]
    return np.array([finite.mean(), finite.std()] if len(finite) > 1 else [np.nan, np.nan])
