"""Sources of models by the form of their specs; nothing here imports a library, or torch.

A source is one row of `SOURCES` and one function, which is imported when a model of it is loaded. `--model`'s help, the
messages and the table of docs/models.md are made from the rows, or held against them by a test.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from camdrift.errors import ModelError, install_hint

if TYPE_CHECKING:
    from torch import nn

    from camdrift.models.input_settings import InputSettings

# Builds a network: of a spec, and the file of weights that will be loaded into it, or None.
Builder = Callable[[str, str | Path | None], "tuple[nn.Module, InputSettings]"]

EMBEDDED: Final = "efficientnet-lite0"
# Endings of files that hold a program of torch.export, weights, or pickled Python objects.
_FILES: Final = r"\.(pt2|pt|pth|bin|ckpt|pkl|safetensors)"


@dataclass(frozen=True)
class ModelSource:
    """One source of models.

    Attributes:
        forms: The specs of its models, as help and messages write them.
        pattern: Regular expression that their specs match as a whole; the first row that matches counts.
        builder: The file in this folder, and the function in it that builds a network.
        help: The network, as docs/models.md says it.
        package: The library that it needs beyond camdrift's own; empty for none.
        extra: The extra of camdrift that installs the library.
    """

    forms: tuple[str, ...]
    pattern: str
    builder: str
    help: str
    package: str = ""
    extra: str = ""

    def load_builder(self, spec: str) -> Builder:
        """Import the function that builds the network of `spec`.

        Raises:
            ModelError: The library that it needs is not installed.
        """
        try:
            if self.package:
                import_module(self.package)
        except ImportError as error:
            message = f"`model` {spec} needs {self.package}, which is not installed"
            raise ModelError(message, install_hint(self.extra)) from error
        file, function = self.builder.split(":")
        builder: Builder = getattr(import_module(f"camdrift.models.{file}"), function)
        return builder


_FUNCTION: Final = ModelSource(
    ("path/to/file.py:factory", "package.module:factory"),
    ".*:.*",
    "factories:from_factory",
    "a function that returns an `nn.Module` or an exported program",
)
SOURCES: Final = (
    ModelSource(
        (EMBEDDED,),
        EMBEDDED,
        "embedded:efficientnet_lite0",
        "embedded: weights come with an installed package",
    ),
    ModelSource(
        ("torchvision/NAME[@WEIGHTS]",), "torchvision/.*", "libraries:from_torchvision", "a classifier of torchvision"
    ),
    ModelSource(("timm/NAME",), "timm/.*", "libraries:from_timm", "a classifier of timm"),
    ModelSource(
        ("hf/NAME_OR_FOLDER",),
        "hf/.*",
        "libraries:from_transformers",
        "an image classifier of transformers: of the hub, or a folder that `save_pretrained` wrote",
        package="transformers",
        extra="hf",
    ),
    ModelSource(
        ("keras-vgg16@FILE",),
        "keras-vgg16@.*",
        "keras_vgg16:from_keras",
        "the 2022 paper's VGG-16, from Keras's weights",
        package="h5py",
        extra="keras",
    ),
    ModelSource(("FILE.pt2",), f".*{_FILES}", "exported:from_program", "a program that `torch.export.save` wrote"),
    _FUNCTION,
)

MODEL_FORMS: Final = tuple(form for source in SOURCES for form in source.forms)
SPECS_HINT: Final = f"models are {', '.join(f'`{form}`' for form in MODEL_FORMS[:-1])} or `{MODEL_FORMS[-1]}`"


def find_source(spec: str) -> ModelSource:
    """Return the source that a spec names.

    Raises:
        ModelError: A spec of no known form.
    """
    source = _matching(spec)
    if source is None:
        question = import_module("camdrift.models.libraries").nearest_model(spec)
        raise ModelError(f"`model` must be a known spec, got: {spec}", f"{question}{SPECS_HINT}")
    return source


def is_factory(spec: str) -> bool:
    """Does a spec name a Python function, which loading the model would run?"""
    return _matching(spec) is _FUNCTION


def _matching(spec: str) -> ModelSource | None:
    return next((source for source in SOURCES if re.fullmatch(source.pattern, spec, re.DOTALL)), None)
