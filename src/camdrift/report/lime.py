"""The section on LIME: photos with what speaks for the class in each, and a sentence made of table `lime`."""

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import polars as pl

from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, between, fraction
from camdrift.report.pictures import encoded
from camdrift.specs import parse_spec
from camdrift.statistics.focus import median_interval
from camdrift.tables.arrays import Bytes, Floats
from camdrift.tables.further import LIME_TABLE
from camdrift.tables.gallery import picture_of
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, class_name, effective
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, ALL_CONDITIONS, CLEAN, NOISE, count

_QUALITY: Final = 80
# Photos that are shown at once; some more are folded.
_MOST_SHOWN: Final = 2
_MOST_PHOTOS: Final = 6
_TITLES: Final = {CLEAN: "clean", ADVERSARIAL: "attacked", NOISE: "noise"}
# From against the class to for it; it keeps apart in grey and for every kind of colour vision.
_COLOURS: Final = "PuOr_r"
# Where a coefficient is largest the photo, in grey, shines through by a fifth.
_OPACITY: Final = 0.8


def has_lime(tables: Tables) -> bool:
    """Has a study LIME maps?"""
    return LIME_TABLE.name in tables and not tables[LIME_TABLE.name].is_empty()


def lime_section(material: Material) -> dict[str, Any]:
    """Values of template `lime`."""
    if not has_lime(material.tables):
        return {"lime": None}
    table, photos = material.tables[LIME_TABLE.name], _photos(material)
    rng_seed = int(effective(material.record).get("rng_seed") or 0)
    colours = mpl.colormaps[_COLOURS](np.linspace(0, 1, 9))
    return {
        "lime": {
            "sentence": lime_sentence(material.tables, material.record),
            "photos": photos[:_MOST_SHOWN],
            "further": photos[_MOST_SHOWN:],
            "lines": [_line(table, condition, rng_seed) for condition in (ADVERSARIAL, NOISE)],
            "ramp": ", ".join(mpl.colors.to_hex(colour) for colour in colours),
            "n": table["seed_id"].n_unique(),
            "segments": _segments(table),
            "samples": int(table["n_samples"][0]),
        }
    }


def lime_sentence(tables: Tables, record: Record) -> str:
    """How far LIME maps of the input move, beside what two designs of masks differ by; empty without the table."""
    if not has_lime(tables):
        return ""
    table = (
        tables[LIME_TABLE.name]
        .sort("seed_id")
        .with_columns(deviation=1 - pl.col("similarity"), floor=1 - pl.col("floor_similarity"))
    )
    parts = {condition: table.filter(condition=condition) for condition in (CLEAN, ADVERSARIAL, NOISE)}
    values = {
        "attack": parts[ADVERSARIAL]["deviation"],
        "noise": parts[NOISE]["deviation"],
        "floor": parts[CLEAN]["floor"],
    }
    rng_seed = int(effective(record).get("rng_seed") or 0)
    words = {name: _median(column, rng_seed) for name, column in values.items()}
    samples, resolved = table["n_samples"][0], parts[ADVERSARIAL]["is_resolved"].drop_nulls()
    text = (
        f"On the input, the LIME map for the seed's class moves by {words['attack']} under the attack and by "
        f"{words['noise']} under noise of the same size (median deviation, n = {values['attack'].count():,}); two "
        f"designs of {samples:,} masks differ by {words['floor']} on the clean image itself"
    )
    if 2 * int(resolved.sum()) <= len(resolved):
        return (
            f"{text}, so the attack's change is not resolved with {samples:,} samples: it exceeds that in "
            f"{int(resolved.sum()):,} of {count(len(resolved), 'image')}."
        )
    return f"{text}, which the attack's change exceeds in {int(resolved.sum()):,} of {count(len(resolved), 'image')}."


def _median(values: pl.Series, rng_seed: int) -> str:
    """A median with its interval."""
    middle = values.median()
    interval = between(*(median_interval(values, rng_seed=rng_seed) or (None, None)))
    return " ".join(filter(None, [fraction(None if middle is None else float(middle)), interval]))  # type: ignore[arg-type]


def _segments(table: pl.DataFrame) -> str:
    """The number of segments: one, or from the least to the most where superpixels differ in number."""
    least, most = (int(value) for value in (table["n_segments"].min(), table["n_segments"].max()))  # type: ignore[arg-type]
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _line(table: pl.DataFrame, condition: str, rng_seed: int) -> dict[str, Any]:
    """The row of the attack or of noise: median deviations with intervals, and how many images exceed the floor."""
    rows = table.filter(condition=condition).sort("seed_id")
    is_resolved = rows["is_resolved"].drop_nulls()
    columns = ("similarity", "floor_similarity", "positive", "floor_positive")
    return {
        "name": "attack" if condition == ADVERSARIAL else "noise of the same size",
        "cells": [_cell(1 - rows[name], rng_seed) for name in columns],
        "resolved": f"{int(is_resolved.sum()):,} of {len(is_resolved):,}",
    }


