"""Hold a network, and torch around it, in one state while passes run, and put everything back that a pass changes."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, Final

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

# What modules keep parts, tensors and hooks in, and what a pass may write to.
_CONTAINERS: Final = (dict, OrderedDict, list, set, deque)
# A longer list holds data, such as names of classes.
_MOST_ITEMS: Final = 1000
_BACKWARD_HOOKS: Final = ("_backward_hooks", "_backward_pre_hooks")
# What a block replaces in every module.
_REPLACED: Final = ("_buffers", *_BACKWARD_HOOKS)
_DEVICES: Final = ("cpu", "cuda", "mps", "xpu")
# Modes that watch what a network calls are not shown what is done around it, which would take longer than doing it.
_unwatched: Final = torch._C.DisableTorchFunction


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return the module and all modules in it, each once, also those that lie in plain lists, tuples, dictionaries."""
    parts: dict[int, nn.Module] = {}
    level: list[nn.Module] = [module]
    while level:
        new = {id(part): part for part in level if id(part) not in parts}
        parts |= new
        level = [inner for part in new.values() for inner in held(part, nn.Module)]
    return list(parts.values())


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Return parameters, buffers, and tensors that are mere attributes of a module or of its parts, each once."""
    return Inventory(module).tensors


class Inventory:
    """What a network is made of.

    Attributes:
        parts: The module and all modules in it.
        tensors: Parameters, buffers, and tensors that are mere attributes, each once.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parts = parts_of(module)
        self.tensors = list({id(tensor): tensor for part in self.parts for tensor in held(part, Tensor)}.values())


def held(part: nn.Module, kind: type) -> Iterable[Any]:
    """Return what a module itself holds of a kind, in attributes and in containers."""
    if not _is_of_torch(part):
        return _in(part, kind)
    if kind is nn.Module:
        return [child for child in part._modules.values() if child is not None] if part._modules else ()
    if not part._parameters and not part._buffers:
        return ()
    tensors = (*part._parameters.values(), *part._buffers.values())
    return [tensor for tensor in tensors if tensor is not None]


def _in(part: nn.Module, kind: type) -> Iterator[Any]:
    for name, value in vars(part).items():
        if isinstance(value, kind):
            yield value
        elif isinstance(value, (*_CONTAINERS, tuple)) and value and "_hooks" not in name:
            yield from _among(value, kind, depth=4)


def _among(container: Any, kind: type, depth: int) -> Iterator[Any]:
    if len(container) > _MOST_ITEMS and not isinstance(container, dict):
        return
    for value in container.values() if isinstance(container, dict) else container:
        if isinstance(value, kind):
            yield value
        elif depth and isinstance(value, (*_CONTAINERS, tuple)) and value:
            yield from _among(value, kind, depth - 1)


def backward_hooks(module: nn.Module) -> list[Any]:
    """Return the hooks on the backward pass of the module and of its parts."""
    return [hook for part in parts_of(module) for name in _BACKWARD_HOOKS for hook in getattr(part, name, {}).values()]


@contextmanager
def undisturbed(
    module: nn.Module, without: Sequence[Any] = (), *, outer: Inventory | None = None
) -> Iterator[Inventory]:
    """Hold the module in evaluation mode with frozen tensors, and put back afterwards whatever a pass changes.

    That are modes and flags, buffers and other tensors, attributes, and what lies in lists and dictionaries. Passes run
    on copies of the buffers. Nothing is computed again in the backward pass: `torch.utils.checkpoint` only calls.

    Args:
        module: The network. All is put back after an error, too.
        without: Hooks on the backward pass that are set aside.
        outer: What the block around this one yields, if the module is held already. Attributes, in which a library's
            hooks keep what they need in the backward pass, then stay until the outer block ends.

    Yields:
        What the module is made of, for blocks inside this one.
    """
    inventory = outer or Inventory(module)
    parts = inventory.parts
    modes = [(part, part.training) for part in parts]
    complete = [] if outer else [_PartState(part) for part in parts if _may_change(part)]
    with _unwatched():
        learnable = [tensor for tensor in inventory.tensors if tensor.requires_grad and tensor.is_leaf]
    places = [(vars(part), name) for part in parts for name in _REPLACED if vars(part).get(name)]
    originals = [(attributes, name, attributes[name]) for attributes, name in places]
    copies: dict[int, Tensor] = {}
    try:
        for tensor in learnable:
            tensor.requires_grad_(False)
        for part, is_training in modes:
            if is_training:
                _set_mode(part, False)
        for attributes, name, values in originals:
            attributes[name] = _set_aside(values, without) if name in _BACKWARD_HOOKS else _copies(values, copies)
        for state in complete:
            state.copy_tensors(copies)
        with _without_checkpoints():
            yield inventory
    finally:
        for part, is_training in modes:
            if part.training != is_training:
                _set_mode(part, is_training)
        for attributes, name, values in originals:
            attributes[name] = values
        for state in complete:
            state.restore()
        for tensor in learnable:
            tensor.requires_grad_(True)


