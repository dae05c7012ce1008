"""Watch one forward pass of a network: the operations it calls, the readers of their outputs, the modules that run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camdrift.layers.flow import Flow, Step
from camdrift.layers.hooks import around
from camdrift.layers.operations import (
    CONVOLUTION,
    FAMILY,
    first_tensor,
    is_handed_through,
    is_making,
    operation_name,
    tensors_in,
    version_of,
)
from camdrift.layers.state import held, tensors_of
from camdrift.layers.taps import Tap

# Far below what tells two images apart, and above what the position in a batch does to a row of a matrix product.
_SAME: Final = 1e-4


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
        step: Position among all steps of the pass.
        is_overwritten: Does anything write over the output after this call?
        is_output: Is the output what the network returns?
        is_transformed: Does it run inside a transform of `torch.func`, such as vmap?
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
    step: int = -1
    is_overwritten: bool = False
    is_output: bool = False
    is_transformed: bool = False

    @property
    def tap(self) -> Tap:
        """The tap of this call's output."""
        return Tap(self.index, self.operation, self.is_overwritten)


@dataclass
class Part:
    """One call of a module that is made of modules, as a trace saw it.

    Attributes:
        name: Dotted name of the module; empty for the network itself.
        module: The module.
        kind: Its type.
        number: Number of this call among the module's calls, from 0.
        first: Number of known operations called before it began.
        source_shape: Shape of the first tensor that it was given.
        unseen: Where that tensor has shape (images, tokens, channels): tokens that are the same for every image.
        last: Number of known operations called before it returned.
        shape: Shape of the first tensor that it returned.
        is_overwritten: Does anything write over that tensor afterwards?
    """

    name: str
    module: nn.Module
    kind: str
    number: int
    first: int
    source_shape: tuple[int, ...]
    unseen: tuple[int, ...]
    last: int = -1
    shape: tuple[int, ...] = ()
    is_overwritten: bool = False


@dataclass(frozen=True)
class Trace:
    """The record of one forward pass.

    Attributes:
        calls: The known operations in execution order.
        parts: Calls of modules that are made of modules, in the order in which they returned.
        shapes: Shapes of all tensors of four axes or more that were made on the way.
        flow: Every torch function, and which of them reads what.
        kernels: Calls of modules that hold a convolution's weights and called no convolution that is known.
    """

    calls: list[Call]
    parts: list[Part]
    shapes: frozenset[tuple[int, ...]]
    flow: Flow
    kernels: list[Part]


def kind_of(module: nn.Module) -> str:
    """Return the name of a module's type; of a part of an exported program, that of the type it was exported from."""
    return type_of(module).rpartition(".")[2]


def type_of(module: nn.Module) -> str:
    """Return the full name of a module's type; `kind_of` is its last part."""
    type_name = getattr(module, "type_name", None)
    name = type_name() if callable(type_name) else None
    return name if isinstance(name, str) else f"{type(module).__module__}.{type(module).__qualname__}"


def trace(module: nn.Module, forward: Callable[[], Any]) -> Trace:
    """Return the trace of one forward pass.

    Args:
        module: The network, for the names of its parts.
        forward: Runs the network once and returns its output.
    """
    tracer = _Tracer(kind_of(module), tensors_of(module))
    with torch.no_grad(), around(module, tracer.enter, tracer.leave), tracer:
        result = forward()
    return tracer.finish(result)


