"""The scope of a comparison in display order: sides, targets, strengths, aligned layers."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from camdrift.tables.reading import Tables
from camdrift.tables.words import ADVERSARIAL, TARGET_ORDER

MOST_SHOWN: Final = 24
# Okabe and Ito's colours without their yellow, which vanishes on white; in an order that keeps neighbours apart.
PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b626c", "#1c1f24")


@dataclass(frozen=True)
class Sides:
    """The scope of a comparison.

    Attributes:
        names: Names of the first `MOST_SHOWN` sides, in the order of the runs.
        total: Number of all sides.
        targets: Targets in display order.
        strengths: Strengths, ascending.
        reference: The strength of the figures, with which the page opens.
        layers: Dotted names of the layers in execution order, if these sides have the same; else empty.
        labels: Their display names.
    """

    names: tuple[str, ...]
    total: int
    targets: tuple[str, ...]
    strengths: tuple[float, ...]
    reference: float
    layers: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def left_out(self) -> str:
        """A sentence on how many sides are shown; empty if all are."""
        return f"The first {len(self.names)} of {self.total} sides." if self.total > len(self.names) else ""


def compared_sides(tables: Tables) -> Sides:
    """The scope of a comparison, read from its tables."""
    names = tables["sides"]["side"].to_list()
    profiles = tables["profiles"]
    present = set(profiles["target"])
    targets = tuple(target for target in TARGET_ORDER if target in present)
    layers = _shared_layers(profiles, names[:MOST_SHOWN])
    return Sides(
        names=tuple(names[:MOST_SHOWN]),
        total=len(names),
        targets=targets,
        strengths=tuple(sorted(set(profiles["strength"]))),
        reference=_reference(tables, targets[0]),
        layers=tuple(layer for layer, _ in layers),
        labels=tuple(label for _, label in layers),
    )


def _reference(tables: Tables, target: str) -> float:
    """The lowest strength at which half of every side's adversarial examples still fool its network.

    Where there is none it is the strength with the fewest gains that are bounds or missing, of several the one closest
    to 1.
    """
    profiles = tables["profiles"].filter(pl.col("target") == target)
    majorities = tables["flips"].filter(pl.col("condition") == ADVERSARIAL, 2 * pl.col("flipped") >= pl.col("n"))
    counts = majorities.group_by("strength").agg(pl.col("side").n_unique().alias("n"))
    half = set(counts.filter(n=tables["sides"].height)["strength"]) & set(profiles["strength"])
    if half:
        return float(min(half))
    gaps = (pl.col("gain_censored").is_not_null() | pl.col("gain").is_null()).sum()
    rows = profiles.group_by("strength").agg(gaps.alias("lost"))
    return float(min(rows.iter_rows(), key=lambda row: (row[1], abs(row[0] - 1), row[0]))[0])


def _shared_layers(profiles: pl.DataFrame, names: list[str]) -> list[tuple[str, str]]:
    """Name and label of the layers, if all sides have the same."""
    parts = [profiles.filter(pl.col("side") == name) for name in names]
    sets = [frozenset(part["layer"]) for part in parts]
    if len(set(sets)) > 1:
        return []
    first = parts[0].select("layer", "layer_label", "layer_index").unique().sort("layer_index", "layer")
    return list(first.select("layer", "layer_label").iter_rows())


def profile(tables: Tables, side: str, target: str, strength: float) -> pl.DataFrame:
    """Rows of table `profiles` of one side, in execution order."""
    is_here = (pl.col("side") == side) & (pl.col("target") == target) & (pl.col("strength") == strength)
    return tables["profiles"].filter(is_here).sort("relative_depth")


def agreement_matrix(
    tables: Tables, sides: Sides, ranked_by: str, target: str, strength: float
) -> dict[str, np.ndarray]:
    """Columns tau, tau_low, tau_high of table `agreement` as (sides, sides), symmetric; NaN where undefined."""
    rows = tables["agreement"].filter(
        pl.col("ranked_by") == ranked_by, pl.col("target") == target, pl.col("strength") == strength
    )
    place = {name: i for i, name in enumerate(sides.names)}
    matrices = {name: np.full((len(place), len(place)), np.nan) for name in ("tau", "tau_low", "tau_high")}
    for row in rows.iter_rows(named=True):
        if row["side_a"] in place and row["side_b"] in place:
            at = place[row["side_a"]], place[row["side_b"]]
            for name, matrix in matrices.items():
                value = np.nan if row[name] is None else row[name]
                matrix[at] = matrix[at[::-1]] = value
    return matrices
