"""Watch one forward pass of a network: the operations it calls, the readers of their outputs, the modules that run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camdrift.layers.hooks import around
from camdrift.layers.operations import FAMILY, first_tensor, operation_name, tensors_in
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
    """

    calls: list[Call]
    parts: list[Part]
    shapes: frozenset[tuple[int, ...]]


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
    tracer = _Tracer(kind_of(module))
    with torch.no_grad(), around(module, tracer.enter, tracer.leave), tracer:
        result = forward()
    return tracer.finish(result)


class _Tracer(TorchFunctionMode):
    """Record the known operations and the readers of their outputs. Every tensor is kept, so that ids stay unique."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.running = [("", kind)]
        self.open: list[Part | None] = []
        self.calls: list[Call] = []
        self.parts: list[Part] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.alive: list[Any] = []
        self.outputs: list[tuple[Call | Part, Tensor, int]] = []
        self.producer: dict[int, int] = {}
        self.times: Counter[str] = Counter()
        self.is_looking = False

    def enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        """Note that a module begins."""
        kind = kind_of(module)
        self.running.append((name, kind))
        if next(module.children(), None) is None:
            self.open.append(None)
            return
        source = first_tensor(inputs)
        shape = () if source is None else tuple(source.shape)
        self.is_looking = True
        unseen = () if source is None else _unseen(source)
        self.is_looking = False
        self.open.append(Part(name, module, kind, self.times[name], len(self.calls), shape, unseen))
        self.times[name] += 1

    def leave(self, _: str, __: nn.Module, output: Any) -> None:
        """Note that the module that began last returns."""
        self.running.pop()
        part, tensor = self.open.pop(), first_tensor(output)
        if part is None or tensor is None:
            return
        part.last, part.shape = len(self.calls), tuple(tensor.shape)
        self.parts.append(part)
        self.outputs.append((part, tensor, tensor._version))

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.is_looking:
            return func(*args, **(kwargs or {}))
        inputs = list(tensors_in([args, kwargs or {}]))
        versions = {id(tensor): tensor._version for tensor in inputs}
        result = func(*args, **(kwargs or {}))
        name = operation_name(func)
        output = first_tensor(result)
        self.alive.append((inputs, result))
        if output is None and name != "__setitem__":
            return result
        if output is not None and output.ndim >= 4:
            self.shapes.add(tuple(output.shape))
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
        module, kind = self.running[-1]
        source_shape = tuple(inputs[0].shape) if inputs else ()
        call = Call(len(self.calls), name, family, module, kind, tuple(output.shape), source_shape)
        self.producer[id(output)] = call.index
        self.outputs.append((call, output, output._version))
        self.calls.append(call)

    def finish(self, result: Any) -> Trace:
        """Return the trace, once the network has returned `result`."""
        for source, output, version in self.outputs:
            source.is_overwritten = output._version != version
        for tensor_id in {id(tensor) for tensor in tensors_in(result)} & set(self.producer):
            self.calls[self.producer[tensor_id]].is_output = True
        return Trace(self.calls, self.parts, frozenset(self.shapes))


def _unseen(source: Tensor) -> tuple[int, ...]:
    """Return the tokens of (images, tokens, channels) at which all images are alike."""
    if source.ndim != 3 or len(source) < 2 or source.is_meta or not source.is_floating_point():
        return ()
    spread = (source - source[:1]).abs().amax((0, 2))
    alike = spread <= _SAME * source.abs().amax((0, 2))
    return tuple(alike.nonzero().flatten().tolist())
