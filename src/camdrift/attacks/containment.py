"""A network around an attack of a library: kept as it is, and put back after every image."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.attacks.seeding import seeded
from camdrift.models.classifier import Classifier

# Hooks, parameters, buffers and sub-modules of a module lie in such containers, and so do lists of its own.
_CONTAINERS: Final = (dict, OrderedDict, set, list)
# What changes a network's answers, in words; hooks lie in attributes of many names.
_HOOKS: Final = "hooks"
_TENSORS: Final = "weights and buffers"
_KINDS: Final = {"_modules": "sub-modules", "_parameters": _TENSORS, "_buffers": _TENSORS, "forward": "functions"}
# These are compared as attributes, too, not by content alone.
_WATCHED: Final = ("forward", "_modules", "_parameters", "_buffers")
_TENSOR_HOOKS: Final = ("_backward_hooks", "_post_accumulate_grad_hooks")


class Containment:
    """Undoes everything that a library does to a classifier's network, but for the answer of its attack.

    The network is kept as it is when this is made. Kept are weights, buffers and other tensors; gradients and flags;
    and of every module mode, class, attributes (also a `forward` of its own), sub-modules and hooks, with the hooks
    that torch holds for all modules and those on tensors. It takes as much memory as the weights.

    Attributes:
        traces: What the last block left behind, counted in words; flags, modes and gradients do not count.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.traces: list[str] = []
        self._modules = [*classifier.module.modules()]
        self._parts = [_PartState(part) for part in self._modules]
        self._tensors = [_TensorState(tensor) for tensor in _tensors(classifier.module)]
        self._for_all_modules = _NamespaceState(_for_all_modules())

    @contextmanager
    def around(self, seed: int) -> Iterator[None]:
        """Inside the block the network is in evaluation mode, frozen, and without gradients of its parameters.

        torch, NumPy and Python draw from `seed` on, and gradients are enabled. After the block everything is as it was,
        and what was printed is dropped.
        """
        classifier = self._classifier
        quiet, kinds = redirect_stdout(io.StringIO()), list[str]()
        try:
            with classifier.undisturbed(), seeded(seed, classifier.device), torch.enable_grad(), quiet:
                for tensor in self._tensors:
                    tensor.drop_gradient()
                # What is held still is put back without a word at the end of the block: it is compared before.
                parts = [_PartState(part) for part in self._modules]
                try:
                    yield
                finally:
                    kinds += [kind for part in parts for kind in part.restore()]
        finally:
            self._restore(kinds)

    def _restore(self, kinds: list[str]) -> None:
        kinds += [kind for part in self._parts for kind in part.restore()]
        kinds += [kind for tensor in self._tensors for kind in tensor.restore()]
        vars(nn.modules.module).update(self._for_all_modules.content)
        kinds += [f"{kind} for all modules" for kind in self._for_all_modules.refill()]
        self.traces = [f"{kind}: {kinds.count(kind)}" for kind in dict.fromkeys(kinds)]


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and tensors that are mere attributes, each once."""
    attributes = [value for part in network.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    # What was computed from others is computed anew.
    leaves = [value for value in attributes if value.is_leaf]
    return list({id(tensor): tensor for tensor in (*network.parameters(), *network.buffers(), *leaves)}.values())


def _for_all_modules() -> dict[str, Any]:
    """What torch keeps of hooks on every module there is."""
    return {name: value for name, value in vars(nn.modules.module).items() if name.startswith("_global_")}


class _NamespaceState:
    """Names with their values, and the content of those values that are containers."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.content = dict(namespace)
        self._containers = [
            (name, value, value.copy()) for name, value in self.content.items() if type(value) in _CONTAINERS
        ]

    def refill(self) -> list[str]:
        """Give every container the content that it had; return the kinds of things that had changed."""
        kinds = [_kind(name) for name, *both in self._containers if _things(both[0]) != _things(both[1])]
        for _, container, content in self._containers:
            _refill(container, content)
        return [kind for kind in kinds if kind]


class _PartState:
    """One module of a network: its class, its attributes, and what lies in them."""

    def __init__(self, part: nn.Module) -> None:
        self._part, self._kind = part, type(part)
        self._attributes = _NamespaceState(vars(part))

    def restore(self) -> list[str]:
        """Make the module what it was; return the kinds of things that had changed."""
        before, now = self._attributes.content, vars(self._part)
        kinds = [_kind(name) for name in _WATCHED if before.get(name) is not now.get(name)]
        if type(self._part) is not self._kind:
            # Parametrisations make a class of their own.
            self._part.__class__ = self._kind
            kinds.append("classes of modules")
        _refill(vars(self._part), self._attributes.content)
        return kinds + self._attributes.refill()


class _TensorState:
    """A parameter or another tensor: its values, where they lie, its gradient and its hooks."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._place, self._values = tensor, tensor.data, tensor.detach().clone()
        self._gradient, self._is_frozen = tensor.grad, not tensor.requires_grad
        self._hooks = {name: dict(getattr(tensor, name) or {}) for name in _TENSOR_HOOKS}

    def drop_gradient(self) -> None:
        """Leave the tensor without a gradient."""
        self._tensor.grad = None

    def restore(self) -> list[str]:
        """Make the tensor what it was; values that have not changed are not written. Return the kinds of changes."""
        kinds = []
        if _layout(self._tensor) != _layout(self._place):
            self._tensor.data = self._place
            kinds = [_TENSORS]
        if not torch.equal(self._place, self._values):
            # NaN is never equal.
            kinds = kinds if _are_alike(self._place, self._values) else [_TENSORS]
            self._place.copy_(self._values)
        self._tensor.requires_grad_(not self._is_frozen)
        self._tensor.grad = self._gradient
        for name, hooks in self._hooks.items():
            # A tensor goes on to call the hooks in a dictionary that it was once given.
            if (container := getattr(self._tensor, name)) is not None:
                kinds += [_HOOKS] if _things(container) != _things(hooks) else []
                _refill(container, hooks)
        return kinds


def _kind(name: str) -> str:
    """The kind of thing that an attribute of a module holds, in words; empty for one that changes no answer."""
    return _HOOKS if "hooks" in name else _KINDS.get(name, "")


def _things(container: Any) -> Any:
    """What lies in a container, to compare: tensors and hooks by identity."""
    if isinstance(container, dict):
        return [(name, id(value)) for name, value in container.items()]
    return {id(value) for value in container}


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _refill(container: Any, content: Any) -> None:
    """Give a dictionary, set or list other content; it stays the same object, which others may hold."""
    if container or content:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(content)
