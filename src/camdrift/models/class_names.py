"""Names of classes: those of ImageNet, and the class that a folder's name means."""

import re
from collections.abc import Sequence
from functools import cache

_WORDNET_ID = re.compile(r"n\d{8}")


def imagenet_labels() -> tuple[str, ...]:
    """Return the short names of ImageNet's thousand classes, in the order of every common checkpoint."""
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
