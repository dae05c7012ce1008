"""The photos of a study's gallery: each clean, attacked and noisy, and where every layer looks in it.

`pipeline/gallery.py` says which arrays a gallery has.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from camdrift.errors import UserError
from camdrift.specs import nearest
from camdrift.tables.arrays import Bytes, Gallery
from camdrift.tables.words import ALL_CONDITIONS, CLEAN, NOISE, TARGET_ORDER, Condition, Target, strength_text

# The arrays that hold what is added to a clean image, and their peaks' places.
_CHANGES: Final = {"adversarial": ("perturbation", 0), NOISE: ("noise", 1)}


def picture_of(gallery: Gallery, place: int, condition: str, strength: float) -> Bytes:
    """A photo of a gallery as bytes, (height, width, 3): clip(x + s * delta, 0, 1) (Eqs. 1 and 3, Renkhoff 2022).

    Args:
        gallery: The gallery.
        place: The photo's place in it.
        condition: clean, adversarial or noise.
        strength: Factor s on perturbation or noise.
    """
    clean = np.asarray(gallery[f"{place}/clean"])
    if condition == CLEAN:
        return clean
    name, peak = _CHANGES[condition]
    change = strength * float(gallery[f"{place}/peaks"][peak]) * (np.asarray(gallery[f"{place}/{name}"]) / 127)
    pixels: Bytes = (255 * np.clip(clean / 255 + change, 0, 1)).round().astype(np.uint8)
    return pixels


def heatmaps_of(gallery: Gallery, place: int, layer_index: int, target: str, strength: float) -> Bytes | None:
    """Heatmaps of a photo clean, attacked and noisy, (3, h, w), 0 to 255; None where they are not stored.

    Args:
        gallery: The gallery.
        place: The photo's place in it.
        layer_index: The layer's place in the study.
        target: Whose class is explained.
        strength: Strength of attack and noise.
    """
    key, targets, strengths = f"{place}/map/{layer_index}", gallery["targets"].tolist(), gallery["strengths"].tolist()
    if key not in gallery or target not in targets or strength not in strengths:
        return None
    slot = 1 + strengths.index(strength)
    heatmaps: Bytes = gallery[key][targets.index(target), [0, slot, slot + len(strengths)]]
    return heatmaps


class Photo:
    """A photo of a study with what attack and noise make of it, and where every layer looks.

    Pictures and heatmaps are read from the run when they are asked for.

    Attributes:
        seed_id: Its name, as in table `seeds`.
        layers: Names of the layers that heatmaps are of.
        strengths: Strengths that heatmaps are of.
        targets: Whose classes heatmaps explain.
    """

    def __init__(self, gallery: Gallery, place: int, layers: Sequence[str]) -> None:
        self._gallery, self._place = gallery, place
        self.seed_id, self.layers = str(gallery["seed_ids"][place]), tuple(layers)
        self.strengths: tuple[float, ...] = tuple(gallery["strengths"].tolist())
        self.targets: tuple[str, ...] = tuple(gallery["targets"].tolist())

    def __repr__(self) -> str:
        strengths = ", ".join(map(strength_text, self.strengths))
        return f"Photo({self.seed_id}: {len(self.layers)} layers, strengths {strengths})"

    def picture(self, condition: Condition = "clean", strength: float = 1.0) -> Bytes:
        """Return the photo as an array, (height, width, 3) of bytes, 0 to 255, red first.

        It is the image that the network got, rounded to bytes: to within 1/510 + s * peak / 254 of a pixel's range,
        where the peak is the largest change of a pixel.

        Args:
            condition: `clean`, `adversarial` or `noise` (the first draw).
            strength: Factor s on perturbation or noise, any number from 0.

        Raises:
            UserError: Another condition.
        """
        _check("condition", condition, ALL_CONDITIONS)
        return picture_of(self._gallery, self._place, condition, strength)

    def heatmap(
        self, layer: str, condition: Condition = "clean", strength: float = 1.0, target: Target | None = None
    ) -> Bytes:
        """Return where a layer looks, as an array (h, w) of bytes at the layer's resolution, at most 112 along a side.

        It is scaled by its own maximum to 0 to 255, for display: tables come from raw maps. A map that is zero
        everywhere, and so has no similarity, is zero here.

        Args:
            layer: Name of a layer of the study.
            condition: `clean`, `adversarial` or `noise` (the first draw).
            strength: Strength of attack or noise, one of the study's.
            target: Whose class is explained; None for the clean prediction's, or what the study has in its place.

        Raises:
            UserError: A layer, condition, strength or target that the study's gallery does not have.
        """
        whose: str = target or next(name for name in TARGET_ORDER if name in self.targets)
        _check("layer", layer, self.layers)
        _check("condition", condition, ALL_CONDITIONS)
        _check("target", whose, self.targets)
        if condition == CLEAN:
            strength = self.strengths[0]
        _check("strength", strength, self.strengths)
        index = self.layers.index(layer)
        heatmaps = heatmaps_of(self._gallery, self._place, index, whose, strength)
        if heatmaps is None:
            raise UserError(f"`layer` must be one that the gallery holds maps of, got: {layer}")
        heatmap: Bytes = heatmaps[ALL_CONDITIONS.index(condition)]
        return heatmap


class Photos(Mapping[str, Photo]):
    """The photos that a study keeps pictures of, by name: from the one whose maps the attack moves furthest on.

    Example:
        >>> photo = study.gallery["cat.jpg"]  # doctest: +SKIP
        >>> photo.picture("adversarial", strength=2).shape  # doctest: +SKIP
        (224, 224, 3)
    """

    def __init__(self, gallery: Gallery, layers: Sequence[str]) -> None:
        self._gallery, self._layers = gallery, tuple(layers)
        self._names = [str(name) for name in gallery["seed_ids"]] if "seed_ids" in gallery else []

    def __getitem__(self, seed_id: str) -> Photo:
        if seed_id not in self._names:
            raise KeyError(f"the gallery holds no {seed_id}; it holds {_short(self._names) or 'nothing'}")
        return Photo(self._gallery, self._names.index(seed_id), self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Photos({_short(self._names)})"


def _check(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise `UserError` unless a value is one of the choices."""
    if value not in choices:
        texts = [strength_text(choice) if isinstance(choice, float) else str(choice) for choice in choices]
        raise UserError(f"`{name}` must be one of {_short(texts)}, got: {value}", nearest(str(value), texts).strip())


def _short(names: Sequence[str]) -> str:
    """Some names, the middle of many left out."""
    return ", ".join(names if len(names) <= 12 else [*names[:6], "...", *names[-3:]])
