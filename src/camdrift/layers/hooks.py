"""Keep what a network computes while it runs, and reduce the gradients that reach it.

Operations are seen through the torch functions that a network calls (`torch.overrides.TorchFunctionMode`), not through
its modules: so `F.relu(x)` counts like `nn.ReLU`, one module called three times is three calls, and nothing has to be
registered on the network itself. Only the output of a whole module is taken by a module hook, which is taken off again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camdrift.layers.layouts import GRID, Layout

CONVOLUTION, NORM, ACTIVATION, POOL, LINEAR = "convolution", "norm", "activation", "pool", "linear"

_NAMES = {
    CONVOLUTION: "conv2d convolution",
    NORM: "batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm "
    "native_batch_norm _native_batch_norm_legit_no_training native_group_norm native_layer_norm",
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

    @property
    def layout(self) -> Layout:
        """Operations are tapped where they return (batch, channels, height, width)."""
        return GRID


@dataclass(frozen=True)
class ModuleTap:
    """Another place in a network's forward pass: the first tensor that one call of a module returns.

    Attributes:
        name: Dotted name of the module.
        module: The module.
        call: Which of its calls, from 0.
        overwritten: Does the network overwrite this output in place later on?
        layout: Where in the output channels and positions lie.
    """

    name: str
    module: nn.Module
    call: int
    overwritten: bool
    layout: Layout = GRID


AnyTap = Tap | ModuleTap


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


def operation_name(func: Any) -> str:
    """Name of a torch function; that of an exported program's `conv2d.default` is `conv2d`."""
    return str(getattr(func, "__name__", type(func).__name__)).partition(".")[0]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def first_tensor(value: Any) -> Tensor | None:
    """The first of `tensors_in`."""
    return next(tensors_in(value), None)


def _with_first(value: Any, tensor: Tensor) -> Any:
    """`value` with its first tensor replaced."""
    if isinstance(value, Tensor):
        return tensor
    items = value.items() if isinstance(value, dict) else enumerate(value)
    place = next(key for key, item in items if first_tensor(item) is not None)
    changed = copy(value) if isinstance(value, dict) else list(value)
    changed[place] = _with_first(value[place], tensor)
    if not isinstance(value, tuple):
        return changed
    return type(value)(*changed) if hasattr(value, "_fields") else tuple(changed)


