"""Figure 17: how well detectors tell attacked images from clean ones, from noise, and noise from clean images."""

from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import COLOURS, INK, MUTED, blank_figure, dodge, printable, sheet, styled, text_width
from camdrift.figures.scope import reason_for_nothing, scope_of, span
from camdrift.tables.defences import STATIC_STAGE
from camdrift.tables.detection import UNSUPERVISED
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, strength_text

# What is told from what, with its words, colour and mark.
_TASKS: Final[dict[tuple[str, str], tuple[str, str, str]]] = {
    (ADVERSARIAL, CLEAN): ("attacked from clean", COLOURS[ADVERSARIAL], "D"),
    (ADVERSARIAL, NOISE): ("attacked from noise", COLOURS[NOISE], "s"),
    (NOISE, CLEAN): ("noise from clean", INK, "o"),
}
_ROW: Final = 0.42
_NAME_SIZE: Final = 8.0
_WIDTH: Final = 8.0


@styled
def detectors_figure(tables: Tables, record: Record) -> Figure:
    """Figure 17: AUC of every detector at the strength nearest to 1, with intervals, against each kind of negatives.

    Args:
        tables: All tables of `tables.study.TABLES` and `detectors`, by name.
        record: The run record, as `run.json` holds it.
    """
    scope = scope_of(tables, record)
    title = "How well detectors tell attacked images"
    rows = tables["detectors"].filter(
        (pl.col("setting") == UNSUPERVISED) & (pl.col("stage") == STATIC_STAGE) & pl.col("auc").is_not_null()
    )
    strengths = rows["strength"].drop_nulls().unique().to_list()
    if not strengths:
        return blank_figure(title, reason_for_nothing(scope) if not scope.analysed else "No image has a score.")
    strength = min(strengths, key=lambda value: abs(value - 1))
    rows = rows.filter(pl.col("strength") == strength)
    names = rows["detector"].unique(maintain_order=True).to_list()
    note = (
        f"{scope.model}; n = {span(rows['n_seeds'].to_list())} seeds, strength {strength_text(strength)}. No detector "
        "saw an attacked image, and the attack knows none of them. Bars: 95 % intervals over seeds. 0.5 is chance; to "
        "tell noise from clean images is no detection of attacks."
    )
    handles = [Line2D([], [], color=c, marker=m, ls="", markersize=5, label=w) for w, c, m in _TASKS.values()]
    words = [printable(name, 44) for name in names]
    left = max(text_width(word, _NAME_SIZE) for word in words) + 0.35
    height = _ROW * len(names)
    page = sheet(title, note, width=_WIDTH, body=height + 0.5, handles=handles)
    axes = page.axes(left, 0.45, _WIDTH - left - 0.3, height, xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), words, size=_NAME_SIZE)
    axes.set_xticks(np.linspace(0, 1, 5))
    axes.grid(axis="x")
    axes.axvline(0.5, color=MUTED, lw=0.8, ls=(0, (1, 1.6)), zorder=1)
    axes.set_xlabel("AUC (0.5: chance)")
    for place, name in enumerate(names):
        _auc_marks(axes, place, rows.filter(pl.col("detector") == name))
    return page.figure


def _auc_marks(axes: Axes, place: int, rows: pl.DataFrame) -> None:
    """A mark and an interval for each task of a detector."""
    for offset, ((positive, negative), (_, colour, marker)) in zip(dodge(3, 0.5), _TASKS.items(), strict=True):
        cell = rows.filter((pl.col("positive") == positive) & (pl.col("negative") == negative))
        if cell.is_empty():
            continue
        auc, low, high = (cell[name][0] for name in ("auc", "auc_low", "auc_high"))
        if low is not None and high is not None:
            at = [place + offset] * 2
            axes.plot([low, high], at, color=colour, lw=1.2, alpha=0.5, zorder=2, solid_capstyle="butt")
        axes.plot([auc], [place + offset], color=colour, marker=marker, ls="", markersize=4.6, zorder=3)
