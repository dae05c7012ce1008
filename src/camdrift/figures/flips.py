"""Figure 14: predictions that attack and noise change, strength by strength, and the accuracy that is left."""

from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from camdrift.figures.canvas import COLOURS, DASHES, MUTED, blank_figure, sheet, styled, vlines
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of
from camdrift.statistics.flips import flips_of
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, strength_text

_NAMES: Final = {ADVERSARIAL: "attack", NOISE: "noise of the same size"}
_MARKS: Final = {ADVERSARIAL: "o", NOISE: "s"}
_DOTS: Final[Any] = (0, (1.2, 1.6))


@styled
def flips_figure(tables: Tables, record: Record) -> Figure:
    """Figure 14: share of the analysed images whose prediction attack and noise change, with Wilson intervals.

    Where labels are known the accuracy under both stands beside it.
    """
    scope = scope_of(tables, record)
    title = "How many predictions attack and noise change"
    table = flips_of(tables).filter(pl.col("draw") == 0)
    rows = table.filter(pl.col("condition") != CLEAN, pl.col("n") > 0)
    if rows.is_empty():
        return blank_figure(title, reason_for_nothing(scope))
    has_labels = rows["accuracy"].drop_nulls().len() > 0
    page = sheet(title, _note(scope, table), width=8.0, body=3.2, handles=_handles(has_labels=has_labels))
    axes = page.axes(0.7, 0.5, 7.1, 2.6, xscale="log", ylim=(-0.03, 1.03))
    for condition in _NAMES:
        _draw(axes, rows.filter(pl.col("condition") == condition).sort("strength"), condition, has_labels=has_labels)
    axes.axhline(0.5, color=MUTED, lw=0.8, ls=(0, (5, 3)), zorder=1)
    strengths = sorted(set(rows["strength"]))
    axes.xaxis.set_major_locator(FixedLocator(strengths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(strengths, [strength_text(strength) for strength in strengths])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y")
    axes.set_xlabel("strength, log: 1 is the attack's own")
    axes.set_ylabel("share of images")
    return page.figure


def _note(scope: Scope, table: pl.DataFrame) -> str:
    clean = table.filter(pl.col("condition") == CLEAN)["accuracy"].to_list()
    accuracy = f" Accuracy on their clean images: {100 * clean[0]:.0f} %." if clean and clean[0] is not None else ""
    return (
        f"{scope.model}; n = {scope.analysed:,} images with an adversarial example. Bars: Wilson 95 % intervals. A "
        f"prediction counts as changed where it differs from that of the clean image.{accuracy}"
    )


def _handles(*, has_labels: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=COLOURS[c], ls=DASHES[c], marker=_MARKS[c], markersize=4, label=f"changed by {name}")
        for c, name in _NAMES.items()
    ]
    words = {ADVERSARIAL: "accuracy under the attack", NOISE: "accuracy under noise"} if has_labels else {}
    return handles + [Line2D([], [], color=COLOURS[c], ls=_DOTS, label=label) for c, label in words.items()]


def _draw(axes: Axes, rows: pl.DataFrame, condition: str, *, has_labels: bool) -> None:
    x, share, low, high = (rows[name].to_numpy() for name in ("strength", "share", "low", "high"))
    colour = COLOURS[condition]
    vlines(axes, x, low, high, colors=colour, linewidths=1.2, alpha=0.5, zorder=2)
    axes.plot(x, share, color=colour, ls=DASHES[condition], marker=_MARKS[condition], label=_NAMES[condition], zorder=3)
    if has_labels:
        accuracy = rows["accuracy"].cast(pl.Float64).to_numpy()
        axes.plot(x, accuracy, color=colour, ls=_DOTS, lw=1.2, label=f"accuracy, {condition}", zorder=2.5)
