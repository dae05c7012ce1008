"""Make classifiers: of a spec, whatever its source, or of a module that the caller has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from camdrift.errors import FOREIGN, ModelError, UserError, one_line
from camdrift.models.classifier import HALVES, Classifier, Precision, check_precision
from camdrift.models.exported import unflatten
from camdrift.models.heads import with_head
from camdrift.models.protocol import ProtocolModel, check_answers, is_protocol_model, names_of_classes, network_of
from camdrift.models.registry import EMBEDDED, find_source, is_factory
from camdrift.models.source_code import code_of, code_of_classes
from camdrift.models.weights import load_weights

# Or `cuda:N`.
Device = Literal["auto", "cpu", "cuda"] | str

# Largest change of logits by another order of sums, as a share of their norm.
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-3, "bf16": 5e-2}
# Rounding can switch single units, and so move a gradient further; one that is wrong is as far off as it is long.
_WRONG: Final = 0.2


def load_model(
    spec: str = EMBEDDED,
    *,
    weights: str | Path | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    head: str | None = None,
) -> Classifier:
    """Load the classifier that `spec` names, on `device`, ready to be studied.

    Args:
        spec: `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`, `hf/NAME_OR_FOLDER` (transformers),
            `keras-vgg16@FILE` (the 2022 paper's network, of Keras's .h5 weights), `FILE.pt2` (torch.export),
            `path/to/file.py:factory` or `package.module:factory`. A factory returns an `nn.Module`, an exported
            program or a classifier of the protocol of maite; MEAN, STD, SIZE, LABELS and OUTPUT beside it count.
        weights: A .safetensors file, or a .pt or .pth file that is read with `weights_only=True`.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, tf32 or bf16.
        head: KIND@FILE of a head that `train_head` wrote, in the place of the last linear layer.

    Raises:
        UserError: An unknown spec or device, weights that cannot be had or do not fit, a module that is no
            classifier.
    """
    target = resolve_device(device)
    module, settings = find_source(spec).load_builder(spec)(spec, weights)
    remarks: tuple[str, ...] = ()
    if weights is not None:
        remarks = load_weights(module, Path(weights))
        settings = replace(settings, weights=str(weights))
    for part in module.modules():
        part.training = False  # libraries hand out networks that are ready to be trained
    classifier = Classifier(module.to(target), spec=spec, device=target, precision=precision, **vars(settings))
    classifier.remarks += remarks
    classifier.loaded_from = (spec, None if weights is None else str(weights))
    classifier.code = code_of(spec.rpartition(":")[0]) if is_factory(spec) else None
    if head is not None:
        classifier = with_head(classifier, head)
    if _runs_channels_last(target, precision):
        _order_channels_last(classifier)
    return classifier


def wrap(
    module: nn.Module | ExportedProgram | ProtocolModel,
    *,
    mean: float | Sequence[float] | Tensor = (0.0, 0.0, 0.0),
    std: float | Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    size: int | Sequence[int] | None = None,
    labels: Sequence[str] | Mapping[Any, Any] | None = None,
    output: str | int | None = None,
    device: Device | None = None,
    precision: Precision = "fp32",
) -> Classifier:
    """Make a classifier of any torch module, which is studied where it is and left as it was.

    Args:
        module: Takes normalised images (batch, 3, size, size), returns logits (batch, classes), alone or among other
            outputs. Or a program of torch.export for any number of images. Or a classifier of the protocol of maite
            that holds such a network.
        mean: Per-channel mean that the module wants subtracted, in pixel units [0, 1]; one number for all three.
        std: Per-channel standard deviation that it wants divided by; one number for all three.
        size: Height and width of its input; left out, that of an exported program, or else 224.
        labels: Class names in order; or a mapping such as {0: "cat", 1: "dog"}.
        output: Name or number of the output that holds the logits, where there are several.
        device: auto, cpu, cuda or cuda:N, where the module is moved to, as `module.to` does; left out, where it is.
        precision: fp32, tf32 or bf16.

    Raises:
        ModelError: The module is no classifier of such images, or cannot be moved.
        UserError: A device that is not there, or an unknown precision.
    """
    own: dict[str, Any] = {"mean": mean, "std": std, "size": size, "output": output}
    if is_protocol_model(module):
        names = names_of_classes(module) if labels is None else labels
        classifier = wrap(network_of(module), **own, labels=names, device=device, precision=precision)
        classifier.spec = str(module.metadata["id"])
        check_answers(module, classifier)
        return classifier
    network: Any = module
    side = None
    if isinstance(network, ExportedProgram):
        network, side = unflatten(network)
    own["size"] = (side or 224) if size is None else size
    if device is not None and isinstance(network, nn.Module):
        check_precision(precision)  # a module is not moved in vain
        _move(network, resolve_device(device))
    classifier = Classifier(network, **own, labels=labels, weights="as passed", precision=precision)
    classifier.code = code_of_classes(classifier.module)
    return classifier


def _move(module: nn.Module, device: torch.device) -> None:
    """Move a module; raises `ModelError` where it has no values, or a library has spread it over devices."""
    try:
        module.to(device)
    except FOREIGN as error:
        raise ModelError(
            f"`model` must be a module that `.to({str(device)!r})` moves, got: {one_line(error)}",
            "wrap(...) without `device` studies it where it is",
        ) from error


def resolve_device(device: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means on this machine.

    Raises:
        UserError: A device that is not known or not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target).cpu()
    except (RuntimeError, AssertionError, ValueError) as error:
        hint = "`--device cpu` always works; `cuda` needs an NVIDIA GPU and a CUDA build of torch"
        raise UserError(f"`device` must be one that torch can use here, got: {device}", hint) from error
    return target


def _runs_channels_last(device: torch.device, precision: Precision) -> bool:
    """Is channels-last order faster there? On a processor it is; on a GPU in tf32 and bf16 (docs/benchmarks.md)."""
    return device.type == "cpu" or (device.type == "cuda" and precision != "fp32")


def _order_channels_last(classifier: Classifier) -> None:
    """Let convolutions run in channels-last order.

    A network that cannot, or whose logits or gradient of one image change by more than rounding, stays as it was; one
    with hand-written views of its activations, for example.
    """
    module = classifier.module
    before = _logits_and_gradient(classifier)
    try:
        module.to(memory_format=torch.channels_last)
        after = _logits_and_gradient(classifier)
        share = _ROUNDING["bf16" if classifier.dtype in HALVES else classifier.precision]
        (logits, gradient), (new_logits, new_gradient) = before, after
        is_the_same = _distance(logits, new_logits) <= share and _distance(gradient, new_gradient) <= _WRONG
    except Exception:
        is_the_same = False
    if not is_the_same:
        module.to(memory_format=torch.contiguous_format)


def _logits_and_gradient(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Return the logits of one image, and the gradient of one of them, or zeros where it has none."""
    side = classifier.size
    pixels = torch.linspace(0, 1, 3 * side**2, dtype=torch.float32, device=classifier.device).view(1, 3, side, side)
    with classifier.numerics(), classifier.undisturbed(), torch.enable_grad():
        images = pixels.requires_grad_()
        logits = classifier(images)
        if not logits.requires_grad:
            return logits, torch.zeros_like(images)
        (gradient,) = torch.autograd.grad(logits[0, 0], images, allow_unused=True)
    return logits.detach(), torch.zeros_like(images) if gradient is None else gradient


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the norm of a difference, as a share of the norm."""
    return float((one - other).norm() / one.norm().clamp_min(1e-30))
