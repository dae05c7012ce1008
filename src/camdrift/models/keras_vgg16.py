"""Keras's weights in a torch network: the paper's own VGG-16.

Keras keeps kernels as (height, width, in, out) and flattens maps as height x width x channels; torch keeps
(out, in, height, width) and flattens channels x height x width. Keras's VGG-16 takes BGR of 0 to 255 minus a mean.
Here the first kernel's input channels are reversed instead, so that the network takes RGB.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from camdrift.errors import ModelError
from camdrift.models.class_names import imagenet_labels
from camdrift.models.input_settings import InputSettings

# Keras subtracts these from BGR in units of 0 to 255, and scales nothing.
MEAN: Final = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD: Final = (1 / 255,) * 3

_PREFIX: Final = "keras-vgg16@"
_FILE_HINT: Final = "it is the file vgg16_weights_tf_dim_ordering_tf_kernels.h5 that Keras's VGG16 loads"

# HDF5's library reads some damaged files for ever, and others end the process. So another process reads the file first.
_SECONDS: Final = 60.0
_BYTES_PER_SECOND: Final = 2e6
# A .keras file is a zip of these weights, its configuration, and more. VGG-16 and its optimiser's state take 1.7 GB.
_MEMBER: Final = "model.weights.h5"
_LARGEST: Final = 4 * 2**30
# Keras 3 names layers after their class, in the order of the model: conv2d, conv2d_1, ..., dense, dense_1.
_KERAS_3: Final = "layers"
_KINDS: Final = ("conv2d", "dense")
_TRIAL: Final = """
import sys

def read(_, node):
    list(node.attrs.values())
    if hasattr(node, "dtype"):
        node[()]

try:
    import h5py
    with h5py.File(sys.argv[1], "r") as file:
        read("", file)
        file.visititems(read)
except Exception:
    pass  # the next reader reports it
"""


class KerasLayer(NamedTuple):
    """Weights of one layer, in the file's order of axes.

    Attributes:
        name: Its name, such as block1_conv1.
        kernel: (height, width, in, out) of a convolution, (in, out) of a dense layer.
        bias: (out,)
    """

    name: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def from_keras(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build the paper's VGG-16.

    Args:
        spec: keras-vgg16@FILE.
        weights: Must be None: the file holds the weights.

    Raises:
        ModelError: No such file, another file, or weights beside it.
    """
    from torchvision import models

    if weights is not None:
        # Torch's own weights want another input than Keras's: the study would be of neither network.
        raise ModelError(
            f"`weights` must be left out with `{_PREFIX}FILE`, got: {weights}",
            "FILE holds the weights; `--model torchvision/vgg16 --weights FILE` studies other ones",
        )
    path = Path(spec.removeprefix(_PREFIX)).expanduser()
    layers = read_keras_layers(path)
    module = models.vgg16(weights=None, init_weights=False)
    fill_vgg(module, layers)
    settings = InputSettings(
        mean=MEAN,
        std=STD,
        size=224,
        # As published: the whole picture squeezed to a square, nearest neighbour.
        resize=0,
        interpolation="nearest",
        labels=imagenet_labels(),
        weights=f"Keras {path.name}",
        configuration="Keras's VGG-16",
    )
    return module, settings


def read_keras_layers(path: Path) -> list[KerasLayer]:
    """Return the layers with weights of a Keras file, in the network's order.

    It may be .h5 or .weights.h5 (weights or a whole model, of Keras 1 to 3) or .keras. In the last two Keras 3 keeps
    the order within each class of layers alone; convolutions come first here.

    Raises:
        ModelError: There is no such file, or it is not Keras's.
    """
    import h5py

    if not path.is_file():
        raise ModelError(f"`model` must name a file, got: {path} (no such file)", _FILE_HINT)
    try:
        with _unpacked(path) as weights:
            _try(weights)
            with h5py.File(weights, "r") as file:
                return _keras_3_layers(file[_KERAS_3]) if _KERAS_3 in file else _layers(file.get("model_weights", file))
    except (OSError, KeyError, ValueError, TypeError, BadZipFile) as error:
        raise ModelError(f"`model` must name Keras weights, got: {path.name} ({error})", _FILE_HINT) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The path of the HDF5 file inside the block: the file itself, or what a .keras file holds.

    Raises:
        ValueError: What it holds is too large.
    """
    if path.suffix != ".keras":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder, ZipFile(path) as archive:
        if (size := archive.getinfo(_MEMBER).file_size) > _LARGEST:
            raise ValueError(f"{_MEMBER} has {size / 2**30:.1f} GiB, at most {_LARGEST / 2**30:.3g} are read")
        yield Path(archive.extract(_MEMBER, folder))


def _try(path: Path) -> None:
    """Raise `ValueError` for a file that crashes HDF5's library, or that it reads for ever."""
    limit = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
    command = [sys.executable, "-P", "-c", _TRIAL, str(path)]
    try:
        process = subprocess.run(command, timeout=limit, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"damaged: not read within {limit:.0f} s") from error
    if process.returncode:
        raise ValueError("damaged: reading it ended the process")


