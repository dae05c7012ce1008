"""Medians over the seeds of the measures in table `focus`, with quartiles and bootstrap intervals."""

from typing import Final

import numpy as np
import polars as pl

from camdrift.statistics.bootstrap import percentile_interval, resample_counts, resampled_medians
from camdrift.tables.arrays import Floats
from camdrift.tables.reading import AnyFrame, by_values
from camdrift.tables.study import FOCUS_MEASURES

# Resamples of an interval.
_REPLICATES: Final = 1000


def focus_medians(focus: AnyFrame) -> pl.DataFrame:
    """Median and quartiles of every measure over the seeds, per target, strength, condition and layer.

    Columns: target, strength, condition, layer, layer_label, layer_index, measure, n (seeds with a value),
    n_undefined, lower, median, upper (quartiles, linear between values; null without a value). Sorted by measure,
    in the table's order, then target, strength, condition, layer_index.

    Args:
        focus: Table `focus`; read piece by piece.
    """
    keys = ["target", "strength", "condition", "layer", "layer_label", "layer_index"]
    parts: dict[str, list[pl.DataFrame]] = {measure: [] for measure in FOCUS_MEASURES}
    for rows in by_values(focus.lazy().select(*keys, *FOCUS_MEASURES), "strength", "condition", "target"):
        groups = rows.group_by(keys).agg(
            column.alias(f"{measure} {name}") for measure in parts for name, column in _columns(pl.col(measure)).items()
        )
        for measure, frames in parts.items():
            names = {name: pl.col(f"{measure} {name}") for name in _columns(pl.lit(None))}
            frames.append(groups.select(*keys, measure=pl.lit(measure), **names))
    order = ("target", "strength", "condition", "layer_index")
    return pl.concat(pl.concat(frames).sort(order) for frames in parts.values())


def median_interval(values: pl.Series, *, rng_seed: int) -> tuple[float, float] | None:
    """Bootstrap 95 % interval of the median over the seeds; None with fewer than two defined values.

    Args:
        values: One value per seed, in the order of the seeds' names; null where undefined: medians leave these out.
        rng_seed: Fixes the resamples; they are those of the gain.
    """
    if len(values) - values.null_count() < 2:
        return None
    sample: Floats = values.cast(pl.Float64).to_numpy()
    counts = resample_counts(len(sample), _REPLICATES, rng_seed=rng_seed)
    low, high = percentile_interval(resampled_medians(sample[None, :, None], counts))
    return float(np.asarray(low)[0]), float(np.asarray(high)[0])


def _columns(value: pl.Expr) -> dict[str, pl.Expr]:
    """The statistics of a measure over a group of seeds, by name of column."""
    return {
        "n": value.count().cast(pl.Int64),
        "n_undefined": value.null_count().cast(pl.Int64),
        "lower": value.quantile(0.25, interpolation="linear"),
        "median": value.median(),
        "upper": value.quantile(0.75, interpolation="linear"),
    }
