"""One photo in every side of a comparison: attacked, and where the layer whose map is moved most looks."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from camdrift.comparison.sides import Side
from camdrift.report.photos import SidePhoto, first_layers
from camdrift.tables.arrays import Bytes
from camdrift.tables.gallery import heatmaps_of, picture_of
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, CLEAN

MOST_SIDES: Final = 4


def side_photos(sides: Sequence[Side], tables: Tables) -> list[SidePhoto]:
    """Return the same photo in each of the first sides; none if no photo is stored in all of them.

    Args:
        sides: The sides.
        tables: The tables of the comparison.
    """
    first, layers = sides[:MOST_SIDES], first_layers(tables)
    names = [_stored(side) for side in first]
    common = [seed_id for seed_id in names[0] if all(seed_id in its for its in names)]
    same = [seed_id for seed_id in common if len({side.seeds.get(seed_id) for side in first}) == 1]
    if not same:
        return []
    seed_id = max(same, key=lambda name: _worth(first, name, layers))
    return [_photo(side, seed_id, layers[side.name]) for side in first]


def _stored(side: Side) -> list[str]:
    """Names of the images that a side's gallery shows."""
    with side.study.open_gallery() as gallery:
        return [str(name) for name in gallery.get("seed_ids", ())]


def _variant(side: Side, seed_id: str, layer: Row) -> dict[str, Any]:
    """Row of the attacked image in table `variants`; empty if there is none."""
    rows = side.study.variants.filter(seed_id=seed_id, condition=ADVERSARIAL, strength=layer["strength"]).to_dicts()
    return rows[0] if rows else {}


def _worth(sides: Sequence[Side], seed_id: str, layers: Mapping[str, Row]) -> tuple[int, int]:
    """Number of sides in which an image is fooled, and of its maps there that are not zero."""
    variants = (_variant(side, seed_id, layers[side.name]) for side in sides)
    maps = (heat for side in sides for heat in _stored_maps(side, seed_id, layers[side.name]))
    return sum(bool(variant.get("is_flipped")) for variant in variants), sum(bool(heat.any()) for heat in maps)


def _photo(side: Side, seed_id: str, layer: Row) -> SidePhoto:
    seed = side.study.seeds.row(by_predicate=pl.col("seed_id") == seed_id, named=True)
    variant, record = _variant(side, seed_id, layer), side.study.record
    with side.study.open_gallery() as gallery:
        place = [str(name) for name in gallery["seed_ids"]].index(seed_id)
        clean, attacked = (picture_of(gallery, place, kind, layer["strength"]) for kind in (CLEAN, ADVERSARIAL))
    return SidePhoto(
        side=side.name,
        seed_id=seed_id,
        layer=str(layer["layer_label"]),
        clean=clean,
        attacked=attacked,
        maps=_stored_maps(side, seed_id, layer),
        said=(
            _said(record, seed["clean_class"], seed["clean_probability"]),
            _said(record, variant.get("predicted_class"), variant.get("probability")),
        ),
    )


def _has_maps(side: Side) -> bool:
    """Does the run's gallery hold the maps of this explanation, the run's first?"""
    return bool(side.study.layers["explanation"][0] == side.words["explanation"])


def _stored_maps(side: Side, seed_id: str, layer: Row) -> list[Bytes]:
    """Heatmaps of the clean and of the attacked image at a layer; none where the gallery lacks them."""
    if not _has_maps(side):
        return []
    with side.study.open_gallery() as gallery:
        place = [str(name) for name in gallery["seed_ids"]].index(seed_id)
        heatmaps = heatmaps_of(gallery, place, layer["layer_index"], layer["target"], layer["strength"])
    return [] if heatmaps is None else [*heatmaps[:2]]


def _said(record: Record, index: int | None, probability: float | None) -> tuple[str, float | None]:
    """Name and probability of a prediction."""
    return ("", None) if index is None else (class_name(record, index), probability)
