"""Networks of torchvision, timm and transformers, with the input that their own configuration asks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor, nn

from camdrift.errors import ModelError, install_hint, one_line
from camdrift.models.class_names import class_index, imagenet_labels

InputSettings = dict[str, Any]

NO_DOWNLOAD: Final = "give a file with --weights FILE, or leave out --model to study the embedded efficientnet-lite0"
_NO_HUB: Final = "`hf/FOLDER` with a folder that save_pretrained wrote needs no network"
# Pillow's numbers, as image processors store them; what camdrift does not know is next to bilinear.
_RESAMPLING: Final = {0: "nearest", 3: "bicubic"}
# From here on transformers' ConvNeXt squeezes the whole picture.
_SQUEEZED_FROM: Final = 384


def from_torchvision(spec: str, *, own_weights: bool) -> tuple[nn.Module, InputSettings]:
    """A network of torchvision's and what a classifier needs to know of it.

    Args:
        spec: torchvision/NAME[@WEIGHTS].
        own_weights: Leave the network without trained weights.

    Raises:
        ModelError: No such network or weights, or they cannot be downloaded.
    """
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
    transforms = chosen.transforms()
    if not hasattr(transforms, "crop_size"):
        raise ModelError(f"`model` must be an image classifier, got: torchvision weights {chosen}")
    settings = {
        "mean": transforms.mean,
        "std": transforms.std,
        "size": transforms.crop_size[0],
        "resize": max(transforms.resize_size[0], transforms.crop_size[0]),
        "interpolation": transforms.interpolation.value,
        "labels": chosen.meta.get("categories"),
        "weights": f"torchvision {chosen}",
        "configuration": f"torchvision weights {chosen.name}",
    }
    return _had(spec, lambda: models.get_model(name, weights=None if own_weights else chosen)), settings


def from_timm(spec: str, *, own_weights: bool) -> tuple[nn.Module, InputSettings]:
    """A network of timm's and what a classifier needs to know of it.

    Args:
        spec: timm/NAME.
        own_weights: Leave the network without trained weights.

    Raises:
        ModelError: No such network, one that does not classify, or weights that cannot be downloaded.
    """
    import timm

    name = spec.removeprefix("timm/")
    if not timm.is_model(name):
        hint = f"nearest: {', '.join(timm.list_models(f'*{name[:6]}*')[:5]) or 'none'}; timm.list_models() lists them"
        raise ModelError(f"`model` must name a timm model, got: {spec}", hint)
    module = _had(spec, lambda: timm.create_model(name, pretrained=not own_weights))
    if getattr(module, "num_classes", None) == 0:
        raise ModelError(
            f"`model` must be an image classifier, got: {spec}, which timm holds without a head for classes",
            "timm.list_pretrained('*in1k*') lists networks that were trained on ImageNet's classes",
        )
    config = timm.data.resolve_data_config({}, model=module)
    size, crop = int(config["input_size"][-1]), float(config["crop_pct"])
    # Squashed pictures lose their proportions, not their borders; after a further crop that cannot be had, see below.
    is_squeezed = config["crop_mode"] == "squash" and crop == 1
    settings = {
        "mean": config["mean"],
        "std": config["std"],
        "size": size,
        "resize": 0 if is_squeezed else max(size, int(size / crop)),
        "interpolation": config["interpolation"] if config["interpolation"] == "bicubic" else "bilinear",
        "labels": imagenet_labels() if getattr(module, "num_classes", None) == 1000 else None,
        "weights": f"timm {name}",
        "configuration": "timm configuration",
    }
    return module, settings


def from_transformers(spec: str, *, own_weights: bool) -> tuple[nn.Module, InputSettings]:
    """A network of Hugging Face's and what a classifier needs to know of it.

    Weights are read as safetensors, and no code that comes with a network is run.

    Args:
        spec: hf/NAME of a repository of the hub, or hf/FOLDER that `save_pretrained` has written.
        own_weights: Leave the network without trained weights.

    Raises:
        ModelError: transformers is missing, no such network, or one that was never trained to classify images.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModelError(f"`model` {spec} needs transformers, which is not installed", install_hint("hf")) from error
    name = spec.removeprefix("hf/")
    auto = transformers.AutoModelForImageClassification
    with _quiet(transformers.utils.logging):
        config = _had(spec, lambda: transformers.AutoConfig.from_pretrained(name, trust_remote_code=False), _NO_HUB)
        if own_weights:
            module, missing = _had(spec, lambda: auto.from_config(config), _NO_HUB), []
        else:
            options = {"config": config, "use_safetensors": True, "output_loading_info": True}
            module, loaded = _had(spec, lambda: auto.from_pretrained(name, **options), _NO_HUB)
            missing = sorted(loaded["missing_keys"])
    if missing:
        raise ModelError(
            f"`model` must come with all its weights, got: {spec} without {len(missing)} (first: {missing[0]})",
            "it was not trained to classify images: name one that was, or give --weights FILE",
        )
    settings = {
        "labels": _named_labels(config.id2label),
        "weights": f"transformers {name}",
        **_processor_settings(name, config),
    }
    module = module.float()
    return (_ChannelsReversed(module) if settings.pop("bgr", False) else module), settings


