"""Images and heatmaps of the explorer: the gallery as small pictures inside the page.

The page rebuilds every variant from three pictures of a seed, as clip(x + s * delta): its clean image, its
perturbation and its noise. All heatmaps of a seed and target lie side by side in one picture. A natural change has a
picture of its own, and one of its heatmaps.
"""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import chain, takewhile
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camdrift.tables.arrays import Gallery

LARGEST_MAP: Final = 56
MOST_BYTES: Final = 7_500_000
# Of both conditions: a similarity of six digits, and whether the layer is compromised.
_BYTES_OF_CELL: Final = 24
_BLOCK: Final = 8
_WIDTH: Final = 1024
_QUALITY: Final = {"clean": 82, "perturbation": 92, "noise": 40, "maps": 45}


class PictureStrip(NamedTuple):
    """The place of one layer's heatmaps in the picture of a seed: a row of them, `step` pixels apart."""

    x: int
    y: int
    width: int
    height: int
    step: int


def picture_data(gallery: Gallery, layer_indices: Sequence[int]) -> tuple[list[str], dict[str, Any]]:
    """The seeds that the explorer shows, and their pictures for its script.

    They are the seeds of the gallery, in its order, or evenly chosen ones if pictures and numbers of all would need
    more than `MOST_BYTES`.

    Args:
        gallery: Images and heatmaps of sample seeds; may be empty.
        layer_indices: Positions of the study's layers in the gallery.
    """
    ids = [str(seed_id) for seed_id in gallery.get("seed_ids", ())]
    if not ids:
        return [], {"targets": [], "places": [], "changePlaces": [], "seeds": []}
    places, size = _places([gallery[f"0/map/{index}"].shape[1:] for index in layer_indices])
    first = _seed(gallery, 0, layer_indices, places, size)
    choice = _choice(gallery, first, len(layer_indices))
    seeds = [first if i == 0 else _seed(gallery, i, layer_indices, places, size) for i in choice]
    data = {"targets": [str(target) for target in gallery["targets"]], "places": places, "seeds": seeds}
    return [ids[i] for i in choice], {**data, "changePlaces": _change_places(gallery, layer_indices)[0]}


def shown_places(gallery: Gallery, layer_indices: Sequence[int]) -> list[int]:
    """Places in the gallery of the seeds that the explorer shows, as in `picture_data`; none in an empty gallery."""
    if not len(gallery.get("seed_ids", ())):
        return []
    places, size = _places([gallery[f"0/map/{index}"].shape[1:] for index in layer_indices])
    return _choice(gallery, _seed(gallery, 0, layer_indices, places, size), len(layer_indices))


