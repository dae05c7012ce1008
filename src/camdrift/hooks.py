"""Watch a network while it runs: which operations it calls, what they return, what gradients reach them.

A network is seen through the torch functions that it calls (`torch.overrides.TorchFunctionMode`), not through its
modules: so `F.relu(x)` counts like `nn.ReLU`, one module called three times is three calls, and nothing has to be
registered on the network itself. Only tracing puts module hooks on it, to learn names, and takes them off again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CONVOLUTION, NORM, ACTIVATION, POOL, LINEAR = "convolution", "norm", "activation", "pool", "linear"

_NAMES = {
    CONVOLUTION: "conv2d",
    NORM: "batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm",
    ACTIVATION: "relu relu_ relu6 hardtanh hardtanh_ leaky_relu leaky_relu_ prelu rrelu rrelu_ elu elu_ selu selu_ "
    "celu celu_ gelu silu mish hardswish hardsigmoid sigmoid sigmoid_ tanh tanh_ softplus softsign logsigmoid "
    "threshold threshold_ hardshrink softshrink tanhshrink clamp clamp_ clamp_min clamp_min_",
    POOL: "max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d adaptive_avg_pool2d adaptive_max_pool2d "
    "adaptive_max_pool2d_with_indices fractional_max_pool2d fractional_max_pool2d_with_indices",
    LINEAR: "linear",
}
FAMILY = {name: family for family, names in _NAMES.items() for name in names.split()}

Receiver = Callable[[Tensor], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Tap:
    """One place in a network's forward pass: the output of the `index`-th known operation.

    Attributes:
        index: Position among the operations of `FAMILY` that one forward pass calls.
        operation: Name of the torch function, checked at every pass.
        overwritten: Does the network overwrite this output in place later on?
    """

    index: int
    operation: str
    overwritten: bool


@dataclass
class Call:
    """One known operation, as a trace saw it.

    Attributes:
        index: Position among the known operations.
        operation: Name of the torch function.
        family: convolution, norm, activation, pool or linear.
        module: Dotted name of the innermost module that was running; empty for the network itself.
        kind: Type of that module.
        shape: Shape of the output.
        source_shape: Shape of the first input tensor.
        readers: Known operations that read the output, by index.
        other_readers: Names of the other torch functions that read it.
        is_overwritten: Does anything write over the output after this call?
        is_output: Is the output what the network returns?
    """

    index: int
    operation: str
    family: str
    module: str
    kind: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...]
    readers: list[int] = field(default_factory=list)
    other_readers: list[str] = field(default_factory=list)
    is_overwritten: bool = False
    is_output: bool = False

    @property
    def tap(self) -> Tap:
        """The place of this call's output."""
        return Tap(self.index, self.operation, self.is_overwritten)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside the block; every flag as it was after it, also after an error."""
    modes = [(part, part.training) for part in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        for part, _ in modes:
            part.training = False
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _first_tensor(value: Any) -> Tensor | None:
    return next(_tensors(value), None)


class _Tracer(TorchFunctionMode):
    """Records the known operations and who reads their outputs. Keeps every tensor alive, so that ids stay unique."""

    def __init__(self, modules: list[tuple[str, str]]) -> None:
        super().__init__()
        self.modules = modules
        self.calls: list[Call] = []
        self.alive: list[Any] = []
        self.outputs: list[tuple[Tensor, int]] = []
        self.producer: dict[int, int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        inputs = list(_tensors([args, kwargs or {}]))
        versions = {id(tensor): tensor._version for tensor in inputs}
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", type(func).__name__)
        output = _first_tensor(result)
        self.alive.append((inputs, result))
        if output is None and name != "__setitem__":
            return result
        if output is not None and versions.get(id(output)) == output._version:
            return result  # handed through, like dropout in evaluation mode
        self._record(name, inputs, output)
        return result

    def _record(self, name: str, inputs: list[Tensor], output: Tensor | None) -> None:
        family = FAMILY.get(name)
        sources = dict.fromkeys(self.producer[id(t)] for t in inputs if id(t) in self.producer)
        for source in sources:
            if family is None:
                self.calls[source].other_readers.append(name)
            else:
                self.calls[source].readers.append(len(self.calls))
        if output is None:
            return
        if family is None:
            self.producer.pop(id(output), None)
            return
        module, kind = self.modules[-1]
        source_shape = tuple(inputs[0].shape) if inputs else ()
        self.producer[id(output)] = len(self.calls)
        self.outputs.append((output, output._version))
        self.calls.append(Call(len(self.calls), name, family, module, kind, tuple(output.shape), source_shape))

    def finish(self, result: Any) -> list[Call]:
        for call, (output, version) in zip(self.calls, self.outputs, strict=True):
            call.is_overwritten = output._version != version
        returned = {id(tensor) for tensor in _tensors(result)}
        for tensor_id in returned & set(self.producer):
            self.calls[self.producer[tensor_id]].is_output = True
        return self.calls


def trace(module: nn.Module, forward: Callable[[], Any]) -> list[Call]:
    """The known operations of one forward pass, in execution order.

    Args:
        module: The network, for the names of its parts.
        forward: Runs the network once and returns what it returns.
    """
    running = [("", type(module).__name__)]
    handles: list[Any] = []
    tracer = _Tracer(running)
    try:
        for name, part in module.named_modules():
            entry = (name, type(part).__name__)
            handles.append(part.register_forward_pre_hook(lambda *_, entry=entry: running.append(entry)))
            handles.append(part.register_forward_hook(lambda *_: running.pop() and None, always_call=True))
        with torch.no_grad(), tracer:
            result = forward()
    finally:
        for handle in handles:
            handle.remove()
    return tracer.finish(result)


class _Watch(TorchFunctionMode):
    def __init__(self, at: Mapping[int, tuple[str, Callable[[Tensor], Tensor]]]) -> None:
        super().__init__()
        self.at = at
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") not in FAMILY:
            return func(*args, **(kwargs or {}))
        before = _first_tensor(args)
        version = None if before is None else before._version
        result = func(*args, **(kwargs or {}))
        output = _first_tensor(result)
        if output is None or (output is before and output._version == version):
            return result
        index, self.count = self.count, self.count + 1
        if index not in self.at:
            return result
        operation, receive = self.at[index]
        if func.__name__ != operation:
            raise RuntimeError(
                f"the model took another path than in its trace: call {index} was `{operation}`, got: `{func.__name__}`"
            )
        handed_on = receive(output)
        return (handed_on, *result[1:]) if isinstance(result, tuple) else handed_on


class Capture:
    """Activations of one forward pass at named taps, with the graph that leads from them to the output."""

    def __init__(self) -> None:
        self.activations: dict[str, Tensor] = {}
        self.roots: list[Tensor] = []

    def grid(self, name: str) -> Tensor:
        """The activation kept under `name`, shape (batch, channels, h, w), without its graph."""
        return self.activations[name].detach()

    def keep(self, names: Sequence[str], output: Tensor, *, overwritten: bool) -> Tensor:
        """The tensor to hand on to the network, after keeping `output` under each of `names`.

        Where the gradient has not started yet it starts here, so that a backward pass stops at this activation.
        What the network overwrites later is handed on as a copy: the in-place operation then changes the copy.
        """
        if not output.requires_grad:
            output.requires_grad_()
            self.roots.append(output)
        self.activations.update(dict.fromkeys(names, output))
        return output.clone() if overwritten else output


@contextmanager
def capturing(taps: Mapping[str, Tap], receivers: Mapping[Tap, Sequence[Receiver]] | None = None) -> Iterator[Capture]:
    """A `Capture` that one forward pass inside the block fills.

    Args:
        taps: Where to keep activations, by name. Needs gradients enabled.
        receivers: What else to call with an activation; it must neither keep nor change it.

    Raises:
        RuntimeError: The forward pass calls other operations than its trace did.
    """
    capture = Capture()
    receivers = receivers or {}
    names: dict[Tap, list[str]] = {tap: [] for tap in receivers}
    for name, tap in taps.items():
        names.setdefault(tap, []).append(name)

    handlers = {
        tap.index: (tap.operation, partial(_receive, capture, kept, receivers.get(tap, ()), tap.overwritten))
        for tap, kept in names.items()
    }
    with _Watch(handlers):
        yield capture


@contextmanager
def replacing(tap: Tap, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block the network goes on with `replace(activation)` in place of the tapped activation."""
    with _Watch({tap.index: (tap.operation, replace)}):
        yield


