"""Networks of torchvision, timm and transformers, with the input that their configuration asks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from camdrift.errors import ModelError, one_line
from camdrift.models.class_names import class_index, imagenet_labels
from camdrift.models.input_settings import InputSettings
from camdrift.models.registry import EMBEDDED
from camdrift.specs import nearest

NO_DOWNLOAD: Final = "give a file with --weights FILE, or leave out --model to study the embedded efficientnet-lite0"
_NO_HUB: Final = "`hf/FOLDER` with a folder that save_pretrained wrote needs no network"
# Pillow's numbers, as image processors store them.
_RESAMPLING: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# From this size on transformers' ConvNeXt squeezes the whole picture.
_SQUEEZED_FROM: Final = 384


def from_torchvision(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build a network of torchvision, without trained weights where a file gives them.

    Args:
        spec: torchvision/NAME[@WEIGHTS].
        weights: The file of weights, or None.

    Raises:
        ModelError: No such network or weights, or they cannot be downloaded.
    """
    from torchvision import models

    name, _, weights_name = spec.removeprefix("torchvision/").partition("@")
    try:
        choices = models.get_model_weights(name)
        choice = choices[weights_name] if weights_name else choices.DEFAULT
    except KeyError as error:
        hint = f"its weights are {', '.join(choices.__members__)}" if weights_name else ""
        raise ModelError(f"`model` must name torchvision weights, got: {spec}", hint) from error
    except ValueError as error:
        hint = "python -c 'import torchvision; print(torchvision.models.list_models())' lists them"
        raise ModelError(f"`model` must name a torchvision model, got: {spec}", hint) from error
    transforms = choice.transforms()
    if not hasattr(transforms, "crop_size"):
        raise ModelError(f"`model` must be an image classifier, got: torchvision weights {choice}")
    settings = InputSettings(
        mean=transforms.mean,
        std=transforms.std,
        size=transforms.crop_size[0],
        resize=max(transforms.resize_size[0], transforms.crop_size[0]),
        interpolation=transforms.interpolation.value,
        labels=choice.meta.get("categories"),
        weights=f"torchvision {choice}",
        configuration=f"torchvision weights {choice.name}",
        own_preparation=transforms,
    )
    return _get(spec, lambda: models.get_model(name, weights=choice if weights is None else None)), settings


def nearest_model(spec: str) -> str:
    """Return a question with the spec that a bare name may mean, and a space behind it; empty if nothing is near."""
    import timm
    from torchvision import models

    names = models.list_models(module=models)
    exact = [f"torchvision/{spec}"] if spec in names else [f"timm/{spec}"] if timm.is_model(spec) else []
    return f"did you mean `{exact[0]}`? " if exact else nearest(spec, (EMBEDDED, *(f"torchvision/{n}" for n in names)))


