"""Dose and response of every layer: the curves that the noise-equivalent gain is read from."""

import numpy as np
import polars as pl

from camdrift.statistics.gain import isotonic_fit
from camdrift.tables.reading import AnyFrame, by_values, streamed
from camdrift.tables.words import ADVERSARIAL, NOISE


def dose_response(similarity: AnyFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """Median dose and median response per target, layer, condition and strength (method section 3).

    Columns: target, layer, condition, strength, n (defined similarities), l2 (median realised L2 norm of the
    perturbation), deviation (median of 1 - similarity), fitted (for noise the monotone curve through the
    deviations; null for the attack). Sorted by target, layer, condition, l2.

    Args:
        similarity: Table `similarity`; read piece by piece.
        variants: Table `variants`.
    """
    group = ["condition", "strength"]
    rows = similarity.lazy()
    of_seeds = variants.join(streamed(rows.select("seed_id").unique()), on="seed_id", how="semi")
    doses = of_seeds.group_by(group).agg(pl.col("realised_l2").median().alias("l2"))
    values = rows.filter(pl.col("similarity").is_not_null()).select("target", "layer", *group, "similarity")
    responses = pl.concat(
        part.group_by("target", "layer", *group).agg(
            pl.len().cast(pl.Int64).alias("n"), (1 - pl.col("similarity")).median().alias("deviation")
        )
        for part in by_values(values, *group)
    )
    points = responses.join(doses, on=group).filter(pl.col("l2") > 0)
    points = points.sort("target", "layer", "condition", "l2", "strength")
    columns = ["target", "layer", "condition", "strength", "n", "l2", "deviation", "fitted"]
    parts = [_fit(part) for _, part in points.group_by("target", "layer", "condition", maintain_order=True)]
    return pl.concat(parts).select(columns) if parts else points.with_columns(fitted=pl.lit(None)).select(columns)


def _fit(part: pl.DataFrame) -> pl.DataFrame:
    """One curve of one condition, with its monotone fit if it is noise's."""
    if part["condition"][0] == ADVERSARIAL:
        return part.with_columns(fitted=pl.lit(None, dtype=pl.Float64))
    assert part["condition"][0] == NOISE
    return part.with_columns(fitted=pl.Series(isotonic_fit(np.asarray(part["deviation"])), dtype=pl.Float64))
