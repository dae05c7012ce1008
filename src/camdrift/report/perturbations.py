"""The section on natural changes: photos attacked and changed, the maps that move, and both on one scale."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.figures.overlay import over
from camdrift.figures.perturbations import change_strength, gain_limits, gains_by_change
from camdrift.figures.scope import Scope
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, percent, percent_between, spec_text, times, times_between
from camdrift.report.pictures import encoded
from camdrift.specs import parse_spec, write_spec
from camdrift.statistics.flips import flips_of
from camdrift.tables.arrays import Bytes, Gallery
from camdrift.tables.gallery import heatmaps_of, picture_of
from camdrift.tables.perturbations import NATURAL, PERTURBATION_LAYERS, PERTURBATIONS, PERTURBED
from camdrift.tables.reading import Tables, collected, scan
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.table import Row
from camdrift.tables.words import (
    ADVERSARIAL,
    CENSORED_ABOVE,
    CENSORED_BELOW,
    CLEAN,
    NOISE,
    ROUNDING,
    TARGET_CLASSES,
    count,
    strength_text,
)

_QUALITY: Final = 80
# Photos that are shown at once; some more are folded.
_MOST_SHOWN: Final = 2
_MOST_PHOTOS: Final = 6
_KINDS: Final = {"change": "change", "attack": "attack"}


def perturbations_section(material: Material) -> dict[str, Any]:
    """Values of template `perturbations`."""
    tables, scope = material.tables, material.scope
    if not has_changes(tables):
        return {"changes": None}
    gains = gains_by_change(tables, scope)
    photos = _photos(material)
    return {
        "changes": {
            "sentences": perturbation_sentences(tables, scope),
            "photos": photos[:_MOST_SHOWN],
            "further": photos[_MOST_SHOWN:],
            "plots": gain_plots(gains),
            "lines": [_attack_line(tables, scope), *(_line(tables, scope, name) for name in gains)],
            "layer": _layer(scope)[1],
            "strength": strength_text(change_strength(scope)),
            "class_words": TARGET_CLASSES[scope.headline.target],
            "is_itself": change_strength(scope) == 1,
            "n": int(tables[PERTURBATIONS.name]["n"].max() or 0),  # type: ignore[arg-type]
        }
    }


def has_changes(tables: Tables) -> bool:
    """Has a study natural changes that say something?"""
    return PERTURBATION_LAYERS.name in tables and not tables[PERTURBATION_LAYERS.name].is_empty()


def perturbation_sentences(tables: Tables, scope: Scope) -> list[str]:
    """For each natural change the predictions it flips, and how far it moves a layer's map beside the attack."""
    if not has_changes(tables):
        return []
    strength, (layer, label) = change_strength(scope), _layer(scope)
    at = "" if strength == 1 else f"At strength {strength_text(strength)} "
    sentences = []
    for name, (change, attack) in gains_by_change(tables, scope).items():
        flips = _flips(tables, name, NATURAL, strength)
        noise = _flips(tables, name, NOISE, strength)
        if not flips:
            continue
        text = (
            f"{at}{change_name(name)} flips {flips['flipped']:,} of {count(flips['n'], 'prediction')} "
            f"({percent(flips['share'])} {percent_between(flips['low'], flips['high'])}); noise of its size "
            f"flips {noise.get('flipped', 0):,}."
        )
        own, its = (rows.filter(layer=layer).to_dicts() for rows in (change, attack))
        if own and its:
            text += f" It moves the map of {label} {_as_far(own[0])}; the attack {_as_far(its[0])}."
        sentences.append(text)
    return sentences


def change_name(spec: str) -> str:
    """A natural change in short: without its library, or the file that it lies in.

    Example:
        >>> change_name("nrtk:BrightnessPerturber(factor=1.4)"), change_name("my/changes.py:warm(amount=0.2)")
        ('Brightness(factor=1.4)', 'warm(amount=0.2)')
    """
    request = parse_spec(spec, option="perturb")
    name = request.name.rpartition(":")[2].removesuffix("Perturber")
    return spec_text(write_spec(name, request.settings))


def _layer(scope: Scope) -> tuple[str, str]:
    """Name and label of the layer that sentences speak of: the headline's, or the last."""
    name = scope.headline.layer or scope.layers[-1]
    return name, scope.labels[scope.layers.index(name)]


