"""Networks of the user's own: a function in a file or module builds them, constants beside it describe their input."""

from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.export import ExportedProgram

from camdrift.errors import FOREIGN, ModelError, UserError, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.exported import unflatten
from camdrift.models.input_settings import InputSettings, input_settings
from camdrift.models.protocol import check_answers, is_protocol_model, names_of_classes, network_of
from camdrift.models.registry import SPECS_HINT
from camdrift.user_code import find_function, importing, module_folder

_CONSTANTS: Final = {"mean": "MEAN", "std": "STD", "size": "SIZE", "labels": "LABELS", "output": "OUTPUT"}


def from_factory(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build a network by the function that `spec` names; MEAN, STD, SIZE, LABELS and OUTPUT beside it count.

    Args:
        spec: path/to/file.py:function or package.module:function, which returns an `nn.Module`, an exported program, or
            a classifier of the protocol of maite that holds a network.
        weights: Without effect here: a function gives its network weights of its own.

    Raises:
        ModelError: There is no such function, it fails, or it returns something else; a classifier that answers
            otherwise than its network.
    """
    source, module = _made(spec)
    settings: dict[str, Any] = {}
    if isinstance(module, ExportedProgram):
        module, size = unflatten(module)
        settings |= {} if size is None else {"size": size}
    model = module if is_protocol_model(module) else None
    if model is not None:
        module, names = network_of(model), names_of_classes(model)
        settings |= {} if names is None else {"labels": names}
    if not isinstance(module, nn.Module):
        raise ModelError(f"`model` must return an nn.Module, got: {type(module).__name__} from {spec}")
    constants = {key: name for key, name in _CONSTANTS.items() if hasattr(source, name)}
    settings |= {key: getattr(source, name) for key, name in constants.items()}
    if constants.keys() & {"mean", "std"}:
        settings["configuration"] = f"{', '.join(constants.values())} of {Path(spec.rpartition(':')[0]).name}"
    description = input_settings(weights=f"factory {spec}", **settings)
    if model is not None:
        check_answers(model, Classifier(module.eval(), **vars(description)))
    return module, description


def _made(spec: str) -> tuple[Any, Any]:
    """The module of a factory, and what the factory returns.

    Raises:
        ModelError: There is no such function, or it fails.
    """
    # Factories import what lies beside them as often when they run as when they are imported.
    with importing(module_folder(spec.rpartition(":")[0])):
        try:
            source, factory = find_function(spec, option="model")
        except UserError as error:
            raise ModelError(error.message, SPECS_HINT) from error
        try:
            return source, factory()
        except FOREIGN as error:
            raise ModelError(f"`model` {spec} failed: {one_line(error)}") from error
