"""Figures 2a and 2b: growth of neuron coverage with the seeds."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from camdrift.figures.canvas import COLOURS, DASHES, MARKERS, MUTED, blank_figure, sheet, strength_colours, styled
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, strength_text

_CREDIT = "Adversarial and noise count the clean images plus each image's variant, by the same rule."


@styled
def coverage_by_condition_figure(tables: Tables, record: Record) -> Figure:
    """Figure 2a: neurons covered by clean, adversarial and noisy images at the reference strength.

    The left panel shows them in percent of all neurons. The right one shows neurons beyond those of the clean images
    alone, where the conditions part visibly.
    """
    scope = scope_of(tables, record)
    title = f"Neuron coverage by condition, strength {strength_text(scope.reference)}"
    coverage = tables["coverage"]
    if coverage.is_empty():
        return blank_figure(title, reason_for_nothing(scope))
    pairs = [(CLEAN, 0.0), (ADVERSARIAL, scope.reference), (NOISE, scope.reference)]
    curves = [(c, _curve(coverage, c, s)) for c, s in pairs if scope.analysed or c == CLEAN]
    handles = [_handle(c, curve, coverage) for c, curve in curves if len(curve)]
    page = sheet(title, _note(scope, coverage, _CREDIT), width=8.0, body=3.0, handles=handles)
    share, beyond = (page.axes(x, 0.45, 3.3, 2.3) for x in (0.62, 4.58))
    if not scope.analysed:
        beyond.text(0.5, 0.5, "no adversarial example,\nnothing to add", ha="center", color=MUTED)
    for condition, curve in curves:
        look = {"color": COLOURS[condition], "ls": DASHES[condition]}
        _draw(share, curve, 100 / _total(coverage), **look)
        if condition != CLEAN:
            _draw(beyond, curve - curves[0][1][: len(curve)] * [0, 1], 1, **look)
    share.set_title("all covered neurons", loc="left", size=8.0, pad=5)
    beyond.set_title("beyond those of the clean images alone", loc="left", size=8.0, pad=5)
    _finish(share, "covered neurons (%)")
    _finish(beyond, "additional neurons (count)")
    return page.figure


@styled
def coverage_by_strength_figure(tables: Tables, record: Record) -> Figure:
    """Figure 2b: neurons covered at each strength beyond those of the clean images, adversarial and noise."""
    scope = scope_of(tables, record)
    title = "Neuron coverage by strength, beyond the clean images"
    coverage = tables["coverage"]
    if coverage.is_empty() or not scope.analysed:
        return blank_figure(title, reason_for_nothing(scope))
    count = int(_curve(coverage, CLEAN, 0.0)[-1, 1])
    last = f"The clean images alone cover {count:,} neurons ({100 * count / _total(coverage):.1f}\u00a0%)."
    page = sheet(title, _note(scope, coverage, last), width=8.0, body=3.0)
    panels: list[Axes] = []
    for left, condition in ((0.62, ADVERSARIAL), (4.58, NOISE)):
        share = {"sharey": panels[0]} if panels else {}
        axes = page.axes(left, 0.45, 2.3, 2.3, **share)
        axes.set_title(condition, loc="left", size=8.0, color=COLOURS[condition], pad=5)
        lines = [_added(axes, scope, coverage, condition, row) for row in range(len(scope.strengths))]
        # Beside the axes, strongest first, which is most often the order in which the lines end.
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.05), "fontsize": 7.5}
        axes.legend(handles=lines[::-1], title="strength: neurons", title_fontsize=7.5, **beside)
        _finish(axes, "additional neurons (count)")
        panels.append(axes)
    return page.figure


def _added(axes: Axes, scope: Scope, coverage: pl.DataFrame, condition: str, row: int) -> Line2D:
    """Draw one strength: neurons beyond those of the clean images, with the last number in the label."""
    clean, curve = _curve(coverage, CLEAN, 0.0), _curve(coverage, condition, scope.strengths[row])
    excess = curve - clean[: len(curve)] * [0, 1]
    marker = MARKERS[row % len(MARKERS)]
    line = _draw(axes, excess, 1, color=strength_colours(scope)[row], ls=DASHES[condition], marker=marker)
    last = f": +{int(excess[-1, 1]):,}" if len(excess) else ""
    line.set_label(f"{strength_text(scope.strengths[row])}{last}")
    return line


def _curve(coverage: pl.DataFrame, condition: str, strength: float) -> np.ndarray:
    """Seeds so far and neurons covered, (steps, 2)."""
    rows = coverage.filter(pl.col("condition") == condition, pl.col("strength") == strength).sort("step")
    return rows.select("step", "covered").to_numpy().astype(float)


def _total(coverage: pl.DataFrame) -> int:
    return int(coverage["total"][0])


def _handle(condition: str, curve: np.ndarray, coverage: pl.DataFrame) -> Line2D:
    label = f"{condition}: {100 * curve[-1, 1] / _total(coverage):.1f} %"
    return Line2D([], [], color=COLOURS[condition], ls=DASHES[condition], label=label)


def _draw(axes: Axes, curve: np.ndarray, scale: float, **look: Any) -> Line2D:
    every = max(1, len(curve) // 12)
    (line,) = axes.plot(curve[:, 0], curve[:, 1] * scale, markevery=every, **look)
    return line


def _note(scope: Scope, coverage: pl.DataFrame, more: str) -> str:
    steps = int(coverage["step"].n_unique())
    images = f"n = {steps:,} images, {scope.analysed:,} with an adversarial example"
    return f"{scope.model}, {_total(coverage):,} neurons; {images}. {more}"


def _finish(axes: Axes, name: str) -> None:
    axes.set_xlabel("seed images so far (count)")
    axes.set_ylabel(name)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")
