"""Read state dicts from files without running code, and load them into modules."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.errors import ModelError, one_line

# Endings of what torch.save writes; .tar is that of checkpoint.pth.tar.
_PICKLED: Final = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_KERAS: Final = "Keras's weights: --model keras-vgg16@FILE reads those of VGG-16"
_OTHER_FILES: Final = {
    ".pt2": "an exported program is a model by itself: --model FILE.pt2",
    ".h5": _KERAS,
    ".keras": _KERAS,
    ".onnx": "onnx2torch makes a torch module of it, which a factory can return: --model net.py:build",
    ".pkl": "save model.state_dict() as .safetensors",
    ".npz": "safetensors.torch.save_file({name: torch.tensor(array), ...}, 'weights.safetensors') converts it",
}
# Keys of checkpoints under which weights lie, in the order in which they are looked at; then any other.
_USUAL: Final = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "params", "module")
_COUNTER: Final = "num_batches_tracked"
# What averaging and training put beside the weights.
_NO_WEIGHTS: Final = ("n_averaged", "epoch", "step", "global_step")


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Load a state dict from a file into `module`, and return remarks on what was read of it.

    A checkpoint may hold several state dicts, each under a name, and names of tensors may begin with a prefix that the
    module's do not have, or lack one that they have. The first that fits is loaded.

    Raises:
        ModelError: No such file, another kind of file, or tensors that do not fit the module.
    """
    states = _states(read_state(path))
    if not states:
        raise ModelError("`weights` must hold tensors by name, got: none", "save model.state_dict()")
    own = module.state_dict()
    fits = [(name, fit) for name, state in states.items() for fit in _fits(own, state)]
    if not fits:
        raise _misfit(own, states, path)
    (name, fit), *others = fits
    module.load_state_dict({**own, **fit.tensors})
    return _remarks(path.name, (name, fit), others)


@dataclass(frozen=True)
class _Fit:
    """Tensors of a file by the names of a module.

    Attributes:
        tensors: The tensors.
        prefix: Beginning of their names in the file that the module's names do not have.
        added: Beginning of the module's names that those in the file do not have.
        left_out: Names of the file's other tensors.
    """

    tensors: dict[str, Tensor]
    prefix: str
    added: str
    left_out: tuple[str, ...]


def _states(content: Mapping[Any, Any], name: str = "", depth: int = 3) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by name that a checkpoint holds, by the keys that lead to them; usual keys first."""
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor) and isinstance(key, str)}
    states = {name: tensors} if tensors else {}
    inner = [key for key, value in content.items() if isinstance(value, Mapping) and isinstance(key, str)]
    for key in sorted(inner, key=lambda key: _USUAL.index(key) if key in _USUAL else len(_USUAL)):
        if depth:
            states |= _states(content[key], f"{name}.{key}".lstrip("."), depth - 1)
    return states


def _fits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[_Fit]:
    """Return every way in which the names of a state dict fit the module's; the plain one first."""
    anchor = max((name for name in own if not name.endswith(_COUNTER)), key=len, default="")
    prefixes = {name.removesuffix(anchor) for name in state if name == anchor or name.endswith(f".{anchor}")}
    parts = anchor.split(".")
    beginnings = [".".join(parts[:number]) + "." for number in range(1, len(parts))]
    fits = [_fit(own, state, prefix=prefix) for prefix in sorted(prefixes, key=len)]
    fits += [_fit(own, state, front=beginning) for beginning in beginnings]
    return [fit for fit in fits if fit is not None]


def _fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, prefix: str = "", front: str = "") -> _Fit | None:
    """Return the tensors without `prefix`, or with `front` before their names; None unless they fit the module."""
    tensors = {front + name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    tensors = {name: value for name, value in tensors.items() if name in own or name not in _NO_WEIGHTS}
    # Old checkpoints have no batch counters, which evaluation never reads.
    necessary = {name for name in own if not name.endswith(_COUNTER)}
    if not necessary <= tensors.keys() <= own.keys():
        return None
    if any(own[name].shape != value.shape for name, value in tensors.items()):
        return None
    others = tuple(name for name in state if not name.startswith(prefix) and name not in _NO_WEIGHTS)
    return _Fit(tensors, prefix, front, others)


def _remarks(file: str, choice: tuple[str, _Fit], others: Sequence[tuple[str, _Fit]]) -> tuple[str, ...]:
    """Return in words what of a file was loaded, where that is not all of it under the names of the module."""
    fit = choice[1]
    remarks = []
    if fit.prefix.replace("module.", "").replace("_orig_mod.", ""):
        remarks.append(f"weights: names in {file} are read without the prefix {fit.prefix}")
    if fit.added:
        remarks.append(f"weights: names in {file} are read with {fit.added} before them")
    if fit.left_out:
        remarks.append(f"weights: {len(fit.left_out)} other tensors of {file} are left out (first: {fit.left_out[0]})")
    if others:
        place, *rest = (f"{key} {each.prefix}".strip() or "the outermost" for key, each in (choice, *others))
        remarks.append(
            f"weights: {place} of {file} is loaded, not {', '.join(rest)}, which would fit as well: to study another "
            f"one, save it by itself: torch.save(torch.load('{file}')[KEY], 'other.pt')"
        )
    return tuple(remarks)


def _misfit(own: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]], path: Path) -> ModelError:
    """Return the error on the state dict that comes nearest to the module."""
    state = max(states.values(), key=lambda state: len(own.keys() & state.keys()))
    differences = {
        "missing": {name for name in own.keys() - state.keys() if not name.endswith(_COUNTER)},
        "unexpected": state.keys() - own.keys(),
        "of another shape": {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape},
    }
    problems = [f"{len(names)} {what} (first: {min(names)})" for what, names in differences.items() if names]
    hint = "use the weights of this very architecture and number of classes"
    if not own.keys() & state.keys():
        hint += "; no prefix before the names explains the difference"
    return ModelError(f"`weights` must fit the model, got: {path} with tensors {', '.join(problems)}", hint)


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
        if path.suffix in _PICKLED:
            with warnings.catch_warnings(action="ignore"):  # of the version of pickle
                content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            endings = f".safetensors, {', '.join(_PICKLED[:-1])} or {_PICKLED[-1]}"
            raise ModelError(f"`weights` must be a {endings} file, got: {path.name}", _OTHER_FILES.get(path.suffix, ""))
    except UnpicklingError as error:
        raise ModelError(
            f"`weights` must hold plain tensors, got: {path.name} with Python objects (not loaded: it could run code)",
            "save model.state_dict(), best as .safetensors; of a file that you trust: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pt')",
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
