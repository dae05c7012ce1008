"""A photo of the gallery with what the network says of it, clean, attacked and noisy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from camdrift.figures.scope import Scope
from camdrift.tables.arrays import Bytes, Gallery
from camdrift.tables.gallery import heatmaps_of, picture_of
from camdrift.tables.reading import Tables, collected, scan
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.words import ALL_CONDITIONS, CLEAN


class Answer(NamedTuple):
    """The network's answer to an image.

    Attributes:
        name: Name of the class.
        probability: Its probability; None where it is not known.
        is_flipped: Is it another class than that of the clean image?
    """

    name: str
    probability: float | None
    is_flipped: bool


@dataclass(frozen=True)
class Subject:
    """A photo of the gallery, with its rows of the tables at the headline's strength.

    Attributes:
        images: Clean, attacked and noisy image, (3, height, width, 3).
        maps: Heatmaps of these three by layer index, (3, h, w); layers of which none were stored are left out.
        answers: The network's answers by condition; None where it was not asked.
        similarities: By condition and layer; None where undefined.
    """

    images: Bytes
    maps: Mapping[int, Bytes]
    answers: Mapping[str, Answer | None]
    similarities: Mapping[tuple[str, str], float | None]


def subject_of(tables: Tables, record: Record, scope: Scope, gallery: Gallery, place: int) -> Subject:
    """The photo at a place of the gallery.

    Args:
        tables: The tables of the study.
        record: Its record.
        scope: Its scope.
        gallery: Its gallery.
        place: The photo's place there.
    """
    seed_id = str(gallery["seed_ids"][place])
    target, strength = scope.headline.target, scope.reference
    maps = {index: heatmaps_of(gallery, place, index, target, strength) for index in scope.indices}
    return Subject(
        images=np.stack([picture_of(gallery, place, condition, strength) for condition in ALL_CONDITIONS]),
        maps={index: heatmaps for index, heatmaps in maps.items() if heatmaps is not None},
        answers=_answers(tables, record, scope, seed_id),
        similarities=_similarities(tables, scope, seed_id),
    )


def _answers(tables: Tables, record: Record, scope: Scope, seed_id: str) -> dict[str, Answer | None]:
    """The network's answers to the clean, the attacked and the noisy image."""
    this = pl.col("seed_id") == seed_id
    at = this & (pl.col("strength") == scope.reference) & (pl.col("draw") == 0)
    classes = {
        row["condition"]: (row["predicted_class"], row["probability"], row["is_flipped"])
        for row in tables["variants"].filter(at).to_dicts()
    }
    for row in tables["seeds"].filter(this).to_dicts():
        classes[CLEAN] = (row["clean_class"], row["clean_probability"], False)
    return {condition: _answer(record, *classes.get(condition, (None, None, False))) for condition in ALL_CONDITIONS}


def _answer(record: Record, index: int | None, probability: float | None, is_flipped: bool | None) -> Answer | None:
    return None if index is None else Answer(class_name(record, index), probability, bool(is_flipped))


def _similarities(tables: Tables, scope: Scope, seed_id: str) -> dict[tuple[str, str], float | None]:
    """Similarity by condition and layer, of the image that the gallery shows."""
    keys = {"seed_id": seed_id, "strength": scope.reference, "draw": 0, "target": scope.headline.target}
    rows = collected(scan(tables, "similarity").filter(**keys))
    return {(c, layer): value for c, layer, value in rows.select("condition", "layer", "similarity").iter_rows()}
