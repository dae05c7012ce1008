"""Keep the activations of a network while it runs, and reduce the gradients that reach them.

Operations are seen through the torch functions that a network calls (`torch.overrides.TorchFunctionMode`), not through
its modules. So `F.relu(x)` counts like `nn.ReLU`, one module called three times is three calls, and nothing has to be
registered on the network itself. Only the output of a whole module is taken by a module hook, which is removed again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camdrift.layers.layouts import Layout
from camdrift.layers.operations import FAMILY, first_tensor, operation_name
from camdrift.layers.taps import AnyTap, ModuleTap, Tap

Receiver = Callable[[Tensor], None]
_T = TypeVar("_T")


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Hold the module in evaluation mode with frozen parameters; restore every flag afterwards, also after an error."""
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


@contextmanager
def around(
    module: nn.Module, before: Callable[[str, nn.Module, Any], None], after: Callable[[str, nn.Module, Any], None]
) -> Iterator[None]:
    """Report the beginning and the end of every call of the module and of its parts.

    Args:
        module: The network.
        before: Called with the part's dotted name, the part and its arguments.
        after: Called with the part's dotted name, the part and its output; None after an error.
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
    """Make gradients through batch norms right for a single image, too.

    On a CPU torch (seen in 2.15) reads the gradient of one image in the wrong order where its channels come last and
    the stride over images is that of no batch. `flatten(2).transpose(1, 2)`, which makes tokens, leads there.
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
    """Count the known operations, and hand the output of some of them to a function."""

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
        substitute = receive(output)
        return (substitute, *result[1:]) if isinstance(result, tuple) else substitute


class Capture:
    """Activations of one forward pass at named taps, with the graph that leads from them to the output."""

    def __init__(self) -> None:
        self.activations: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}
        self.roots: list[Tensor] = []

    def grid(self, name: str) -> Tensor:
        """Return the activation under `name`, shape (batch, channels, h, w), without its graph."""
        return self.layouts[name].grid(self.activations[name].detach())

    def keep(self, names: Sequence[str], output: Tensor, *, is_overwritten: bool) -> Tensor:
        """Keep `output` under each of `names`; return the tensor with which the network goes on.

        Where no gradient has started yet it starts here, so that a backward pass stops at this activation. An output
        that the network overwrites later is handed on as a copy: the in-place operation then changes the copy.
        """
        if not output.requires_grad:
            output.requires_grad_()
            self.roots.append(output)
        self.activations.update(dict.fromkeys(names, output))
        return output.clone() if is_overwritten else output


@contextmanager
def capturing(
    taps: Mapping[str, AnyTap], receivers: Mapping[Tap, Sequence[Receiver]] | None = None
) -> Iterator[Capture]:
    """Yield a `Capture` that one forward pass inside the block fills.

    Args:
        taps: Where to keep activations, by name. Needs gradients enabled.
        receivers: Functions to call with an activation; they must neither keep nor change it.

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
        tap: partial(_receive, capture, tap, tap_names, receivers.get(tap, ()) if isinstance(tap, Tap) else ())
        for tap, tap_names in names.items()
    }
    with _handling(handlers):
        yield capture
    if missing := taps.keys() - capture.activations.keys():
        raise RuntimeError(f"the model took another path than in its trace: {min(missing)} was not reached")


@contextmanager
def replacing(tap: AnyTap, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Make the network go on with `replace(activation)` in place of the tapped activation.

    Args:
        tap: Where.
        replace: Takes and returns (batch, channels, height, width); tokens off the grid stay as they are.
    """
    with _handling({tap: lambda output: tap.layout.fill(output, replace(tap.layout.grid(output)))}):
        yield


@contextmanager
def _handling(handlers: Mapping[AnyTap, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Make the network go on with the result of a tap's handler in place of the output there."""
    operations = {tap.index: (tap.operation, handle) for tap, handle in handlers.items() if isinstance(tap, Tap)}
    with ExitStack() as hooks:
        for tap, handle in handlers.items():
            if isinstance(tap, ModuleTap):
                hooks.callback(tap.module.register_forward_hook(_at_call(tap.call, handle)).remove)
        hooks.enter_context(_Watch(operations))
        yield


def _at_call(call: int, handle: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
    """Return a forward hook that hands the first tensor of the `call`-th output to `handle`."""
    calls = count()

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        first = first_tensor(output) if next(calls) == call else None
        if first is None:
            return None
        substitute = handle(first)
        return None if substitute is first else _with_first(output, substitute)

    return hook


def _with_first(value: Any, tensor: Tensor) -> Any:
    """Return a copy of `value` with its first tensor replaced."""
    if isinstance(value, Tensor):
        return tensor
    items = value.items() if isinstance(value, dict) else enumerate(value)
    place = next(key for key, item in items if first_tensor(item) is not None)
    container = copy(value) if isinstance(value, dict) else list(value)
    container[place] = _with_first(value[place], tensor)
    if not isinstance(value, tuple):
        return container
    return type(value)(*container) if hasattr(value, "_fields") else tuple(container)


def _receive(
    capture: Capture, tap: AnyTap, names: Sequence[str], receivers: Sequence[Receiver], output: Tensor
) -> Tensor:
    """Show a tapped output to all who wait for it; return the tensor with which the network goes on."""
    for receiver in receivers:
        receiver(output)
    return capture.keep(names, output, is_overwritten=tap.is_overwritten) if names else output


def reduce_gradients(
    score: Tensor,
    capture: Capture,
    reduce: Callable[[Tensor, Tensor], _T],
    *,
    retain_graph: bool = False,
) -> dict[str, _T]:
    """Return `reduce(activation, gradient of the score)` by name, of every activation that the score depends on.

    One backward pass serves all of them. It stops at the first activations and computes no parameter gradient. Every
    gradient is reduced as soon as it exists, so none is kept.

    Args:
        score: A scalar.
        capture: The activations that `capturing` kept while the score was computed.
        reduce: Called once per activation with two tensors of shape (batch, channels, height, width).
        retain_graph: Keep the graph for another call.
    """
    results: dict[str, _T] = {}
    names: dict[tuple[int, Layout], list[str]] = {}
    for name, activation in capture.activations.items():
        names.setdefault((id(activation), capture.layouts[name]), []).append(name)

    def receive(activation: Tensor, gradient: Tensor) -> None:
        for (owner, layout), same in names.items():
            if owner == id(activation):
                value = reduce(layout.grid(activation.detach()), layout.grid(gradient))
                results.update(dict.fromkeys(same, value))

    unique = {id(activation): activation for activation in capture.activations.values()}.values()
    handles = [activation.register_hook(partial(receive, activation)) for activation in unique]
    try:
        if score.requires_grad:
            torch.autograd.grad(score, capture.roots, retain_graph=retain_graph, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return results
