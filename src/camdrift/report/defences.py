"""The section on defences: photos behind each, the layers that come back, what is kept, and what was checked."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from camdrift.report.material import Material
from camdrift.report.numbers import (
    UNDEFINED,
    between,
    fraction,
    percent,
    percent_between,
    times,
    times_between,
)
from camdrift.report.pictures import encoded
from camdrift.statistics.restoration import RETURNED, depth_of_return
from camdrift.tables.arrays import Gallery
from camdrift.tables.defences import ADAPTIVE_STAGE, CLEAN_STAGE, STATIC_ONLY, STATIC_STAGE, UNDEFENDED
from camdrift.tables.detection import UNSUPERVISED
from camdrift.tables.file_names import DEFENCE_KEYS
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import class_name
from camdrift.tables.table import Row, Rows
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CLEAN, NOISE

_QUALITY: Final = 80
# What detectors tell from what.
_TOLD: Final = ((ADVERSARIAL, CLEAN), (ADVERSARIAL, NOISE), (NOISE, CLEAN))
# Photos that are shown at once; the rest is folded.
_MOST_SHOWN: Final = 2


def defences_section(material: Material) -> dict[str, Any]:
    """Values of template `defences`."""
    tables = material.tables
    if "defences" not in tables or tables["defences"].is_empty():
        return {"defences": None}
    rows, restoration = tables["defences"], tables["restoration"]
    strength = min(material.scope.strengths, key=lambda value: abs(value - 1))
    names = rows["defence"].unique(maintain_order=True).to_list()
    own = [name for name in names if name != UNDEFENDED]
    lines = [_line(name, rows.filter(defence=name), restoration, strength) for name in names]
    photos = _photos(material, own, strength)
    return {
        "defences": {
            "lead": _lead(lines),
            "photos": photos[:_MOST_SHOWN],
            "further": photos[_MOST_SHOWN:],
            "strips": [_strip(name, restoration.filter(pl.col("returned").is_null(), defence=name)) for name in own],
            "lines": lines,
            "detectors": _detectors(tables, strength),
            "has_defences": bool(own),
            "checks": _checks(tables["sanity"]),
            "has_static_only": any(line["adaptive"][0] == STATIC_ONLY for line in lines),
            "strength": f"{strength:g}",
            "n": max(rows["n"].to_list()),
            "attacks": [*dict.fromkeys(rows.filter(stage=ADAPTIVE_STAGE)["attack"].drop_nulls().to_list())],
        }
    }


def _line(name: str, rows: pl.DataFrame, restoration: pl.DataFrame, strength: float) -> dict[str, Any]:
    """A row of the table: share and interval of every stage, where maps come back, time."""
    is_bare = name == UNDEFENDED
    static = rows.filter(pl.col("stage") == STATIC_STAGE, pl.col("strength") == strength)
    adaptive = rows.filter(pl.col("stage") == ADAPTIVE_STAGE)
    clean = rows.filter(pl.col("stage") == CLEAN_STAGE)
    depth = depth_of_return(restoration.filter(pl.col("returned").is_null(), defence=name))
    seconds = clean["seconds"].to_list()[:1]
    return {
        "name": "no defence" if is_bare else name,
        "is_bare": is_bare,
        "clean": _share(clean),
        "static": _share(static),
        "adaptive": _share(adaptive) if adaptive.height else ("" if is_bare else STATIC_ONLY, ""),
        "depth": "" if is_bare else depth or "no layer",
        "milliseconds": "" if is_bare else f"{1000 * seconds[0]:.0f}" if seconds else UNDEFINED,
        "value": adaptive["share"][0] if adaptive.height else None,
        "static_value": static["share"][0] if static.height else None,
    }


def _share(cell: pl.DataFrame) -> tuple[str, str]:
    if cell.is_empty() or cell["share"][0] is None:
        return UNDEFINED, ""
    row = cell.row(0, named=True)
    return percent(row["share"]), percent_between(row["low"], row["high"])


def _lead(lines: list[dict[str, Any]]) -> str:
    """The result in a sentence: the defence that keeps most under attacks that know it."""
    candidates = [line for line in lines if not line["is_bare"] and line["value"] is not None]
    if not candidates:
        return "Static only: the attack did not know the defences, so that nothing is said about robustness."
    best = max(candidates, key=lambda line: float(line["value"]))
    if best["value"] == 0:
        most = percent(max(float(line["static_value"]) for line in candidates))
        return f"Once the attack knows the defence, none keeps a prediction, against up to {most} while it does not."
    back = best["depth"]
    place = "its maps come back at no layer" if back == "no layer" else f"its maps come back from {back} on"
    share = " ".join(best["adaptive"])
    return (
        f"Once the attack knows the defence, {best['name']} keeps most: {share} of the predictions, "
        f"against {percent(best['static_value'])} while it does not; {place}."
    )


def _photos(material: Material, names: list[str], strength: float) -> list[dict[str, Any]]:
    """Photos clean, attacked and behind every defence, with what the network sees in each."""
    gallery, tables = material.gallery, material.tables
    if DEFENCE_KEYS.format("seed_ids") not in gallery:
        return []
    images = tables["defended_images"].filter(pl.col("stage").is_in([CLEAN_STAGE, STATIC_STAGE]))
    images = images.filter((pl.col("stage") == CLEAN_STAGE) | (pl.col("strength") == strength))
    specs = gallery[DEFENCE_KEYS.format("defences")].tolist()
    if specs != names:
        return []
    return [
        {"seed": seed_id, "pictures": _pictures(material, gallery, place, images.filter(seed_id=seed_id), names)}
        for place, seed_id in enumerate(gallery[DEFENCE_KEYS.format("seed_ids")].tolist())
    ]


def _pictures(
    material: Material, gallery: Gallery, place: int, images: pl.DataFrame, names: list[str]
) -> list[dict[str, Any]]:
    bare = images.filter(defence=UNDEFENDED)
    keys = {"clean": "clean", "under attack": "attacked"} | {
        name: f"purified {number}" for number, name in enumerate(names)
    }
    rows = [bare.filter(stage=CLEAN_STAGE), bare.filter(stage=STATIC_STAGE)]
    rows += [images.filter(defence=name, stage=STATIC_STAGE) for name in names]
    return [
        {
            "title": title,
            "data": encoded(gallery[DEFENCE_KEYS.format(f"{place}/{key}")], _QUALITY),
            **_verdict(material.record, row),
        }
        for (title, key), row in zip(keys.items(), rows, strict=True)
    ]


def _verdict(record: Mapping[str, Any], row: pl.DataFrame) -> Row:
    if row.is_empty() or row["predicted_class"][0] is None:
        return {"class": UNDEFINED, "is_wrong": False}
    return {"class": class_name(record, row["predicted_class"][0]), "is_wrong": not row["is_correct"][0]}


def _strip(name: str, rows: pl.DataFrame) -> dict[str, Any]:
    """The layers of the network in order, coloured by how far they have come back."""
    cells = []
    for row in rows.sort("layer_index").iter_rows(named=True):
        value = row["restoration"]
        words = UNDEFINED if value is None else f"{fraction(value)} {between(row['low'], row['high'])}"
        if row["residual_gain"] is not None:
            words += f", gain {_gain(row)} under the attack, {_residual(row)} behind the defence"
        ceiling = "" if row["ceiling"] is None else f", ceiling {fraction(row['ceiling'])}"
        cells.append(
            {
                "words": f"{row['layer_label']}: restoration {words}{ceiling}",
                "kind": "undefined" if value is None else "worse" if value < 0 else "better",
                "share": 0 if value is None else round(100 * min(1, abs(value))),
                "is_back": row["low"] is not None and row["low"] > RETURNED,
            }
        )
    depth = depth_of_return(rows)
    words = f"back from {depth} on" if depth else "not back"
    return {"name": name, "cells": cells, "depth": depth, "words": words, "leverage": _leverage(rows)}


def _leverage(rows: pl.DataFrame) -> str:
    """What is left of the attack's leverage on the map that it moves most, in a sentence."""
    gains = rows.drop_nulls(["gain", "residual_gain"])
    if gains.is_empty():
        return ""
    # A bound above is larger than its value.
    row = gains.sort(pl.col("gain_censored").eq_missing(CENSORED_ABOVE), "gain", descending=True).row(0, named=True)
    return (
        f"The map of {row['layer_label']}, which the attack moves most, is moved as by noise {_gain(row)} times as "
        f"strong; behind the defence as by noise {_residual(row)} times as strong."
    )