class _Tracer(TorchFunctionMode):
    """Record all steps and the known operations. Every tensor is kept, so that ids stay unique."""

    def __init__(self, kind: str, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.running = [("", kind)]
        self.open: list[Part | None] = []
        self.calls: list[Call] = []
        self.steps: list[Step] = []
        self.parts: list[Part] = []
        self.kernels: list[Part] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.alive: list[Any] = []
        self.outputs: list[tuple[Call | Step | Part, Tensor, int | None]] = []
        # What the network holds, and what is made of that alone, is no value of the image.
        self.made: set[int] = set()
        self.constants = {id(tensor) for tensor in tensors}
        self.producer: dict[int, tuple[int, Tensor]] = {}
        self.times: Counter[str] = Counter()
        self.is_looking = False

    def enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        """Note that a module begins."""
        kind = kind_of(module)
        self.running.append((name, kind))
        # The network itself may run on copies of its tensors.
        self.constants.update(id(tensor) for tensor in held(module, Tensor))
        is_leaf = next(module.children(), None) is None
        if is_leaf and not _holds_kernel(module):
            self.open.append(None)
            return
        source = first_tensor(inputs)
        shape = () if source is None else tuple(source.shape)
        self.is_looking = True
        unseen = () if source is None or is_leaf else _unseen(source)
        self.is_looking = False
        self.open.append(Part(name, module, kind, self.times[name], len(self.calls), shape, unseen))
        self.times[name] += 1

    def leave(self, _: str, module: nn.Module, output: Any) -> None:
        """Note that the module that began last returns."""
        self.running.pop()
        part, tensor = self.open.pop(), first_tensor(output)
        if part is None or tensor is None:
            return
        part.last, part.shape = len(self.calls), tuple(tensor.shape)
        if _holds_kernel(module) and not any(call.family == CONVOLUTION for call in self.calls[part.first :]):
            self.kernels.append(part)
        if next(module.children(), None) is None:
            return
        self.parts.append(part)
        self.outputs.append((part, tensor, version_of(tensor)))

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.is_looking:
            return func(*args, **(kwargs or {}))
        inputs = list(tensors_in([args, kwargs or {}]))
        versions = {id(tensor): version_of(tensor) for tensor in inputs}
        result = func(*args, **(kwargs or {}))
        name = operation_name(func)
        output = first_tensor(result)
        self.alive.append((inputs, result))
        if output is None and name != "__setitem__":
            return result
        if output is not None and output.ndim >= 4:
            self.shapes.add(tuple(output.shape))
        if output is not None and id(output) in versions and is_handed_through(output, versions[id(output)]):
            return result  # handed through, like dropout in evaluation mode
        self._record(name, inputs, result if output is not None else inputs[0])
        if output is None or id(output) in versions:
            self._rewrite(inputs[0] if output is None else output)
        return result

    def _record(self, name: str, inputs: Sequence[Tensor], result: Any) -> None:
        """Add a step, and the call where the function is a known one."""
        output = first_tensor(result)
        assert output is not None
        if is_making(name):
            self.constants.add(id(output))
            self.made.add(id(output))
            return
        family = FAMILY.get(name) if name != "__setitem__" else None
        sources = tuple(dict.fromkeys(self.producer[id(t)][0] for t in inputs if id(t) in self.producer))
        numbers = [t for t in inputs if id(t) not in self.producer]
        if family is None and not sources and all(id(tensor) in self.constants for tensor in numbers):
            self.constants.update(id(tensor) for tensor in tensors_in(result))
            return
        channels = output.shape[1] if output.ndim == 4 else output.shape[-1] if output.ndim else 1
        sizes = {id(tensor): tensor.numel() for tensor in numbers if id(tensor) not in self.made}
        is_plain = all(n == 1 or (n == channels and key in self.constants) for key, n in sizes.items())
        step = Step(name, tuple(output.shape), sources, None, is_plain, len(inputs) - len(numbers))
        self._tell_sources(sources, name, family)
        if family is not None:
            step.call = len(self.calls)
            self._call(name, family, inputs, output)
        for tensor in tensors_in(result):
            self.producer[id(tensor)] = (len(self.steps), tensor)
        self.outputs.append((step, output, version_of(output)))
        self.steps.append(step)

    def _tell_sources(self, sources: Sequence[int], name: str, family: str | None) -> None:
        """Tell the known operations among the sources of a step that it reads them."""
        for source in sources:
            place = self.steps[source].call
            if place is not None and family is None:
                self.calls[place].other_readers.append(name)
            elif place is not None:
                self.calls[place].readers.append(len(self.calls))

    def _call(self, name: str, family: str, inputs: Sequence[Tensor], output: Tensor) -> None:
        module, kind = self.running[-1]
        source_shape = tuple(inputs[0].shape) if inputs else ()
        call = Call(len(self.calls), name, family, module, kind, tuple(output.shape), source_shape)
        call.step, call.is_transformed = len(self.steps), _is_transformed(output)
        self.outputs.append((call, output, version_of(output)))
        self.calls.append(call)

    def _rewrite(self, output: Tensor) -> None:
        """Make the step that wrote to a tensor the producer of all that share its memory."""
        if id(output) not in self.producer or _is_transformed(output):
            return
        place, (step, _) = output.untyped_storage()._cdata, self.producer[id(output)]
        for _, tensor in list(self.producer.values()):
            if not _is_transformed(tensor) and tensor.untyped_storage()._cdata == place:
                self.producer[id(tensor)] = (step, tensor)

    def finish(self, result: Any) -> Trace:
        """Return the trace, once the network has returned `result`."""
        for source, output, version in self.outputs:
            source.is_overwritten = version is not None and output._version != version
        for tensor in tensors_in(result):
            if id(tensor) not in self.producer:
                continue
            step = self.steps[self.producer[id(tensor)][0]]
            step.is_output = True
            if step.call is not None:
                self.calls[step.call].is_output = True
        return Trace(self.calls, self.parts, frozenset(self.shapes), Flow(self.steps), self.kernels)


def _is_transformed(tensor: Tensor) -> bool:
    """Does a tensor live inside a transform of `torch.func`, where no gradient can begin?"""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _holds_kernel(module: nn.Module) -> bool:
    """Does a module hold weights of its own that look like those of a 2-d convolution?"""
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 4 and weight.shape[-1] * weight.shape[-2] > 1


def _unseen(source: Tensor) -> tuple[int, ...]:
    """Return the tokens of (images, tokens, channels) at which all images are alike."""
    if source.ndim != 3 or len(source) < 2 or source.is_meta or not source.is_floating_point():
        return ()
    spread = (source - source[:1]).abs().amax((0, 2))
    alike = spread <= _SAME * source.abs().amax((0, 2))
    return tuple(alike.nonzero().flatten().tolist())
