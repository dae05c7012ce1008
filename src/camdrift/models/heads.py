"""Heads: layers in the place of a network's last linear one, from a file that `camdrift head` wrote."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camdrift.errors import ModelError, one_line
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.models.head_specs import COSINE_HEAD, LINEAR_HEAD, LINEAR_NOBIAS, HeadRecord, HeadSpec, split_head
from camdrift.tensors import Images

# Classes that a head does not know lie so far below the least of those that it knows: a probability below 1e-13 each.
UNKNOWN_BELOW: Final = 30.0
_TINY: Final = 1e-9
_RETRAIN: Final = "`camdrift head IMAGES --model SPEC --head KIND --out FILE` trains one for this model"
_KEYS: Final = ("kind", "model_sha256", "features", "classes", "total")


class CosineLayer(nn.Module):
    """z_k = m <w_k / sqrt(b^2 + |w_k|^2), x / sqrt(b^2 + |x|^2)>, and m more for the released zero-bias layer.

    Source: `zeroBiasFCLayer.m` of CSIL and of AbnormalityDetectionInZbDNN; b = 1e-9, no bias, m not learned. The m that
    is added shifts all logits alike, so it changes no probability.
    """

    def __init__(self, weight: Tensor, scale: float, *, is_shifted: bool) -> None:
        """Make the layer.

        Args:
            weight: Fingerprints w, (classes, features).
            scale: The factor m.
            is_shifted: Is m added?
        """
        super().__init__()
        self.weight, self.is_shifted = nn.Parameter(weight), is_shifted
        # Among the state, so that a checksum of the weights knows it.
        self.register_buffer("scale", torch.tensor(scale, dtype=weight.dtype))
        self.scale: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, (batch, classes), of features, (batch, features); their length does not matter."""
        logits = self.scale * F.linear(_direction(features), _direction(self.weight))
        return logits + self.scale if self.is_shifted else logits


def _direction(vectors: Tensor) -> Tensor:
    return vectors / (_TINY**2 + vectors.square().sum(1, keepdim=True)).sqrt()


class Head(nn.Module):
    """A head over some or all classes of a model.

    Attributes:
        layer: From features to the logits of the classes that the head knows.
        places: For every class of the model its column among those, or the one behind them; None for all in order.
    """

    def __init__(self, layer: nn.Module, classes: Sequence[int], total: int) -> None:
        """Make a head.

        Args:
            layer: From features to logits of the classes that it knows.
            classes: Index of each of these among the model's classes.
            total: Number of the model's classes.
        """
        super().__init__()
        self.layer = layer
        places = torch.full((total,), len(classes))
        places[list(classes)] = torch.arange(len(classes))
        self.register_buffer("places", None if list(classes) == list(range(total)) else places)
        self.places: Tensor | None

    def forward(self, features: Tensor) -> Tensor:
        """Return logits of all classes of the model, (batch, classes)."""
        logits: Tensor = self.layer(features)
        if self.places is None:
            return logits
        rest = logits.amin(1, keepdim=True) - UNKNOWN_BELOW
        return torch.cat([logits, rest], 1)[:, self.places]


def new_layer(spec: HeadSpec, features: int, classes: int, generator: torch.Generator | None = None) -> nn.Module:
    """Return a layer of some kind before its training, in float32.

    Args:
        spec: Kind and scale.
        features: Length of the features.
        classes: Number of classes.
        generator: Draws the weights; None for a new one.
    """
    generator = generator or torch.Generator().manual_seed(0)
    if spec.kind in (LINEAR_HEAD, LINEAR_NOBIAS):
        return _linear(features, classes, generator, is_biased=spec.kind == LINEAR_HEAD)
    scale = spec.scale_for(classes)
    assert scale is not None
    if spec.kind == COSINE_HEAD:
        return CosineLayer(
            torch.randn((classes, features), generator=generator) / features**0.5, scale, is_shifted=False
        )
    # As released: uniform from 0 to 1, so that all fingerprints begin in one orthant; their length does not matter.
    fingerprints = torch.rand((classes, classes), generator=generator) / classes**0.5
    return nn.Sequential(
        _linear(features, classes, generator, is_biased=True), CosineLayer(fingerprints, scale, is_shifted=True)
    )


