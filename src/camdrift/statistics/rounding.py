"""Effect of a lower precision of the network on similarities and on the ranks of the layers."""

from dataclasses import dataclass
from math import isnan, nan
from typing import Final

import polars as pl
from scipy.stats import kendalltau

from camdrift.statistics.layers import layer_statistics
from camdrift.tables.reading import AnyFrame, collected
from camdrift.tables.study import FLOOR, MEASURE

# The columns that tell the rows of a table apart, and its groups of layers that are ranked together.
_ROW: Final = ("seed_id", "condition", "strength", "draw", "target", *MEASURE, "layer")
_CELL: Final = (*MEASURE, "target", "strength")


@dataclass(frozen=True)
class Rounding:
    """Similarities in lower precision compared with those of the same images in float32.

    Attributes:
        n_seeds: Seed images that were computed twice.
        n: Similarities that are defined both times.
        n_lone: Similarities that are defined once only.
        mean_change: Mean absolute difference; None without any.
        largest_change: Largest absolute difference; None without any.
        ranks: One row per explanation, metric, target and strength: `n_layers` with a rank by gain both times,
            `kendall_tau` of these ranks (tau-b; null for fewer than two, or where all are tied), and `largest_move`,
            in places.
    """

    n_seeds: int
    n: int
    n_lone: int
    mean_change: float | None
    largest_change: float | None
    ranks: pl.DataFrame


def rounding(similarity: AnyFrame, precision: pl.DataFrame, variants: pl.DataFrame) -> Rounding:
    """Effect of a study's precision, from the seeds that were also computed in float32.

    Args:
        similarity: Table `similarity`; only the rows of those seeds are read.
        precision: Table `precision`.
        variants: Table `variants`.
    """
    seeds = precision["seed_id"].unique().to_list()
    low = collected(similarity.lazy().filter(pl.col("seed_id").is_in(seeds)))
    both = low.select(*_ROW, "similarity").join(precision.select(*_ROW, full="similarity"), on=_ROW, how="inner")
    change = both.select((pl.col("similarity") - pl.col("full")).abs())["similarity"].drop_nulls()
    lone = both.filter(pl.col("similarity").is_null() != pl.col("full").is_null()).height
    one, other = (
        layer_statistics(
            table,
            variants.filter(pl.col("seed_id").is_in(seeds)),
            FLOOR.frame(),
            rng_seed=0,
            n_bootstrap=0,
        )
        for table in (low, precision)
    )
    return Rounding(
        n_seeds=len(seeds),
        n=change.len(),
        n_lone=lone,
        mean_change=float(change.mean()) if change.len() else None,  # type: ignore[arg-type]
        largest_change=float(change.max()) if change.len() else None,  # type: ignore[arg-type]
        ranks=_ranks(one, other),
    )


def _ranks(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Agreement of the ranks in two tables `layers`, as `Rounding.ranks`."""
    # By gain alone: the few images that are computed twice are too few for the ranks of table `layers`.
    rank = pl.col("gain").rank("min", descending=True).over(_CELL).cast(pl.Int64)
    both = one.select(*_CELL, "layer", rank=rank).join(
        other.select(*_CELL, "layer", full=rank), on=[*_CELL, "layer"], how="inner"
    )
    rows = []
    for cell, part in both.drop_nulls(["rank", "full"]).group_by(_CELL, maintain_order=True):
        tau = float(kendalltau(part["rank"], part["full"]).statistic) if part.height > 1 else nan
        move = (part["rank"] - part["full"]).abs().max()
        rows.append((*cell, part.height, None if isnan(tau) else tau, move))
    types = {name: pl.Float64 if name == "strength" else pl.String for name in _CELL}
    schema = {**types, "n_layers": pl.Int64, "kendall_tau": pl.Float64, "largest_move": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")
