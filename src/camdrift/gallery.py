"""Images and heatmaps of a few seeds, small enough to keep, for pictures."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from camdrift.records import ADVERSARIAL, NOISE
from camdrift.tensors import Image, Images, Maps
from camdrift.variants import Variant

PER_CHUNK: Final = 3

Bytes = NDArray[np.uint8]


class Gallery:
    """Collects the pictures of the first analysed seeds of a chunk.

    Stored are, for the i-th of them, `i/image`: the clean, adversarial and noisy image, shape (3, height, width,
    3), and `i/map/LAYER_INDEX`: their heatmaps at layer resolution, shape (3, h, w), all 8 bit. Heatmaps are
    attributions for the first target of the study, each scaled by its own maximum: for display only.

    Attributes:
        size: How many seeds a chunk shows.
        strength: Strength of the variants that are shown: 1 if the study has it, else the nearest.
    """

    def __init__(self, strengths: Sequence[float]) -> None:
        self.size = PER_CHUNK
        self.strength = min(strengths, key=lambda strength: abs(strength - 1))
        self._seed_ids: list[str] = []
        self._images: list[dict[int, Bytes]] = []
        self._maps: list[dict[int, list[Bytes]]] = []

    def add_clean(
        self, position: int, seed_id: str, pixels: Image, maps: Mapping[str, Maps], layers: Sequence[str]
    ) -> None:
        """Start the pictures of one seed with its clean image."""
        self._seed_ids.append(seed_id)
        self._images.append({0: _as_bytes(pixels)})
        self._maps.append({0: [_heatmap(maps[name][position]) for name in layers]})

    def add_variant(
        self, variant: Variant, row: int, images: Images, maps: Mapping[str, Maps], layers: Sequence[str]
    ) -> None:
        """Add row `row` of a batch if it is one of the pictures wanted."""
        if variant.position >= len(self._seed_ids) or variant.strength != self.strength or variant.draw:
            return
        slot = {ADVERSARIAL: 1, NOISE: 2}[variant.condition]
        self._images[variant.position][slot] = _as_bytes(images[row])
        self._maps[variant.position][slot] = [_heatmap(maps[name][row]) for name in layers]

    def arrays(self, kept: Collection[str]) -> dict[str, NDArray[Any]]:
        """The pictures of the seeds in `kept`, by key."""
        chosen = [i for i, seed_id in enumerate(self._seed_ids) if seed_id in kept and len(self._images[i]) == 3]
        arrays: dict[str, NDArray[Any]] = {"seed_ids": np.array([self._seed_ids[i] for i in chosen], dtype=np.str_)}
        for place, i in enumerate(chosen):
            arrays[f"{place}/image"] = np.stack([self._images[i][slot] for slot in range(3)])
            for index in range(len(self._maps[i][0])):
                arrays[f"{place}/map/{index}"] = np.stack([self._maps[i][slot][index] for slot in range(3)])
        return arrays


def merge_galleries(galleries: Sequence[Mapping[str, NDArray[Any]]], limit: int = PER_CHUNK) -> dict[str, Any]:
    """One gallery with the first `limit` seeds of several."""
    seed_ids: list[str] = []
    merged: dict[str, Any] = {}
    for gallery in galleries:
        for i, seed_id in enumerate(gallery["seed_ids"].tolist()):
            if len(seed_ids) == limit:
                break
            place = len(seed_ids)
            seed_ids.append(seed_id)
            own = {key.partition("/")[2]: value for key, value in gallery.items() if key.startswith(f"{i}/")}
            merged |= {f"{place}/{key}": value for key, value in own.items()}
    return {"seed_ids": np.array(seed_ids, dtype=np.str_), **merged}


def _as_bytes(pixels: Tensor) -> Bytes:
    return np.asarray((pixels.detach() * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _heatmap(attribution: Tensor) -> Bytes:
    peak = attribution.amax()
    scaled = attribution / peak if peak > 0 else attribution
    return np.asarray((scaled * 255).round().byte().cpu().numpy())
