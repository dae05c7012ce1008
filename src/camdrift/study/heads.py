"""Train a head on the features that a frozen network makes of some images, and judge it on images left out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from camdrift.errors import UserError
from camdrift.images.files import images_checksum
from camdrift.images.places import ImageFile
from camdrift.models.classifier import Classifier
from camdrift.models.head_specs import HeadSpec, parse_head
from camdrift.models.head_training import cross_validated, folds_of, train_layer
from camdrift.models.heads import Head, LastLinear, last_linear
from camdrift.pipeline.plan import checked, folder_labels, label_of
from camdrift.statistics.estimates import calibration_error, wilson_interval
from camdrift.storage.disk import write_asked
from camdrift.study.launch import ImageSource
from camdrift.study.provenance import camdrift_version
from camdrift.study.suites import Observation, OnImages, suite_of
from camdrift.tables.words import count

FOLDERS: Final = "folders"
PREDICTIONS: Final = "predictions"
_ENDING: Final = ".safetensors"
# Below so many images, a class has none in some fold.
_FEW: Final = 5


@dataclass(frozen=True)
class TrainedHead:
    """A head and what is known of it.

    Attributes:
        spec: KIND@FILE, as `load_model` and `--head` take it.
        kind: Its kind, with the scale where that is not the usual one.
        scale: The factor on cosines; None for a kind without one.
        classes: Index among the model's classes of each that it knows.
        images: Images that it was trained on.
        labels: Where their classes are from: `folders`, or `predictions` of the model.
        accuracy: Share of images that heads trained without them classify right.
        accuracy_low, accuracy_high: Ends of its Wilson 95 % interval.
        calibration: Expected calibration error of the same predictions, in fifteen bins.
        confidence: Mean probability of their predicted classes.
        folds: Number of folds that the images are left out by.
        own_accuracy: Share of the images that the model classifies right with its own last layer; 1 where the classes
            are its own predictions.
        images_sha256: Checksum of the images, whatever their order.
        remarks: What a person should know before trusting the numbers, a line each.
    """

    spec: str
    kind: str
    scale: float | None
    classes: tuple[int, ...]
    images: int
    labels: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    calibration: float
    confidence: float
    folds: int
    own_accuracy: float
    images_sha256: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Examples:
    """Features of images with their classes.

    Attributes:
        features: What the last linear layer is given, (images, features).
        places: Class of every image, as a place among `indexes`, (images,).
        indexes: Index of each class among the model's, ascending.
        facts: Fields of `TrainedHead` that only depend on the images.
    """

    features: Tensor
    places: Tensor
    indexes: tuple[int, ...]
    facts: Mapping[str, Any]


def train_head(
    classifier: Classifier,
    images: ImageSource,
    *,
    head: str = "zero-bias",
    out: str | PathLike[str],
    limit: int | None = None,
    batch_size: int = 0,
    rng_seed: int = 0,
    on_images: OnImages | None = None,
) -> TrainedHead:
    """Train a head for the place of a model's last linear layer on features of images, and write it to a file.

    The network stays as it is; its features are computed once. Classes are those of the folders of `images` where all
    folders are classes of the model, and else the model's own predictions. Classes that no image has stay in the
    model's list: the head puts their logits 30 below the least of the others, so that they are never predicted.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: Whatever `camdrift.run` takes.
        head: `linear`, `linear-nobias`, `cosine` or `zero-bias`; the last two take a scale, a number or `auto`:
            `zero-bias(scale=auto)`.
        out: File to write, .safetensors; one that is there is replaced.
        limit: Most images to train on, spread over the list.
        batch_size: Images per pass; 0 for a number that suits the device. It changes no number but by rounding.
        rng_seed: Seed of first weights, folds and batches.
        on_images: Called with what is done (`features` or `training`), how much of it and all of it.

    Raises:
        UserError: An unknown kind, a model without a last linear layer, fewer than two classes.
    """
    spec, path, show = parse_head(head), Path(out), on_images or (lambda *_: None)
    if path.suffix != _ENDING or path.is_dir():
        raise UserError(f"`out` must be a {_ENDING} file, got: {path}", "--out head.safetensors")
    if not path.parent.is_dir():
        raise UserError(f"`out` must lie in a folder that exists, got: {path}", f"mkdir -p {path.parent}")
    layer = last_linear(checked(classifier, "classifier"))
    observation = Observation(classifier, suite_of(images, limit), batch_size, partial(show, "features"))
    examples = _examples(layer, observation)
    show("training", 0, 1)
    result, new = _judged(spec, examples, path, rng_seed)
    show("training", 1, 1)
    state = Head(new, examples.indexes, classifier.classes).state_dict()
    write_asked(path, _in_order(save(state, _metadata(result, layer))))
    return result


def _examples(layer: LastLinear, observation: Observation) -> _Examples:
    """The images' features and classes; raises `UserError` for fewer than two classes."""
    classifier, files, features, predictions = layer.classifier, list[ImageFile](), list[Tensor](), list[Tensor]()
    with classifier.numerics():
        for batch, images in observation.pixels():
            values, logits = layer.features(images)
            files += batch
            features.append(values.cpu())
            predictions.append(logits.argmax(1).cpu())
    own = torch.cat(predictions)
    folders = folder_labels(classifier, files)
    labels = [label_of(file, folders, classifier.classes) for file in files]
    is_labelled = None not in labels
    classes = torch.tensor(labels) if is_labelled else own
    indexes, places, counts = classes.unique(return_inverse=True, return_counts=True)
    if len(indexes) < 2:
        raise UserError(
            f"`images` must be of two classes or more, got: {count(len(files), 'image')} of "
            f"{classifier.class_name(int(indexes[0]))}"
        )
    remarks = [*observation.remarks()]
    if not is_labelled:
        remarks.append(
            "not all folders are classes of the model: the head learns the model's own predictions, and its accuracy "
            "says how well it follows them"
        )
    few = int((counts < _FEW).sum())
    if few:
        remarks.append(f"{count(few, 'class')} of fewer than {_FEW} images: accuracy and calibration say little there")
    if len(indexes) < classifier.classes:
        remarks.append(
            f"the head knows {len(indexes):,} of the model's {classifier.classes:,} classes, and never predicts others"
        )
    facts = {
        "labels": FOLDERS if is_labelled else PREDICTIONS,
        "own_accuracy": float((own == classes).double().mean()),
        "images_sha256": images_checksum(observation.checksums),
        "remarks": tuple(remarks),
    }
    return _Examples(torch.cat(features), places, tuple(indexes.tolist()), facts)


