"""The data of the page's script: tables of a study as nested lists, null where undefined."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.figures.focus import MEASURES
from camdrift.figures.scope import Scope, part_of, stage
from camdrift.report.telling import most_telling
from camdrift.statistics.dose import dose_response
from camdrift.statistics.flips import flips_of, flips_of_readable
from camdrift.statistics.focus import focus_medians
from camdrift.tables.reading import AnyFrame, Tables, by_values, collected, scan
from camdrift.tables.run_json import Record
from camdrift.tables.study import LAYERS, MEASURE
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CENSORED_BELOW, CLEAN, NOISE

CONDITIONS: Final = (ADVERSARIAL, NOISE)
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_STEPS: Final = 240
_KEYS: Final = ("target", "strength", "layer", "layer_label", "layer_index")
_CENSORED: Final = {CENSORED_ABOVE: 1, CENSORED_BELOW: -1}
_DIGITS: Final = 6
# Of values that are only drawn, and there are many.
_FEW_DIGITS: Final = 4


def study_data(tables: Tables, record: Record, scope: Scope, seed_ids: Sequence[str]) -> dict[str, Any]:
    """All data of the page's script but pictures; brackets give the order in which lists are nested.

    Args:
        tables: All tables of `tables.study.TABLES` by name.
        record: The run record.
        scope: The scope of the study; its targets, strengths and layers are the indexes, in their order.
        seed_ids: Seeds that the explorer shows.
    """
    return {
        "layers": layers(scope),
        "images": scope.analysed,
        "targets": list(scope.targets),
        "strengths": list(scope.strengths),
        "opening": opening(tables, scope, seed_ids),
        "flips": flips_data(tables),
        "columns": [column.name for column in LAYERS.columns],
        "measure": measure(tables["layers"]),
        "stats": statistics(tables["layers"], scope),
        "spread": {condition: quantiles(scan(tables, "similarity"), scope, condition) for condition in CONDITIONS},
        "focus": focus_data(scan(tables, "focus"), scope),
        "counts": counts(tables["counts"], scope),
        "coverage": coverage(tables["coverage"], scope),
        "dose": dose(tables, scope),
        "seeds": seeds(tables, scope, seed_ids),
        "classes": class_names(tables, record, seed_ids),
    }


def opening(tables: Tables, scope: Scope, seed_ids: Sequence[str]) -> dict[str, Any]:
    """What the page shows first, as the headline says: places of strength, target, layer and image, and the measure."""
    headline = scope.headline
    return {
        "strength": scope.strengths.index(headline.strength) if scope.strengths else 0,
        "target": scope.targets.index(headline.target),
        "layer": scope.layers.index(headline.layer) if headline.layer else 0,
        "seed": most_telling(tables, scope, seed_ids),
        "measure": "deviation" if scope.analysed == 1 else "gain",
    }


def flips_data(tables: Tables) -> list[dict[str, Any]]:
    """Table `flips` as rows, first draws alone, and the rows of the attack over all readable images as `readable`."""
    parts = {"analysed": flips_of(tables), "readable": flips_of_readable(tables["variants"], tables["seeds"])}
    return [
        {name: _short(value, _FEW_DIGITS) for name, value in row.items()} | {"of": name_of}
        for name_of, table in parts.items()
        for row in table.filter(pl.col("draw") == 0).iter_rows(named=True)
    ]


def layers(scope: Scope) -> list[dict[str, Any]]:
    """Names of the layers: `name` and `title` as in the tables, `label` for display, and the stage they belong to."""
    names = distinct_labels(scope.labels, scope.layers)
    return [
        {
            "index": index,
            "name": name,
            "title": title,
            "label": label,
            "stage": stage(title),
            "part": part_of(scope.labels, place),
        }
        for place, (index, name, title, label) in enumerate(
            zip(scope.indices, scope.layers, scope.labels, names, strict=True)
        )
    ]


def distinct_labels(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """The display names, each replaced by the layer's own name where another layer has the same."""
    return [label if labels.count(label) == 1 else name for label, name in zip(labels, names, strict=True)]


