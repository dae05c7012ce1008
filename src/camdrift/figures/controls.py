"""Figure 13: the attack's gain over other kinds of noise, and noise against noise."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from camdrift.figures.canvas import COLOURS, INK, MUTED, blank_figure, dodge, layer_panels, mark_size, styled, vlines
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of, span
from camdrift.statistics.controls import CHANNELS, NOISE_AGAINST_NOISE, SPECTRUM
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, NOISE, strength_text

_TITLE: Final = "Is it the attack? Gains over other kinds of noise, and of noise over noise"
_WHITE: Final = "white noise"
_OVER: Final = "gain of the attack over it"
# Control, its quantity in table `controls`, colour, marker, words.
_SERIES: Final = (
    (_WHITE, "", COLOURS[ADVERSARIAL], "o", "attack over white noise"),
    (CHANNELS, _OVER, "#882255", "D", "over noise matched per channel"),
    (SPECTRUM, _OVER, "#117733", "s", "over noise of the attack's spectrum"),
    (NOISE_AGAINST_NOISE, "gain", COLOURS[NOISE], "X", "white noise over white noise"),
)


def has_controls(tables: Tables) -> bool:
    """Has a study controls of single layers?"""
    return bool(tables["controls"]["layer"].is_not_null().any())


@styled
def controls_figure(tables: Tables, record: Record) -> Figure:
    """Figure 13: gain of the attack over every kind of noise, and of noise over noise, per layer with intervals.

    Args:
        tables: Tables of a study: those of `tables.study.TABLES`.
        record: The run record.
    """
    scope = scope_of(tables, record)
    strengths = sorted({min(scope.strengths, default=scope.reference), scope.reference})
    series = _series(tables)
    if not has_controls(tables) or not len(series):
        return blank_figure(_TITLE, reason_for_nothing(scope))
    present = [entry for entry in _SERIES if entry[0] in set(series["control"])]
    looks: dict[str, Any] = {"ls": "", "markersize": 4, "markeredgewidth": 0}
    handles = [Line2D([], [], color=c, marker=m, label=words, **looks) for _, _, c, m, words in present]
    n = span(series["n"].drop_nulls().to_list() or [0])
    note = (
        f"{scope.model}, target seed; n = {n} seeds. Bars: bootstrap 95 % intervals. A gain says how much "
        "stronger noise must be to move a layer's map as far. At 1 (dashed) there is no difference: noise over noise "
        "lies there. No gain can exceed the strongest noise that was tried (dotted)."
    )
    names = [f"strength {strength_text(strength)}" for strength in strengths]
    figure, panels = layer_panels(scope, _TITLE, note, height=2.5, handles=handles, names_of_panels=names)
    limits = _limits(series.filter(pl.col("strength").is_in(strengths)))
    for axes, strength in zip(panels, strengths, strict=True):
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        axes.axhline(1, color=INK, lw=0.9, ls=(0, (5, 3)), zorder=1)
        axes.axhline(_strongest(tables) / strength, color=MUTED, lw=1.0, ls=(0, (1, 1.6)), zorder=1)
        for offset, (control, _, colour, marker, words) in zip(dodge(len(present)), present, strict=True):
            rows = series.filter(pl.col("control") == control, pl.col("strength") == strength)
            _marks(axes, scope, rows, offset, color=colour, marker=marker, label=words)
        _axis(axes)
    return figure


def _series(tables: Tables) -> pl.DataFrame:
    """Gains by control, strength and layer; table `layers` has those over white noise."""
    columns = ["strength", "layer", "value", "low", "high", "n"]
    white = (
        tables["layers"]
        .filter(pl.col("target") == "seed")
        .select("strength", "layer", value="gain", low="gain_low", high="gain_high", n="n_pairs")
    )
    parts = [white.select(pl.lit(_WHITE).alias("control"), *columns)]
    rows = tables["controls"].filter(pl.col("layer").is_not_null(), pl.col("target") == "seed")
    for control, quantity, *_ in _SERIES:
        part = rows.filter(pl.col("control") == control, pl.col("quantity") == quantity)
        parts.append(part.select("control", *columns))
    return pl.concat(parts).drop_nulls("value")


def _marks(axes: Axes, scope: Scope, rows: pl.DataFrame, offset: float, **look: Any) -> None:
    """Draw marks and intervals of one kind of noise, beside the others of its layer."""
    places = {layer: place for place, layer in enumerate(scope.layers)}
    x = np.array([places[layer] + offset for layer in rows["layer"]])
    low, high = (rows[name].fill_null(np.nan).to_numpy() for name in ("low", "high"))
    vlines(axes, x, low, high, colors=look["color"], linewidths=1.0, alpha=0.5, zorder=2)
    axes.plot(x, rows["value"].to_numpy(), ls="", markersize=mark_size(scope), markeredgewidth=0, zorder=3, **look)


def _strongest(tables: Tables) -> float:
    """The highest strength of the noise."""
    noisy = tables["variants"].filter(pl.col("condition") == NOISE)["strength"].to_numpy()
    return float(noisy.max(initial=1.0))


def _limits(series: pl.DataFrame) -> tuple[float, float]:
    values = pl.concat([series[name] for name in ("value", "low", "high")]).drop_nulls()
    positive = values.filter(values > 0).to_numpy()
    return float(min(positive.min(initial=1.0), 1.0)) / 1.3, float(positive.max(initial=1.0)) * 1.3


def _axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel("gain (times the\nattack's L2 norm)")