def _linear(features: int, classes: int, generator: torch.Generator, *, is_biased: bool) -> nn.Linear:
    layer = nn.Linear(features, classes, bias=is_biased, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(torch.randn((classes, features), generator=generator) / features**0.5)
        if is_biased:
            layer.bias.zero_()
    return layer


@dataclass(frozen=True)
class LastLinear:
    """The linear layer that makes a classifier's logits.

    Attributes:
        classifier: The classifier.
        name: Dotted name of the layer; empty where it is the whole network.
        module: The layer.
    """

    classifier: Classifier
    name: str
    module: nn.Linear

    @torch.no_grad()
    def features(self, images: Images) -> tuple[Tensor, Tensor]:
        """Return what the layer is given for some images, (batch, features), and the logits, (batch, classes)."""
        inputs: list[Tensor] = []

        def before(name: str, part: nn.Module, arguments: Any) -> None:
            inputs.extend([arguments[0][0].float()] if not name else [])

        with hooks.around(self.module, before, lambda *_: None):
            logits = self.classifier(images)
        return inputs[-1], logits


def last_linear(classifier: Classifier) -> LastLinear:
    """Return the linear layer whose output a classifier's logits are.

    Raises:
        ModelError: They are the output of no such layer.
    """
    outputs: dict[str, list[Tensor]] = {}

    def after(name: str, part: nn.Module, output: Any) -> None:
        if isinstance(part, nn.Linear) and isinstance(output, Tensor) and output.ndim == 2:
            outputs.setdefault(name, []).append(output.clone())

    side = classifier.size
    pixels = torch.linspace(0, 1, 3 * side**2, device=classifier.device).view(1, 3, side, side)
    with torch.no_grad(), classifier.numerics(), hooks.around(classifier.module, lambda *_: None, after):
        logits = classifier(pixels)
    names = [name for name, values in outputs.items() if len(values) == 1 and torch.equal(values[0].float(), logits)]
    if not names:
        last = next(reversed(outputs), None)
        lies = "it has none" if last is None else f"they are not the output of its last one, {last}"
        raise ModelError(
            f"`model` must have a linear layer whose output the logits are, for a head in its place; got: "
            f"{classifier.spec} ({lies})",
            "a factory can return a network that ends in nn.Linear: --model net.py:build",
        )
    module = classifier.module.get_submodule(names[-1])
    assert isinstance(module, nn.Linear)
    return LastLinear(classifier, names[-1], module)


def with_head(classifier: Classifier, head: str) -> Classifier:
    """Return a classifier with a head in the place of its last linear layer; the classifier itself stays as it is.

    Args:
        classifier: What `load_model` or `wrap` returned.
        head: KIND@FILE, such as `zero-bias@head.safetensors`; `camdrift.train_head` writes the file.

    Raises:
        ModelError: The head is of another kind or another model, or the model has no last linear layer.
    """
    spec, file = split_head(head)
    place = last_linear(classifier)
    metadata, tensors, checksum = read_head(Path(file))
    _check_fit(spec, file, metadata, place)
    classes = json.loads(metadata["classes"])
    new = Head(new_layer(spec, place.module.in_features, len(classes)), classes, classifier.classes)
    try:
        new.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"`head` must hold a {spec}, got: {file} ({one_line(error)})", _RETRAIN) from error
    new = new.to(place.module.weight.device, place.module.weight.dtype).eval()
    module: nn.Module = new
    if place.name:
        module = copy.deepcopy(classifier.module)
        parent, _, name = place.name.rpartition(".")
        setattr(module.get_submodule(parent), name, new)
    result = Classifier(
        module,
        spec=classifier.spec,
        device=classifier.device,
        precision=classifier.precision,
        **vars(classifier.settings),
    )
    result.head, result.code = HeadRecord(head, str(spec), checksum), classifier.code
    result.remarks = tuple(dict.fromkeys((*classifier.remarks, *result.remarks)))
    return result


def _check_fit(spec: HeadSpec, file: str, metadata: Mapping[str, str], place: LastLinear) -> None:
    """Raise `ModelError` unless a file holds a head of this kind for this model."""
    if metadata["kind"] != str(spec):
        raise ModelError(
            f"`head` must name what the file holds, got: {spec} for {file}, which holds {metadata['kind']}",
            f"--head '{metadata['kind']}@{file}' takes it",
        )
    features, total = int(metadata["features"]), int(metadata["total"])
    own = place.module.in_features, place.classifier.classes
    if (features, total) != own:
        raise ModelError(
            f"`head` must take {own[0]:,} features and tell {own[1]:,} classes, got: {file} for {features:,} and "
            f"{total:,}",
            _RETRAIN,
        )
    if metadata["model_sha256"] != place.classifier.weights_checksum():
        raise ModelError(
            f"`head` must be of this model, got: {file}, trained on other weights of {metadata.get('model')}", _RETRAIN
        )


def read_head(file: Path) -> tuple[dict[str, str], dict[str, Tensor], str]:
    """Return metadata, tensors and checksum of a file that `camdrift head` wrote.

    Raises:
        ModelError: No such file, or one that holds no head.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(f"`head` must name a file, got: {file} (no such file)", _RETRAIN)
    try:
        with safe_open(str(file), framework="pt") as content:
            metadata = dict(content.metadata() or {})
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if any(key not in metadata for key in _KEYS):
            raise ModelError(f"`head` must be a file that `camdrift head` wrote, got: {file}", _RETRAIN)
        return metadata, tensors, hashlib.sha256(file.read_bytes()).hexdigest()
    except (SafetensorError, OSError) as error:
        raise ModelError(f"`head` could not be read, got: {file} ({one_line(error)})", _RETRAIN) from error