def _set_mode(part: nn.Module, is_training: bool) -> None:
    if "training" in vars(part):
        vars(part)["training"] = is_training
    else:
        part.training = is_training  # of TorchScript


def _set_aside(hooks: Any, without: Sequence[Any]) -> Any:
    return OrderedDict((key, hook) for key, hook in hooks.items() if hook not in without) if without else hooks


def _copies(values: dict[str, Any], copies: dict[int, Tensor]) -> dict[str, Any]:
    """Copies of tensors that are no parameters, to which a pass may write; other values as they are."""
    for value in values.values():
        is_plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter | UninitializedBuffer)
        if is_plain and id(value) not in copies and _is_leaf(value):
            copies[id(value)] = _copy(value)
    return {name: copies.get(id(value), value) for name, value in values.items()}


def _is_leaf(tensor: Tensor) -> bool:
    with _unwatched():
        return tensor.is_leaf


def _copy(tensor: Tensor) -> Tensor:
    if type(tensor) is not Tensor:  # a type of the user's may copy in its own way
        return tensor.detach().clone()
    with _unwatched():
        return tensor.detach().clone()


def _is_of_torch(part: nn.Module) -> bool:
    """Is a module one of torch's own layers, which keeps nothing of a pass but buffers?"""
    return type(part).__module__.startswith("torch.nn.modules.")


def _may_change(part: nn.Module) -> bool:
    """May a pass change attributes of a module? A hook may give one to a module of torch, as old weight norms do."""
    return not _is_of_torch(part) or bool(part._forward_hooks or part._forward_pre_hooks)


class _PartState:
    """Attributes of one module, and what lies in those that are containers."""

    def __init__(self, part: nn.Module) -> None:
        self._part, self._attributes = part, dict(vars(part))
        values = [value for value in self._attributes.values() if type(value) in _CONTAINERS]
        self._containers = [(value, value.copy()) for value in values if value]
        self._empty = [value for value in values if not value]

    def copy_tensors(self, copies: dict[int, Tensor]) -> None:
        """Let a pass write to copies of the tensors that are attributes."""
        if not _is_of_torch(self._part):
            tensors = {name: value for name, value in self._attributes.items() if isinstance(value, Tensor)}
            vars(self._part).update(_copies(tensors, copies))

    def restore(self) -> None:
        """Make the module what it was."""
        attributes = vars(self._part)
        if "training" in attributes and attributes.keys() != self._attributes.keys():
            attributes.clear()
        attributes.update(self._attributes)
        for container in self._empty:
            if container:
                container.clear()
        for container, content in self._containers:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)


def _call(function: Any, _: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _once(*_: Any, **__: Any) -> Iterator[None]:
    yield


class _PlainCheckpoint:
    """Stands in place of torch's function that forgets activations, and computes them again in the backward pass."""

    apply = staticmethod(_call)


# By name in `torch.utils.checkpoint`: what it looks up there when it is called, and a stand-in that only calls.
_STAND_INS: Final = {
    name: (getattr(torch.utils.checkpoint, name), stand_in)
    for name, stand_in in (
        ("CheckpointFunction", _PlainCheckpoint),
        ("_checkpoint_without_reentrant_generator", _once),
        ("_checkpoint_without_reentrant_generator_impl", _once),
    )
    if hasattr(torch.utils.checkpoint, name)
}


class _CheckpointGuard:
    """Keeps checkpoints away as long as anyone is inside, in whatever thread."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A tap lets the gradient begin inside a checkpoint, so that the second computation would not be the first."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self._inside += more
            place = int(self._inside > 0)
            vars(torch.utils.checkpoint).update({name: both[place] for name, both in _STAND_INS.items()})


_without_checkpoints: Final = _CheckpointGuard()


@contextmanager
def shielded(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Keep out the caller's autocast, inference mode, anomaly detection and default type; put them back afterwards.

    Args:
        dtype: Default type inside the block.
    """
    before, has_gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(dtype)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        # Leaving inference mode switches gradients on, and a network may leave them switched off.
        stack.enter_context(torch.set_grad_enabled(has_gradients))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        yield
