"""How a classifier is made once more in another process: loaded as it was loaded here, or sent whole."""

import copy
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Final

import torch

from camdrift.errors import UserError, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.loading import load_model

# Of the largest logit: by so much two kinds of hardware may differ.
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 3e-2}
_WRAP: Final = "camdrift.wrap(classifier.module, mean=..., std=..., size=...) sends the module as it is"


@dataclass(frozen=True)
class ModelCopy:
    """Everything that another process needs to make the same classifier.

    Attributes:
        spec: What `load_model` takes; None for a module that is sent.
        weights: The file of its weights, as given.
        device: Where it computes.
        precision: Its precision.
        module: The pickled module; None for one that is loaded.
        settings: What `Classifier` is told beside the module.
        checksum: SHA-256 of the weights that must come out.
        logits: Those of an image that anybody can make, (classes,).
    """

    spec: str | None
    weights: str | None
    device: str
    precision: str
    module: bytes | None
    settings: dict[str, Any]
    checksum: str
    logits: tuple[float, ...]


def copy_of(classifier: Classifier) -> ModelCopy:
    """How another process makes this classifier.

    Raises:
        UserError: It was wrapped around a module that cannot be pickled.
    """
    spec, weights = classifier.loaded_from or (None, None)
    return ModelCopy(
        spec=spec,
        weights=weights,
        # Which of its devices a worker may use is for its engine to say.
        device=classifier.device.type,
        precision=classifier.precision,
        module=None if spec is not None else _pickled(classifier),
        settings=_settings(classifier),
        checksum=classifier.weights_checksum(),
        logits=_logits(classifier),
    )


def restore(recipe: ModelCopy) -> Classifier:
    """The classifier that a recipe makes.

    Raises:
        UserError: It cannot be made here, or comes out with other weights.
    """
    if recipe.module is None:
        assert recipe.spec is not None
        made = load_model(recipe.spec, weights=recipe.weights, device=recipe.device, precision=recipe.precision)
    else:
        module = _unpickled(recipe.module).to(recipe.device)
        made = Classifier(module, device=recipe.device, precision=recipe.precision, **recipe.settings)
    found = made.weights_checksum()
    if found != recipe.checksum:
        raise UserError(
            f"`model` must have the same weights on every worker, got: {made.spec} with checksum {found[:12]} on one, "
            f"{recipe.checksum[:12]} where the study was started",
            f"are they drawn at random, or changed after loading? {_WRAP}",
        )
    others = [name for name, value in _settings(made).items() if value != recipe.settings[name]]
    others += [] if _agree(_logits(made), recipe.logits, recipe.precision) else ["logits"]
    if others:
        raise UserError(
            f"`model` must be the same on every worker, got: {made.spec} with other {' and '.join(others)} on one than "
            "where the study was started",
            f"was it changed after loading? {_WRAP}",
        )
    return made


def _logits(classifier: Classifier) -> tuple[float, ...]:
    pixels = torch.linspace(0, 1, 3 * classifier.size**2, device=classifier.device)
    with torch.no_grad(), classifier.numerics():
        found = classifier(pixels.view(1, 3, classifier.size, classifier.size))
    return tuple(found[0].double().tolist())


def _agree(logits: tuple[float, ...], expected: tuple[float, ...], precision: str) -> bool:
    """Do two machines say the same, but for what their arithmetic rounds?"""
    if len(logits) != len(expected):
        return False
    found, wanted = torch.tensor(logits), torch.tensor(expected)
    allowed = _ROUNDING[precision] * float(wanted.abs().nan_to_num().max())
    return torch.allclose(found, wanted, rtol=0.0, atol=allowed, equal_nan=True)


def _pickled(classifier: Classifier) -> bytes:
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
    """The Python modules of its classes that no other process can import by name, as those of factories."""
    names = {type(part).__module__ for part in module.modules()} - {"__main__"}
    return [sys.modules[name] for name in sorted(names) if PathFinder.find_spec(name.partition(".")[0]) is None]


@contextmanager
def _whole(modules: list[ModuleType], cloudpickle: Any) -> Iterator[None]:
    """Classes of these modules are pickled with their code inside the block, not as names."""
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _unpickled(module: bytes) -> torch.nn.Module:
    try:
        unpickled: torch.nn.Module = pickle.loads(module)
    except Exception as error:  # it imports and calls anybody's code
        raise UserError(
            f"`classifier` must be one that other processes can make, got: a module that one cannot unpickle "
            f"({one_line(error)})",
            "keep the file of its class in a folder that all machines share, or load it from a spec",
        ) from error
    return unpickled


def _settings(classifier: Classifier) -> dict[str, Any]:
    names = ("mean", "std", "size", "resize", "interpolation", "labels", "spec", "weights", "configuration")
    return {name: getattr(classifier, name) for name in names}
