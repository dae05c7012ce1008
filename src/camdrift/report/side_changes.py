"""Natural changes in a comparison: which network stands each better, and how far it moves their maps."""

from typing import Any, Final

import polars as pl

from camdrift.figures.sides import compared_sides
from camdrift.report.numbers import UNDEFINED, percent, percent_between, times, times_between
from camdrift.report.perturbations import change_name, gain_plots
from camdrift.report.standing import short_names
from camdrift.tables.comparison import SIDE_PERTURBATION_LAYERS, SIDE_PERTURBATIONS
from camdrift.tables.perturbations import NATURAL
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import NOISE, count, strength_text

_NETWORK: Final = ("model", "weights", "head")
_MOST_NAMED: Final = 4
_ENDS: Final = ("gain_low", "gain_high")


def side_change_sentences(tables: Tables) -> list[str]:
    """A sentence on every natural change that all runs share; none where all runs are of one network."""
    return [f"{_flips(tables, name)} {_gains(tables, name)}".strip() for name in _changes(tables)]


def side_changes_section(tables: Tables) -> dict[str, Any] | None:
    """Values of template `side_changes`; None where no network can be told from another."""
    names = _changes(tables)
    if not names:
        return None
    sides = _sides(tables)
    pairs = {name: tuple(_layers(tables, name, side) for side in sides[:2]) for name in names}
    plots = gain_plots(pairs, dict(zip("ab", sides[:2], strict=True)))  # type: ignore[arg-type]
    return {
        "sentences": side_change_sentences(tables),
        "plots": plots,
        "sides": sides[:2],
        "lines": [_line(tables, name, side) for name in names for side in sides],
        "strength": strength_text(_strength(tables)),
        "is_shared": bool(tables[SIDE_PERTURBATIONS.name]["shared"].all()),
    }


def _changes(tables: Tables) -> list[str]:
    """The natural changes of a comparison of networks, in their order."""
    if tables["sides"].select(_NETWORK).n_unique() < 2:
        return []
    return tables[SIDE_PERTURBATIONS.name]["perturbation"].unique(maintain_order=True).to_list()


def _sides(tables: Tables) -> list[str]:
    return tables[SIDE_PERTURBATIONS.name]["side"].unique(maintain_order=True).to_list()


def _strength(tables: Tables) -> float:
    """The strength at which natural changes are shown: the one nearest to the change itself."""
    return float(min(tables[SIDE_PERTURBATIONS.name]["strength"], key=lambda strength: abs(strength - 1)))


def _counts(tables: Tables, name: str, condition: str) -> list[Row]:
    """Predictions that a natural change flips, or noise of its size, run by run."""
    keys = {"perturbation": name, "condition": condition, "strength": _strength(tables)}
    return tables[SIDE_PERTURBATIONS.name].filter(**keys).to_dicts()


def _layers(tables: Tables, name: str, side: str) -> pl.DataFrame:
    keys = {"perturbation": name, "side": side, "strength": _strength(tables)}
    return tables[SIDE_PERTURBATION_LAYERS.name].filter(**keys).sort("layer_index")


def _flips(tables: Tables, name: str) -> str:
    """Which network stands a natural change better, with counts."""
    rows = [row for row in _counts(tables, name, NATURAL) if row["n"]]
    if len(rows) < 2:
        return ""
    least, *_, most = sorted(rows, key=lambda row: (row["share"], row["side"]))
    names = short_names(tables)
    first, last = names[least["side"]], names[most["side"]]
    few, many = (f"{row['flipped']:,} of {count(row['n'], 'prediction')}" for row in (least, most))
    if least["high"] >= most["low"]:
        text = f"Whether {first} or {last} stands {change_name(name)} better cannot be told"
    else:
        text = f"{first} stands {change_name(name)} better"
    return f"{text}: it flips {few} in {first}, {many} in {last}."


def _gains(tables: Tables, name: str) -> str:
    """The layer whose map a natural change moves most in each network; with the same layers also where two differ."""
    parts, names = [], short_names(tables)
    for side in _sides(tables)[:_MOST_NAMED]:
        if top := _top(_layers(tables, name, side)):
            words = f"{times(top['gain'], top['gain_censored'])} {times_between(top)}".strip()
            parts.append(f"{names[side]}: {top['layer_label']}, {words}")
    tops = f"Highest gain under it: {'; '.join(parts)}." if parts else ""
    return f"{tops} {_differing(tables, name)}".strip()


def _top(rows: pl.DataFrame) -> Row:
    order = rows.filter(pl.col("gain").is_not_null()).sort("gain", descending=True, maintain_order=True)
    return order.row(0, named=True) if order.height else {}


def _differing(tables: Tables, name: str) -> str:
    """In how many layers the intervals of two networks' gains lie apart; empty for more, or for other layers."""
    sides, names = _sides(tables), short_names(tables)
    if len(sides) != 2 or not compared_sides(tables).layers:
        return ""
    parts = [
        _layers(tables, name, side)
        .filter(pl.col("gain_censored").is_null(), *(pl.col(f"{end}_censored").is_null() for end in _ENDS))
        .drop_nulls(_ENDS)
        for side in sides
    ]
    both = parts[0].join(parts[1], on="layer", suffix="_b")
    if both.is_empty():
        return ""
    more = both.filter(pl.col("gain_low") > pl.col("gain_high_b")).height
    less = both.filter(pl.col("gain_low_b") > pl.col("gain_high")).height
    if not more + less:
        return f"No layer's gain differs by more than its interval, of {both.height:,} measured in both."
    return (
        f"Of {count(both.height, 'layer')} measured in both, {more:,} have a higher gain in {names[sides[0]]} and "
        f"{less:,} in {names[sides[1]]}, beyond their intervals."
    )


def _line(tables: Tables, name: str, side: str) -> dict[str, Any]:
    """A row of the table: one natural change in one run."""
    shares = [
        [row for row in _counts(tables, name, condition) if row["side"] == side] for condition in (NATURAL, NOISE)
    ]
    cells = [(percent(row[0]["share"]), percent_between(row[0]["low"], row[0]["high"])) if row else (UNDEFINED, "")
             for row in shares]  # fmt: skip
    top, size = _top(_layers(tables, name, side)), shares[0][0]["realised_l2"] if shares[0] else None
    gain = (times(top["gain"], top["gain_censored"]), times_between(top)) if top else (UNDEFINED, "")
    return {
        "name": change_name(name),
        "side": side,
        "cells": [*cells, gain],
        "layer": top.get("layer_label", UNDEFINED),
        "size": UNDEFINED if size is None else f"{size:.3g}",
    }