def from_timm(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build a network of timm, without trained weights where a file gives them.

    Args:
        spec: timm/NAME.
        weights: The file of weights, or None.

    Raises:
        ModelError: No such network, one that does not classify, or weights that cannot be downloaded.
    """
    import timm

    name = spec.removeprefix("timm/")
    if not timm.is_model(name):
        hint = f"nearest: {', '.join(timm.list_models(f'*{name[:6]}*')[:5]) or 'none'}; timm.list_models() lists them"
        raise ModelError(f"`model` must name a timm model, got: {spec}", hint)
    module = _get(spec, lambda: timm.create_model(name, pretrained=weights is None))
    if getattr(module, "num_classes", None) == 0:
        raise ModelError(
            f"`model` must be an image classifier, got: {spec}, which timm holds without a head for classes",
            "timm.list_pretrained('*in1k*') lists networks that were trained on ImageNet's classes",
        )
    settings = replace(
        timm_settings(timm.data.resolve_data_config({}, model=module)),
        labels=imagenet_labels() if getattr(module, "num_classes", None) == 1000 else None,
        weights=f"timm {name}",
    )
    return module, settings


def timm_settings(config: Mapping[str, Any]) -> InputSettings:
    """Translate a configuration of timm's data into our words.

    Args:
        config: What `timm.data.resolve_data_config` returns.

    Raises:
        ModelError: It asks for other images than square ones of three channels.
    """
    from timm.data import create_transform

    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise ModelError(f"`model` must take square images, got: {height} x {width} of {channels} channels")
    # timm scales to this size and then crops; above 1 the crop is larger than the picture, and is filled with black.
    side = floor(height / float(config["crop_pct"]))
    return InputSettings(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        size=height,
        resize=_squeezed(side, height) if config["crop_mode"] == "squash" else side,
        interpolation=config["interpolation"] if config["interpolation"] in _RESAMPLING.values() else "bilinear",
        configuration="timm configuration",
        own_preparation=create_transform(**config),
    )


def _squeezed(side: int, size: int) -> int | tuple[int, int]:
    """Return the `resize` of `InputSettings` for a whole picture squeezed to a square of `side`."""
    return 0 if side == size else (side, side)


def from_transformers(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build a network of Hugging Face, without trained weights where a file gives them.

    Weights are read as safetensors, and no code that comes with a network is run.

    Args:
        spec: hf/NAME of a repository of the hub, or hf/FOLDER that `save_pretrained` has written.
        weights: The file of weights, or None.

    Raises:
        ModelError: No such network, or one that was never trained to classify images.
    """
    import transformers

    name = spec.removeprefix("hf/")
    auto = transformers.AutoModelForImageClassification
    with _quiet(transformers.utils.logging):
        config = _get(spec, lambda: transformers.AutoConfig.from_pretrained(name, trust_remote_code=False), _NO_HUB)
        if weights is None:
            options = {"config": config, "use_safetensors": True, "output_loading_info": True}
            module, keys = _get(spec, lambda: auto.from_pretrained(name, **options), _NO_HUB)
            missing = sorted(keys["missing_keys"])
        else:
            module, missing = _get(spec, lambda: auto.from_config(config), _NO_HUB), []
    if missing:
        raise ModelError(
            f"`model` must come with all its weights, got: {spec} without {len(missing)} (first: {missing[0]})",
            "it was not trained to classify images: name one that was, or give --weights FILE",
        )
    processor = _processor_settings(name, config)
    is_reversed = processor.pop("bgr", False)
    settings = InputSettings(labels=_named_labels(config.id2label), weights=f"transformers {name}", **processor)
    module = module.float()
    return (_ChannelsReversed(module) if is_reversed else module), settings


def _processor_settings(name: str, config: Any) -> dict[str, Any]:
    """Return the settings that the image processor of a network asks for, as keyword arguments."""
    import transformers

    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    try:
        logging.set_verbosity_error()  # it tells where it has no such backend
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False, backend="pil")
    except Exception:  # none is stored, of another kind, or one that needs more than is installed
        return _stored_settings(name, config)
    finally:
        logging.set_verbosity(verbosity)
    words = {"configuration": f"image processor of {name}"}
    if isinstance(data := getattr(processor, "data_config", None), dict):  # a network of timm inside transformers
        return {**vars(timm_settings(data)), **words}
    # Its class has defaults, which the file leaves out.
    settings = processor_settings({"do_normalize": False, **processor.to_dict()})
    return {**settings, **words, "own_preparation": _preparation(processor, settings.get("bgr", False))}


def _stored_settings(name: str, config: Any) -> dict[str, Any]:
    """Return the same where no processor can be made: of its file, or the network's own size."""
    from transformers.image_processing_utils import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        size = getattr(config, "image_size", None)
        return {"size": size} if isinstance(size, int) else {}
    return {**processor_settings(processor), "configuration": f"image processor of {name}"}


def _preparation(processor: Any, is_reversed: bool) -> Callable[[Any], Tensor]:
    """Return the processor's own preparation of a picture; in RGB where the module turns channels around itself."""

    def prepare(picture: Any) -> Tensor:
        values: Tensor = processor(picture, return_tensors="pt")["pixel_values"][0]
        return values.flip(0) if is_reversed else values

    return prepare