def _gain(row: Row) -> str:
    return times(row["gain"], row["gain_censored"])


def _residual(row: Row) -> str:
    """The gain that is left, with its interval."""
    return f"{times(row['residual_gain'], row['residual_gain_censored'])} {times_between(row, 'residual_gain')}".strip()


def _detectors(tables: Tables, strength: float) -> list[dict[str, Any]]:
    """The AUC of every detector as it is, attack from clean, attack from noise, noise from clean."""
    if "detectors" not in tables:
        return []
    rows = tables["detectors"].filter(pl.col("setting") == UNSUPERVISED, pl.col("strength") == strength)
    names = rows["detector"].unique(maintain_order=True).to_list()
    adaptive = tables["detectors"].filter(pl.col("undetected").is_not_null())
    undetected = {row["detector"]: _undetected(row) for row in adaptive.iter_rows(named=True)}
    return [
        {
            "name": name,
            "cells": [
                *(_auc(rows.filter(detector=name), *pair) for pair in _TOLD),
                undetected.get(name, (STATIC_ONLY, "")),
            ],
        }
        for name in names
    ]


def _undetected(row: Row) -> tuple[str, str]:
    return percent(row["undetected"]), percent_between(row["undetected_low"], row["undetected_high"])


def _auc(rows: pl.DataFrame, positive: str, negative: str) -> tuple[str, str]:
    cell = rows.filter(positive=positive, negative=negative)
    if cell.is_empty() or cell["auc"][0] is None:
        return UNDEFINED, ""
    row = cell.row(0, named=True)
    return fraction(row["auc"], 2), between(row["auc_low"], row["auc_high"])


def _checks(sanity: pl.DataFrame) -> list[dict[str, Any]]:
    """The checks of every defence, with words for their outcome."""
    outcomes = {True: "passed", False: "failed", None: "not made"}
    groups: list[dict[str, Any]] = []
    for (name,), part in sanity.group_by("defence", maintain_order=True):
        rows: Rows = [{**row, "outcome": outcomes[row["passed"]]} for row in part.iter_rows(named=True)]
        failures = sum(row["passed"] is False for row in rows)
        title = "no defence" if name == UNDEFENDED else str(name)
        groups.append({"name": title, "rows": rows, "failures": failures})
    return groups
