"""Read a network's layers and neurons out of the trace of one forward pass."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from camdrift.hooks import ACTIVATION, CONVOLUTION, LINEAR, NORM, POOL, Call, Tap
from camdrift.records import LayerInfo

SOFTMAX = "softmax"

# Images of a traced pass: two tell one row per image from one row per window and from one row for all images.
TRACED_IMAGES: Final = 2


@dataclass(frozen=True)
class Layer:
    """A convolution and the place where its activation is taken."""

    info: LayerInfo
    tap: Tap


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons of one layer, as neuron coverage counts them.

    Attributes:
        name: Layer name; `softmax` for the class probabilities.
        module: Dotted name of the module that holds the weights; empty where there is none.
        kind: convolution, pool, linear or softmax.
        tap: Where the layer's output is taken; None for softmax.
        neurons: How many.
        channel_axis: Axis of the output that counts neurons.
    """

    name: str
    module: str
    kind: str
    tap: Tap | None
    neurons: int
    channel_axis: int


def _outranking(family: str) -> tuple[str, ...]:
    ranking = (CONVOLUTION, LINEAR, POOL, NORM, ACTIVATION)
    return ranking[: ranking.index(family)]


def call_names(calls: Sequence[Call]) -> list[str]:
    """A unique name per call: its module's dotted name, with `:2` for a second call of the same kind.

    Where one module calls a convolution and a pool itself, the pool is named `module.max_pool2d`.
    """
    seen: Counter[tuple[str, str]] = Counter()
    total = Counter((call.module, call.family) for call in calls)
    names = []
    for call in calls:
        key = (call.module, call.family)
        seen[key] += 1
        base = call.module or call.operation
        if call.module and any((call.module, family) in total for family in _outranking(call.family)):
            base = f"{base}.{call.operation}"
        names.append(f"{base}:{seen[key]}" if total[key] > 1 else base)
    return names


def follow(calls: Sequence[Call], start: Call) -> list[Call]:
    """`start` and the norm and activation that alone and directly consume its output."""
    chain = [start]
    allowed = [NORM, ACTIVATION]
    while allowed and len(chain[-1].readers) == 1 and not chain[-1].other_readers and not chain[-1].is_output:
        reader = calls[chain[-1].readers[0]]
        if reader.family not in allowed:
            break
        chain.append(reader)
        allowed = [ACTIVATION] if reader.family == NORM else []
    return chain


def _describe_tap(calls: Sequence[Call], chain: Sequence[Call]) -> str:
    end = chain[-1]
    behind = " > ".join(call.operation for call in chain)
    if end.family == ACTIVATION:
        return behind
    readers = [calls[index].operation for index in end.readers] + end.other_readers
    return f"{behind}, then {', '.join(dict.fromkeys(readers)) or 'nothing'}"


def _note(shape: tuple[int, ...]) -> str:
    if len(shape) != 4 or shape[0] != TRACED_IMAGES:
        return "output is no (batch, channels, height, width)"
    if shape[2] * shape[3] == 1:
        return "1x1 output: a map of one value cannot move"
    return ""


def find_layers(calls: Sequence[Call]) -> list[Layer]:
    """Every 2-d convolution in execution order, tapped behind its norm and activation.

    Args:
        calls: Trace of a pass of `TRACED_IMAGES` images.
    """
    layers = []
    for call, name in zip(calls, call_names(calls), strict=True):
        if call.family != CONVOLUTION:
            continue
        chain = follow(calls, call)
        shape = chain[-1].shape
        info = LayerInfo(name, name, call.kind, shape[1:], _describe_tap(calls, chain), _note(shape))
        layers.append(Layer(info, chain[-1].tap))
    return layers


def label_blocks(layers: Sequence[Layer], calls: Sequence[Call]) -> list[Layer]:
    """The layers with VGG's names, `block1_conv1` onwards: a max-pool ends a block."""
    labels: dict[str, str] = {}
    block, position = 1, 0
    for call, name in zip(calls, call_names(calls), strict=True):
        if call.family == CONVOLUTION:
            position += 1
            labels[name] = f"block{block}_conv{position}"
        elif call.family == POOL and call.operation.startswith("max_pool2d"):
            block, position = block + 1, 0
    return [replace(layer, info=replace(layer.info, label=labels[layer.info.name])) for layer in layers]


def _is_identity_pool(call: Call) -> bool:
    return call.operation.startswith("adaptive") and call.shape[-2:] == call.source_shape[-2:]


def find_neurons(calls: Sequence[Call], classes: int) -> list[NeuronGroup]:
    """The groups of neurons of DLFuzz's coverage, in execution order.

    Channels of every convolution, pool and linear output after its activation, and the softmax units in place of
    the linear layer that yields the logits (Keras's `predictions` is one layer with its softmax). An adaptive pool
    that leaves the size as it is (torchvision's VGG at 224 px) does nothing and is not counted. Nor is an output
    that has not one row per image, such as those of attention inside windows.

    Args:
        calls: Trace of a pass of `TRACED_IMAGES` images.
        classes: Number of classes.
    """
    groups = []
    logits = ""
    for call, name in zip(calls, call_names(calls), strict=True):
        if call.family not in (CONVOLUTION, LINEAR, POOL) or (call.family == POOL and _is_identity_pool(call)):
            continue
        end = follow(calls, call)[-1] if call.family != POOL else call
        if end.is_output:
            logits = call.module
            continue
        if len(end.shape) < 2 or end.shape[0] != TRACED_IMAGES:
            continue
        axis = -1 if call.family == LINEAR else 1
        groups.append(NeuronGroup(name, call.module, call.family, end.tap, end.shape[axis], axis))
    return [*groups, NeuronGroup(SOFTMAX, logits, SOFTMAX, None, classes, 1)]