def _processor_settings(name: str, config: Any) -> InputSettings:
    from transformers.image_processing_utils import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        size = getattr(config, "image_size", None)
        return {"size": size} if isinstance(size, int) else {}
    return {**processor_settings(processor), "configuration": f"image processor of {name}"}


def processor_settings(processor: Mapping[str, Any]) -> InputSettings:
    """What an image processor's stored configuration says of a network's input, in a classifier's words.

    Args:
        processor: The content of preprocessor_config.json.

    Returns:
        mean, std, size, resize and interpolation; and bgr where channels come in reverse.
    """
    size, resize = _size(processor)
    settings: InputSettings = {"size": size, "resize": resize}
    settings["interpolation"] = _RESAMPLING.get(processor.get("resample", 2), "bilinear")
    # A pixel p in [0, 1] becomes (scale * p - offset - mean) / std.
    scale = 255 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") or processor.get("offset") else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if processor.get("do_normalize", "image_mean" in processor):
        mean, std = (list(processor.get(f"image_{key}") or default) for key, default in (("mean", mean), ("std", std)))
    settings["mean"] = tuple((value + offset) / scale for value in mean)
    # EfficientNet divides by std once more for its classifier.
    again = std if processor.get("include_top") else [1.0] * 3
    settings["std"] = tuple(value * more / scale for value, more in zip(std, again, strict=True))
    if processor.get("do_flip_channel_order"):
        # The classifier normalises RGB, and the module turns it around.
        settings |= {"bgr": True, "mean": settings["mean"][::-1], "std": settings["std"][::-1]}
    return settings


def _size(processor: Mapping[str, Any]) -> tuple[int, int]:
    """Side of the input, and the short side before the centre crop; 0 where the picture is squeezed instead."""
    is_cropped = bool(processor.get("do_center_crop"))
    size = processor.get("size", 224)
    if isinstance(size, int):
        size = {"shortest_edge": size} if is_cropped else {"height": size, "width": size}
    edge = int(size.get("shortest_edge") or size.get("height") or 224)
    if is_cropped:
        crop = processor.get("crop_size", edge)
        side = int(crop if isinstance(crop, int) else crop.get("height", edge))
        kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))
        if kind.startswith("Perceiver"):
            return edge, max(side, edge)  # cropped first, as from a short side of `side`, and then resized to `edge`
        if kind.startswith("Levit"):
            edge = int(256 / 224 * edge)
        return side, max(side, int(edge / (processor.get("crop_pct") or 1)))
    if "shortest_edge" not in size:
        if size.get("width", edge) != edge:
            raise ModelError(f"`model` must take square images, got: {size['height']} x {size['width']}")
        return edge, 0
    part = processor.get("crop_pct")
    if part is None:
        return edge, edge
    return (edge, 0) if edge >= _SQUEEZED_FROM else (edge, int(edge / part))


def _named_labels(names: Mapping[int, str] | None) -> Sequence[str] | None:
    """The class names of a transformers network; None where they only say LABEL_0; ImageNet's in their short form."""
    labels = [str(names[index]) for index in sorted(names)] if names else []
    if not labels or all(label == f"LABEL_{index}" for index, label in enumerate(labels)):
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
    """No progress bars of transformers inside the block."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _had(spec: str, build: Callable[[], Any], hint: str = NO_DOWNLOAD) -> Any:
    try:
        return build()
    except Exception as error:
        raise ModelError(f"`model` {spec} could not be had: {one_line(error)}", hint) from error
