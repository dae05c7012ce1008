"""An image classifier that owns its normalisation and knows its layers by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.errors import ModelError, UserError, one_line
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
from camdrift.layers.taps import AnyTap
from camdrift.layers.tracing import Part, Trace, trace
from camdrift.tensors import Images, Logits

PRECISIONS: Final = ("fp32", "tf32", "bf16")
# How far the logits of one image may move when it is judged with another one: so much of what tells the two apart, and
# so much of the largest logit, which is rounding.
_LEAST_SHARE: Final = 0.05
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
NO_CONFIGURATION: Final = "no mean and std given: pixels are passed as they are"


class Classifier:
    """A torch classifier seen from pixel space: images in [0, 1] in, logits out.

    The wrapped module is never changed: it runs in evaluation mode with frozen parameters inside every call and is
    as it was afterwards.

    Attributes:
        module: The wrapped network, without DataParallel or compilation around it.
        mean, std: Per-channel normalisation, in pixel units.
        size: Height and width of the input.
        resize: Length of an image's short side before the centre crop to `size`; 0 squeezes the whole image to a
            square of `size`.
        interpolation: bilinear, bicubic or nearest.
        labels: Class names, or None.
        spec: What the classifier was loaded from.
        weights: Where its weights came from, in words.
        configuration: Where mean, std and size came from, in words.
        was_training: Was dropout or batch norm in training mode when the module was wrapped?
        remarks: What was done to the module before it could be studied (unwrapped, for example).
        loaded_from: Spec and file of weights from which `load_model` makes it again; None for a wrapped module.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        size: int = 224,
        resize: int | None = None,
        interpolation: str = "bilinear",
        labels: Sequence[str] | None = None,
        spec: str = "",
        weights: str = "",
        configuration: str = "",
        device: str | torch.device | None = None,
        precision: str = "fp32",
    ) -> None:
        self.module, self.remarks = _unwrapped(module)
        self.loaded_from: tuple[str, str | None] | None = None
        self.was_training = _is_training(self.module)
        _check_normalisation(mean, std)
        if size < 1 or (resize is not None and resize != 0 and resize < size):
            raise ModelError(f"`size` must be at least 1 and at most `resize`, got: {size} and {resize}")
        if precision not in PRECISIONS:
            raise UserError(f"`precision` must be one of {', '.join(PRECISIONS)}, got: {precision}")
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.size, self.resize, self.interpolation = size, size if resize is None else resize, interpolation
        self.labels = None if labels is None else tuple(labels)
        self.spec = spec or type(self.module).__name__
        self.weights, self.precision = weights, precision
        self.configuration = configuration or ("given" if self.is_normalising else NO_CONFIGURATION)
        self.device = torch.device(device) if device is not None else _device_of(self.module)
        self._mean = torch.tensor(self.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(self.std, device=self.device).view(1, -1, 1, 1)
        self.classes = self._preflight()

    def __repr__(self) -> str:
        return f"Classifier({self.spec}, {self.classes} classes, {self.size} px, {len(self.layers)} layers)"

    @property
    def is_normalising(self) -> bool:
        """Does it change pixels before the module sees them?"""
        return any(self.mean) or any(value != 1 for value in self.std)

    def describe_input(self) -> str:
        """How an image becomes the module's input, and who says so, on one line."""
        size = f"{self.size}x{self.size}"
        shape = f"short side to {self.resize}, centre {size}" if self.resize else f"squeezed to {size}"
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        numbers = f"mean {mean}, std {std}; " if self.is_normalising else ""
        return f"{shape} ({self.interpolation}), {numbers}{self.configuration}"

    def undisturbed(self) -> AbstractContextManager[None]:
        """Evaluation mode and frozen parameters inside the block, everything as before after it."""
        return hooks.undisturbed(self.module)

    def __call__(self, images: Images) -> Logits:
        """Logits of images in pixel space, float32; differentiable if gradients are enabled."""
        return self._forward(images).float()

    def _forward(self, images: Images) -> Tensor:
        autocast: AbstractContextManager[Any] = nullcontext()
        if self.precision == "bf16":
            autocast = torch.autocast(self.device.type, dtype=torch.bfloat16)
        is_alone = len(images) == 1 and torch.is_grad_enabled()
        with self.undisturbed(), autocast, hooks.SoundGradients() if is_alone else nullcontext():
            return _logits_in(self.module((images - self._mean) / self._std), len(images))

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """GPU arithmetic in this classifier's precision inside the block; torch's settings as before after it.

        Without it torch rounds float32 convolutions to TF32 on recent GPUs, whatever `precision` says.
        """
        cudnn: Any = torch.backends.cudnn
        backends: Any = (torch.backends.cuda.matmul, cudnn.conv)
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
            yield
        finally:
            for backend, setting in zip(backends, before, strict=True):
                backend.fp32_precision = setting

    def _preflight(self) -> int:
        """The number of classes, after checking on made-up images that the model is a classifier."""
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((2, 3, self.size, self.size), generator=generator).to(self.device)
        images[1] *= 0.2  # unlike the other, so that a batch's statistics would tell
        try:
            with torch.no_grad(), self.numerics():
                logits, again, alone = self(images), self(images), [self(image) for image in images.split(1)]
        except UserError:
            raise
        except Exception as error:
            raise ModelError(
                f"`model` failed on two images of {self.size} px: {one_line(error)}",
                "does it take (batch, 3, height, width)? `SIZE` in a factory's module, or `size=`, sets the input size",
            ) from error
        if logits.ndim != 2 or logits.shape[0] != 2 or logits.shape[1] < 2:
            raise ModelError(
                f"`model` must return logits of shape (batch, classes), got: {tuple(logits.shape)} for 2 images",
                "wrap it in a module whose forward returns the logits",
            )
        if not torch.isfinite(logits).all():
            raise ModelError("`model` must return finite logits, got: NaN or infinity", "are its weights loaded?")
        if not torch.allclose(logits, again, rtol=1e-2, atol=1e-3):
            raise ModelError(
                "`model` must return the same logits for the same images, got: two different answers",
                "it draws random numbers even in evaluation mode (dropout that is always on?); switch that off",
            )
        # Logits may hardly differ between images, and the batch moves them no further than that.
        allowed = _LEAST_SHARE * (logits - logits.mean(0)).abs().max() + _ROUNDING[self.precision] * logits.abs().max()
        if not bool((torch.cat(alone) - logits).abs().max() <= allowed):
            raise ModelError(
                "`model` must judge every image by itself, got: other logits alone than in a batch",
                "is it a program that was exported in training mode? model.eval() before torch.export.export(...)",
            )
        total = logits.sum(1)
        if (logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3):
            raise ModelError(
                "`model` must return logits, got: probabilities (every row sums to 1)",
                "leave out its last softmax",
            )
        if self.labels is not None and len(self.labels) != logits.shape[1]:
            raise ModelError(
                f"`labels` must name every class, got: {len(self.labels)} names for {logits.shape[1]} classes"
            )
        return int(logits.shape[1])

    @cached_property
    def _trace(self) -> Trace:
        generator = torch.Generator().manual_seed(0)
        example = torch.rand((TRACED_IMAGES, 3, self.size, self.size), generator=generator).to(self.device)
        return trace(self.module, lambda: self._forward(example))

    @cached_property
    def _blocks(self) -> list[Block]:
        blocks = find_blocks(self.module, self._trace, TRACED_IMAGES)
        first = first_mixer(blocks)
        if first is None or in_order(first.layout.grid(self._given_to(first.part, half_changed(self.size)))):
            return blocks
        return without_grid(blocks)

    def _given_to(self, part: Part, images: Tensor) -> Tensor:
        """What a part of the network is given first of all when it is called as in the trace."""
        given: list[Tensor] = []

        def before(name: str, _: nn.Module, inputs: Any) -> None:
            source = first_tensor(inputs) if name == part.name else None
            given.extend([] if source is None else [source.clone()])

        with torch.no_grad(), hooks.around(self.module, before, lambda *_: None):
            self(images.to(self.device))
        return given[part.number]

    @cached_property
    def _found(self) -> dict[str, Layer]:
        """Every convolution and every block by name, with a note on each that cannot be studied."""
        layers = find_layers(self._trace, self._blocks)
        if type(self.module).__name__ == "VGG":
            layers = label_blocks(layers, self._trace.calls)
        moved = self._moved_by({layer.info.name: layer.tap for layer in layers if not layer.info.note})
        is_read = any(moved[layer.info.name] for layer in layers if _has_tokens(layer) and layer.info.name in moved)
        for position, layer in enumerate(layers):
            note = layer.info.note
            if not note and layer.info.name not in moved:
                note = "no gradient of the logits reaches it"
            elif not note and _has_tokens(layer) and is_read and not moved[layer.info.name]:
                note = UNREAD
            layers[position] = replace(layer, info=replace(layer.info, note=note))
        return {layer.info.name: layer for layer in layers}

    def _moved_by(self, taps: Mapping[str, AnyTap]) -> dict[str, bool]:
        """Which activations the logits depend on, and whether any of their gradients is not zero."""
        example = torch.rand((1, 3, self.size, self.size), generator=torch.Generator().manual_seed(0))
        with torch.enable_grad(), hooks.capturing(taps) as capture:
            logits = self(example.to(self.device))
        return hooks.reduce_gradients(logits.sum(), capture, lambda _, gradient: bool(gradient.any()))

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        """Every 2-d convolution and every block in execution order, with those that cannot be studied and why."""
        return tuple(layer.info for layer in self._found.values())

    @cached_property
    def family(self) -> str:
        """What is studied by default: `conv` or `block`."""
        return default_family(list(self._found.values()), self._trace, self._blocks)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that a study takes by default, in execution order."""
        return tuple(info.name for info in self.layer_infos if not info.note and info.family == self.family)

    def select_layers(self, globs: Sequence[str] | None = None) -> tuple[str, ...]:
        """Names of the layers that any of `globs` means, in execution order; those of `layers` without globs.

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
            seen = f"{self.spec} ({reasons[-1]})" if reasons else self.spec
            raise ModelError(f"`model` has no convolution and no block with a map, got: {seen}", LAYERS_HINT)
        return self.layers

    def taps(self, layers: Sequence[str]) -> dict[str, AnyTap]:
        """Where the activations of `layers` are taken.

        Raises:
            UserError: A name that is no layer of this classifier.
        """
        for name in layers:
            if name not in self._found:
                raise UserError(f"`layers` must name layers of the model, got: {name}", LAYERS_HINT)
        return {name: self._found[name].tap for name in layers}

    @cached_property
    def neuron_groups(self) -> tuple[NeuronGroup, ...]:
        """The neurons of DLFuzz's coverage: groups in execution order, the softmax units last."""
        return tuple(find_neurons(self._trace.calls, self.classes))

    def weights_checksum(self) -> str:
        """SHA-256 over names, types, shapes and values of the state dict."""
        digest = sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def class_name(self, index: int) -> str:
        """The class's name, or its number where names are unknown."""
        return self.labels[index] if self.labels is not None else f"class {index}"


def _has_tokens(layer: Layer) -> bool:
    return bool(layer.tap.layout.side)


def _logits_in(output: Any, batch: int) -> Tensor:
    """The logits in what a network returns: a tensor, or what is called `logits`, or the first (batch, classes)."""
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    values = list(output.values()) if isinstance(output, Mapping) else output
    tensors = [value for value in values if isinstance(value, Tensor)] if isinstance(values, list | tuple) else []
    fitting = [t for t in tensors if t.ndim == 2 and len(t) == batch and t.is_floating_point()]
    if not fitting:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ModelError(
            "`model` must return logits of shape (batch, classes), alone, first of several or called `logits`, "
            f"got: {type(output).__name__}" + (f" of {shapes}" if shapes else ""),
            "wrap it in a module whose forward returns the logits",
        )
    return fitting[0]


def _unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    remarks: list[str] = []
    while True:
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError("`model` must be an eager module, got: TorchScript", "load the module it was made from")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            remarks.append(f"unwrapped {type(module).__name__}")
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            remarks.append("unwrapped torch.compile")
            module = inner
        else:
            return module, tuple(remarks)


def _is_training(module: nn.Module) -> bool:
    learning = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    return any(part.training for part in module.modules() if isinstance(part, learning))


def _device_of(module: nn.Module) -> torch.device:
    tensor = next(iter([*module.parameters(), *module.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != 3 or len(std) != 3:
        raise ModelError(f"`mean` and `std` must have three values each, got: {len(mean)} and {len(std)}")
    if not all(value > 0 for value in std):
        raise ModelError(f"`std` must be positive, got: {tuple(std)}")
    if max(*map(abs, mean), *std) > 10:
        raise ModelError(
            f"`mean` and `std` must be in pixel units [0, 1], got: {tuple(mean)} and {tuple(std)}",
            "divide them by 255",
        )
