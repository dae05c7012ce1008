"""Make a classifier once more in another process: load it as it was loaded here, or send it whole."""

import copy
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Final

import torch

from camdrift.errors import UserError, one_line
from camdrift.models.classifier import Classifier, Precision
from camdrift.models.loading import load_model

# Two kinds of hardware may differ by this share of the largest logit.
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 3e-2}
_WRAP: Final = "camdrift.wrap(classifier.module, mean=..., std=..., size=...) sends the module as it is"


@dataclass(frozen=True)
class ModelCopy:
    """All that another process needs to make the same classifier.

    Attributes:
        spec: Spec for `load_model`; None for a module that is sent.
        weights: The file of its weights, as given.
        device: Type of the device on which it computes.
        precision: Its precision.
        module: The pickled module; None for one that is loaded.
        settings: Keyword arguments of `Classifier` beside the module.
        checksum: SHA-256 of the weights that must come out.
        code: The user's code that must be behind a model that is loaded.
        logits: Logits of an image that any process can make, (classes,).
    """

    spec: str | None
    weights: str | None
    device: str
    precision: Precision
    module: bytes | None
    settings: dict[str, Any]
    checksum: str
    code: Mapping[str, str] | None
    logits: tuple[float, ...]


def copy_of(classifier: Classifier) -> ModelCopy:
    """Return the copy from which another process makes this classifier.

    Raises:
        UserError: It was wrapped around a module that cannot be pickled.
    """
    spec, weights = classifier.loaded_from or (None, None)
    return ModelCopy(
        spec=spec,
        weights=weights,
        # The engine says which of its devices a worker may use.
        device=classifier.device.type,
        precision=classifier.precision,
        module=None if spec is not None else _pickle(classifier),
        settings=_settings(classifier),
        checksum=classifier.weights_checksum(),
        code=classifier.code,
        logits=_logits(classifier),
    )


def restore(model: ModelCopy) -> Classifier:
    """Make the classifier of a copy.

    Raises:
        UserError: It cannot be made here, or comes out with other weights.
    """
    if model.module is None:
        assert model.spec is not None
        classifier = load_model(model.spec, weights=model.weights, device=model.device, precision=model.precision)
    else:
        module = _unpickle(model.module).to(model.device)
        classifier = Classifier(module, device=model.device, precision=model.precision, **model.settings)
    checksum = classifier.weights_checksum()
    if checksum != model.checksum:
        raise UserError(
            f"`model` must have the same weights on every worker, got: {classifier.spec} with checksum {checksum[:12]} "
            f"on one, {model.checksum[:12]} where the study was started",
            f"are they drawn at random, or changed after loading? {_WRAP}",
        )
    others = [name for name, value in _settings(classifier).items() if value != model.settings[name]]
    others += ["code"] if model.module is None and classifier.code != model.code else []
    others += [] if _agree(_logits(classifier), model.logits, model.precision) else ["logits"]
    if others:
        raise UserError(
            f"`model` must be the same on every worker, got: {classifier.spec} with other {' and '.join(others)} on "
            "one than where the study was started",
            f"was it changed after loading? {_WRAP}",
        )
    return classifier


def _logits(classifier: Classifier) -> tuple[float, ...]:
    pixels = torch.linspace(0, 1, 3 * classifier.size**2, device=classifier.device)
    with torch.no_grad(), classifier.numerics():
        logits = classifier(pixels.view(1, 3, classifier.size, classifier.size))
    return tuple(logits[0].double().tolist())


def _agree(logits: tuple[float, ...], reference: tuple[float, ...], precision: str) -> bool:
    """Are the logits of two machines the same, but for the rounding of their arithmetic?"""
    if len(logits) != len(reference):
        return False
    here, there = torch.tensor(logits), torch.tensor(reference)
    atol = _ROUNDING[precision] * float(there.abs().nan_to_num().max())
    return torch.allclose(here, there, rtol=0.0, atol=atol, equal_nan=True)


def _pickle(classifier: Classifier) -> bytes:
    from ray import cloudpickle

    module = classifier.module
    try:
        if classifier.device.type != "cpu":
            module = copy.deepcopy(module).to(torch.device("cpu"))
        with _whole(_files_of(module), cloudpickle):
            return bytes(cloudpickle.dumps(module))
    except Exception as error:  # pickling calls anybody's code
        raise UserError(
            f"`classifier` must be one that other processes can make, got: {classifier.spec}, which cannot be "
            f"pickled ({one_line(error)})",
            "load it from a spec: camdrift.load_model('path/to/file.py:factory')",
        ) from error


def _files_of(module: torch.nn.Module) -> list[ModuleType]:
    """Return the Python modules of its classes that no other process can import by name, such as those of factories."""
    names = {type(part).__module__ for part in module.modules()} - {"__main__"}
    return [sys.modules[name] for name in sorted(names) if PathFinder.find_spec(name.partition(".")[0]) is None]


@contextmanager
def _whole(modules: list[ModuleType], cloudpickle: Any) -> Iterator[None]:
    """Make cloudpickle store classes of these modules with their code, not as names."""
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _unpickle(data: bytes) -> torch.nn.Module:
    try:
        module: torch.nn.Module = pickle.loads(data)
    except Exception as error:  # it imports and calls anybody's code
        raise UserError(
            f"`classifier` must be one that other processes can make, got: a module that one cannot unpickle "
            f"({one_line(error)})",
            "keep the file of its class in a folder that all machines share, or load it from a spec",
        ) from error
    return module


def _settings(classifier: Classifier) -> dict[str, Any]:
    names = ("mean", "std", "labels", "output", "spec", "weights", "configuration")
    return {**classifier.geometry, **{name: getattr(classifier, name) for name in names}}