def fill_vgg(module: nn.Module, layers: Sequence[KerasLayer]) -> None:
    """Load Keras's layers into a network of convolutions and linear layers that run in the order they are defined.

    Args:
        module: torchvision's VGG, or a network of its kind that takes RGB.
        layers: The layers, in order.

    Raises:
        ModelError: Another number of layers, a layer of another shape, or a dense layer on maps that are not square.
    """
    parts = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if len(parts) != len(layers):
        raise ModelError(f"`model` must have {len(parts)} layers with weights, got: {len(layers)}", _FILE_HINT)
    channels = 0
    for position, (part, layer) in enumerate(zip(parts, layers, strict=True)):
        weight = _as_torch(layer, channels if isinstance(parts[position - 1], nn.Conv2d) else 0)
        if position == 0:
            weight = weight.flip(1)
        _check_shape(layer.name, tuple(weight.shape), tuple(part.weight.shape))
        _check_shape(f"the bias of {layer.name}", layer.bias.shape, tuple(part.weight.shape[:1]))
        channels = len(weight)
        with torch.no_grad():
            part.weight.copy_(weight)
            assert part.bias is not None
            part.bias.copy_(torch.from_numpy(layer.bias))


def _check_shape(what: str, shape: tuple[int, ...], rule: tuple[int, ...]) -> None:
    if shape != rule:
        raise ModelError(f"`model` must have {what} of shape {rule}, got: {shape}", _FILE_HINT)


def _layers(root: Any) -> list[KerasLayer]:
    if "theano" in _texts([root.attrs.get("backend", "")]):
        raise ValueError("saved under Theano, whose kernels are mirrored")
    tensors = {
        name: [root[name][key] for key in _texts(root[name].attrs["weight_names"])]
        for name in _texts(root.attrs["layer_names"])
    }
    return [_layer(name, values) for name, values in tensors.items() if values]


def _keras_3_layers(root: Any) -> list[KerasLayer]:
    tensors = {name: [group["vars"][key] for key in sorted(group["vars"], key=int)] for name, group in root.items()}
    return [_layer(name, tensors[name]) for name in sorted(tensors, key=_place) if tensors[name]]


def _place(name: str) -> tuple[int, int]:
    """Sort key of a layer of Keras 3: its class, then its number, which the first of a class has not."""
    kind, _, number = name.rpartition("_")
    if not number.isdecimal():
        kind, number = name, "0"
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS), int(number)


def _layer(name: str, tensors: Sequence[Any]) -> KerasLayer:
    arrays = [np.asarray(tensor, dtype=np.float32) for tensor in tensors]
    if len(arrays) != 2 or arrays[0].ndim not in (2, 4) or arrays[1].ndim != 1:
        raise ValueError(f"{name} has tensors of shapes {', '.join(str(array.shape) for array in arrays)}")
    return KerasLayer(name, *arrays)


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _as_torch(layer: KerasLayer, channels: int) -> torch.Tensor:
    """Return a kernel in torch's order.

    Args:
        layer: The layer.
        channels: Channels of the maps that a dense layer takes flattened; 0 for none.
    """
    kernel = torch.from_numpy(layer.kernel)
    if kernel.ndim == 4:
        return kernel.permute(3, 2, 0, 1)
    inputs, outputs = kernel.shape
    if not channels:
        return kernel.T
    side = isqrt(inputs // channels)
    # Height and width cannot be told from their product: an oblong map would be flattened in a wrong order.
    if side * side * channels != inputs:
        raise ModelError(f"`model` must have {layer.name} on {channels} square maps, got: {inputs} inputs", _FILE_HINT)
    return kernel.view(side, side, channels, outputs).permute(3, 2, 0, 1).reshape(outputs, inputs)
