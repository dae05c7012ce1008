"""Every side against the first: differences of gain and deviation of the aligned layers, with intervals."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from camdrift.figures.canvas import INK, MARGIN, blank_figure, printable, sheet, styled, vlines
from camdrift.figures.scope import span
from camdrift.figures.sides import PALETTE, Sides, compared_sides
from camdrift.tables.reading import Tables
from camdrift.tables.words import TARGET_WORDS, strength_text

_MOST: Final = 12


@styled
def differences_figure(tables: Tables) -> Figure:
    """Gain over the first side's gain, and difference of mean deviation, per aligned layer; one row per other side."""
    sides = compared_sides(tables)
    first, others = sides.names[0], sides.names[1 : _MOST + 1]
    title = f"Against {printable(first, 60)}"
    if not others:
        return blank_figure(title, "There is no other side.")
    note = (
        f"At strength {strength_text(sides.reference)}, {TARGET_WORDS[sides.targets[0]]}; layers from the first to the "
        "last. Bars: 95 % intervals, bootstrap (gain) and t or Welch (deviation), not corrected for the number of "
        "layers. Arrows: the interval has no end there. Layers where a gain is only a bound are left out on the left. "
        + (f"The first {len(others)} of {sides.total - 1} other sides." if sides.total - 1 > len(others) else "")
    )
    height, gap, width = 1.15, 0.42, 10.0
    page = sheet(title, note, width=width, body=len(others) * (height + gap) + 0.35)
    across = (width - 1.55 - MARGIN) / 2
    for row, name in enumerate(others):
        bottom = 0.42 + (len(others) - 1 - row) * (height + gap)
        rows = _rows(tables, sides, first, name)
        panels = [page.axes(0.6 + column * (across + 0.95), bottom, across, height) for column in (0, 1)]
        _gain(panels[0], rows, name)
        _deviation(panels[1], rows)
        for axes in panels:
            axes.set_xlim(-0.03, 1.03)
            axes.grid(axis="y")
            axes.axhline(0, color=INK, lw=0.9, ls=(0, (5, 3)), zorder=1)
            axes.tick_params(labelbottom=row == len(others) - 1)
        if row == len(others) - 1:
            for axes in panels:
                axes.set_xlabel("relative depth")
    return page.figure


def _rows(tables: Tables, sides: Sides, first: str, name: str) -> pl.DataFrame:
    is_of_pair = (pl.col("side_a") == first) & (pl.col("side_b") == name)
    at = (pl.col("target") == sides.targets[0]) & (pl.col("strength") == sides.reference)
    return tables["differences"].filter(is_of_pair, at).sort("relative_depth")


def _gain(axes: Axes, rows: pl.DataFrame, name: str) -> None:
    value = _numbers(rows, "log2_gain_ratio")
    is_defined = ~np.isnan(value)
    several = np.minimum(rows["n_a"].to_numpy(), rows["n_b"].to_numpy()) > 1
    ends = [_numbers(rows, f"log2_gain_ratio_{end}") for end in ("low", "high")]
    reach = np.nanmax(np.abs([*value[is_defined], *ends[0][is_defined], *ends[1][is_defined], 1.0])) * 1.12
    axes.set_ylim(-reach, reach)
    low, high = np.where(np.isnan(ends[0]), -reach, ends[0]), np.where(np.isnan(ends[1]), reach, ends[1])
    _marks(axes, rows, value, *(np.where(is_defined & several, end, np.nan) for end in (low, high)))
    x = rows["relative_depth"].to_numpy()
    for end, head, level in ((ends[0], "v", -reach), (ends[1], "^", reach)):
        is_open = is_defined & several & np.isnan(end)
        axes.plot(x[is_open], np.full(is_open.sum(), 0.96 * level), ls="", marker=head, ms=2.6, color=PALETTE[0])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{2**v:g}" if v >= 0 else f"1/{2**-v:g}"))
    axes.set_ylabel("gain ratio")
    n = span([count for name in ("n_a", "n_b") for count in rows[name] if count] or [0])
    how = "the same images" if rows["paired"].any() else "different images"
    axes.set_title(f"{printable(name, 46)}; n = {n}, {how}", loc="left", size=8.0, color=INK, pad=4)


def _deviation(axes: Axes, rows: pl.DataFrame) -> None:
    value = _numbers(rows, "difference")
    low, high = (_numbers(rows, f"difference_{end}") for end in ("low", "high"))
    if np.isnan(value).all():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "deviations on different scales", transform=axes.transAxes, ha="center", size=7.5)
        return
    _marks(axes, rows, value, low, high)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel("difference\nof deviation")


def _marks(axes: Axes, rows: pl.DataFrame, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    x = rows["relative_depth"].to_numpy()
    clear = (low > 0) | (high < 0)
    look: dict[str, Any] = {"ls": "", "marker": "o", "markersize": 3.2, "markeredgewidth": 0.8, "color": PALETTE[0]}
    vlines(axes, x, low, high, colors=PALETTE[0], linewidths=1.0, alpha=0.5, zorder=2)
    axes.plot(x[clear], value[clear], zorder=3, **look)
    axes.plot(x[~clear], value[~clear], zorder=3, mfc="white", **look)


def _numbers(rows: pl.DataFrame, column: str) -> np.ndarray:
    values: np.ndarray = rows[column].fill_null(np.nan).to_numpy()
    return values
