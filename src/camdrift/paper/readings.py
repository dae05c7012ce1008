"""Readings: the similarities of a reproduction as one set of defects would report them."""

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.paper.defects import Defects
from camdrift.statistics.estimates import ratio
from camdrift.tables.arrays import Floats
from camdrift.tables.study import SIMILARITY
from camdrift.tables.words import ADVERSARIAL, NOISE


@dataclass(frozen=True)
class Reading:
    """Both conditions of one reading as dense arrays, NaN where undefined.

    Attributes:
        seed_ids: Names of the seeds, sorted.
        strengths: The study's strengths, ascending.
        layers: Names of the layers, in execution order.
        labels: Their display names.
        adversarial: Similarities under the attack, (seeds, strengths, layers).
        noise: Similarities under noise of the same strengths, (seeds, strengths, layers).
        is_flipped: Does the adversarial image change the prediction? (seeds, strengths)
        adversarial_gained: Neurons that the adversarial image covers beyond the clean one, (seeds, strengths).
        noise_gained: The same of the noisy image, (seeds, strengths).
    """

    seed_ids: tuple[str, ...]
    strengths: tuple[float, ...]
    layers: tuple[str, ...]
    labels: tuple[str, ...]
    adversarial: Floats
    noise: Floats
    is_flipped: NDArray[np.bool_]
    adversarial_gained: Floats
    noise_gained: Floats

    def at(self, *strengths: float) -> list[int]:
        """Places of some strengths; those that were not studied are left out."""
        return [self.strengths.index(s) for s in strengths if s in self.strengths]


def rows_of(emulation: pl.DataFrame, defects: Defects) -> pl.DataFrame:
    """Rows of table `emulation` that make up one reading: attack, and noise of every strength.

    Args:
        emulation: Table `emulation`.
        defects: The switches; those on thresholds and coverage choose no rows.
    """
    attack = (pl.col("condition") == ADVERSARIAL) & (pl.col("is_accumulated") == defects.accumulated)
    noise = (pl.col("condition") == NOISE) & (pl.col("is_accumulated") == defects.wrong_base)
    return emulation.filter(
        attack | noise,
        pl.col("draw") == 0,
        pl.col("is_truncated") == defects.truncated,
        pl.col("target") == ("own" if defects.own_class else "seed"),
        pl.col("clean_score") == ("probability" if defects.softmax_clean else "logit"),
        pl.col("metric") == ("jet" if defects.jet else "cosine"),
    )


def as_study(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of one reading as the tables `similarity` and `variants` (the columns that statistics need)."""
    nothing = pl.lit(None, dtype=pl.String)
    similarity = rows.with_columns(explanation=nothing, metric=nothing, undefined_reason=nothing)
    keys = ["seed_id", "condition", "strength", "draw"]
    variants = rows.select(*keys, "realised_l2", "is_flipped").unique(keys, keep="first", maintain_order=True)
    return similarity.select(SIMILARITY.schema.names()), variants


def read(emulation: pl.DataFrame, defects: Defects) -> Reading:
    """The reading of a reproduction under some defects.

    Args:
        emulation: Table `emulation`.
        defects: The switches.
    """
    rows = rows_of(emulation, defects).sort("seed_id", "strength", "layer_index")
    attack = rows.filter(pl.col("condition") == ADVERSARIAL)
    strengths = tuple(attack["strength"].unique().sort())
    noise = rows.filter(pl.col("condition") == NOISE, pl.col("strength").is_in(list(strengths)))
    names = attack.select("layer_index", "layer", "layer_label").unique().sort("layer_index")
    seed_ids = tuple(attack["seed_id"].unique().sort())
    shape = (len(seed_ids), len(strengths), len(names))
    return Reading(
        seed_ids=seed_ids,
        strengths=strengths,
        layers=tuple(names["layer"]),
        labels=tuple(names["layer_label"]),
        adversarial=_dense(attack, "similarity", shape),
        noise=_dense(noise, "similarity", shape),
        is_flipped=_dense(attack, "is_flipped", shape)[..., 0] > 0,
        adversarial_gained=_dense(attack, "n_gained", shape)[..., 0],
        noise_gained=_dense(noise, "n_gained", shape)[..., 0],
    )


def compromised_flags(reading: Reading) -> NDArray[np.bool_]:
    """Flags of the layers that each adversarial image compromises, (seeds, strengths, layers)."""
    threshold = median(reading.noise)
    return reading.adversarial < threshold


def compromised_fraction(reading: Reading) -> Floats:
    """Share of defined similarities below the threshold, (strengths, layers)."""
    is_defined = ~np.isnan(reading.adversarial)
    return ratio(compromised_flags(reading).sum(0).astype(np.float64), is_defined.sum(0).astype(np.float64))


def resample(reading: Reading, seeds: NDArray[np.int64]) -> Reading:
    """The reading of some seeds, by position; a seed may stand there several times."""
    names = [f.name for f in fields(reading) if f.name not in ("seed_ids", "strengths", "layers", "labels")]
    return replace(reading, **{name: getattr(reading, name)[seeds] for name in names})


def mean(values: Floats, axis: int, *, keepdims: bool = False) -> Floats:
    """Mean of the defined values along an axis; NaN where there are none."""
    is_defined = ~np.isnan(values)
    total = np.where(is_defined, values, 0).sum(axis, keepdims=keepdims)
    return ratio(total, is_defined.sum(axis, keepdims=keepdims).astype(np.float64))


def variance(values: Floats) -> Floats:
    """Variance over seeds (the first axis) of the defined values."""
    return mean((values - mean(values, 0)) ** 2, 0)


def median(values: Floats) -> Floats:
    """Median over seeds (the first axis) of the defined values; NaN where there are none."""
    ascending = np.sort(values, axis=0)
    n = np.count_nonzero(~np.isnan(values), axis=0)
    middle = [np.take_along_axis(ascending, np.maximum(i, 0)[None], axis=0)[0] for i in ((n - 1) // 2, n // 2)]
    return np.where(n > 0, (middle[0] + np.where(n > 0, middle[1], 0)) / 2, np.nan)


def _dense(rows: pl.DataFrame, column: str, shape: tuple[int, ...]) -> Floats:
    """A column of sorted rows as an array of some shape."""
    values: Floats = rows[column].cast(pl.Float64).to_numpy().astype(np.float64)
    return values.reshape(shape)
