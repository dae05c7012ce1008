"""Figure 10: detectors that tell adversarial from noisy images, with the clean image at hand and without."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import (
    BAND,
    INK,
    MARGIN,
    MARKERS,
    MUTED,
    Sheet,
    blank_figure,
    dodge,
    printable,
    sheet,
    styled,
    vlines,
)
from camdrift.figures.scope import scope_of, span
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import CLEAN, DENOISED_REFERENCE, SEED_REFERENCE, strength_text

DETECTION_FIGURE: Final = "figure_10_detection"

# Okabe and Ito's colours, in the order of the series; solid lines need the clean image, dashed ones do not.
_COLOURS: Final = {
    (SEED_REFERENCE, "seed"): "#0072b2",
    (SEED_REFERENCE, "own"): "#56b4e9",
    (SEED_REFERENCE, "label"): "#009e73",
    (DENOISED_REFERENCE, "noise"): "#d55e00",
    (DENOISED_REFERENCE, "clean"): "#cc79a7",
}
_REFERENCE_WORDS: Final = {
    SEED_REFERENCE: "by similarity to the clean image (needed)",
    DENOISED_REFERENCE: "by similarity to a denoised copy (no clean image)",
}
_TARGET_WORDS: Final = {"seed": ", class of the seed", "own": ", own class", "label": ", true class"}
_WIDTH: Final = 8.0
_LEFT: Final = 0.62
_SQUARE: Final = 2.5
_BETWEEN: Final = 0.75
_FOOT: Final = 0.52
_LINE: Final = 0.146
_SERIES: Final = ("reference", "target", "negative")
_PAIR: Final = ("trained_on", "tested_on")


@styled
def detection_figure(tables: Tables, record: Record) -> Figure:
    """Figure 10: ROC curves over all strengths, and AUC by strength with intervals; a row per pair of runs.

    Args:
        tables: All tables of `tables.study.TABLES`, `detection` and `roc` by name.
        record: The run record, as `run.json` holds it.
    """
    table = tables["detection"]
    title = "How well a detector tells adversarial from noisy images by their layers"
    if table.is_empty():
        return blank_figure(title, "Too few images have an adversarial example for a detector to be judged.")
    pairs = list(table.select(_PAIR).unique(maintain_order=True).iter_rows())
    series = list(table.select(_SERIES).unique(maintain_order=True).iter_rows())
    note = (
        f"{scope_of(tables, record).model}; n = {span(table['n_seeds'].to_list())} seeds. Logistic regression on the "
        "similarities of all layers, judged on seeds that it was not trained on. Solid lines need the clean image, "
        "which is not at hand when an image has to be judged; dashed lines do not. Bars: bootstrap 95 % intervals."
    )
    head = _LINE * (len(series) + (len(pairs) > 1)) + 0.34
    height = head + _SQUARE + _FOOT
    page = sheet(title, note, width=_WIDTH, body=height * len(pairs))
    ends = table["auc_low"].drop_nulls().to_list()
    lowest = max(-0.02, min(0.4, np.floor(10 * min(ends, default=0.5)) / 10))
    for row, (trained_on, tested_on) in enumerate(pairs):
        bottom = (len(pairs) - 1 - row) * height + _FOOT
        is_of_pair = (pl.col("trained_on") == trained_on) & (pl.col("tested_on") == tested_on)
        heading = _heading(trained_on, tested_on) if len(pairs) > 1 else ""
        panel = _row(page, bottom, series, table.filter(is_of_pair), tables["roc"].filter(is_of_pair), heading)
        panel.set_ylim(lowest, 1.02)
    return page.figure


def _heading(trained_on: str, tested_on: str) -> str:
    if trained_on == tested_on:
        return f"trained and tested on {printable(tested_on, 90)}"
    return f"trained on {printable(trained_on, 50)}, tested on {printable(tested_on, 50)}"


def _row(page: Sheet, bottom: float, series: list[Any], rows: pl.DataFrame, roc: pl.DataFrame, heading: str) -> Axes:
    """Draw one pair of runs: legend, ROC curves, AUC by strength; return the axes of the last."""
    curves = page.axes(_LEFT, bottom, _SQUARE, _SQUARE, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    left = _LEFT + _SQUARE + _BETWEEN
    strengths = page.axes(left, bottom, _WIDTH - left - MARGIN, _SQUARE)
    handles = [_curve(curves, key, _of(rows, key), _of(roc, key)) for key in series if _of(rows, key).height]
    _roc_axes(curves)
    _by_strength(strengths, series, rows)
    top = bottom + _SQUARE + 0.32 + _LINE * len(handles)
    total = float(page.figure.get_figheight())
    if heading:
        place = (MARGIN / _WIDTH, (top + 0.02) / total)
        page.figure.text(*place, heading, size=8.0, color=INK, va="bottom")
    look: dict[str, Any] = {"loc": "upper left", "borderpad": 0.2, "labelspacing": 0.3, "handlelength": 2.6}
    page.figure.legend(handles=handles, bbox_to_anchor=((MARGIN - 0.05) / _WIDTH, top / total), **look)
    return strengths


def _of(rows: pl.DataFrame, key: tuple[str, str, str]) -> pl.DataFrame:
    return rows.filter(*(pl.col(name) == value for name, value in zip(_SERIES, key, strict=True)))


def _look(key: tuple[str, str, str]) -> dict[str, Any]:
    """Colour and dashes of a series."""
    reference, target, negative = key
    colour = _COLOURS[reference, target if reference == SEED_REFERENCE else negative]
    return {"color": colour, "ls": "-" if reference == SEED_REFERENCE else (0, (4, 1.4))}


def _curve(axes: Axes, key: tuple[str, str, str], rows: pl.DataFrame, roc: pl.DataFrame) -> Line2D:
    """Draw the ROC curve over all strengths; return its entry in the legend."""
    reference, target, negative = key
    whole = roc.filter(pl.col("strength").is_null())
    axes.plot(whole["false_positive_rate"], whole["true_positive_rate"], **_look(key), zorder=3)
    row = rows.filter(pl.col("strength").is_null()).row(0, named=True)
    task = "adversarial from clean" if negative == CLEAN else "adversarial from noise"
    words = f"{task} {_REFERENCE_WORDS[reference]}{_TARGET_WORDS[target]}"
    interval = f"[{row['auc_low']:.2f}, {row['auc_high']:.2f}]"
    return Line2D([], [], **_look(key), label=f"{words}: AUC {row['auc']:.2f} {interval}")


def _roc_axes(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (1, 1.6)), zorder=1)
    axes.text(0.97, 0.9, "chance", color=MUTED, size=7.0, rotation=45, ha="right", va="top", rotation_mode="anchor")
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(axis="both")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title("ROC, all strengths together", loc="left", size=8.0, color=INK, pad=5)


def _by_strength(axes: Axes, series: list[Any], table: pl.DataFrame) -> None:
    """Draw the AUC at every strength, series side by side, and over all of them on a shaded column."""
    strengths = sorted(table["strength"].drop_nulls().unique().to_list())
    for place, (key, offset) in enumerate(zip(series, dodge(len(series), 0.7), strict=True)):
        rows = _of(table, key)
        x = [len(strengths) if s is None else strengths.index(s) for s in rows["strength"].to_list()]
        at = np.array(x, np.float64) + offset
        auc, low, high = (rows[name].to_numpy() for name in ("auc", "auc_low", "auc_high"))
        colour = _look(key)["color"]
        vlines(axes, at, low, high, colors=colour, linewidths=1.2, alpha=0.6, zorder=2)
        needs = key[0] == SEED_REFERENCE
        mark: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "markersize": 4.4, "markeredgewidth": 1.0}
        axes.plot(at, auc, color=colour, mfc=colour if needs else "white", ls="", zorder=3, **mark)
    axes.axvspan(len(strengths) - 0.5, len(strengths) + 0.5, color=BAND, lw=0, zorder=0)
    axes.axhline(0.5, color=MUTED, lw=0.8, ls=(0, (1, 1.6)), zorder=1)
    axes.set_xlim(-0.5, len(strengths) + 0.5)
    axes.set_xticks(range(len(strengths) + 1), [*map(strength_text, strengths), "all"])
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_xlabel("strength")
    axes.set_ylabel("AUC")
    axes.set_title("AUC by strength (0.5: chance)", loc="left", size=8.0, color=INK, pad=5)
