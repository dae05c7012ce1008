"""Gain of every side over the layers: up to four sides in one panel, more in a panel each."""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import (
    FAINT,
    INK,
    MARGIN,
    MARKERS,
    LayerNames,
    dodge,
    layer_names,
    printable,
    shade_stages,
    sheet,
    styled,
    vlines,
)
from camdrift.figures.gain import log_axis
from camdrift.figures.sides import PALETTE, Sides, compared_sides, profile
from camdrift.tables.reading import Tables
from camdrift.tables.words import TARGET_WORDS, strength_text

_OVERLAID: Final = 4
_COLUMNS: Final = 3
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


class _Look(NamedTuple):
    """Colour, marker and dashes of a side."""

    colour: str
    marker: str
    dashes: Any


@styled
def gain_profiles_figure(tables: Tables) -> Figure:
    """Noise-equivalent gain over the layers: up to four sides in one panel, more in a panel each."""
    sides = compared_sides(tables)
    title = f"Noise-equivalent gain, side by side, at strength {strength_text(sides.reference)}"
    note = (
        f"{TARGET_WORDS[sides.targets[0]].capitalize()}. Bars: bootstrap 95 % intervals. Open marks are bounds. "
        + ("" if sides.layers else "Layers by relative depth, since the sides have different ones. ")
        + sides.left_out
    )
    limits = _limits(tables, sides)
    if len(sides.names) <= _OVERLAID:
        return _overlaid(tables, sides, title, note, limits)
    return _in_panels(tables, sides, title, note, limits)


def _limits(tables: Tables, sides: Sides) -> tuple[float, float]:
    at = (pl.col("target") == sides.targets[0]) & (pl.col("strength") == sides.reference)
    rows = tables["profiles"].filter(at)
    values = pl.concat([rows[name] for name in ("gain", "gain_low", "gain_high")]).drop_nulls()
    positive = [value for value in values.to_list() if value > 0] or [1.0]
    return min(*positive, 1.0) / 1.45, max(*positive, 1.0) * 1.45


def _overlaid(tables: Tables, sides: Sides, title: str, note: str, limits: tuple[float, float]) -> Figure:
    looks = [_Look(*look) for look in zip(PALETTE, MARKERS, _DASHES, strict=False)]
    handles = [
        Line2D([], [], color=c, marker=m, ls=d, lw=1.1, markersize=4, label=printable(name, 48))
        for name, (c, m, d) in zip(sides.names, looks, strict=False)
    ]
    names = LayerNames(layer_names(sides.labels) or ["0", "1"])
    width = float(np.interp(len(sides.labels), [16, 48], [8.0, 11.0]))
    page = sheet(title, note, width=width, body=names.foot + 3.0, handles=handles)
    axes = page.axes(names.left, names.foot, width - names.left - MARGIN, 2.9)
    offsets = dodge(len(sides.names), 0.5) * (1 if sides.layers else 0.01)
    for name, look, offset in zip(sides.names, looks, offsets, strict=False):
        _profile(axes, tables, sides, name, look, float(offset))
    _finish(axes, sides, limits)
    if sides.layers:
        names.write(axes)
    else:
        axes.set_xlabel("relative depth: 0 the first layer, 1 the last")
    return page.figure


def _in_panels(tables: Tables, sides: Sides, title: str, note: str, limits: tuple[float, float]) -> Figure:
    rows = -(-len(sides.names) // _COLUMNS)
    width, height, gap = 11.0, 1.45, 0.5
    page = sheet(f"{title}: each against all", note, width=width, body=rows * (height + gap) + 0.25)
    across = (width - 0.6 - MARGIN) / _COLUMNS
    for place, name in enumerate(sides.names):
        row, column = divmod(place, _COLUMNS)
        bottom = 0.4 + (rows - 1 - row) * (height + gap)
        axes = page.axes(0.6 + column * across, bottom, across - 0.3, height)
        for other in sides.names:
            if other != name:
                x, its = _points(tables, sides, other)
                axes.plot(x, its["gain"].to_numpy(), color=FAINT, lw=0.8, zorder=1)
        _profile(axes, tables, sides, name, _Look(PALETTE[0], "o", "-"), 0.0)
        _finish(axes, sides, limits)
        axes.set_title(printable(name, 48), loc="left", size=8.0, color=INK, pad=4)
        if column:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        if row == rows - 1:
            axes.set_xlabel("layer, in execution order" if sides.layers else "relative depth")
        if sides.layers:
            axes.set_xticks([])
    return page.figure


def _points(tables: Tables, sides: Sides, name: str) -> tuple[np.ndarray, pl.DataFrame]:
    """Places of the layers of a side on the axis, and its rows."""
    rows = profile(tables, name, sides.targets[0], sides.reference)
    if not sides.layers:
        return rows["relative_depth"].to_numpy(), rows
    place = {layer: i for i, layer in enumerate(sides.layers)}
    return np.array([float(place[layer]) for layer in rows["layer"]]), rows


def _profile(axes: Axes, tables: Tables, sides: Sides, name: str, look: _Look, offset: float) -> None:
    x, rows = _points(tables, sides, name)
    x = x + offset
    gain, low, high = (rows[column].cast(pl.Float64).to_numpy() for column in ("gain", "gain_low", "gain_high"))
    is_bound = rows["gain_censored"].is_not_null().to_numpy()
    vlines(axes, x, low, high, colors=look.colour, linewidths=1.0, alpha=0.5, zorder=2)
    axes.plot(x, gain, color=look.colour, ls=look.dashes, lw=1.0, alpha=0.75, zorder=2.5)
    size = float(np.interp(len(x), [20, 50, 150], [3.8, 3.2, 2.0]))
    marks: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ls": "", "markeredgewidth": 0.8}
    axes.plot(x[~is_bound], gain[~is_bound], zorder=3, markersize=size, **marks)
    axes.plot(x[is_bound], gain[is_bound], mfc="white", zorder=3, markersize=size, **marks)


def _finish(axes: Axes, sides: Sides, limits: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    axes.set_xlim(*((-0.6, len(sides.layers) - 0.4) if sides.layers else (-0.03, 1.03)))
    axes.grid(axis="y")
    if sides.layers:
        axes.set_xticks([])
        shade_stages(axes, sides.labels)
    log_axis(axes, limits)