def _flips(tables: Tables, name: str, condition: str, strength: float) -> Row:
    rows = tables[PERTURBATIONS.name].filter(perturbation=name, condition=condition, strength=strength).to_dicts()
    return rows[0] if rows and rows[0]["n"] else {}


def _as_far(row: Row) -> str:
    if row["gain"] is None:
        is_rounding = row["gain_undefined_reason"] == ROUNDING
        return "no further than rounding alone" if is_rounding else "by what could not be measured"
    bounds = f" {times_between(row)}" if times_between(row) else ""
    words = f"noise of {times(row['gain'])}{'' if row['gain_censored'] else bounds} times its size"
    return {
        CENSORED_ABOVE: f"further than {words}, the strongest that was tried",
        CENSORED_BELOW: f"less far than {words}, the weakest that was tried",
    }.get(row["gain_censored"], f"as far as {words}")


def _attack_line(tables: Tables, scope: Scope) -> dict[str, Any]:
    """The attack's row of the table."""
    strength = change_strength(scope)
    flips = flips_of(tables).filter(strength=strength, draw=0)
    (_, attack), *_ = gains_by_change(tables, scope).values()
    shares = [flips.filter(condition=condition).to_dicts() for condition in (ADVERSARIAL, NOISE)]
    size = tables["variants"].filter(condition=ADVERSARIAL, strength=strength)["realised_l2"].median()
    cells = [_share(rows[0] if rows else {}) for rows in shares]
    return {"name": "the attack", "cells": [*cells, _gain(attack, scope)], "size": _size(size), "is_attack": True}


def _line(tables: Tables, scope: Scope, name: str) -> dict[str, Any]:
    """The row of a natural change."""
    strength = change_strength(scope)
    flips, noise = (_flips(tables, name, condition, strength) for condition in (NATURAL, NOISE))
    cells = [_share(flips), _share(noise), _gain(gains_by_change(tables, scope)[name][0], scope)]
    return {"name": spec_text(name), "cells": cells, "size": _size(flips.get("realised_l2")), "is_attack": False}


def _share(row: Row) -> tuple[str, str]:
    return (percent(row["share"]), percent_between(row["low"], row["high"])) if row else (UNDEFINED, "")


def _gain(rows: pl.DataFrame, scope: Scope) -> tuple[str, str]:
    row = rows.filter(layer=_layer(scope)[0]).to_dicts()
    if not row:
        return UNDEFINED, ""
    interval = "" if row[0]["gain_censored"] else times_between(row[0])
    return times(row[0]["gain"], row[0]["gain_censored"]), interval


def _size(value: Any) -> str:
    return UNDEFINED if value is None else f"{float(value):.3g}"


def gain_plots(
    gains: Mapping[str, tuple[pl.DataFrame, pl.DataFrame]], kinds: Mapping[str, str] = _KINDS
) -> dict[str, Any] | None:
    """A plot for every natural change: places of marks in percent of a plot, on one logarithmic scale.

    Args:
        gains: By natural change two series of layers with their gains, in execution order.
        kinds: By class in the page the word for either series.
    """
    limits = gain_limits(dict(gains))
    if limits is None:
        return None
    low, high = (log10(limit) for limit in limits)

    def height(value: float) -> float:
        return round(100 * (min(max(log10(value), low), high) - low) / (high - low), 2)

    ticks = [10.0**power for power in range(ceil(low), floor(high) + 1)]
    return {
        "ticks": [{"words": f"{tick:g}", "bottom": height(tick), "is_one": tick == 1} for tick in ticks],
        "each": [
            {
                "name": change_name(name),
                "marks": _marks_of(pair, kinds, height),
                "ends": (pair[0]["layer_label"][0], pair[0]["layer_label"][-1]),
            }
            for name, pair in gains.items()
        ],
    }


def _marks_of(pair: tuple[pl.DataFrame, pl.DataFrame], kinds: Mapping[str, str], height: Any) -> list[dict[str, Any]]:
    """The marks of two series, the second below the first."""
    series = [_marks(rows, kind, word, height) for rows, (kind, word) in zip(pair, kinds.items(), strict=True)]
    return [*series[1], *series[0]]