def _choice(gallery: Gallery, first: Mapping[str, Any], layers: int) -> list[int]:
    """Places of as many seeds as fit into a page, if all take as much room as the first."""
    cells = gallery["targets"].size * gallery["strengths"].size * layers
    of_one = sum(map(len, _texts(first))) + _BYTES_OF_CELL * cells
    total = len(gallery["seed_ids"])
    count = max(1, min(total, MOST_BYTES // of_one))
    return [int(i) for i in np.linspace(0, total - 1, count).round()]


def _texts(seed: Mapping[str, Any]) -> list[str]:
    return [seed["clean"], seed["perturbation"], seed["noise"], *seed["maps"], *chain(*seed["changes"])]


def _seed(
    gallery: Gallery, i: int, layer_indices: Sequence[int], places: Sequence[PictureStrip], size: tuple[int, int]
) -> dict[str, Any]:
    maps = [gallery[f"{i}/map/{index}"] for index in layer_indices]
    return {
        "clean": encoded(gallery[f"{i}/clean"], _QUALITY["clean"]),
        **{name: encoded(_planes(gallery[f"{i}/{name}"]), _QUALITY[name]) for name in ("perturbation", "noise")},
        "peaks": [float(f"{peak:.6g}") for peak in gallery[f"{i}/peaks"]],
        "maps": [_sprite([layer[target] for layer in maps], places, size) for target in range(len(maps[0]))],
        "changes": _changes(gallery, i, layer_indices),
    }


def _changes(gallery: Gallery, i: int, layer_indices: Sequence[int]) -> list[list[str]]:
    """For each natural change of a seed its picture, and one picture of its heatmaps."""
    places, size = _change_places(gallery, layer_indices)
    count = len(list(takewhile(lambda number: f"{i}/change/{number}" in gallery, range(len(gallery)))))
    return [
        [
            encoded(gallery[f"{i}/change/{number}"], _QUALITY["clean"]),
            _sprite([gallery[f"{i}/change/{number}/map/{index}"][None] for index in layer_indices], places, size),
        ]
        for number in range(count if places else 0)
    ]


def _change_places(gallery: Gallery, layer_indices: Sequence[int]) -> tuple[list[PictureStrip], tuple[int, int]]:
    """The places of a natural change's heatmaps, one of each layer; none where the gallery has no natural changes."""
    keys = [f"0/change/0/map/{index}" for index in layer_indices]
    return _places([(1, *gallery[key].shape) for key in keys]) if keys[0] in gallery else ([], (0, 0))


def _places(shapes: Sequence[Sequence[int]]) -> tuple[list[PictureStrip], tuple[int, int]]:
    """The places of all layers' heatmaps, row by row, and (height, width) of the picture.

    Every heatmap starts on a multiple of `_BLOCK` and is filled up to the next, so that the encoder does not mix it
    with its neighbours.
    """
    places: list[PictureStrip] = []
    x = y = shelf = width = 0
    for variants, *sides in shapes:
        rows, columns = (min(side, LARGEST_MAP) for side in sides)
        step, height = _padded(columns), _padded(rows)
        if x and (x + variants * step > _WIDTH or height != shelf):
            x, y = 0, y + shelf
        places.append(PictureStrip(x, y, columns, rows, step))
        x, shelf = x + variants * step, height
        width = max(width, x)
    return places, (y + shelf, width)


def _padded(side: int) -> int:
    return -(-side // _BLOCK) * _BLOCK


def _sprite(layers: Sequence[NDArray[Any]], places: Sequence[PictureStrip], size: tuple[int, int]) -> str:
    """One picture of all heatmaps of a seed and target; `layers` has one (variants, h, w) each."""
    canvas = np.zeros(size, dtype=np.uint8)
    for maps, place in zip(layers, places, strict=True):
        height = _padded(place.height)
        margins = ((0, 0), (0, height - place.height), (0, place.step - place.width))
        tiles = np.pad(_reduced(maps, (place.height, place.width)), margins, mode="edge")
        row = tiles.transpose(1, 0, 2).reshape(height, -1)
        canvas[place.y : place.y + height, place.x : place.x + row.shape[1]] = row
    return encoded(canvas, _QUALITY["maps"])


def _reduced(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Heatmaps averaged down to a size (height, width), each scaled to 0 to 255 again."""
    if maps.shape[1:] == size:
        return maps
    small = np.stack([np.asarray(Image.fromarray(m).resize(size[::-1], Image.Resampling.BOX)) for m in maps])
    peaks = np.maximum(small.max(axis=(1, 2), keepdims=True), 1)
    smaller: NDArray[Any] = np.round(small * (255 / peaks)).astype(np.uint8)
    return smaller


def _planes(differences: NDArray[Any]) -> NDArray[Any]:
    """Red, green and blue side by side in grey, 128 for 0: the encoder would average most of coloured noise away."""
    grey = (differences.astype(np.int16) + 128).astype(np.uint8)
    return np.concatenate(np.moveaxis(grey, 2, 0), axis=1)


def encoded(pixels: NDArray[Any], quality: int) -> str:
    """Return a picture as an address that holds it.

    Args:
        pixels: (height, width), grey, or (height, width, 3), of 8 bit.
        quality: From 0 to 100.
    """
    buffer = BytesIO()
    # Method 1 is twice as fast as the default, for a tenth more bytes.
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=1)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