@contextmanager
def around(
    module: nn.Module, before: Callable[[str, nn.Module, Any], None], after: Callable[[str, nn.Module, Any], None]
) -> Iterator[None]:
    """Inside the block every call of the module and of all its parts is announced, and reported when it is over.

    Args:
        module: The network.
        before: Called with the part's dotted name, the part and its arguments.
        after: Called with the part's dotted name, the part and what it returned; None after an error.
    """
    with ExitStack() as handles:
        for name, part in module.named_modules():

            def enter(part: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                before(name, part, [args, kwargs])

            def leave(part: nn.Module, _: Any, output: Any, name: str = name) -> None:
                after(name, part, output)

            handles.callback(part.register_forward_pre_hook(enter, with_kwargs=True).remove)
            handles.callback(part.register_forward_hook(leave, always_call=True).remove)
        yield


class SoundGradients(TorchFunctionMode):
    """Inside the block gradients through batch norms are right for a single image, too.

    On a CPU torch (seen in 2.15) reads the gradient of one image in the wrong order where its channels come last and
    the stride over images is that of no batch, as it is where `flatten(2).transpose(1, 2)` has made tokens.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if "batch_norm" in operation_name(func):
            output = first_tensor(result)
            if output is not None and output.requires_grad:
                output.register_hook(_with_plain_strides)
        return result


def _with_plain_strides(gradient: Tensor) -> Tensor:
    return gradient if gradient.stride(0) == gradient[0].numel() else gradient.contiguous()


class _Watch(TorchFunctionMode):
    def __init__(self, at: Mapping[int, tuple[str, Callable[[Tensor], Tensor]]]) -> None:
        super().__init__()
        self.at = at
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operation_name(func)
        if name not in FAMILY:
            return func(*args, **(kwargs or {}))
        before = first_tensor(args)
        version = None if before is None else before._version
        result = func(*args, **(kwargs or {}))
        output = first_tensor(result)
        if output is None or (output is before and output._version == version):
            return result
        index, self.count = self.count, self.count + 1
        if index not in self.at:
            return result
        operation, receive = self.at[index]
        if name != operation:
            raise RuntimeError(
                f"the model took another path than in its trace: call {index} was `{operation}`, got: `{name}`"
            )
        handed_on = receive(output)
        return (handed_on, *result[1:]) if isinstance(result, tuple) else handed_on


class Capture:
    """Activations of one forward pass at named taps, with the graph that leads from them to the output."""

    def __init__(self) -> None:
        self.activations: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}
        self.roots: list[Tensor] = []

    def grid(self, name: str) -> Tensor:
        """The activation kept under `name`, shape (batch, channels, h, w), without its graph."""
        return self.layouts[name].grid(self.activations[name].detach())

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
def capturing(
    taps: Mapping[str, AnyTap], receivers: Mapping[Tap, Sequence[Receiver]] | None = None
) -> Iterator[Capture]:
    """A `Capture` that one forward pass inside the block fills.

    Args:
        taps: Where to keep activations, by name. Needs gradients enabled.
        receivers: What else to call with an activation; it must neither keep nor change it.

    Raises:
        RuntimeError: The forward pass calls other operations, or other modules, than its trace did.
    """
    capture = Capture()
    receivers = receivers or {}
    names: dict[AnyTap, list[str]] = {tap: [] for tap in receivers}
    for name, tap in taps.items():
        names.setdefault(tap, []).append(name)
        capture.layouts[name] = tap.layout
    handlers = {
        tap: partial(_receive, capture, kept, receivers.get(tap, ()) if isinstance(tap, Tap) else (), tap.overwritten)
        for tap, kept in names.items()
    }
    with _handling(handlers):
        yield capture
    if missing := taps.keys() - capture.activations.keys():
        raise RuntimeError(f"the model took another path than in its trace: {min(missing)} was not reached")


@contextmanager
def replacing(tap: AnyTap, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block the network goes on with `replace(activation)` in place of the tapped activation.

    Args:
        tap: Where.
        replace: Takes and returns (batch, channels, height, width); tokens off the grid stay as they are.
    """
    with _handling({tap: lambda output: tap.layout.fill(output, replace(tap.layout.grid(output)))}):
        yield


@contextmanager
def _handling(handlers: Mapping[AnyTap, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Inside the block the network goes on with what the handler of a tap makes of the output there."""
    operations = {tap.index: (tap.operation, handle) for tap, handle in handlers.items() if isinstance(tap, Tap)}
    with ExitStack() as hooks:
        for tap, handle in handlers.items():
            if isinstance(tap, ModuleTap):
                hooks.callback(tap.module.register_forward_hook(_at_call(tap.call, handle)).remove)
        hooks.enter_context(_Watch(operations))
        yield


def _at_call(call: int, handle: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
    """A forward hook that hands the first tensor of the `call`-th output to `handle`."""
    calls = count()

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        first = first_tensor(output) if next(calls) == call else None
        if first is None:
            return None
        handed_on = handle(first)
        return None if handed_on is first else _with_first(output, handed_on)

    return hook


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
        reduce: Called once per activation with two tensors of shape (batch, channels, height, width).
        retain_graph: Keep the graph for another call.
    """
    reduced: dict[str, _T] = {}
    names: dict[tuple[int, Layout], list[str]] = {}
    for name, activation in capture.activations.items():
        names.setdefault((id(activation), capture.layouts[name]), []).append(name)

    def receive(activation: Tensor, gradient: Tensor) -> None:
        for (owner, layout), same in names.items():
            if owner == id(activation):
                value = reduce(layout.grid(activation.detach()), layout.grid(gradient))
                reduced.update(dict.fromkeys(same, value))

    unique = {id(activation): activation for activation in capture.activations.values()}.values()
    handles = [activation.register_hook(partial(receive, activation)) for activation in unique]
    try:
        if score.requires_grad:
            torch.autograd.grad(score, capture.roots, retain_graph=retain_graph, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return reduced