def _cell(values: pl.Series, rng_seed: int) -> tuple[str, str]:
    middle = values.median()
    if middle is None:
        return UNDEFINED, ""
    return fraction(float(middle)), between(*(median_interval(values, rng_seed=rng_seed) or (None, None)))  # type: ignore[arg-type]


def _photos(material: Material) -> list[dict[str, Any]]:
    """Some photos of the gallery clean, attacked and noisy at strength 1, each with its LIME map."""
    gallery, table = material.gallery, material.tables[LIME_TABLE.name]
    ids = [str(seed_id) for seed_id in gallery.get("seed_ids", ())]
    places = [place for place, name in enumerate(ids) if not table.filter(seed_id=name).is_empty()]
    choice = np.unique(np.linspace(0, len(places) - 1, min(len(places), _MOST_PHOTOS)).round().astype(int))
    return [
        {"seed": ids[place], "pictures": _pictures(material, place, table.filter(seed_id=ids[place]))}
        for place in (places[i] for i in choice)
    ]


def _pictures(material: Material, place: int, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The three pictures of one seed, whose maps share one scale."""
    by_condition = {row["condition"]: row for row in rows.iter_rows(named=True)}
    maps = {name: np.array(row["coefficients"]) for name, row in by_condition.items()}
    peak = max(float(np.abs(values).max()) for values in maps.values()) or 1.0
    is_grid = _is_grid(material.record)
    pictures = []
    for condition in ALL_CONDITIONS:
        picture = picture_of(material.gallery, place, condition, 1.0)
        heat = encoded(_painted(picture, maps[condition] / peak), _QUALITY) if is_grid else None
        verdict = _verdict(material, str(rows["seed_id"][0]), condition)
        values = {"title": _TITLES[condition], "data": encoded(picture, _QUALITY), "map": heat}
        pictures.append({**values, "words": _words(by_condition[condition]), **verdict})
    return pictures


def _is_grid(record: Record) -> bool:
    """Are segments squares? Superpixels of other shapes are not stored."""
    design = parse_spec(str(effective(record).get("lime_design")))
    return bool(design.settings.get("segments", "quickshift" if design.name == "lime:paper" else "grid") == "grid")


def _painted(picture: Bytes, values: Floats) -> Bytes:
    """Squares of a map over their photo in grey: values from -1 (against the class) to 1 (for it)."""
    side = round(len(values) ** 0.5)
    rows, columns = (np.arange(length) * side // length for length in picture.shape[:2])
    cells = values.reshape(side, side)[rows[:, None], columns]
    colours = mpl.colormaps[_COLOURS](0.5 + cells / 2)[..., :3]
    opacity = _OPACITY * np.abs(cells)[..., None] ** 0.5
    grey = picture.mean(2, keepdims=True) / 255
    pixels: Bytes = (255 * (opacity * colours + (1 - opacity) * grey)).round().astype(np.uint8)
    return pixels


def _words(row: Row) -> str:
    """How far a map lies from the clean one; of the clean one its floor."""
    is_clean = row["condition"] == CLEAN
    value = row["floor_similarity" if is_clean else "similarity"]
    if value is None:
        return "no deviation: a map is zero everywhere"
    if is_clean:
        return f"floor {fraction(1 - value, 2)}: by other masks"
    samples = f", not resolved with {row['n_samples']:,} samples" if row["is_resolved"] is False else ""
    return f"deviation {fraction(1 - value, 2)}{samples}"


def _verdict(material: Material, seed_id: str, condition: str) -> Row:
    """The network's prediction for a photo at strength 1; undefined where the study has no such strength."""
    tables = material.tables
    clean = tables["seeds"].filter(seed_id=seed_id)["clean_class"][0]
    if condition == CLEAN:
        return {"class": class_name(material.record, clean), "is_wrong": False}
    here = {"seed_id": seed_id, "condition": condition, "strength": 1.0, "draw": 0}
    rows = tables["variants"].filter(**here)["predicted_class"].to_list()
    if not rows:
        return {"class": UNDEFINED, "is_wrong": False}
    return {"class": class_name(material.record, rows[0]), "is_wrong": rows[0] != clean}
