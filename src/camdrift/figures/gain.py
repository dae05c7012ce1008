"""Figure 8: noise-equivalent gain, how much stronger noise must be to move a layer's map as far as the attack."""

import itertools
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from camdrift.figures.canvas import (
    INK,
    MARKERS,
    MUTED,
    blank_figure,
    dodge,
    hlines,
    intervals,
    is_crowded,
    layer_panels,
    mark_size,
    strength_colours,
    strength_handles,
    styled,
    vlines,
)
from camdrift.figures.scope import Scope, grid, reason_for_nothing, scope_of, span
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import CENSORED_ABOVE, CENSORED_BELOW, strength_text

_ARROW = 1.16


@styled
def gain_figure(tables: Tables, record: Record) -> Figure:
    """Figure 8: noise-equivalent gain per layer and strength, log axis; bounds are open, with an arrow."""
    scope = scope_of(tables, record)
    title = "Noise-equivalent gain: how much stronger noise must be to move a layer's map as far"
    layers = tables["layers"]
    if not layers["gain"].drop_nulls().len():
        return blank_figure(title, reason_for_nothing(scope))
    n = span(layers["n_pairs"].filter(layers["n_pairs"] > 0).to_list() or [0])
    note = (
        f"{scope.model}; n = {n} seeds. {'Bands' if is_crowded(scope) else 'Bars'}: bootstrap 95 % intervals. A dash "
        "with an arrow is no value but a bound, where the noise tried ends: the attack moves the map further (arrow "
        "up) or less far (arrow down)."
    )
    bound = Line2D([], [], color=MUTED, marker="^", markersize=5, ls="-", lw=1.4, label="bound, not a value")
    handles = [*strength_handles(scope), bound]
    figure, panels = layer_panels(scope, title, note, height=2.5, handles=handles)
    limits = _limits(layers)
    for axes, target in zip(panels, scope.targets, strict=True):
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        _target(axes, scope, layers, target)
        log_axis(axes, limits)
    return figure


def _limits(layers: pl.DataFrame) -> tuple[float, float]:
    values = pl.concat([layers[name] for name in ("gain", "gain_low", "gain_high")]).drop_nulls()
    positive = values.filter(values > 0).to_numpy()
    return float(min(positive.min(), 1.0)) / 1.45, float(max(positive.max(), 1.0)) * 1.45


def _target(axes: Axes, scope: Scope, layers: pl.DataFrame, target: str) -> None:
    values, low, high = (grid(scope, layers, name, target) for name in ("gain", "gain_low", "gain_high"))
    bounds, low_bounds, high_bounds = (
        _censored(scope, layers, name, target) for name in ("gain_censored", "gain_low_censored", "gain_high_censored")
    )
    offsets = dodge(len(scope.strengths))
    looks = zip(strength_colours(scope), itertools.cycle(MARKERS), strict=False)
    for row, (colour, marker) in zip(range(len(scope.strengths)), looks, strict=False):
        x = np.arange(values.shape[1]) + offsets[row]
        intervals(axes, scope, x, (low[row], high[row]), colour)
        is_measured = bounds[row] == 0
        trace = np.where(is_measured, values[row], np.nan)
        axes.plot(x, trace, color=colour, lw=0.8, alpha=0.35, zorder=1.5)
        look: dict[str, Any] = {"color": colour, "marker": marker, "ls": "", "zorder": 3}
        look |= {"markersize": mark_size(scope), "markeredgewidth": 0.8}
        label = f"strength {strength_text(scope.strengths[row])}"
        axes.plot(x[is_measured], values[row][is_measured], label=label, **look)
        bound = np.where(is_measured, np.nan, values[row])
        hlines(axes, np.arange(x.size), bound, 0.9, colors=colour, linewidths=1.1, zorder=1.6, label="bound")
        _arrows(axes, x, values[row], bounds[row], colour)
        if not is_crowded(scope):
            _arrows(axes, x, high[row], np.where(is_measured, high_bounds[row], 0), colour, alpha=0.5)
            _arrows(axes, x, low[row], np.where(is_measured, low_bounds[row], 0), colour, alpha=0.5)


def _censored(scope: Scope, layers: pl.DataFrame, column: str, target: str) -> np.ndarray:
    """1 where a value is a lower bound, -1 where it is an upper bound, else 0, (strengths, layers)."""
    signs = (
        pl.when(pl.col(column) == CENSORED_ABOVE).then(1).when(pl.col(column) == CENSORED_BELOW).then(-1).otherwise(0)
    )
    return np.asarray(np.nan_to_num(grid(scope, layers.with_columns(signs.alias("sign")), "sign", target)))


def _arrows(axes: Axes, x: np.ndarray, values: np.ndarray, signs: np.ndarray, colour: Any, alpha: float = 1.0) -> None:
    for sign, head in ((1, "^"), (-1, "v")):
        places = (signs == sign) & np.isfinite(values)
        tips = values[places] * _ARROW**sign
        vlines(axes, x[places], values[places], tips, colors=colour, linewidths=0.9, alpha=alpha, zorder=2.5)
        look: dict[str, Any] = {"color": colour, "marker": head, "markersize": 2.6, "markeredgewidth": 0}
        axes.plot(x[places], tips, ls="", alpha=alpha, zorder=3, **look)


def log_axis(axes: Axes, limits: tuple[float, float]) -> None:
    """Give the vertical axis of gains few plain numbers, and a line at 1."""
    axes.axhline(1, color=INK, lw=0.9, ls=(0, (5, 3)), zorder=1)
    wide = np.log10(limits[1] / limits[0]) > 4
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel("gain (times the\nattack's L2 norm)")
