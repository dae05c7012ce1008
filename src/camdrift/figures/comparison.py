"""Figures of a comparison: gains of all sides over the layers, and how far their rankings agree."""

import itertools
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from camdrift.figures.canvas import (
    FAINT,
    INK,
    MARGIN,
    MARKERS,
    MUTED,
    LayerNames,
    dodge,
    printable,
    shade_stages,
    sheet,
    styled,
    text_width,
    vlines,
)
from camdrift.figures.contrasts import differences_figure
from camdrift.figures.gain import log_axis
from camdrift.figures.ranks import ranks_figure
from camdrift.figures.sides import PALETTE, Sides, agreement_matrix, compared_sides, profile
from camdrift.tables.comparison import BY_DEVIATION, BY_GAIN
from camdrift.tables.reading import Tables
from camdrift.tables.words import TARGET_WORDS, strength_text

_UNDEFINED: Final = "\u2013"
_OVERLAID: Final = 4
_COLUMNS: Final = 3
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


def comparison_figures(tables: Tables) -> dict[str, Figure]:
    """All figures of a comparison by file stem.

    Args:
        tables: Tables of `records.COMPARISON_TABLES` by name.
    """
    sides = compared_sides(tables)
    figures = {
        "comparison_1_gain": gain_profiles_figure(tables),
        "comparison_2_agreement": agreement_figure(tables),
        "comparison_4_differences": differences_figure(tables),
    }
    if sides.layers:
        figures["comparison_3_ranks"] = ranks_figure(tables)
    return dict(sorted(figures.items()))


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
    looks = list(zip(PALETTE, MARKERS, _DASHES, strict=False))
    handles = [
        Line2D([], [], color=c, marker=m, ls=d, lw=1.1, markersize=4, label=printable(name, 48))
        for name, (c, m, d) in zip(sides.names, looks, strict=False)
    ]
    names = LayerNames([printable(label) for label in sides.labels] or ["0", "1"])
    width = float(np.interp(len(sides.labels), [16, 48], [8.0, 11.0]))
    page = sheet(title, note, width=width, body=names.foot + 3.0, handles=handles)
    axes = page.axes(names.left, names.foot, width - names.left - MARGIN, 2.9)
    offsets = dodge(len(sides.names), 0.5) * (1 if sides.layers else 0.01)
    for name, (colour, marker, dash), offset in zip(sides.names, looks, offsets, strict=False):
        _profile(axes, tables, sides, name, colour, marker, dash, float(offset))
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
        _profile(axes, tables, sides, name, PALETTE[0], "o", "-", 0.0)
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
    """Where the layers of a side stand, and its rows."""
    rows = profile(tables, name, sides.targets[0], sides.reference)
    if not sides.layers:
        return rows["relative_depth"].to_numpy(), rows
    place = {layer: i for i, layer in enumerate(sides.layers)}
    return np.array([float(place[layer]) for layer in rows["layer"]]), rows


def _profile(
    axes: Axes, tables: Tables, sides: Sides, name: str, colour: str, marker: str, dash: Any, offset: float
) -> None:
    x, rows = _points(tables, sides, name)
    x = x + offset
    gain, low, high = (rows[column].cast(pl.Float64).to_numpy() for column in ("gain", "gain_low", "gain_high"))
    measured = rows["gain_censored"].is_null().to_numpy()
    vlines(axes, x, low, high, colors=colour, linewidths=1.0, alpha=0.5, zorder=2)
    axes.plot(x, gain, color=colour, ls=dash, lw=1.0, alpha=0.75, zorder=2.5)
    size = float(np.interp(len(x), [20, 50, 150], [3.8, 3.2, 2.0]))
    look: dict[str, Any] = {"color": colour, "marker": marker, "ls": "", "markersize": size, "markeredgewidth": 0.8}
    axes.plot(x[measured], gain[measured], zorder=3, **look)
    axes.plot(x[~measured], gain[~measured], mfc="white", zorder=3, **look)


def _finish(axes: Axes, sides: Sides, limits: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    axes.set_xlim(*((-0.6, len(sides.layers) - 0.4) if sides.layers else (-0.03, 1.03)))
    axes.grid(axis="y")
    if sides.layers:
        axes.set_xticks([])
        shade_stages(axes, sides.labels)
    log_axis(axes, limits)


@styled
def agreement_figure(tables: Tables) -> Figure:
    """Kendall's tau of the layer rankings of every two sides, by gain and by mean deviation, values written in."""
    sides = compared_sides(tables)
    count = len(sides.names)
    side = max(2.4, min(4.6, 0.62 * count))
    shown = [printable(name, 40) for name in sides.names]
    left = max(text_width(name, 7.0) for name in shown) + 0.3
    # Slanted names below the columns reach to the left and down.
    foot = max(text_width(name, 7.0) for name in shown) * 0.68 + 0.3
    width = left + 2 * side + 0.5 + 0.3
    note = (
        f"Kendall's tau-b at strength {strength_text(sides.reference)}, {TARGET_WORDS[sides.targets[0]]}: 1 the same "
        "order, 0 unrelated, -1 reversed. On the diagonal, framed: what a side would reach with itself on other "
        f"images. Bold: the 95 % interval excludes 0. {sides.left_out}"
    )
    page = sheet("How alike the sides rank their layers", note, width=max(width, 7.0), body=foot + side + 0.4)
    for column, (ranked_by, words) in enumerate(((BY_GAIN, "by gain"), (BY_DEVIATION, "by mean deviation"))):
        axes = page.axes(left + column * (side + 0.5), foot, side, side)
        _matrix(axes, agreement_matrix(tables, sides, ranked_by, sides.targets[0], sides.reference), count)
        axes.set_title(f"ranked {words}", loc="left", size=8.0, color=INK, pad=5)
        axes.set_xticks(range(count), shown, rotation=42, ha="right", rotation_mode="anchor", size=7.0)
        axes.set_yticks(range(count), shown if not column else [""] * count, size=7.0)
    return page.figure


def _matrix(axes: Axes, found: dict[str, np.ndarray], count: int) -> None:
    tau, low, high = found["tau"], found["tau_low"], found["tau_high"]
    axes.imshow(tau, cmap="PuOr", vmin=-1.15, vmax=1.15, aspect="equal")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    size = float(np.interp(count, [4, 12, 24], [8.0, 6.0, 4.0]))
    for i, j in itertools.product(range(count), repeat=2):
        value = tau[i, j]
        text = _UNDEFINED if np.isnan(value) else f"{value:.2f}".replace("-", "\u2212")
        clear = low[i, j] > 0 or high[i, j] < 0
        look: dict[str, Any] = {
            "color": "white" if abs(value) > 0.65 else MUTED if abs(value) < 0.3 and not clear else INK
        }
        look["path_effects"] = _heavy(look["color"]) if clear and i != j else []
        axes.text(j, i, text, ha="center", va="center", size=size, **look)
    for i in range(count):
        axes.add_patch(_frame(i))


def _heavy(colour: str) -> list[Any]:
    """A thin stroke that makes letters bold without a second font in the file."""
    return [withStroke(linewidth=0.5, foreground=colour)]


def _frame(i: int) -> Any:
    look: dict[str, Any] = {"fill": False, "edgecolor": MUTED, "linewidth": 0.8, "linestyle": (0, (2, 1.5))}
    return Rectangle((i - 0.46, i - 0.46), 0.92, 0.92, **look)
