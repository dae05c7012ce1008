"""Names of classes: those that a user gives, those of ImageNet, and the class that a folder's name means."""

import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import Any, Final

from camdrift.errors import ModelError

_HINT: Final = "a list of texts in order of the classes, like ['cat', 'dog'], or a mapping like {0: 'cat', 1: 'dog'}"

_WORDNET_ID = re.compile(r"n\d{8}")


def checked_labels(labels: Any) -> tuple[str, ...] | None:
    """Return class names in the order of the classes; None for None.

    Args:
        labels: Texts in order. Or a mapping: from class to name, whose keys may be texts of digits as in JSON, or from
            name to class, as data sets have.

    Raises:
        ModelError: A name that is no text, a class without a name, or no order.

    Example:
        >>> checked_labels({"1": "dog", "0": "cat"}), checked_labels({"dog": 1, "cat": 0})
        (('cat', 'dog'), ('cat', 'dog'))
    """
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        return _in_order(labels)
    if isinstance(labels, str | bytes | set | frozenset) or not isinstance(labels, Iterable):
        raise ModelError(f"`labels` must be a list of texts, got: {_shown(labels)}", _HINT)
    names = list(labels)
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise ModelError(f"`labels` must be texts, got: {_shown(name)} for class {number}", _HINT)
    return tuple(map(str, names))


def _in_order(labels: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of a mapping by their classes."""
    is_reversed = all(isinstance(name, str) and _class(index) is not None for name, index in labels.items())
    is_reversed &= not all(isinstance(name, str) for name in labels.values())
    pairs = [(index, name) if is_reversed else (name, index) for name, index in labels.items()]
    names: dict[int, str] = {}
    for key, name in pairs:
        index = _class(key)
        if index is None or not isinstance(name, str):
            raise ModelError(f"`labels` must map classes to texts, got: {_shown(key)} for {_shown(name)}", _HINT)
        if index in names:
            raise ModelError(f"`labels` must name every class once, got: two names for class {index}", _HINT)
        names[index] = str(name)
    absent = [index for index in range(len(names)) if index not in names]
    if absent:
        raise ModelError(f"`labels` must name every class from 0 up, got: no name for class {absent[0]}", _HINT)
    return tuple(names[index] for index in range(len(names)))


def _class(key: Any) -> int | None:
    """Return the class that a key means: a number, or its digits as JSON writes them."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdecimal() else None
    if isinstance(key, bool) or not isinstance(key, Integral):
        return None
    return int(key) if int(key) >= 0 else None


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else f'{text[:57]}...'} ({type(value).__name__})"


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the short names of ImageNet's thousand classes, in the order of every common checkpoint."""
    # torchvision's file of names alone, where it has one: all of it brings torch's compiler, seconds of imports.
    package = find_spec("torchvision")
    folders = [] if package is None else list(package.submodule_search_locations or [])
    for path in (Path(folder) / "models" / "_meta.py" for folder in folders):
        if path.is_file() and (names := runpy.run_path(str(path)).get("_IMAGENET_CATEGORIES")):
            return tuple(names)
    from torchvision.models import VGG16_Weights

    return tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"])


@cache
def _imagenet_synsets() -> dict[str, int]:
    from timm.data import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}


@cache
def _synset_names(synset: str) -> tuple[str, ...]:
    from timm.data import ImageNetInfo

    try:
        description = ImageNetInfo("imagenet-22k").label_name_to_description(synset)
    except KeyError:
        return ()
    return tuple(name.strip() for name in description.split(","))


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def class_index(name: str, labels: Sequence[str]) -> int | None:
    """Return the index of the class that a folder called `name` holds; None if that is not certain.

    A folder may have the name of a label (case, spaces, `_` and `-` do not matter), or a WordNet ID such as n01440764.
    The ID is looked up among ImageNet's thousand classes if `labels` are theirs, and by its names otherwise.

    Args:
        name: Folder name.
        labels: Class names of the model.
    """
    plain = [_plain(label) for label in labels]
    candidates = [_plain(name)]
    if _WORDNET_ID.fullmatch(name):
        if tuple(labels) == imagenet_labels():
            return _imagenet_synsets().get(name)
        candidates += [_plain(synonym) for synonym in _synset_names(name)]
    indexes = {index for index, label in enumerate(plain) if label in candidates}
    return indexes.pop() if len(indexes) == 1 else None
