"""Keep the activations of a network while it runs, and reduce the gradients that reach them.

Operations are seen through the torch functions that a network calls (`torch.overrides.TorchFunctionMode`), not through
its modules. So `F.relu(x)` counts like `nn.ReLU`, one module called three times is three calls, and nothing has to be
registered on the network itself. Only the output of a whole module is taken by a module hook, which is removed again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

from camdrift.layers.layouts import Layout
from camdrift.layers.operations import (
    FAMILY,
    first_tensor,
    is_handed_through,
    operation_name,
    tensors_in,
    version_of,
)
from camdrift.layers.taps import AnyTap, HandStep, ModuleTap, Tap

Receiver = Callable[[Tensor], None]
_T = TypeVar("_T")


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
    """Make gradients through batch norms and instance norms right for a single image, too.

    On a CPU torch (seen in 2.15) reads the gradient of one image in the wrong order where its channels come last:
    behind a batch norm if the stride over images is that of no batch, behind an instance norm always. `flatten(2)
    .transpose(1, 2)`, which makes tokens, leads there, and so does a network in channels-last order.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = operation_name(func)
        change = _CHANGES["instance_norm" in name] if "instance_norm" in name or "batch_norm" in name else None
        if change is not None:
            output = first_tensor(result)
            if output is not None and output.requires_grad and len(output) == 1:
                output.register_hook(change)
        return result


def _with_plain_strides(gradient: Tensor) -> Tensor:
    return gradient if gradient.stride(0) == gradient[0].numel() else gradient.contiguous()


_CHANGES: Final = {True: Tensor.contiguous, False: _with_plain_strides}

# What is done at a tap: the output that it takes, and the output with which the network goes on.
_Handler = Callable[[Tensor], Tensor]


class _ByHand:
    """Recognise the functions of a tap's `by_hand` among all others, by their names and by what they read."""

    def __init__(self, tap: Tap, handle: _Handler, start: Tensor) -> None:
        self.steps = {step: number for number, step in enumerate(tap.by_hand, 1)}
        self.handle = handle
        # Tensors are kept, so that ids stay unique.
        self.numbers: dict[int, tuple[int, Tensor]] = {id(start): (0, start)}

    def is_last(self, name: str, inputs: Sequence[Tensor], output: Tensor) -> bool:
        """Take note of a function; return whether the tap is behind it."""
        sources = {self.numbers[id(tensor)][0] for tensor in inputs if id(tensor) in self.numbers}
        number = self.steps.get(HandStep(name, tuple(sorted(sources)))) if sources else None
        if number is not None:
            self.numbers[id(output)] = (number, output)
        return number == len(self.steps)


class _Watch(TorchFunctionMode):
    """Count the known operations, and hand the output of some of them to a function."""

    def __init__(self, handlers: Mapping[Tap, _Handler], capture: "Capture | None") -> None:
        super().__init__()
        self.at: dict[int, list[tuple[Tap, _Handler]]] = {}
        for tap, handle in handlers.items():
            self.at.setdefault(tap.index, []).append((tap, handle))
        self.capture = capture
        self.by_hand: list[_ByHand] = []
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operation_name(func)
        if self.capture is not None and self.capture.waiting and torch.is_grad_enabled():
            self.capture.begin(tensors_in([args, kwargs or {}]))
        if name not in FAMILY and not self.by_hand:
            return func(*args, **(kwargs or {}))
        inputs = list(tensors_in([args, kwargs or {}])) if self.by_hand else []
        before = first_tensor(args)
        version = None if before is None else version_of(before)
        result = func(*args, **(kwargs or {}))
        output = first_tensor(result)
        if output is None or (output is before and is_handed_through(output, version)):
            return result
        substitute = self._at_step(name, inputs, output)
        if name in FAMILY:
            substitute = self._at_call(name, substitute)
        if substitute is output:
            return result
        return (substitute, *result[1:]) if isinstance(result, tuple) else substitute

    def _at_step(self, name: str, inputs: Sequence[Tensor], output: Tensor) -> Tensor:
        """Return the tensor with which the network goes on behind an activation that is written by hand."""
        for activation in list(self.by_hand):
            if activation.is_last(name, inputs, output):
                self.by_hand.remove(activation)
                output = activation.handle(output)
        return output

    def _at_call(self, name: str, output: Tensor) -> Tensor:
        """Return the tensor with which the network goes on behind a known operation."""
        index, self.count = self.count, self.count + 1
        for tap, handle in self.at.get(index, ()):
            if name != tap.operation:
                raise RuntimeError(
                    f"the model took another path than in its trace: call {index} was `{tap.operation}`, got: `{name}`"
                )
            if tap.by_hand:
                self.by_hand.append(_ByHand(tap, handle, output))
            else:
                output = handle(output)
        return output


