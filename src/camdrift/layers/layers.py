"""Find a network's layers and neurons in the trace of one forward pass."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from camdrift.errors import UserError
from camdrift.layers.blocks import NO_IMAGES, ONE_VALUE, Block, mixes_channels
from camdrift.layers.following import Course, follow
from camdrift.layers.operations import ACTIVATION, CONVOLUTION, LINEAR, NORM, OTHER_CONVOLUTION, POOL
from camdrift.layers.taps import AnyTap, ModuleTap, Tap
from camdrift.layers.tracing import Call, Part, Trace

CONV: Final = "conv"
BLOCK: Final = "block"
ALL, STAGE = "all", "stage"
SOFTMAX = "softmax"
# Images of a traced pass: two tell one row per image from one row per window and from one row for all images.
TRACED_IMAGES: Final = 2
TRANSFORMED: Final = (
    "it runs inside a transform of torch.func such as vmap, where no gradient can begin: call it in a loop"
)
UNKNOWN: Final = "it calls no convolution of torch, so that its norm and activation are not known"
LAYERS_HINT: Final = "`camdrift layers --model SPEC` lists the layers"


@dataclass(frozen=True)
class LayerInfo:
    """A layer of a classifier, as `camdrift layers` prints it.

    Attributes:
        name: Dotted module name; `name:2` for the second call of a module that runs several times.
        label: Display name.
        kind: Type of the module.
        shape: (channels, height, width) of the activation.
        tap: The place where the activation is taken, in words.
        note: Reason why the layer cannot be studied; empty if it can.
        family: conv, or block for the output of a whole module such as a residual or a transformer block.
    """

    name: str
    label: str
    kind: str
    shape: tuple[int, ...]
    tap: str
    note: str = ""
    family: str = CONV


@dataclass(frozen=True)
class Layer:
    """A convolution or a block, and the place where its activation is taken."""

    info: LayerInfo
    tap: AnyTap


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons of one layer, as neuron coverage counts them.

    Attributes:
        name: Layer name; `softmax` for the class probabilities.
        module: Dotted name of the module that holds the weights; empty where there is none.
        kind: convolution, pool, linear or softmax.
        tap: Tap of the layer's output; None for softmax.
        neurons: Number of neurons.
        channel_axis: Axis of the output that counts neurons.
    """

    name: str
    module: str
    kind: str
    tap: Tap | None
    neurons: int
    channel_axis: int


def _outranking(family: str) -> tuple[str, ...]:
    ranking = (CONVOLUTION, OTHER_CONVOLUTION, LINEAR, POOL, NORM, ACTIVATION)
    return ranking[: ranking.index(family)]


def call_names(calls: Sequence[Call]) -> list[str]:
    """Return a unique name per call: its module's dotted name, with `:2` for a second call of the same kind.

    Where one module calls a convolution and a pool itself, the pool is named `module.max_pool2d`.
    """
    times: Counter[tuple[str, str]] = Counter()
    total = Counter((call.module, call.family) for call in calls)
    names = []
    for call in calls:
        key = (call.module, call.family)
        times[key] += 1
        base = call.module or call.operation
        if call.module and any((call.module, family) in total for family in _outranking(call.family)):
            base = f"{base}.{call.operation}"
        names.append(f"{base}:{times[key]}" if total[key] > 1 else base)
    return names


def _note(call: Call, shape: tuple[int, ...]) -> str:
    if call.is_transformed:
        return TRANSFORMED
    if call.family == OTHER_CONVOLUTION:
        return "no 2-d convolution"
    if len(shape) != 4 or shape[0] != TRACED_IMAGES:
        return NO_IMAGES
    if shape[2] * shape[3] == 1:
        return ONE_VALUE
    return ""


def find_layers(trace: Trace, blocks: Sequence[Block]) -> list[Layer]:
    """Return the convolutions and the blocks of a network in execution order; a block comes behind what it holds.

    A convolution is tapped behind its norm and activation.

    Args:
        trace: Trace of a pass of `TRACED_IMAGES` images.
        blocks: The blocks of `find_blocks`.
    """
    places = [*_convolutions(trace), *_unknown_convolutions(trace.kernels)]
    names = {layer.info.name for _, layer in places}
    times = Counter(block.part.name for block in blocks)
    for block in blocks:
        part = block.part
        name = f"{part.name}:{part.number + 1}" if times[part.name] > 1 else part.name
        name = f"{name}.{BLOCK}" if name in names else name
        info = LayerInfo(name, name, part.kind, block.shape, _describe_block(block), block.note, BLOCK)
        tap = ModuleTap(part.name, part.module, part.number, part.is_overwritten, block.layout)
        places.append((part.last - 0.5, Layer(info, tap)))
    return [layer for _, layer in sorted(places, key=lambda pair: pair[0])]


def _convolutions(trace: Trace) -> list[tuple[float, Layer]]:
    """Return every convolution behind its place in the order of execution."""
    layers = []
    for call, name in zip(trace.calls, call_names(trace.calls), strict=True):
        if call.family not in (CONVOLUTION, OTHER_CONVOLUTION):
            continue
        course = follow(trace, call)
        info = LayerInfo(name, name, call.kind, course.shape[1:], course.describe(), _note(call, course.shape))
        layers.append((float(call.index), Layer(info, course.tap)))
    return layers


