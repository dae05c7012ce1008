"""The measures of a study side by side: does a layer's rank depend on how it is explained or compared?"""

from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.stats import kendalltau

from camdrift.figures.scope import Scope
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, fraction, times
from camdrift.tables.measures import Measure
from camdrift.tables.reading import Tables
from camdrift.tables.study import MEASURE
from camdrift.tables.words import strength_text


@dataclass(frozen=True)
class MeasureColumn:
    """One measure.

    Attributes:
        explanation: Its explanation, in words.
        metric: Its metric, in words.
        agreement: Kendall's tau of its gains with those of the first measure.
    """

    explanation: str
    metric: str
    agreement: str


@dataclass(frozen=True)
class SideBySide:
    """All measures at one target and strength.

    Attributes:
        target: The target.
        strength: The strength at which the fewest gains are censored.
        columns: The measures, the study's first one first.
        rows: Display name of every layer, and its gain and rank by each measure.
    """

    target: str
    strength: str
    columns: list[MeasureColumn]
    rows: list[tuple[str, list[tuple[str, str]]]]


def measures_section(material: Material) -> dict[str, Any]:
    """Values of template `measures`."""
    return {"others": side_by_side(material.tables, material.scope)}


def side_by_side(tables: Tables, scope: Scope) -> SideBySide | None:
    """The layers by each measure of the study; None if it has one measure."""
    if not scope.targets or "measures" not in tables:
        return None
    rows = tables["measures"].filter(pl.col("target") == scope.targets[0])
    if len(names := rows.select(MEASURE).unique(maintain_order=True).rows()) < 2:
        return None
    here = rows.filter(pl.col("strength") == scope.reference).sort("layer_index")
    parts = {Measure(*name): here.filter(pl.col(c) == v for c, v in zip(MEASURE, name, strict=True)) for name in names}
    first = next(iter(parts.values()))
    columns = [MeasureColumn(*measure.words, _agreement(part, first)) for measure, part in parts.items()]
    cells = zip(*(_cells(part) for part in parts.values()), strict=True)
    rows_of = [(label, list(of_layer)) for label, of_layer in zip(first["layer_label"], cells, strict=True)]
    return SideBySide(scope.targets[0], strength_text(scope.reference), columns, rows_of)


def _cells(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return [
        (times(gain, bound), f"#{rank}" if rank is not None else "")
        for gain, bound, rank in rows.select("gain", "gain_censored", "rank").iter_rows()
    ]


def _agreement(rows: pl.DataFrame, first: pl.DataFrame) -> str:
    """Kendall's tau-b of the ranks; ties of censored gains count as ties."""
    if rows is first:
        return UNDEFINED
    ranks = first.select("layer", "rank").join(rows.select("layer", other="rank"), on="layer").drop_nulls()
    if ranks.height < 3 or ranks["rank"].n_unique() < 2 or ranks["other"].n_unique() < 2:
        return UNDEFINED
    return fraction(float(kendalltau(ranks["rank"], ranks["other"]).statistic), 2)