def _marks(rows: pl.DataFrame, kind: str, word: str, height: Any) -> list[dict[str, Any]]:
    marks = []
    for place, row in enumerate(rows.iter_rows(named=True)):
        if row["gain"] is None or row["gain"] <= 0:
            continue
        has_interval = row["gain_low"] is not None and row["gain_high"] is not None and row["gain_low"] > 0
        words = times(row["gain"], row["gain_censored"])
        low, high = (height(row[end]) if has_interval else None for end in ("gain_low", "gain_high"))
        marks.append(
            {
                "kind": kind,
                "left": round(100 * (place + 0.5) / rows.height, 2),
                "bottom": height(row["gain"]),
                "low": low,
                "length": None if low is None or high is None else round(high - low, 2),
                "bound": {CENSORED_ABOVE: "above", CENSORED_BELOW: "below"}.get(row["gain_censored"], ""),
                "words": f"{row['layer_label']}: {word} {words} {times_between(row)}",
            }
        )
    return marks


def _photos(material: Material) -> list[dict[str, Any]]:
    """Some photos of the gallery clean, attacked and after every natural change, with where a layer looks."""
    gallery, scope = material.gallery, material.scope
    total, specs = len(gallery.get("seed_ids", ())), material.record["perturbations"]["specs"]
    if not total or "0/change/0" not in gallery:
        return []
    places = np.unique(np.linspace(0, total - 1, min(total, _MOST_PHOTOS)).round().astype(int)).tolist()
    names = [str(gallery["seed_ids"][place]) for place in places]
    answers = _answers(material.tables, change_strength(scope), names)
    index = scope.indices[scope.layers.index(_layer(scope)[0])]
    return [
        {"seed": name, "pictures": _pictures(material, place, index, answers[name], specs)}
        for place, name in zip(places, names, strict=True)
    ]


def _answers(tables: Tables, strength: float, names: list[str]) -> dict[str, dict[str, int]]:
    """By seed the prediction for its clean image, under the attack and after each natural change."""
    seeds = tables["seeds"].filter(pl.col("seed_id").is_in(names))
    answers: dict[str, dict[str, int]] = {
        name: {CLEAN: index} for name, index in seeds.select("seed_id", "clean_class").iter_rows()
    }
    attack = tables["variants"].filter(pl.col("seed_id").is_in(names), condition=ADVERSARIAL, strength=strength)
    for name, index in attack.select("seed_id", "predicted_class").iter_rows():
        answers[name][ADVERSARIAL] = index
    here = {"condition": NATURAL, "strength": strength}
    rows = scan(tables, PERTURBED.name).filter(pl.col("seed_id").is_in(names), **here)
    for name, spec, index in collected(rows.select("seed_id", "perturbation", "predicted_class").unique()).iter_rows():
        answers[name][spec] = index
    return answers


def _pictures(
    material: Material, place: int, index: int, answers: Mapping[str, int], specs: list[str]
) -> list[dict[str, Any]]:
    gallery, scope = material.gallery, material.scope
    strength = change_strength(scope)
    maps = heatmaps_of(gallery, place, index, scope.headline.target, strength)
    triples = [
        (CLEAN, "clean", picture_of(gallery, place, CLEAN, strength), None if maps is None else maps[0]),
        (ADVERSARIAL, "attacked", picture_of(gallery, place, ADVERSARIAL, strength), None if maps is None else maps[1]),
    ]
    triples += [(spec, change_name(spec), *_after(gallery, place, number, index)) for number, spec in enumerate(specs)]
    return [
        {
            "title": title,
            "data": encoded(picture, _QUALITY),
            "map": None if heat is None else encoded(over(picture, heat), _QUALITY),
            **_verdict(material.record, answers, key),
        }
        for key, title, picture, heat in triples
    ]


def _after(gallery: Gallery, place: int, number: int, index: int) -> tuple[Bytes, Bytes | None]:
    """A photo after a natural change, and its heatmap."""
    key = f"{place}/change/{number}"
    heat = f"{key}/map/{index}"
    return np.asarray(gallery[key]), np.asarray(gallery[heat]) if heat in gallery else None


def _verdict(record: Record, answers: Mapping[str, int], key: str) -> Row:
    if key not in answers:
        return {"class": UNDEFINED, "is_wrong": False}
    return {"class": class_name(record, answers[key]), "is_wrong": answers[key] != answers[CLEAN]}