def _unknown_convolutions(parts: Sequence[Part]) -> list[tuple[float, Layer]]:
    """Return modules that convolve with other functions than convolutions, with a note, behind their places."""
    layers: list[tuple[float, Layer]] = []
    for part in parts:
        if len(part.shape) == 4:
            info = LayerInfo(part.name, part.name, part.kind, part.shape[1:], f"output of {part.kind}", UNKNOWN)
            tap = ModuleTap(part.name, part.module, part.number, part.is_overwritten)
            layers.append((part.last - 0.75, Layer(info, tap)))
    return list({layer.info.name: (place, layer) for place, layer in layers}.values())


def _describe_block(block: Block) -> str:
    layout, text = block.layout, f"output of {block.part.kind}"
    if layout.side:
        return f"{text}, {layout.side}x{layout.side} of {block.part.shape[1]} tokens"
    return text if layout.channel_axis == 1 else f"{text}, channels last"


def default_family(layers: Sequence[Layer], trace: Trace, blocks: Sequence[Block]) -> str:
    """Return the family to study by default: blocks where linear layers mix channels inside them, else convolutions.

    Where nothing of the one family has a map it is the other.
    """
    usable = {layer.tap for layer in layers if not layer.info.note}
    convolutions = any(isinstance(tap, Tap) for tap in usable)
    places = {(tap.name, tap.call) for tap in usable if isinstance(tap, ModuleTap)}
    with_map = [block for block in blocks if (block.part.name, block.part.number) in places]
    is_block = any(mixes_channels(block, trace) for block in with_map) or (with_map and not convolutions)
    return BLOCK if is_block else CONV


def reason_left_out(info: LayerInfo, family: str) -> str:
    """Return the reason why a layer is not studied by default, where `family` is; empty if the layer is studied."""
    if info.note or info.family == family:
        return info.note
    words = {CONV: "convolutions", BLOCK: "blocks"}
    return f"by default {words[family]} are studied: --layers {info.family}"


def select(infos: Sequence[LayerInfo], globs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the layers that `globs` mean, in execution order.

    Args:
        infos: All layers in execution order.
        globs: `conv`, `block`, `all`, `stage` (the last block of every resolution; the last convolution where there
            are no blocks), or globs over names and labels.

    Raises:
        UserError: A glob that matches nothing, or only layers without a map.
    """
    names: set[str] = set()
    for glob in globs:
        matches = _matches(infos, glob)
        usable = {info.name for info in matches if not info.note}
        if not usable:
            reason = f"{matches[0].name}: {matches[0].note}" if matches else "no such layer"
            raise UserError(f"`layers` must match layers with a map, got: {glob} ({reason})", LAYERS_HINT)
        names |= usable
    return tuple(info.name for info in infos if info.name in names)


def _matches(infos: Sequence[LayerInfo], glob: str) -> list[LayerInfo]:
    if glob in (CONV, BLOCK, ALL):
        return [info for info in infos if glob in (ALL, info.family)]
    if glob == STAGE:
        usable = [info for info in infos if not info.note]
        family = BLOCK if any(info.family == BLOCK for info in usable) else CONV
        return list({info.shape[1:]: info for info in usable if info.family == family}.values())
    return [info for info in infos if fnmatchcase(info.name, glob) or fnmatchcase(info.label, glob)]


def label_blocks(layers: Sequence[Layer], calls: Sequence[Call]) -> list[Layer]:
    """Return the layers with VGG's labels, `block1_conv1` onwards: a max-pool ends a block."""
    labels: dict[str, str] = {}
    block, position = 1, 0
    for call, name in zip(calls, call_names(calls), strict=True):
        if call.family == CONVOLUTION:
            position += 1
            labels[name] = f"block{block}_conv{position}"
        elif call.family == POOL and call.operation.startswith("max_pool2d"):
            block, position = block + 1, 0
    return [
        replace(layer, info=replace(layer.info, label=labels.get(layer.info.name, layer.info.label)))
        for layer in layers
    ]


def _is_identity_pool(call: Call) -> bool:
    return call.operation.startswith("adaptive") and call.shape[-2:] == call.source_shape[-2:]


def find_neurons(trace: Trace, classes: int) -> list[NeuronGroup]:
    """Return the groups of neurons of DLFuzz's coverage, in execution order.

    Neurons are the channels of every convolution, pool and linear output after its activation. The softmax units stand
    in place of the linear layer that yields the logits (Keras's `predictions` is one layer with its softmax). An
    adaptive pool that leaves the size as it is (torchvision's VGG at 224 px) does nothing and is not counted. Nor is an
    output that has not one row per image, such as those of attention inside windows.

    Args:
        trace: Trace of a pass of `TRACED_IMAGES` images.
        classes: Number of classes.
    """
    groups = []
    logits = ""
    for call, name in zip(trace.calls, call_names(trace.calls), strict=True):
        is_idle = call.is_transformed or (call.family == POOL and _is_identity_pool(call))
        if call.family not in (CONVOLUTION, LINEAR, POOL) or is_idle:
            continue
        course = follow(trace, call) if call.family != POOL else Course(trace, [call], ())
        if course.is_output:
            logits = call.module
            continue
        if len(course.shape) < 2 or course.shape[0] != TRACED_IMAGES:
            continue
        axis = -1 if call.family == LINEAR else 1
        groups.append(NeuronGroup(name, call.module, call.family, course.tap, course.shape[axis], axis))
    return [*groups, NeuronGroup(SOFTMAX, logits, SOFTMAX, None, classes, 1)]