class Capture:
    """Activations of one forward pass at named taps, with the graph that leads from them to the output."""

    def __init__(self) -> None:
        self.activations: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}
        self.roots: list[Tensor] = []
        # Made where gradients are off; a gradient begins there once they are read where gradients are on.
        self.waiting: dict[int, Tensor] = {}

    def grid(self, name: str) -> Tensor:
        """Return the activation under `name`, shape (batch, channels, h, w), without its graph."""
        return self.layouts[name].grid(self.activations[name].detach())

    def keep(self, names: Sequence[str], output: Tensor, *, is_overwritten: bool) -> Tensor:
        """Keep `output` under each of `names`; return the tensor with which the network goes on.

        Where no gradient has started yet it starts here, so that a backward pass stops at this activation. An output
        that the network overwrites later is handed on as a copy: the in-place operation then changes the copy.
        """
        if output.is_inference():
            with torch.inference_mode(False):
                output = output.clone()
        if not output.requires_grad:
            self.waiting[id(output)] = output
        if torch.is_grad_enabled():
            self.begin([output])
        self.activations.update(dict.fromkeys(names, output))
        return output.clone() if is_overwritten else output

    def begin(self, tensors: Iterable[Tensor]) -> None:
        """Let the gradient begin at those of these tensors that wait for it."""
        for tensor in tensors:
            if self.waiting.pop(id(tensor), None) is not None and not tensor.requires_grad:
                tensor.requires_grad_()
                self.roots.append(tensor)


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
    with _handling(handlers, capture):
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
def _handling(handlers: Mapping[AnyTap, _Handler], capture: Capture | None = None) -> Iterator[None]:
    """Make the network go on with the result of a tap's handler in place of the output there."""
    operations = {tap: handle for tap, handle in handlers.items() if isinstance(tap, Tap)}
    with ExitStack() as hooks:
        for tap, handle in handlers.items():
            if isinstance(tap, ModuleTap):
                hooks.callback(tap.module.register_forward_hook(_at_call(tap.call, handle)).remove)
        hooks.enter_context(_Watch(operations, capture))
        yield


def _at_call(call: int, handle: _Handler) -> Callable[[nn.Module, Any, Any], Any]:
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
    handles = [a.register_hook(partial(receive, a)) for a in unique if a.requires_grad]
    try:
        if score.requires_grad:
            ends, are_ours = _beginnings(score, capture.roots)
            torch.autograd.grad(score, ends, retain_graph=retain_graph or not are_ours, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return results


def _beginnings(score: Tensor, roots: Sequence[Tensor]) -> tuple[list[Any], bool]:
    """Return where the gradients of a score end, and whether they all end at `roots`.

    Others end at learnable tensors that the network does not list, such as those of a closure.
    """
    ours = {id(root) for root in roots}
    others: list[GradientEdge] = []
    nodes: set[Any] = {None}
    waiting: list[Any] = [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, "variable") and id(node.variable) not in ours:
            others.append(GradientEdge(node, 0))
        waiting.extend(following for following, _ in node.next_functions)
    return [*roots, *others], not others
