"""Data of the script of a comparison's page, as JSON values: numbers of four digits, null where undefined."""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from camdrift.figures.sides import Sides
from camdrift.tables.comparison import BY_DEVIATION, BY_GAIN
from camdrift.tables.reading import Tables
from camdrift.tables.words import CENSORED_ABOVE, CENSORED_BELOW, strength_text

_NUMBERS: Final = ("gain", "gain_low", "gain_high", "rank", "rank_low", "rank_high", "adversarial_mean", "n")
_FLAGS: Final = ("gain_censored", "gain_low_censored", "gain_high_censored")
_SIGNS: Final = {CENSORED_ABOVE: 1, CENSORED_BELOW: -1, None: 0}
_CONTRAST: Final = (
    "difference", "difference_low", "difference_high", "deviation_a", "deviation_b",
    "log2_gain_ratio", "log2_gain_ratio_low", "log2_gain_ratio_high", "n_a", "n_b",
)  # fmt: skip
_TAU: Final = ("tau", "tau_low", "tau_high", "n_layers", "n_a", "n_b")


def comparison_data(tables: Tables, sides: Sides) -> dict[str, Any]:
    """All data of the page's script: profiles, pairs and agreement of the shown sides.

    Lists are nested by target and strength, in the order of `sides`. Keys of pairs are `a,b`, the places of their
    sides, a < b.

    Args:
        tables: Tables of `tables.comparison.COMPARISON_TABLES` by name.
        sides: The scope of the comparison.
    """
    return {
        "targets": list(sides.targets),
        "strengths": [strength_text(strength) for strength in sides.strengths],
        "reference": sides.strengths.index(sides.reference),
        "labels": list(sides.labels),
        "sides": [_side(tables, sides, name) for name in sides.names],
        "pairs": _pairs(tables, sides),
        "agreement": {ranked_by: _agreement(tables, sides, ranked_by) for ranked_by in (BY_GAIN, BY_DEVIATION)},
    }


def _cells(rows: pl.DataFrame, sides: Sides) -> list[list[pl.DataFrame]]:
    """Rows by target and strength, in their order."""
    parts = rows.partition_by("target", "strength", as_dict=True, maintain_order=True)
    return [[parts[target, strength] for strength in sides.strengths] for target in sides.targets]


def _side(tables: Tables, sides: Sides, name: str) -> dict[str, Any]:
    rows = tables["profiles"].filter(pl.col("side") == name).sort("relative_depth", "layer_index", maintain_order=True)
    cells = _cells(rows, sides)
    first = cells[0][0]
    place = {layer: i for i, layer in enumerate(sides.layers)}
    return {
        "name": name,
        "labels": first["layer_label"].to_list(),
        "depth": rounded_values(first["relative_depth"]),
        # Where the layer stands among those that all sides share.
        "place": [place.get(layer) for layer in first["layer"]],
        **{column: [[rounded_values(cell[column]) for cell in row] for row in cells] for column in _NUMBERS},
        **{column: [[[_SIGNS[v] for v in cell[column]] for cell in row] for row in cells] for column in _FLAGS},
    }


def _pairs(tables: Tables, sides: Sides) -> dict[str, Any]:
    place = {name: i for i, name in enumerate(sides.names)}
    parts = tables["differences"].partition_by("side_a", "side_b", as_dict=True, maintain_order=True)
    pairs = {key: part for key, part in parts.items() if key[0] in place and key[1] in place}
    return {f"{place[str(a)]},{place[str(b)]}": _pair(part, sides) for (a, b), part in pairs.items()}


def _pair(rows: pl.DataFrame, sides: Sides) -> dict[str, Any]:
    cells = _cells(rows, sides)
    first = cells[0][0]
    numbers = {column: [[rounded_values(cell[column]) for cell in row] for row in cells] for column in _CONTRAST}
    return {
        "by": first["aligned_by"][0],
        "labels_a": first["layer_label_a"].to_list(),
        "labels_b": first["layer_label_b"].to_list(),
        "depth": rounded_values(first["relative_depth"]),
        "paired": [[bool(cell["paired"][0]) for cell in row] for row in cells],
        **numbers,
    }


def _agreement(tables: Tables, sides: Sides, ranked_by: str) -> list[Any]:
    """Rows (a, b, tau, low, high, layers, n of a, n of b, paired) per target and strength, a <= b."""
    place = {name: i for i, name in enumerate(sides.names)}
    rows = tables["agreement"].filter(pl.col("ranked_by") == ranked_by)
    return [
        [
            [
                [place[row["side_a"]], place[row["side_b"]], *(_round(row[name]) for name in _TAU), row["paired"]]
                for row in cell.iter_rows(named=True)
                if row["side_a"] in place and row["side_b"] in place
            ]
            for cell in line
        ]
        for line in _cells(rows, sides)
    ]


def rounded_values(values: pl.Series) -> Sequence[float | int | None]:
    """The values with four significant digits; integers as they are."""
    return [_round(value) for value in values]


def _round(value: float | None) -> float | int | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value