def statistics(layers: pl.DataFrame, scope: Scope) -> dict[str, list[Any]]:
    """Every column of table `layers` as [target][strength][layer]; `*_censored` as 1 above, -1 below, 0 measured."""
    columns = {}
    for column in LAYERS.columns:
        if column.name in _KEYS or column.name in MEASURE:
            continue
        values = layers[column.name]
        if column.name.endswith("_censored"):
            values = values.replace_strict(_CENSORED, default=0, return_dtype=pl.Int64)
        cells = zip(layers["target"], layers["strength"], layers["layer"], values, strict=True)
        columns[column.name] = _cube(((key, _short(value)) for *key, value in cells), scope)
    return columns


def measure(layers: pl.DataFrame) -> dict[str, str | None]:
    """The explanation and the metric that all numbers of the page come from, by column name."""
    return {name: layers[name][0] if layers.height else None for name in MEASURE}


def quantiles(similarity: AnyFrame, scope: Scope, condition: str) -> list[Any]:
    """5th, 25th, 50th, 75th and 95th percentile of the defined similarities: [target][strength][layer][quantile]."""
    names = [f"q{number}" for number in range(len(QUANTILES))]
    parts = [
        pl.col("similarity").quantile(q, interpolation="linear").alias(name)
        for q, name in zip(QUANTILES, names, strict=True)
    ]
    at = (pl.col("condition") == condition) & pl.col("similarity").is_not_null()
    keys = ("target", "strength", "layer")
    pieces = by_values(similarity.lazy().filter(at).select(*keys, "similarity"), "strength", "target")
    cells = (cell for piece in pieces for cell in piece.group_by(keys).agg(parts).select(*keys, *names).iter_rows())
    return _cube((([*cell[:3]], [_short(value) for value in cell[3:]]) for cell in cells), scope)


def focus_data(table: AnyFrame, scope: Scope) -> dict[str, Any]:
    """The `measures` of the focus in words, and per condition [measure][target][strength][layer]: quartiles and n.

    Each cell holds lower quartile, median, upper quartile, seeds with a value; it is None where no seed has one.
    """
    rows = focus_medians(table).filter(pl.col("n") > 0)
    names = ("lower", "median", "upper")
    data: dict[str, Any] = {"measures": [asdict(measure) for measure in MEASURES]}
    for condition in CONDITIONS:
        data[condition] = []
        for measure in MEASURES:
            part = rows.filter(measure=measure.column, condition=condition)
            cells = part.select("target", "strength", "layer", *names, "n").iter_rows()
            values = (([*cell[:3]], [*(_short(v, _FEW_DIGITS) for v in cell[3:6]), cell[6]]) for cell in cells)
            data[condition].append(_cube(values, scope))
    return data


def counts(table: pl.DataFrame, scope: Scope) -> list[Any]:
    """Adversarial examples that compromise k layers: [target][strength][k]."""
    cube: list[Any] = [[[0] * (len(scope.layers) + 1) for _ in scope.strengths] for _ in scope.targets]
    cells = table.select("target", "strength", "n_compromised", "n_seeds").iter_rows()
    for target, strength, k, n in cells:
        cube[scope.targets.index(target)][scope.strengths.index(strength)][k] = n
    return cube


def coverage(table: pl.DataFrame, scope: Scope) -> dict[str, Any]:
    """Covered neurons as images are added: `steps`, `total`, `clean` [step], and per condition [strength][step].

    Long studies are thinned to `MOST_STEPS` evenly spaced steps, the first and last included.
    """
    steps = table["step"].unique().sort().to_list()
    if len(steps) > MOST_STEPS:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, MOST_STEPS).round().astype(int)]
    rows = table.filter(pl.col("step").is_in(steps))
    curves = {
        key: dict(part.select("step", "covered").iter_rows()) for key, part in rows.group_by("condition", "strength")
    }
    series = {
        condition: [[curves.get((condition, s), {}).get(step) for step in steps] for s in scope.strengths]
        for condition in CONDITIONS
    }
    clean = [curves.get((CLEAN, 0.0), {}).get(step) for step in steps]
    return {"steps": steps, "total": int(table["total"].max() or 0), "clean": clean, **series}  # type: ignore[arg-type]


def dose(tables: Tables, scope: Scope) -> list[Any]:
    """Dose and response of every layer, [target][layer]: per condition rows of strength, L2, deviation, fit."""
    curves: list[Any] = [[{condition: [] for condition in CONDITIONS} for _ in scope.layers] for _ in scope.targets]
    rows = dose_response(scan(tables, "similarity"), tables["variants"]).drop("n").iter_rows()
    for target, layer, condition, *values in rows:
        if target in scope.targets and layer in scope.layers:
            place = curves[scope.targets.index(target)][scope.layers.index(layer)]
            place[condition].append([_short(value) for value in values])
    return curves


