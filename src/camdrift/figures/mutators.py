"""Yield of mutators: how many mutants of each were tried, were valid, failed."""

from typing import Final

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from camdrift.figures.canvas import COLOURS, FAINT, INK, MARGIN, MUTED, blank_figure, printable, sheet, styled
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL

_TITLE: Final = "Yield of mutators"
_COUNTS: Final = ("tried", "valid", "kept", "failures")
_STEP: Final = 0.26


def mutator_yield(mutators: pl.DataFrame) -> pl.DataFrame:
    """Mutants of each operator over all frameworks and trials, those with most failures first.

    Args:
        mutators: Table `mutators`.

    Returns:
        Columns `operator`, `tried`, `valid`, `kept`, `failures` and `rate`: failures of valid mutants, null for none.
    """
    sums = mutators.group_by("operator", maintain_order=True).agg(pl.col(*_COUNTS).sum())
    rate = pl.when(pl.col("valid") > 0).then(pl.col("failures") / pl.col("valid"))
    return sums.with_columns(rate=rate).sort(
        "rate", "failures", "operator", descending=[True, True, False], nulls_last=True
    )


@styled
def mutators_figure(tables: Tables, record: Record) -> Figure:
    """Mutants of each operator: tried and valid on the left, failures of valid ones on the right."""
    rows = mutator_yield(tables["mutators"])
    if rows.is_empty():
        return blank_figure(_TITLE, "No mutant was made.")
    places = np.arange(rows.height)[::-1]
    handles = [Patch(color=FAINT, label="tried"), Patch(color=MUTED, label="valid under the constraint")]
    note = f"All frameworks and trials together, by constraint {record['settings']['constraint']}."
    page = sheet(_TITLE, note, width=8.0, body=0.75 + _STEP * rows.height, handles=handles)
    counts = page.axes(1.0, 0.45, 3.4, _STEP * rows.height)
    counts.barh(places, rows["tried"].to_numpy(), height=0.66, color=FAINT, label="tried")
    counts.barh(places, rows["valid"].to_numpy(), height=0.66, color=MUTED, label="valid")
    counts.set_yticks(places, [printable(name) for name in rows["operator"]])
    counts.set_xlabel("mutants (count)")
    failing = page.axes(4.75, 0.45, 8.0 - 4.75 - MARGIN - 0.55, _STEP * rows.height)
    rates = 100 * rows["rate"].fill_null(0.0).to_numpy()
    failing.barh(places, rates, height=0.66, color=COLOURS[ADVERSARIAL], label="failures")
    for place, rate, row in zip(places, rates, rows.to_dicts(), strict=True):
        words = f"{row['failures']:,}" if row["valid"] else "none valid"
        failing.text(rate, place, f" {words}", va="center", size=7.5, color=INK)
    failing.set(yticks=[], xlim=(0, max(float(rates.max()) * 1.02, 0.01)))
    failing.set_xlabel("failures of valid mutants (%), with their number")
    for axes in (counts, failing):
        axes.set_ylim(-0.6, rows.height - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x")
    return page.figure
