"""The rank of every layer over the sides of a comparison: lines that cross where the sides disagree."""

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from camdrift.figures.canvas import INK, MUTED, layer_names, printable, sheet, styled, text_width
from camdrift.figures.sides import Sides, compared_sides
from camdrift.tables.reading import Tables
from camdrift.tables.words import TARGET_WORDS, strength_text

_STEP: Final = 0.17


@styled
def ranks_figure(tables: Tables) -> Figure:
    """Rank by gain of every layer in every side, rank 1 on top; colour is depth. Sides must share their layers."""
    sides = compared_sides(tables)
    table = rank_table(tables, sides)
    labels = layer_names(sides.labels)
    names = [printable(name, 40) for name in sides.names]
    aside = max(text_width(label, 6.5) for label in labels) + 0.35
    head = 0.25 + (max(text_width(name, 7.0) for name in names) * 0.6 if len(sides.names) > 3 else 0.1)
    across = max(3.0, 1.15 * (len(sides.names) - 1))
    height = _STEP * max(len(sides.layers), 8)
    note = (
        f"Rank 1 is the highest noise-equivalent gain, at strength {strength_text(sides.reference)}, "
        f"{TARGET_WORDS[sides.targets[0]]}. Colour: from the first layer (dark) to the last (bright). Thick: layers "
        f"whose rank intervals do not overlap in at least two sides. {sides.left_out}"
    )
    # A slanted name hangs over the last side.
    over = max(aside, text_width(names[-1], 7.0) * 0.87 + 0.1 if len(sides.names) > 3 else 0)
    width = max(aside + across + over, 6.5)
    page = sheet("Which layers keep their rank", note, width=width, body=height + head + 0.3)
    axes = page.axes(aside + (width - aside - across - over) / 2, 0.15, across, height)
    axes.set_xlim(-0.02 * (len(sides.names) - 1), 1.02 * (len(sides.names) - 1))
    axes.set_ylim(len(sides.layers) + 0.6, 0.4)
    axes.axis("off")
    for x in range(len(sides.names)):
        axes.axvline(x, color="#d9dce1", lw=0.8, zorder=0)
    _lines(axes, sides, table, labels)
    slant: dict[str, Any] = {"rotation": 30, "ha": "left", "rotation_mode": "anchor"} if len(sides.names) > 3 else {}
    for x, name in enumerate(names):
        axes.text(x, 0.0, name, size=7.0, va="bottom", color=INK, **({"ha": "center"} | slant))
    return page.figure


def _lines(axes: Any, sides: Sides, table: dict[str, np.ndarray], labels: list[str]) -> None:
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(sides.layers)))
    places = spread_ranks(table["rank"])
    steps = np.linspace(0, 1, 25)
    ease = steps * steps * (3 - 2 * steps)
    for i in range(len(sides.layers)):
        has_moved = table["low"][i] > table["high"][i]
        width, alpha = (2.2, 1.0) if has_moved else (0.9, 0.75)
        look: dict[str, Any] = {"color": colours[i], "lw": width, "alpha": alpha}
        for x in range(len(sides.names) - 1):
            start, end = places[i, x], places[i, x + 1]
            axes.plot(x + steps, start + (end - start) * ease, zorder=2 + has_moved, solid_capstyle="round", **look)
        axes.plot(range(len(sides.names)), places[i], ls="", marker="o", markersize=2.6, color=colours[i], zorder=4)
        for x, side, at in ((0, "right", -0.03), (len(sides.names) - 1, "left", 0.03)):
            if not np.isnan(places[i, x]):
                shift = at * (len(sides.names) - 1)
                words = {"size": 6.5, "ha": side, "va": "center", "color": INK if has_moved else MUTED}
                axes.text(x + shift, places[i, x], labels[i], **words)


def rank_table(tables: Tables, sides: Sides) -> dict[str, np.ndarray]:
    """`rank` (layers, sides), and per layer the ends that all its rank intervals share: `low` > `high` if none."""
    at = (pl.col("target") == sides.targets[0]) & (pl.col("strength") == sides.reference)
    place = {name: i for i, name in enumerate(sides.names)}
    row_of = {layer: i for i, layer in enumerate(sides.layers)}
    values = {name: np.full((len(row_of), len(place)), np.nan) for name in ("rank", "rank_low", "rank_high")}
    for row in tables["profiles"].filter(at, pl.col("side").is_in(list(sides.names))).iter_rows(named=True):
        for name, matrix in values.items():
            if row[name] is not None:
                matrix[row_of[row["layer"]], place[row["side"]]] = row[name]
    low = np.nan_to_num(values["rank_low"], nan=-np.inf).max(1)
    high = np.nan_to_num(values["rank_high"], nan=np.inf).min(1)
    return {"rank": values["rank"], "low": low, "high": high}


def spread_ranks(ranks: np.ndarray) -> np.ndarray:
    """Ranks with ties set one below the other in the order of the layers, (layers, sides); NaN stays NaN.

    Example:
        >>> spread_ranks(np.array([[1.0], [1.0], [3.0]]))[:, 0].tolist()
        [1.0, 2.0, 3.0]
    """
    order = np.argsort(np.argsort(np.nan_to_num(ranks, nan=np.inf), axis=0, kind="stable"), axis=0)
    return np.where(np.isnan(ranks), np.nan, order + 1.0)
