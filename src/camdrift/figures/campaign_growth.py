"""Growth of a campaign: unique failures and the criterion against passes, one curve per framework."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from camdrift.figures.canvas import MARGIN, blank_figure, printable, sheet, styled
from camdrift.figures.sides import PALETTE
from camdrift.tables.arrays import Floats
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import count

# Those of sides, and a brown for a ninth framework.
_COLOURS: Final = (*PALETTE, "#8c564b")
_BASELINES: Final = ("random", "keep-all", "keep-random")
FAILURES_TITLE: Final = "Unique failures against passes"
CRITERION_TITLE: Final = "Growth of the criterion"


@dataclass(frozen=True)
class GrowthCurve:
    """One framework's growth, at each hundredth of the budget.

    Attributes:
        framework: Its spec.
        passes: Passes, the median over trials.
        median: The median over trials.
        least: The smallest of all trials.
        most: The largest.
        is_baseline: Is it a framework without guidance?
    """

    framework: str
    passes: Floats
    median: Floats
    least: Floats
    most: Floats
    is_baseline: bool


def growth_curves(growth: pl.DataFrame, column: str) -> list[GrowthCurve]:
    """The curves of all frameworks, in their order; none where the column is empty.

    Args:
        growth: Table `growth`.
        column: Name of the column.
    """
    value = pl.col(column).cast(pl.Float64)
    marks = (
        growth.filter(value.is_not_null())
        .group_by("framework", "mark", maintain_order=True)
        .agg(
            passes=pl.col("passes").cast(pl.Float64).median(),
            median=value.median(),
            least=value.min(),
            most=value.max(),
        )
        .sort("mark", maintain_order=True)
    )
    names = growth["framework"].unique(maintain_order=True).to_list()
    parts = {name: marks.filter(framework=name) for name in names}
    return [
        GrowthCurve(
            name,
            part["passes"].to_numpy(),
            part["median"].to_numpy(),
            part["least"].to_numpy(),
            part["most"].to_numpy(),
            name.partition("(")[0] in _BASELINES,
        )
        for name, part in parts.items()
        if part.height
    ]


@styled
def failures_figure(tables: Tables, record: Record) -> Figure:
    """Different pairs of seed and wrong class against passes, with bands over trials."""
    return _figure(tables, record, FAILURES_TITLE, "seed_classes", "pairs of seed and wrong class", is_whole=True)


@styled
def criterion_figure(tables: Tables, record: Record) -> Figure:
    """The campaign's criterion against passes, with bands over trials."""
    title = f"{CRITERION_TITLE}: {record.get('criterion') or 'none'}"
    return _figure(tables, record, title, "criterion", str(record.get("criterion") or ""), is_whole=False)


def _figure(tables: Tables, record: Record, title: str, column: str, label: str, *, is_whole: bool) -> Figure:
    curves = growth_curves(tables["growth"], column)
    if not curves:
        return blank_figure(title, "The campaign has no criterion.")
    handles = [
        Line2D([], [], label=printable(curve.framework, 40), **_look(curve, place))
        for place, curve in enumerate(curves)
    ]
    page = sheet(title, growth_note(record), width=8.0, body=3.3, handles=handles)
    axes = page.axes(0.75, 0.45, 8.0 - 0.75 - MARGIN - 0.1, 2.7)
    for place, curve in enumerate(curves):
        _draw(axes, curve, _look(curve, place), is_step=is_whole)
    axes.set(
        xlabel="passes (an image forward is 1, with the gradient 3)",
        ylabel=label,
        xlim=(0, max(curve.passes[-1] for curve in curves)),
    )
    if is_whole:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=is_whole))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    return page.figure


def growth_note(record: Record) -> str:
    """What the lines and bands are, in a sentence or two."""
    trials = int(record["settings"]["trials"])
    if trials == 1:
        return "One trial of each framework: no statement about differences between them."
    return f"Lines: medians over {count(trials, 'trial')}. Bands: all trials, from the least to the most."


def _look(curve: GrowthCurve, place: int) -> dict[str, Any]:
    dashes: Any = (0, (4, 1.6)) if curve.is_baseline else "-"
    return {"color": _COLOURS[place % len(_COLOURS)], "ls": dashes}


def _draw(axes: Axes, curve: GrowthCurve, look: dict[str, Any], *, is_step: bool) -> None:
    band: Any = "post" if is_step else None
    if np.any(curve.most > curve.least):
        axes.fill_between(
            curve.passes, curve.least, curve.most, step=band, color=look["color"], alpha=0.14, linewidth=0
        )
    axes.plot(
        curve.passes,
        curve.median,
        drawstyle="steps-post" if is_step else "default",
        label=curve.framework,
        **look,
    )
