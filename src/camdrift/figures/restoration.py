"""Figures 15 and 16: what defences keep, and at which layer the network comes back behind them."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import (
    COLOURS,
    INK,
    MUTED,
    blank_figure,
    dodge,
    hlines,
    layer_panels,
    mark_size,
    printable,
    sheet,
    styled,
    text_width,
    vlines,
)
from camdrift.figures.scope import reason_for_nothing, scope_of, span
from camdrift.tables.defences import ADAPTIVE_STAGE, CLEAN_STAGE, STATIC_ONLY, STATIC_STAGE, UNDEFENDED
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, NOISE

# Stages side by side, with their colour and mark.
_STAGES: Final[dict[str, tuple[str, str, str]]] = {
    CLEAN_STAGE: ("clean images", INK, "o"),
    STATIC_STAGE: ("static: the attack does not know the defence", COLOURS[NOISE], "s"),
    ADAPTIVE_STAGE: ("adaptive: worst case, the attack knows it", COLOURS[ADVERSARIAL], "D"),
}
_ROW: Final = 0.42
_NAME_SIZE: Final = 8.0
_WIDTH: Final = 8.0


@styled
def restoration_figure(tables: Tables, record: Record) -> Figure:
    """Figure 15: restoration per layer behind every defence, with intervals and what it does to clean maps."""
    scope = scope_of(tables, record)
    title = "Where the network comes back behind a defence"
    rows = tables["restoration"].filter(pl.col("returned").is_null())
    if not rows["restoration"].drop_nulls().len():
        return blank_figure(title, reason_for_nothing(scope) if not scope.analysed else "No map is moved.")
    defences = rows["defence"].unique(maintain_order=True).to_list()
    note = (
        f"{scope.model}; n = {span(rows['n'].to_list())} seeds. Restoration: 1 - median deviation behind the defence / "
        "median deviation under the attack; 1 is back at the clean map, 0 is no gain. Bars: bootstrap 95 % intervals. "
        "Strokes: no more can be expected, since the defence moves clean maps, too."
    )
    handles = [
        Line2D([], [], color=COLOURS[NOISE], marker="o", ls="", markersize=4, label="restoration"),
        Line2D([], [], color=MUTED, lw=1.4, label="ceiling"),
    ]
    names = [printable(name, 80) for name in defences]
    figure, panels = layer_panels(scope, title, note, height=1.5, handles=handles, names_of_panels=names)
    for axes, defence in zip(panels, defences, strict=True):
        _panel(axes, rows.filter(pl.col("defence") == defence).sort("layer_index"), mark_size(scope))
    return figure


def _panel(axes: Axes, rows: pl.DataFrame, size: float) -> None:
    value, low, high, ceiling = (
        rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("restoration", "low", "high", "ceiling")
    )
    x = np.arange(len(value))
    bottom = -1.05
    vlines(axes, x, np.clip(low, bottom, None), np.clip(high, bottom, None), colors=COLOURS[NOISE], alpha=0.5, zorder=2)
    hlines(axes, x, np.clip(ceiling, bottom, None), 0.7, colors=MUTED, linewidths=1.4, zorder=1.5)
    axes.plot(x, np.clip(value, bottom, None), color=COLOURS[NOISE], marker="o", ls="", markersize=size, zorder=3)
    for level, dashes in ((0.0, (0, (1, 1.6))), (1.0, (0, (1, 1.6))), (0.5, (0, (5, 3)))):
        axes.axhline(level, color=MUTED, lw=0.8, ls=dashes, zorder=1)
    axes.set_ylim(bottom - 0.05, 1.1)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1], ["\u2264 \u22121", "\u22120.5", "0", "0.5", "1"])


@styled
def defences_figure(tables: Tables, record: Record) -> Figure:
    """Figure 16: share of predictions that stay behind every defence: clean, static, adaptive; Wilson intervals."""
    scope = scope_of(tables, record)
    title = "What defences keep"
    rows = tables["defences"]
    if rows.is_empty():
        return blank_figure(title, reason_for_nothing(scope))
    names = rows["defence"].unique(maintain_order=True).to_list()
    note = (
        f"{scope.model}; n = {span(rows['n'].to_list())} images. Share whose prediction stays that of the clean image "
        "without a defence. Bars: Wilson 95 % intervals. Static only: no claim about robustness."
    )
    handles = [Line2D([], [], color=c, marker=m, ls="", markersize=5, label=w) for w, c, m in _STAGES.values()]
    words = ["no defence" if name == UNDEFENDED else printable(name, 44) for name in names]
    left = max(text_width(word, _NAME_SIZE) for word in words) + 0.35
    height = _ROW * len(names)
    page = sheet(title, note, width=_WIDTH, body=height + 0.5, handles=handles)
    axes = page.axes(left, 0.45, _WIDTH - left - 0.9, height, xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), words, size=_NAME_SIZE)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="x")
    axes.set_xlabel("share of predictions that stay")
    for place, name in enumerate(names):
        _marks(axes, place, rows.filter(pl.col("defence") == name), scope.strengths)
    return page.figure


def _marks(axes: Axes, place: int, rows: pl.DataFrame, strengths: Any) -> None:
    reference = min(strengths, key=lambda strength: abs(strength - 1))
    is_bare = rows["defence"][0] == UNDEFENDED
    for offset, (stage, (_, colour, marker)) in zip(dodge(3, 0.5), _STAGES.items(), strict=True):
        cell = rows.filter(pl.col("stage") == stage)
        if stage == STATIC_STAGE:
            cell = cell.filter(pl.col("strength") == reference)
        if cell.is_empty() or cell["share"][0] is None:
            continue
        share, low, high = (float(cell[name][0]) for name in ("share", "low", "high"))
        axes.plot([low, high], [place + offset] * 2, color=colour, lw=1.2, alpha=0.5, zorder=2, solid_capstyle="butt")
        axes.plot([share], [place + offset], color=colour, marker=marker, ls="", markersize=4.6, zorder=3)
    if not is_bare and not (rows["stage"] == ADAPTIVE_STAGE).any():
        axes.text(1.03, place, STATIC_ONLY, size=7.5, color=MUTED, va="center", clip_on=False)
