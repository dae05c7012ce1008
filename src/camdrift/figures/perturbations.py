"""Figure 19: how far natural changes move the map of every layer, beside the attack."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import COLOURS, MUTED, blank_figure, layer_panels, mark_size, printable, styled, vlines
from camdrift.figures.gain import log_axis
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of, span
from camdrift.tables.perturbations import PERTURBATION_LAYERS
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, strength_text

NATURAL_COLOUR: Final = "#2e8b57"
_TITLE: Final = "Natural changes and the attack on one scale: noise-equivalent gain"
_MARGIN: Final = 1.45


def change_strength(scope: Scope) -> float:
    """The strength at which natural changes are shown: the one nearest to the change itself."""
    return min(scope.strengths, key=lambda strength: abs(strength - 1))


def gains_by_change(tables: Tables, scope: Scope) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """By natural change the rows of its layers and those of the attack, in execution order, at one strength."""
    rows = tables[PERTURBATION_LAYERS.name].filter(strength=change_strength(scope))
    gains = {}
    for (name,), part in rows.group_by("perturbation", maintain_order=True):
        attack = tables["layers"].filter(target=part["target"][0], strength=change_strength(scope))
        gains[str(name)] = (part.sort("layer_index"), attack.sort("layer_index"))
    return gains


def gain_limits(gains: dict[str, tuple[pl.DataFrame, pl.DataFrame]]) -> tuple[float, float] | None:
    """The range of all gains with their intervals, and 1, with a margin; None without any."""
    columns = [part[name] for pair in gains.values() for part in pair for name in ("gain", "gain_low", "gain_high")]
    values = pl.concat(columns).drop_nulls() if columns else pl.Series(dtype=pl.Float64)
    positive = values.filter(values > 0).to_numpy()
    if not positive.size:
        return None
    return float(min(positive.min(), 1.0)) / _MARGIN, float(max(positive.max(), 1.0)) * _MARGIN


@styled
def perturbations_figure(tables: Tables, record: Record) -> Figure:
    """Figure 19: the gain of every natural change per layer, and the attack's; open marks are bounds."""
    scope = scope_of(tables, record)
    gains = gains_by_change(tables, scope)
    limits = gain_limits(gains)
    if limits is None:
        return blank_figure(_TITLE, reason_for_nothing(scope) if not scope.analysed else "No gain was measured.")
    n = span([n for rows, _ in gains.values() for n in rows["n_pairs"].to_list() if n] or [0])
    note = (
        f"{scope.model}; n = {n} seeds, strength {strength_text(change_strength(scope))}. Each change is held against "
        "noise of its own mean and standard deviation, by the L2 norm after clipping. Bars: bootstrap 95 % intervals. "
        "Open marks are bounds."
    )
    handles = [
        Line2D([], [], color=NATURAL_COLOUR, marker="o", ls="", markersize=4, label="natural change"),
        Line2D([], [], color=COLOURS[ADVERSARIAL], marker="D", ls="", markersize=4, label="attack"),
    ]
    names = [printable(name, 80) for name in gains]
    figure, panels = layer_panels(scope, _TITLE, note, height=1.6, handles=handles, names_of_panels=names)
    for axes, (change, attack) in zip(panels, gains.values(), strict=True):
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        _marks(axes, attack, COLOURS[ADVERSARIAL], "D", mark_size(scope))
        _marks(axes, change, NATURAL_COLOUR, "o", mark_size(scope))
        log_axis(axes, limits)
        axes.set_ylabel("gain")
    return figure


def _marks(axes: Axes, rows: pl.DataFrame, colour: str, marker: str, size: float) -> None:
    value, low, high = (
        rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("gain", "gain_low", "gain_high")
    )
    is_bound = rows["gain_censored"].is_not_null().to_numpy()
    x = np.arange(len(value))
    vlines(axes, x, low, high, colors=colour, linewidths=1.0, alpha=0.5, zorder=2)
    look: dict[str, Any] = {"color": colour, "marker": marker, "ls": "", "markersize": size, "zorder": 3}
    axes.plot(x[~is_bound], value[~is_bound], **look)
    axes.plot(x[is_bound], value[is_bound], mfc="white", **look)
    for sign, side in (("^", rows["gain_censored"] == CENSORED_ABOVE), ("v", rows["gain_censored"] != CENSORED_ABOVE)):
        at = is_bound & side.fill_null(value=False).to_numpy()
        tips = value[at] * (1.2 if sign == "^" else 1 / 1.2)
        axes.plot(x[at], tips, color=MUTED, marker=sign, ls="", markersize=2.6, markeredgewidth=0, zorder=3)
