"""Read state dicts from files without running code, and load them into modules."""

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from camdrift.errors import ModelError, one_line


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict from a file into `module`; a .pt or .pth file is never unpickled freely.

    Raises:
        ModelError: No such file, another kind of file, or tensors that do not fit the module.
    """
    state = _strip_wrapping(read_state(path))
    own = module.state_dict()
    differences = {
        # Old checkpoints have no batch counters, which evaluation never reads.
        "missing": {name for name in own.keys() - state.keys() if not name.endswith("num_batches_tracked")},
        "unexpected": state.keys() - own.keys(),
        "of another shape": {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape},
    }
    problems = [f"{len(names)} {what} (first: {min(names)})" for what, names in differences.items() if names]
    if problems:
        raise ModelError(
            f"`weights` must fit the model, got: {path} with tensors {', '.join(problems)}",
            "use the weights of this very architecture and number of classes",
        )
    module.load_state_dict(state)


def read_state(path: Path) -> dict[str, Any]:
    """Return the content of a file of weights, by name.

    Raises:
        ModelError: No such file, another kind of file, or one that holds more than plain tensors.
    """
    if not path.is_file():
        raise ModelError(f"`weights` must be a file, got: {path} (no such file)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in (".pt", ".pth"):
            with warnings.catch_warnings(action="ignore"):  # of the version of pickle
                content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ModelError(f"`weights` must be a .safetensors, .pt or .pth file, got: {path.name}")
    except UnpicklingError as error:
        raise ModelError(
            f"`weights` must hold plain tensors, got: {path.name} with Python objects (not loaded: it could run code)",
            "save model.state_dict(), best as .safetensors",
        ) from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"`weights` could not be read, got: {path.name} ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelError(
            f"`weights` must hold a state dict, got: {path.name} with a {type(content).__name__}",
            "save model.state_dict()",
        )
    return content


def _strip_wrapping(state: dict[str, Any]) -> dict[str, Any]:
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    for prefix in ("module.", "_orig_mod.", "module."):  # data-parallel inside a compiled module, or around it
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise ModelError("`weights` must hold tensors by name, got: none", "save model.state_dict()")
    return tensors