def seeds(tables: Tables, scope: Scope, seed_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The tables' rows of some seeds; similarities as [condition][target][strength][layer], first draw."""
    is_shown = pl.col("seed_id").is_in(list(seed_ids)) & (pl.col("strength").is_in(list(scope.strengths)))
    first = is_shown & (pl.col("draw") == 0)
    similar = _by_seed(collected(scan(tables, "similarity").filter(first)))
    variants = _by_seed(tables["variants"].filter(first))
    rows = {row["seed_id"]: row for row in tables["seeds"].filter(pl.col("seed_id").is_in(list(seed_ids))).to_dicts()}
    thresholds = {
        (target, strength, layer): value
        for target, strength, layer, value in tables["layers"].select(*_KEYS[:3], "threshold").iter_rows()
    }
    return [_seed(rows[i], similar.get(i), variants.get(i), thresholds, scope) for i in seed_ids]


def _seed(
    row: Mapping[str, Any],
    similar: pl.DataFrame | None,
    variants: pl.DataFrame | None,
    thresholds: Mapping[tuple[str, float, str], float | None],
    scope: Scope,
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": row["seed_id"],
        "label": row["label"],
        "clean": [row["clean_class"], _short(row["clean_probability"])],
        "iterations": row["iterations"],
        "survives": row["survives_uint8"],
        "relative_l2": _short(row["relative_l2"]),
        "linf": _short(row["perturbation_linf"]),
    }
    for condition in CONDITIONS:
        cells = [] if similar is None else list(similar.filter(pl.col("condition") == condition).iter_rows(named=True))
        values = [([cell["target"], cell["strength"], cell["layer"]], cell["similarity"]) for cell in cells]
        marks = [(key, _is_below(value, thresholds.get((key[0], key[1], key[2])))) for key, value in values]
        data[condition] = {
            "similarity": _cube(((key, _short(value)) for key, value in values), scope),
            "compromised": _cube(marks, scope),
            "said": _answers(variants, condition, scope),
        }
    return data


def _is_below(value: float | None, threshold: float | None) -> int | None:
    return None if value is None or threshold is None else int(value < threshold)


def _answers(variants: pl.DataFrame | None, condition: str, scope: Scope) -> list[Any]:
    """Class, probability, flipped (1 or 0), realised L2 and L-inf, clipped fraction: [strength]."""
    answers: list[Any] = [None] * len(scope.strengths)
    if variants is not None:
        for row in variants.filter(pl.col("condition") == condition).iter_rows(named=True):
            answers[scope.strengths.index(row["strength"])] = [
                row["predicted_class"],
                _short(row["probability"]),
                int(row["is_flipped"]),
                *(_short(row[name]) for name in ("realised_l2", "realised_linf", "clipped_fraction")),
            ]
    return answers


def class_names(tables: Tables, record: Record, seed_ids: Sequence[str]) -> dict[int, str]:
    """Names of the classes that the explorer mentions, by index."""
    is_shown = pl.col("seed_id").is_in(list(seed_ids))
    clean, variants = tables["seeds"].filter(is_shown), tables["variants"].filter(is_shown)
    columns = (clean["label"], clean["clean_class"], variants["predicted_class"])
    indexes = sorted({int(i) for column in columns for i in column.drop_nulls()})
    labels = (record.get("model") or {}).get("labels") or []
    return {i: labels[i] if i < len(labels) else f"class {i}" for i in indexes}


def _by_seed(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(key[0]): part for key, part in table.group_by("seed_id")}


def _cube(cells: Iterable[tuple[Sequence[Any], Any]], scope: Scope) -> list[Any]:
    """Values by (target, strength, layer) as nested lists; None where there is none. Other keys are left out."""
    cube: list[Any] = [[[None] * len(scope.layers) for _ in scope.strengths] for _ in scope.targets]
    targets, strengths, layers = (
        {key: i for i, key in enumerate(keys)} for keys in (scope.targets, scope.strengths, scope.layers)
    )
    for (target, strength, layer), value in cells:
        if target in targets and strength in strengths and layer in layers:
            cube[targets[target]][strengths[strength]][layers[layer]] = value
    return cube


def _short(value: Any, digits: int = _DIGITS) -> Any:
    """A float with so many digits; None for one that JSON does not have; any other value as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if isfinite(value) else None