def _receive(
    capture: Capture, names: Sequence[str], receivers: Sequence[Receiver], overwritten: bool, output: Tensor
) -> Tensor:
    """What the network gets in place of a tapped output, after everybody has seen it."""
    for receiver in receivers:
        receiver(output)
    return capture.keep(names, output, overwritten=overwritten) if names else output


def reduce_gradients(
    score: Tensor,
    capture: Capture,
    reduce: Callable[[Tensor, Tensor], _T],
    *,
    retain_graph: bool = False,
) -> dict[str, _T]:
    """`reduce(activation, gradient of the score)` of every captured activation that the score depends on, by name.

    One backward pass for all of them. It stops at the first activations, computes no parameter gradient, and
    every gradient is reduced as soon as it exists, so none is kept.

    Args:
        score: A scalar.
        capture: What `capturing` filled while the score was computed.
        reduce: Called once per activation with two tensors of the same shape.
        retain_graph: Keep the graph for another call.
    """
    reduced: dict[str, _T] = {}
    names: dict[int, list[str]] = {}
    for name, activation in capture.activations.items():
        names.setdefault(id(activation), []).append(name)

    def receive(activation: Tensor, gradient: Tensor) -> None:
        value = reduce(activation.detach(), gradient)
        reduced.update(dict.fromkeys(names[id(activation)], value))

    unique = {id(activation): activation for activation in capture.activations.values()}.values()
    handles = [activation.register_hook(partial(receive, activation)) for activation in unique]
    try:
        if score.requires_grad:
            torch.autograd.grad(score, capture.roots, retain_graph=retain_graph, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return reduced
