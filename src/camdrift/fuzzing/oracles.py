"""Oracles, which say when a mutant is a failure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.errors import UserError
from camdrift.fuzzing.names import DISAGREE, NONFINITE, ORACLE_WORDS, PRECISION, PREDICTION
from camdrift.models.classifier import Classifier
from camdrift.specs import nearest
from camdrift.tensors import Logits


@dataclass(frozen=True)
class Verdicts:
    """What an oracle says of a batch.

    Attributes:
        are_failures: Is each image a failure?
        classes: The wrong class of each; -1 where there is none.
        alone: Place of the model whose prediction no other shares, among all models; -1 where there is none.
    """

    are_failures: NDArray[np.bool_]
    classes: NDArray[np.int64]
    alone: NDArray[np.int64]


def _by_prediction(logits: Sequence[Logits], seed_classes: Tensor) -> Verdicts:
    """A failure is predicted otherwise than its seed; logits that are not finite are no prediction."""
    classes = logits[0].argmax(1)
    are_failures = (classes != seed_classes) & torch.isfinite(logits[0]).all(1)
    return _verdicts(are_failures, classes)


def _by_disagreement(logits: Sequence[Logits], seed_classes: Tensor) -> Verdicts:
    """Models disagree on a failure. Its wrong class is the one of the model that is alone, or of the last model."""
    classes = torch.stack([each.argmax(1) for each in logits])
    are_finite = torch.stack([torch.isfinite(each).all(1) for each in logits]).all(0)
    are_failures = (classes != classes[0]).any(0) & are_finite
    votes = (classes[:, None] == classes[None]).sum(1)
    loners = (votes == 1) & (votes.amax(0) > 1)
    alone = torch.where(loners.any(0), loners.int().argmax(0), -1)
    wrong = classes.gather(0, torch.where(alone >= 0, alone, len(logits) - 1)[None])[0]
    return _verdicts(are_failures, wrong, alone)


def _by_finiteness(logits: Sequence[Logits], seed_classes: Tensor) -> Verdicts:
    """A failure has logits that are NaN or infinite."""
    return _verdicts(~torch.isfinite(logits[0]).all(1), torch.full_like(seed_classes, -1))


def _verdicts(are_failures: Tensor, classes: Tensor, alone: Tensor | None = None) -> Verdicts:
    rows = torch.stack([are_failures.long(), classes.long(), torch.full_like(classes, -1) if alone is None else alone])
    values = rows.cpu().numpy()
    return Verdicts(values[0].astype(np.bool_), values[1], values[2])


_Judge = Callable[[Sequence[Logits], Tensor], Verdicts]
_JUDGES: Final[dict[str, _Judge]] = {
    PREDICTION: _by_prediction,
    DISAGREE: _by_disagreement,
    NONFINITE: _by_finiteness,
    PRECISION: _by_disagreement,
}


@dataclass(frozen=True)
class Oracle:
    """Says of every mutant if it is a failure.

    Attributes:
        name: One of `ORACLE_WORDS`.
        others: Classifiers that are asked beside the one that is fuzzed.
    """

    name: str
    others: tuple[Classifier, ...] = ()

    def judge(self, logits: Sequence[Logits], seed_classes: Tensor) -> Verdicts:
        """Return what it says.

        Args:
            logits: Of the classifier that is fuzzed, and of the others.
            seed_classes: The class that each image should have.
        """
        return _JUDGES[self.name](logits, seed_classes)

    def objection(self, logits: Sequence[Tensor], seed_class: int) -> str:
        """Return why a clean seed cannot be fuzzed; empty where it can.

        Args:
            logits: Of the seed, by every model, (classes,) each.
            seed_class: The class that it should have.
        """
        if not all(bool(torch.isfinite(each).all()) for each in logits):
            return "the model returned NaN or infinity for the clean image"
        if self.name in (DISAGREE, PRECISION) and len({int(each.argmax()) for each in logits}) > 1:
            return "the models disagree on the clean image"
        if self.name == PREDICTION and int(logits[0].argmax()) != seed_class:
            return "the clean image is predicted otherwise than its label says"
        return ""


def make_oracle(name: str | None, classifier: Classifier, others: Sequence[Classifier] = ()) -> Oracle:
    """Return an oracle.

    Args:
        name: One of `ORACLE_WORDS`; None for `disagree` where there are other models, else `prediction`.
        classifier: The classifier that is fuzzed.
        others: Further models, of the same classes and input size.

    Raises:
        UserError: No such oracle; models that do not fit each other, or none where some are needed.
    """
    name = name or (DISAGREE if others else PREDICTION)
    if name not in ORACLE_WORDS:
        raise UserError(
            f"`oracle` must be one of {', '.join(ORACLE_WORDS)}, got: {name}", nearest(name, ORACLE_WORDS).strip()
        )
    if name == DISAGREE and not others:
        raise UserError("`oracle` disagree must come with other models, got: none", "--models SPEC[,SPEC]")
    if name != DISAGREE and others:
        raise UserError(f"`models` must come with the oracle disagree, got: {name}", "leave --oracle or --models out")
    for other in others:
        check_models_fit(classifier, other)
    if name == PRECISION:
        return Oracle(name, (_in_bfloat16(classifier),))
    return Oracle(name, tuple(others))


def check_models_fit(classifier: Classifier, other: Classifier, option: str = "models") -> None:
    """Raise `UserError` unless another classifier has the classes and the input size of the one that is fuzzed."""
    for what, own, its in (
        ("classes", classifier.classes, other.classes),
        ("input size", classifier.size, other.size),
    ):
        if own != its:
            raise UserError(
                f"`{option}` must have the {what} of the model, got: {its} ({other.spec}) and {own} "
                f"({classifier.spec})",
                "they get the same images, and their predictions are compared",
            )
    if classifier.labels and other.labels and classifier.labels != other.labels:
        place, (own_name, name) = next(
            (n, pair) for n, pair in enumerate(zip(classifier.labels, other.labels, strict=True)) if len(set(pair)) > 1
        )
        raise UserError(f"`{option}` must name classes alike, got: class {place} is {own_name} and {name}")


def _in_bfloat16(classifier: Classifier) -> Classifier:
    other = classifier.at_precision("bf16")
    other.spec = f"{classifier.spec} in bfloat16"
    return other
