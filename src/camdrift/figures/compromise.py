"""Figures 6 and 7: the layers that the attack compromises, and their number per example."""

import itertools
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from camdrift.figures.canvas import (
    INK,
    MARKERS,
    MUTED,
    blank_figure,
    boxes,
    dodge,
    intervals,
    is_crowded,
    layer_panels,
    mark_size,
    sheet,
    strength_colours,
    strength_handles,
    styled,
    text_width,
)
from camdrift.figures.scope import Scope, few_seeds, grid, reason_for_nothing, scope_of, span
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import TARGET_WORDS, strength_text

_UPRIGHT: Final[dict[str, Any]] = {"rotation": 90, "ha": "center", "va": "center", "size": 8.0}
BY_CONSTRUCTION: Final = (
    "The threshold is the median under noise: it compromises about half of all noisy images by construction."
)


@styled
def compromised_probability_figure(tables: Tables, record: Record) -> Figure:
    """Figure 6: share of adversarial examples that compromise each layer, per strength, Wilson intervals."""
    scope = scope_of(tables, record)
    title = "Probability that the attack compromises a layer"
    layers = tables["layers"]
    shares = {target: grid(scope, layers, "compromised_fraction", target) for target in scope.targets}
    if not any(np.isfinite(values).any() for values in shares.values()):
        return blank_figure(title, reason_for_nothing(scope))
    n = span(layers["n"].filter(layers["n"] > 0).to_list())
    note = (
        f"{scope.model}; n = {n} seeds per layer and strength. {'Bands' if is_crowded(scope) else 'Bars'}: Wilson 95 % "
        f"intervals. {_caution(tables, scope)}"
    )
    half = Line2D([], [], color=INK, lw=0.9, ls=(0, (5, 3)), label="0.5: no worse than noise")
    figure, panels = layer_panels(scope, title, note, height=1.9, handles=[*strength_handles(scope), half])
    for axes, target in zip(panels, scope.targets, strict=True):
        ends = [grid(scope, layers, f"compromised_{end}", target) for end in ("low", "high")]
        axes.axhline(0.5, color=INK, lw=0.9, ls=(0, (5, 3)), zorder=1)
        _shares(axes, scope, shares[target], ends)
        axes.set_ylim(-0.03, 1.05)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_ylabel("compromised\n(share of seeds)")
    return figure


def _caution(tables: Tables, scope: Scope) -> str:
    return " ".join(text for text in (BY_CONSTRUCTION, few_seeds(tables, scope)) if text)


def _shares(axes: Axes, scope: Scope, shares: np.ndarray, ends: list[np.ndarray]) -> None:
    offsets, low, high = dodge(len(scope.strengths)), *ends
    looks = zip(strength_colours(scope), itertools.cycle(MARKERS), strict=False)
    for row, (colour, marker) in zip(range(len(scope.strengths)), looks, strict=False):
        x = np.arange(shares.shape[1]) + offsets[row]
        intervals(axes, scope, x, (low[row], high[row]), colour)
        label = f"strength {strength_text(scope.strengths[row])}"
        axes.plot(
            x,
            shares[row],
            color=colour,
            marker=marker,
            ls="-" if is_crowded(scope) else "",
            lw=0.7,
            markersize=mark_size(scope),
            zorder=3,
            label=label,
        )


@styled
def compromised_layers_figure(tables: Tables, record: Record) -> Figure:
    """Figure 7: number of layers that an adversarial example compromises, one histogram per strength and target."""
    scope = scope_of(tables, record)
    title = "How many layers one adversarial example compromises"
    counts = tables["counts"]
    if not counts["n_seeds"].sum():
        return blank_figure(title, reason_for_nothing(scope))
    totals = counts.group_by("target", "strength").agg(pl.col("n_seeds").sum())["n_seeds"].to_list()
    share = pl.col("n_seeds") / pl.col("n_seeds").sum().over("target", "strength")
    top = min(1.0, np.ceil(5.5 * float(counts.select(share.fill_nan(0).max()).item())) / 5)
    note = f"{scope.model}; n = {span(totals)} seeds per strength. {_caution(tables, scope)}"
    rows, columns = len(scope.strengths), len(scope.targets)
    height, foot = 0.85, 0.45
    page = sheet(title, note, width=8.0, body=foot + rows * height + 0.2)
    each = (8.0 - 0.74 - 0.12 - 0.35 * (columns - 1)) / columns
    for column, target in enumerate(scope.targets):
        for row, strength in enumerate(scope.strengths):
            bottom = foot + (rows - 1 - row) * height
            axes = page.axes(0.74 + column * (each + 0.35), bottom, each, height - 0.28)
            values = _histogram(counts, target, strength, len(scope.layers))
            _bars(axes, values, strength_colours(scope)[row], f"strength {strength_text(strength)}")
            _frame(axes, scope, top, is_first=column == 0, is_last=row == rows - 1)
        name = TARGET_WORDS.get(target, target)
        name = name if text_width(name, 8.0) < each else f"target {target}"
        axes.text(0, rows * height / (height - 0.28), name, transform=axes.transAxes, size=8.0, va="bottom")
    page.figure.text(0.02, (foot + rows * height / 2) / page.figure.get_figheight(), "share of seeds", **_UPRIGHT)
    return page.figure


def _histogram(counts: pl.DataFrame, target: str, strength: float, layers: int) -> np.ndarray:
    """Seeds by number of compromised layers, (layers + 1,)."""
    values = np.zeros(layers + 1)
    rows = counts.filter(pl.col("target") == target, pl.col("strength") == strength)
    for number, seeds in rows.select("n_compromised", "n_seeds").iter_rows():
        values[number] = seeds
    return values


def median_count(values: np.ndarray) -> float:
    """Median of a histogram: `values[k]` seeds with k compromised layers."""
    return float(np.median(np.repeat(np.arange(len(values)), values.astype(int))))


def _bars(axes: Axes, values: np.ndarray, colour: Any, label: str) -> None:
    total, layers = values.sum(), len(values) - 1
    text = label
    if total:
        shares = values / total
        heights = np.where(values > 0, shares, np.nan)
        boxes(axes, range(layers + 1), 0 * heights, heights, width=0.8, facecolors=colour, edgecolors="none")
        text += f": median {median_count(values):g} of {layers}, all {layers} in {100 * shares[-1]:.0f} %"
    axes.text(0, 1.06, text, size=7.0, color=MUTED, va="bottom", transform=axes.transAxes)


def _frame(axes: Axes, scope: Scope, top: float, *, is_first: bool, is_last: bool) -> None:
    axes.set_xlim(-0.7, len(scope.layers) + 0.7)
    axes.set_ylim(0, top)
    axes.set_yticks([0, top / 2, top])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(axis="y")
    axes.tick_params(labelleft=is_first)
    if is_last:
        axes.xaxis.set_major_locator(MaxNLocator(14, integer=True))
        axes.set_xlabel("compromised layers (count)")
    else:
        axes.set_xticks([])
    axes.spines["bottom"].set_color(MUTED)
