"""Detectors of pytorch-ood, which score logits or features of the last layer."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from camdrift.coverage.surprise import Reference
from camdrift.detectors.base import LayerScore
from camdrift.detectors.registry import OOD_EXTRA, PYTORCH_OOD
from camdrift.errors import FOREIGN, UserError, install_hint, one_line
from camdrift.models.classifier import Classifier
from camdrift.specs import nearest

# They give another score for another batch.
_BATCHED: Final = {"OpenMax": "its score of an image depends on the others of the batch"}
# They want labels 0..C-1, all of which occur.
_GAPLESS: Final = ("Mahalanobis", "RMD", "GMM", "KNN")
# What the library calls the network, which gets features and logits in its place.
_NETWORK: Final = ("model", "encoder")
_HEAD: Final = ("head", "w", "b")
_MOST_DIMENSIONS: Final = 512


def library_class(name: str) -> Any:
    """A class of pytorch-ood that scores logits or features.

    Raises:
        UserError: The library is missing, or has no such class that camdrift can use.
    """
    try:
        module = import_module("pytorch_ood.detector")
    except ImportError as error:
        raise UserError(
            f"`detector` {name} needs {PYTORCH_OOD}, which cannot be imported: {one_line(error)}",
            install_hint(OOD_EXTRA),
        ) from error
    names = [each for each in module.__all__ if _reads(getattr(module, each)) and each not in _BATCHED]
    if name in _BATCHED:
        raise UserError(f"`detector` {PYTORCH_OOD}:{name} cannot be used: {_BATCHED[name]}", ", ".join(names))
    by_name = {each.lower(): each for each in names}
    if name.lower() not in by_name:
        raise UserError(
            f"`detector` must be a class of {PYTORCH_OOD} that scores logits or features, got: {name}",
            f"{nearest(name, by_name)}there are {', '.join(names)}",
        )
    return getattr(module, by_name[name.lower()])


def reads_logits(kind: Any) -> bool:
    """Does a class of pytorch-ood score logits, and not features?"""
    return _reads(kind) == "logits"


def requires_fit(kind: Any) -> bool:
    """Must a class of pytorch-ood see ordinary images first?"""
    return bool(kind.requires_fit)


def _reads(kind: Any) -> str:
    """`logits` or `features`, whichever a class takes as a plain tensor; empty for neither."""
    if not inspect.isclass(kind):
        return ""
    return next((word for word in ("logits", "features") if hasattr(kind, f"predict_{word}")), "")


def head_of(classifier: Classifier) -> nn.Linear | None:
    """The linear layer that yields the logits; None where that is none."""
    name = classifier.neuron_groups[-1].module
    head = dict(classifier.module.named_modules()).get(name) if name else None
    return head if isinstance(head, nn.Linear) else None


def library_fit(
    kind: Any, settings: Mapping[str, Any], head: nn.Linear | None, columns: int
) -> Callable[[Reference], LayerScore]:
    """What fits a detector of pytorch-ood to the profile, logits or features of the last layer.

    Its higher scores are more outlying, as ours are.

    Args:
        kind: The class.
        settings: Its settings.
        head: The linear layer behind the features, which some detectors ask for.
        columns: Number of features.

    Raises:
        UserError: A setting that it does not have, or a head that the network does not have.
    """
    takes = inspect.signature(kind).parameters
    inner = {key for key in takes if key not in (*_NETWORK, *_HEAD)}
    has_others = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    unknown = [key for key in settings if key not in inner and not has_others]
    if unknown:
        names = ", ".join(sorted(inner)) or "none"
        raise UserError(f"`detector` {kind.__name__} has no setting `{unknown[0]}`", f"it has {names}")
    if head is None and any(key in takes for key in _HEAD):
        raise UserError(
            f"`detector` {kind.__name__} needs a network whose logits come from a linear layer, got: another one",
            "knn, mahalanobis and rmd need none",
        )
    values = dict(settings)
    if "d" in takes and not values.get("d"):
        values["d"] = max(1, min(_MOST_DIMENSIONS, columns // 2))
    return lambda reference: _fitted_score(kind, values, head, reference)


def _fitted_score(kind: Any, settings: dict[str, Any], head: nn.Linear | None, reference: Reference) -> LayerScore:
    word = _reads(kind)
    labels = reference.classes
    if kind.__name__ in _GAPLESS:
        labels = np.unique(labels, return_inverse=True)[1]
    try:
        detector = _made(kind, settings, head)
        if kind.requires_fit:
            rows = torch.from_numpy(reference.rows).float()
            getattr(detector, f"fit_{word}")(rows, torch.from_numpy(labels.astype(np.int64)))
    except FOREIGN as error:
        raise UserError(
            f"`detector` {kind.__name__} of {PYTORCH_OOD} failed on {len(labels):,} images of the profile: "
            f"{one_line(error)}",
            "a larger profile, or other settings",
        ) from error
    if hasattr(detector, "knn"):
        detector.knn.set_params(n_jobs=1)  # threads that start anew for every image take forty times as long
    predict = getattr(detector, f"predict_{word}")

    def score(rows: Tensor, classes: Tensor) -> Tensor:
        # one by one: libraries of arithmetic round otherwise for another number of rows
        features = rows.detach().cpu().float()
        with torch.no_grad():
            values = [predict(row[None]).detach().double().reshape(1) for row in features]
        answers = torch.cat(values) if values else torch.zeros(0, dtype=torch.float64)
        return torch.where(answers.isfinite(), answers, torch.nan).to(rows.device)

    return score


def _made(kind: Any, settings: dict[str, Any], head: nn.Linear | None) -> Any:
    """The detector, with the parts of the network that it asks for."""
    takes = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {key: nn.Identity() for key in _NETWORK if key in takes}
    if head is not None:
        # of the network's own type and place, but for a copy in float32 that no caller can change
        weight = head.weight.detach().cpu().float().clone()
        bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu().float().clone()
        copy = nn.Linear(weight.shape[1], weight.shape[0])
        copy.load_state_dict({"weight": weight, "bias": bias})
        parts = {"head": copy.eval().requires_grad_(False), "w": weight, "b": bias}
        arguments |= {key: value for key, value in parts.items() if key in takes}
    return kind(**arguments, **settings)


def check_head(head: nn.Linear, features: Any, logits: Any) -> None:
    """Raise `UserError` unless a linear layer makes these logits (images, classes) of these features."""
    weight, bias = head.weight.detach().cpu().double(), head.bias
    rows = torch.from_numpy(np.asarray(features)).double()
    answer = rows @ weight.T if rows.shape[1] == weight.shape[1] else None
    if answer is not None and bias is not None:
        answer = answer + bias.detach().cpu().double()
    truth = torch.from_numpy(np.asarray(logits)).double()
    if answer is None or not torch.allclose(answer, truth, rtol=1e-2, atol=1e-2 * float(truth.abs().amax())):
        raise UserError(
            "`detector` needs features from which the last layer makes the logits, got: others",
            "the network does something between its last layer with neurons and its head; knn and mahalanobis work",
        )
