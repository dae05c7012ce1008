"""The profile of a model: made of ordinary images once, stored, and taken again for the same weights and images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from camdrift.coverage.base import neuron_layout
from camdrift.coverage.profile import Profile, ProfileBuilder, profile_from
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.storage.measurement import read_profile, write_profile
from camdrift.study.launch import ImageSource
from camdrift.study.suites import Observation, OnImages, Suite, suite_of
from camdrift.tables.file_names import PROFILE

_ENDING: Final = Path(PROFILE).suffix
_IMAGES: Final = "images"


@dataclass(frozen=True)
class NamedProfile:
    """A profile and where it is from.

    Attributes:
        profile: The profile; None for none.
        words: Its images, or its file.
        remarks: What a person should know of it, a line each.
    """

    profile: Profile | None = None
    words: str = ""
    remarks: tuple[str, ...] = ()


def profile_of(
    classifier: Classifier,
    source: Profile | ImageSource | Tensor,
    layers: Sequence[str],
    *,
    folder: Path | None,
    batch_size: int,
    show: OnImages,
) -> NamedProfile:
    """The profile of a model on some images, with features of some layers.

    Args:
        classifier: The model.
        source: Images, the file of a profile, or a profile; None for none.
        layers: Layers, or `logits`, whose features it must hold.
        folder: Where it is stored, and looked for first; None for nowhere.
        batch_size: Images read and observed at once; 0 for a number that suits the device.
        show: Called with `profile`, images done and all images.

    Raises:
        UserError: No images, or a profile of another model or without those features.
        StoreError: A file that is no profile.
    """
    if source is None:
        return NamedProfile()
    origin = model_origin(classifier)
    if isinstance(source, Profile):
        return NamedProfile(_fitting(source, origin, layers, "in memory"), "in memory")
    if isinstance(source, str | PathLike) and Path(source).suffix == _ENDING:
        profile = profile_from(read_profile(Path(source)))
        return NamedProfile(_fitting(profile, origin, layers, str(source)), str(source))
    suite = suite_of(source)
    origin = {**origin, _IMAGES: suite.checksum()}
    earlier = None if folder is None else _stored(folder / PROFILE, origin, layers)
    if earlier is not None:
        return NamedProfile(earlier, suite.words, (f"the profile in {folder} is taken again",))
    reference = _fresh(classifier, suite, layers, origin, batch_size=batch_size, show=show)
    if folder is not None and reference.profile is not None:
        write_profile(folder / PROFILE, reference.profile.arrays())
    return reference


def model_origin(classifier: Classifier) -> dict[str, Any]:
    """What of a model a profile depends on, in JSON values: its weights, and the way from a picture to its input."""
    geometry = {name: list(value) if isinstance(value, tuple) else value for name, value in classifier.geometry.items()}
    units = {"mean": list(classifier.mean), "std": list(classifier.std), "dtype": str(classifier.dtype)}
    return {"weights": classifier.weights_checksum(), "input": {**geometry, **units}}


def _fitting(profile: Profile, origin: dict[str, Any], layers: Sequence[str], words: str) -> Profile:
    """A profile that somebody names, if it is of this model and holds features of these layers."""
    others = [name for name, value in origin.items() if profile.origin.get(name, value) != value]
    if others:
        raise UserError(f"`profile` must be of this model, got: {words}, of another {others[0]}", "make it anew")
    missing = [layer for layer in layers if layer not in profile.features]
    if missing:
        raise UserError(
            f"`profile` must hold features of {missing[0]}, got: {words} without",
            "give its images instead, and it is made anew",
        )
    return profile


def _stored(path: Path, origin: dict[str, Any], layers: Sequence[str]) -> Profile | None:
    """The profile in a file, if it is of the same model and images and holds features of these layers."""
    if not path.is_file():
        return None
    profile = profile_from(read_profile(path))
    return profile if profile.origin == origin and set(layers) <= profile.features.keys() else None


def _fresh(
    classifier: Classifier,
    suite: Suite,
    layers: Sequence[str],
    origin: dict[str, Any],
    *,
    batch_size: int,
    show: OnImages,
) -> NamedProfile:
    builder = ProfileBuilder(neuron_layout(classifier), layers)
    observation = Observation(classifier, suite, batch_size, lambda done, total: show("profile", done, total))
    for batch in observation:
        builder.add(batch)
    profile = replace(builder.profile(), checksums=tuple(observation.checksums), origin=origin)
    return NamedProfile(profile, suite.words, tuple(f"profile: {line}" for line in observation.remarks()))