def _judged(spec: HeadSpec, examples: _Examples, path: Path, rng_seed: int) -> tuple[TrainedHead, nn.Module]:
    """A head that is trained on all examples, with what heads trained on parts of them say of the rest."""
    n_classes = len(examples.indexes)
    train = partial(train_layer, spec, n_classes=n_classes, rng_seed=rng_seed)
    folds = folds_of(examples.places, rng_seed=rng_seed)
    confidence, predictions = cross_validated(train, examples.features, examples.places, folds).max(1)
    is_right = (predictions == examples.places).numpy()
    ends = wilson_interval(np.array([is_right.sum()]), np.array([is_right.size]))
    result = TrainedHead(
        spec=f"{spec}@{path}",
        kind=str(spec),
        scale=spec.scale_for(n_classes),
        classes=examples.indexes,
        images=is_right.size,
        accuracy=float(is_right.mean()),
        accuracy_low=float(ends.low[0]),
        accuracy_high=float(ends.high[0]),
        calibration=calibration_error(confidence.double().numpy(), is_right),
        confidence=float(confidence.mean()),
        folds=int(folds.max()) + 1,
        **examples.facts,
    )
    return result, train(examples.features, examples.places)


def _in_order(data: bytes) -> bytes:
    """The bytes of a safetensors file with its header sorted: as the library writes it, its order is another each time.

    The format: eight bytes with the length of a JSON header, little-endian; the header, filled up with spaces; tensors.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]


def _metadata(result: TrainedHead, layer: LastLinear) -> dict[str, str]:
    """What the file says of its head: texts, as safetensors wants them."""
    classifier = layer.classifier
    facts = {**asdict(result), "classes": list(result.classes), "remarks": list(result.remarks)}
    del facts["spec"]
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    return {
        **texts,
        "camdrift": camdrift_version(),
        "model": classifier.spec,
        "model_sha256": classifier.weights_checksum(),
        "layer": layer.name,
        "features": str(layer.module.in_features),
        "total": str(classifier.classes),
    }
