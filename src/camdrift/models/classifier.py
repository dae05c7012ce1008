"""An image classifier that owns its normalisation and knows its layers by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from camdrift.errors import FOREIGN, ModelError, UserError, one_line
from camdrift.layers import hooks
from camdrift.layers.blocks import UNREAD, Block, find_blocks, first_mixer, half_changed, in_order, without_grid
from camdrift.layers.layers import (
    LAYERS_HINT,
    TRACED_IMAGES,
    Layer,
    LayerInfo,
    NeuronGroup,
    default_family,
    find_layers,
    find_neurons,
    label_blocks,
    select,
)
from camdrift.layers.operations import first_tensor
from camdrift.layers.state import Inventory, backward_hooks, shielded, undisturbed
from camdrift.layers.taps import AnyTap, Tap
from camdrift.layers.tracing import Part, Trace, trace
from camdrift.models.arithmetic import arithmetic
from camdrift.models.contract import check_logits, check_tensors, unwrap
from camdrift.models.head_specs import HeadRecord
from camdrift.models.input_settings import input_settings
from camdrift.models.memory import is_out_of_memory
from camdrift.models.outputs import Output, choose_output
from camdrift.tensors import Images, Logits

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: Final = get_args(Precision)
HALVES: Final = (torch.float16, torch.bfloat16)
UNRECORDED: Final = "no gradient is recorded where it runs (torch.no_grad, inference mode, an own autograd.Function)"


class Classifier:
    """A torch classifier seen from pixel space: images in [0, 1] in, logits out.

    The wrapped module is never changed: it runs in evaluation mode with frozen parameters inside every call and is
    as it was afterwards. Hooks on its backward pass that it has when it is wrapped do not run. It gets images in the
    type of its weights if it does not take float32.

    Attributes:
        module: The wrapped network, without DataParallel or compilation around it.
        settings: Settings of its input; those below are read off them.
        mean, std: Per-channel normalisation, in pixel units.
        size: Height and width of the input.
        resize: Length of an image's short side before the centre crop to `size`, both sides (height, width), or 0
            for a square of `size`: see `InputSettings`.
        interpolation: bilinear, bicubic, nearest or another one of `read_image`.
        rounding: torchvision, transformers or paddle: whose arithmetic gives whole pixels.
        labels: Class names, or None.
        output: Name or number of the network's output that holds the logits; None for the only one.
        weights: Origin of its weights, in words.
        configuration: Origin of mean, std and size, in words.
        spec: Spec that the classifier was loaded from.
        dtype: Type in which the module takes images: float32, or that of its weights.
        was_training: Was dropout or batch norm in training mode when the module was wrapped?
        remarks: Changes to the module before it could be studied (unwrapped, for example).
        code: Checksums of the user's code behind it, by file or class; None where there is none.
        head: The head in the place of its last linear layer; None for its own.
        replicas: Copies that share its weights, while batches go side by side on several cores; else None.
        loaded_from: Spec and file of weights from which `load_model` makes it again; None for a wrapped module.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        spec: str = "",
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        **settings: Any,
    ) -> None:
        """Wrap a module; `settings` are the fields of `InputSettings`."""
        self.module, self.remarks = unwrap(module)
        check_tensors(self.module)
        self._backward_hooks = backward_hooks(self.module)
        self._inventory: Inventory | None = None  # while the module is held
        self.replicas: Any = None
        self.loaded_from: tuple[str, str | None] | None = None
        self.code: Mapping[str, str] | None = None
        self.head: HeadRecord | None = None
        self.was_training = _is_training(self.module)
        self.settings = input_settings(**settings)
        check_precision(precision)
        self.mean, self.std = tuple(self.settings.mean), tuple(self.settings.std)
        self.size, self.interpolation = self.settings.size, self.settings.interpolation
        self.rounding = self.settings.rounding
        self.resize = self.size if self.settings.resize is None else self.settings.resize
        self.labels = None if self.settings.labels is None else tuple(self.settings.labels)
        self.weights, self.configuration = self.settings.weights, self.settings.origin
        self.spec, self.precision = spec or type(self.module).__name__, precision
        self.device = torch.device(device) if device is not None else _device_of(self.module)
        self._output, self.dtype = Output(None), torch.float32
        with shielded():
            self._mean = torch.tensor(self.mean, device=self.device).view(1, -1, 1, 1)
            self._std = torch.tensor(self.std, device=self.device).view(1, -1, 1, 1)
        self.classes = self._count_classes()
        remark = self._output.remark
        self.remarks += (remark,) if remark else ()
        self.output = self._output.key if remark or self.settings.output is not None else None

    def __repr__(self) -> str:
        return f"Classifier({self.spec}, {self.classes} classes, {self.size} px, {len(self.layers)} layers)"

    def at_precision(self, precision: Precision) -> "Classifier":
        """The classifier that computes with the same module in another precision."""
        other = copy(self)
        other.precision, other.replicas = precision, None
        return other

    @property
    def geometry(self) -> dict[str, Any]:
        """Keyword arguments of `read_image`: the way from a picture to a square of pixels."""
        return {name: getattr(self, name) for name in ("size", "resize", "interpolation", "rounding")}

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Hold the module in evaluation mode with frozen parameters; restore everything afterwards.

        The caller's autocast, inference mode, anomaly detection and default type stay outside.
        """
        outer = self._inventory
        stillness = undisturbed(self.module, self._backward_hooks, outer=outer)
        try:
            with shielded(_default_type(self.dtype)), stillness as self._inventory:
                yield
        finally:
            self._inventory = outer

    def __call__(self, images: Images) -> Logits:
        """Return the logits of images in pixel space, float32; differentiable if gradients are enabled."""
        return self._forward(images).float()

    def _forward(self, images: Images) -> Tensor:
        return self._output.of(self._outputs(images))

    def _outputs(self, images: Images) -> Any:
        """Return whatever the module does."""
        with ExitStack() as stack:
            stack.enter_context(self.undisturbed())
            if self.precision == "bf16":
                stack.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16))
            if torch.is_grad_enabled():
                stack.enter_context(hooks.SoundGradients())
            inputs = (images - self._mean) / self._std
            return self.module(inputs if self.dtype == torch.float32 else inputs.to(self.dtype))

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Hold arithmetic in this classifier's precision, whatever the caller has set; restore it afterwards."""
        with arithmetic(self.precision, self.device), shielded(_default_type(self.dtype)):
            yield

    def _count_classes(self) -> int:
        """Return the number of classes, after checking on two made-up images that the model is a classifier."""
        images = _example(2, self.size).to(self.device)
        images[1] *= 0.2  # unlike the other, so that a batch's statistics would tell
        try:
            with torch.no_grad(), self.numerics():
                logits = self._first_logits(images)
                again, alone = self(images), [self(image) for image in images.split(1)]
        except UserError:
            raise
        except FOREIGN as error:
            raise ModelError(
                f"`model` failed on two images of {self.size} px: {one_line(error)}",
                "does it take (batch, 3, height, width)? `SIZE` in a factory's module, or `size=`, sets the input size",
            ) from error
        check_logits(logits, again, alone, "bf16" if self.dtype in HALVES else self.precision)
        if self.labels is not None and len(self.labels) != logits.shape[1]:
            raise ModelError(
                f"`labels` must name every class, got: {len(self.labels)} names for {logits.shape[1]} classes"
            )
        return int(logits.shape[1])

    def _first_logits(self, images: Images) -> Tensor:
        """Return the logits of the first images in float32; keep where they lie among the outputs."""
        outputs = self._first_outputs(images)
        classes = None if self.labels is None else len(self.labels)
        self._output = choose_output(outputs, len(images), choice=self.settings.output, classes=classes)
        return self._output.of(outputs).float()

    def _first_outputs(self, images: Images) -> Any:
        """Return what the module does, in float32, or in the type of its weights if it takes no float32."""
        try:
            return self._outputs_with_graph(images)
        except Exception:
            own = _type_of(self.module)
            if own == self.dtype:
                raise
            self.dtype = own
            outputs = self._outputs_with_graph(images)
        name = str(own).removeprefix("torch.")
        cure = ": call .float() on it for float32" if own in HALVES else ""
        self.remarks = (*self.remarks, f"computed in {name}, the type of its weights{cure}")
        return outputs

    def _outputs_with_graph(self, images: Images) -> Any:
        """Return what the module does, with a graph where the module allows one."""
        try:
            with torch.enable_grad():
                return self._outputs(images.clone().requires_grad_())
        except Exception:  # told by what needs gradients
            return self._outputs(images)

    @cached_property
    def _trace(self) -> Trace:
        example = _example(TRACED_IMAGES, self.size).to(self.device)
        return trace(self.module, lambda: self._forward(example))

    @cached_property
    def _blocks(self) -> list[Block]:
        blocks = find_blocks(self.module, self._trace, TRACED_IMAGES)
        first = first_mixer(blocks)
        if first is None or in_order(first.layout.grid(self._input_of(first.part, half_changed(self.size)))):
            return blocks
        return without_grid(blocks)

    def _input_of(self, part: Part, images: Tensor) -> Tensor:
        """Return the first tensor that a part of the network takes at its call in the trace."""
        inputs: list[Tensor] = []

        def before(name: str, _: nn.Module, arguments: Any) -> None:
            source = first_tensor(arguments) if name == part.name else None
            inputs.extend([] if source is None else [source.clone()])

        with torch.no_grad(), hooks.around(self.module, before, lambda *_: None):
            self(images.to(self.device))
        return inputs[part.number]

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        """Every convolution and every block by name, with a note on each that cannot be studied."""
        layers = find_layers(self._trace, self._blocks)
        if type(self.module).__name__ == "VGG":
            layers = label_blocks(layers, self._trace.calls)
        moves, without_graph = self._moves_logits(
            {layer.info.name: layer.tap for layer in layers if not layer.info.note}
        )
        is_read = any(moves[layer.info.name] for layer in layers if _has_tokens(layer) and layer.info.name in moves)
        for position, layer in enumerate(layers):
            note = layer.info.note
            if not note and layer.info.name not in moves:
                note = UNRECORDED if layer.info.name in without_graph else "no gradient of the logits reaches it"
            elif not note and _has_tokens(layer) and is_read and not moves[layer.info.name]:
                note = UNREAD
            layers[position] = replace(layer, info=replace(layer.info, note=note))
        return {layer.info.name: layer for layer in layers}

    def _moves_logits(self, taps: Mapping[str, AnyTap]) -> tuple[dict[str, bool], set[str]]:
        """Return for every activation that the logits depend on whether any of its gradients is not zero.

        And the names of those where no gradient is recorded.
        """
        example = _example(1, self.size).to(self.device)
        with self.undisturbed():
            with torch.enable_grad(), hooks.capturing(taps) as capture:
                total = self(example).sum()
            try:
                moves = hooks.reduce_gradients(total, capture, lambda _, gradient: bool(gradient.any()))
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"`model` must have a backward pass, got: {one_line(error)}",
                    "where a tensor is changed in place, as `x += 1` does, write `x = x + 1`",
                ) from error
        return moves, {name for name, output in capture.activations.items() if id(output) in capture.waiting}

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        """Every 2-d convolution and every block in execution order; a note says why one cannot be studied."""
        return tuple(layer.info for layer in self._layers.values())

    @cached_property
    def family(self) -> str:
        """Family of the layers that a study takes by default: `conv` or `block`."""
        return default_family(list(self._layers.values()), self._trace, self._blocks)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that a study takes by default, in execution order."""
        return tuple(info.name for info in self.layer_infos if not info.note and info.family == self.family)

    def select_layers(self, globs: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the names of the layers that any of `globs` means, in execution order; without globs, `layers`.

        Args:
            globs: `conv`, `block`, `all`, `stage` (the last block of every resolution; the last convolution where
                there are no blocks), or globs over names and labels.

        Raises:
            UserError: A glob that matches nothing, or a layer that has no map.
        """
        if globs:
            return select(self.layer_infos, globs)
        if not self.layers:
            reasons = [f"{info.name}: {info.note}" for info in self.layer_infos]
            model = f"{self.spec} ({reasons[-1]})" if reasons else self.spec
            raise ModelError(f"`model` has no convolution and no block with a map, got: {model}", LAYERS_HINT)
        return self.layers

    def taps(self, layers: Sequence[str]) -> dict[str, AnyTap]:
        """Return the taps of `layers`, by name.

        Raises:
            UserError: A name that is no layer of this classifier.
        """
        for name in layers:
            if name not in self._layers:
                raise UserError(f"`layers` must name layers of the model, got: {name}", LAYERS_HINT)
        return {name: self._layers[name].tap for name in layers}

    def is_crossed_by_all(self, layer: str) -> bool:
        """Do all ways from the image to the logits lead through a convolution? False where that is not known."""
        tap = self._layers[layer].tap
        return isinstance(tap, Tap) and self._trace.flow.is_crossed_by_all(self._trace.calls[tap.index].step)

    @cached_property
    def neuron_groups(self) -> tuple[NeuronGroup, ...]:
        """The neurons of DLFuzz's coverage: groups in execution order, the softmax units last."""
        return tuple(find_neurons(self._trace, self.classes))

    def weights_checksum(self) -> str:
        """Return the SHA-256 over names, types, shapes and values of the state dict."""
        digest = sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def class_name(self, index: int) -> str:
        """Return the name of a class, or its number where names are unknown."""
        return self.labels[index] if self.labels is not None else f"class {index}"


def check_precision(precision: str) -> None:
    """Raise `UserError` for a precision that is not known."""
    if precision not in PRECISIONS:
        raise UserError(f"`precision` must be one of {', '.join(PRECISIONS)}, got: {precision}")


def _example(images: int, size: int) -> Tensor:
    """Return made-up images, (images, 3, size, size), always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((images, 3, size, size), generator=generator, dtype=torch.float32, device="cpu")


def _type_of(module: nn.Module) -> torch.dtype:
    """Return the type of the first weights that are floating-point numbers."""
    types = (tensor.dtype for tensor in module.parameters() if tensor.is_floating_point())
    return next(types, torch.float32)


def _default_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _has_tokens(layer: Layer) -> bool:
    return bool(layer.tap.layout.side)


def _is_training(module: nn.Module) -> bool:
    learning = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    return any(part.training for part in module.modules() if isinstance(part, learning))


def _device_of(module: nn.Module) -> torch.device:
    tensor = next(iter([*module.parameters(), *module.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device
