"""One photo in every side of a comparison, as pictures inside the page."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.figures.overlay import over
from camdrift.figures.sides import compared_sides, profile
from camdrift.report.numbers import percent
from camdrift.report.pictures import encoded
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row

_QUALITY: Final = 82


@dataclass(frozen=True)
class SidePhoto:
    """One photo in one side of a comparison.

    Attributes:
        side: Name of the side.
        seed_id: Name of the photo.
        layer: Name of the layer whose map the side's attack moves most.
        clean: The photo, (height, width, 3), 0 to 255.
        attacked: The same after the attack.
        maps: Where the layer looks in either, 0 to 255, at its own resolution; empty if that was not stored.
        said: What the network says of either: class and probability.
    """

    side: str
    seed_id: str
    layer: str
    clean: NDArray[np.uint8]
    attacked: NDArray[np.uint8]
    maps: list[NDArray[np.uint8]]
    said: tuple[tuple[str, float | None], tuple[str, float | None]]


def first_layers(tables: Tables) -> dict[str, Row]:
    """The layer whose map each side's attack moves most: its row of table `profiles` at the comparison's strength.

    Where no layer has a rank it is the one of the highest gain.
    """
    sides = compared_sides(tables)
    rows = {side: profile(tables, side, sides.targets[0], sides.reference) for side in sides.names}
    order = (pl.col("rank").fill_null(2**31), -pl.col("gain").fill_null(-1.0), pl.col("layer_index"))
    return {side: its.sort(*order).to_dicts()[0] for side, its in rows.items()}


def photo_rows(photos: list[SidePhoto]) -> list[dict[str, Any]]:
    """The photos as the template shows them: words, and pictures as addresses that hold their data."""
    return [
        {
            "side": photo.side,
            "layer": photo.layer,
            "clean": encoded(photo.clean, _QUALITY),
            "attacked": encoded(photo.attacked, _QUALITY),
            "said": [f"{name}, {percent(share)}" if name else "" for name, share in photo.said],
            "is_changed": photo.said[0][0] != photo.said[1][0],
            "are_zero": [not heat.any() for heat in photo.maps],
            "maps": [
                encoded(over(image, heat), _QUALITY)
                for image, heat in zip((photo.clean, photo.attacked), photo.maps, strict=False)
            ],
        }
        for photo in photos
    ]