def processor_settings(processor: Mapping[str, Any]) -> dict[str, Any]:
    """Translate an image processor's stored configuration into the words of `InputSettings`.

    Args:
        processor: The content of preprocessor_config.json, best with the defaults of its class.

    Returns:
        mean, std, size, resize, rounding and interpolation; and bgr where channels come in reverse.
    """
    size, resize = _size(processor)
    settings: dict[str, Any] = {"size": size, "resize": resize, "rounding": "transformers"}
    settings["interpolation"] = _RESAMPLING.get(processor.get("resample", 2), "bilinear")
    # A pixel p in [0, 1] becomes (scale * p - offset - mean) / std.
    scale = 255 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") or processor.get("offset") else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    # MobileViT's never normalises, whatever its file says.
    if processor.get("do_normalize", "image_mean" in processor) and not _kind(processor).startswith("MobileViT"):
        mean, std = (list(processor.get(f"image_{key}") or default) for key, default in (("mean", mean), ("std", std)))
    settings["mean"] = tuple((value + offset) / scale for value in mean)
    # EfficientNet divides by std once more for its classifier.
    again = std if processor.get("include_top") else [1.0] * 3
    settings["std"] = tuple(value * more / scale for value, more in zip(std, again, strict=True))
    if processor.get("do_flip_channel_order"):
        # The classifier normalises RGB, and the module turns it around.
        settings |= {"bgr": True, "mean": settings["mean"][::-1], "std": settings["std"][::-1]}
    if _kind(processor).startswith("PPLCNet"):
        # It normalises before it turns the channels around, which no entry of its file says.
        settings |= {"bgr": True, "rounding": "paddle"}
    return settings


def _kind(processor: Mapping[str, Any]) -> str:
    return str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))


def _size(processor: Mapping[str, Any]) -> tuple[int, int | tuple[int, int]]:
    """Return the side of the input, and the size before the centre crop, as `InputSettings` takes them."""
    is_cropped, kind = bool(processor.get("do_center_crop")), _kind(processor)
    size = processor.get("resize_short") or processor.get("size", 224)  # PP-LCNet's short side goes before its size
    if isinstance(size, int):
        is_square = not is_cropped or kind.startswith("DeiT")
        size = {"height": size, "width": size} if is_square else {"shortest_edge": size}
    edge = int(size.get("shortest_edge") or size.get("height") or 224)
    part = processor.get("crop_pct")
    if is_cropped:
        crop = processor.get("crop_size", edge)
        side = int(crop if isinstance(crop, int) else crop.get("height", edge))
        if kind.startswith("Perceiver"):
            return edge, max(side, edge)  # cropped first, as from a short side of `side`, and then resized to `edge`
        if kind.startswith("Levit"):
            edge = int(256 / 224 * edge)
        # Both sides are given: the whole picture is squeezed to them. PoolFormer's part of it keeps the proportions.
        if "shortest_edge" not in size and part is None and size.get("width", edge) == edge:
            return side, _squeezed(edge, side)
        return side, int(edge / (part or 1))
    if "shortest_edge" not in size:
        if size.get("width", edge) != edge:
            raise ModelError(f"`model` must take square images, got: {size['height']} x {size['width']}")
        return edge, 0
    if part is None:
        return edge, edge
    return (edge, 0) if edge >= _SQUEEZED_FROM else (edge, int(edge / part))


def _named_labels(names: Mapping[int, str] | None) -> Sequence[str] | None:
    """Return the class names of a transformers network; None where they only say LABEL_0; ImageNet's in short form."""
    if not names or sorted(names) != list(range(len(names))):  # of some classes alone
        return None
    labels = [str(names[index]) for index in sorted(names)]
    if all(label == f"LABEL_{index}" for index, label in enumerate(labels)):
        return None
    short = imagenet_labels()
    if len(labels) == len(short):
        same = [class_index(own, label.split(",")) is not None for own, label in zip(short, labels, strict=True)]
        if sum(same) > 0.9 * len(short):
            return short
    return labels if len(set(labels)) == len(labels) else None


class _ChannelsReversed(nn.Module):
    """A network that was trained on blue, green, red."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.flip(1))


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Hold back the progress bars of transformers."""
    is_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_on:
            logging.enable_progress_bar()


def _get(spec: str, build: Callable[[], Any], hint: str = NO_DOWNLOAD) -> Any:
    """Return what `build` returns; raise `ModelError` where a library or the network fails."""
    try:
        return build()
    except Exception as error:
        raise ModelError(f"`model` {spec} could not be had: {one_line(error)}", hint) from error
