"""A reading: the similarities of a reproduction as one set of defects would report them."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.defects import Defects
from camdrift.records import ADVERSARIAL, NOISE, SIMILARITY

Floats = NDArray[np.float64]


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
        defects: The switches; those that concern thresholds and coverage choose no rows.
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
    similarity = rows.with_columns(undefined_reason=pl.lit(None, dtype=pl.String)).select(SIMILARITY.schema.names())
    keys = ["seed_id", "condition", "strength", "draw"]
    variants = rows.select(*keys, "realised_l2", "is_flipped").unique(keys, keep="first", maintain_order=True)
    return similarity, variants


def read(emulation: pl.DataFrame, defects: Defects) -> Reading:
    """The reading of a reproduction under some defects.

    Args:
        emulation: Table `emulation`.
        defects: The switches.
    """
    rows = rows_of(emulation, defects).sort("seed_id", "strength", "layer_index")
    attacked = rows.filter(pl.col("condition") == ADVERSARIAL)
    strengths = tuple(attacked["strength"].unique().sort())
    noisy = rows.filter(pl.col("condition") == NOISE, pl.col("strength").is_in(list(strengths)))
    names = attacked.select("layer_index", "layer", "layer_label").unique().sort("layer_index")
    seed_ids = tuple(attacked["seed_id"].unique().sort())
    shape = (len(seed_ids), len(strengths), len(names))
    return Reading(
        seed_ids=seed_ids,
        strengths=strengths,
        layers=tuple(names["layer"]),
        labels=tuple(names["layer_label"]),
        adversarial=_dense(attacked, "similarity", shape),
        noise=_dense(noisy, "similarity", shape),
        is_flipped=_dense(attacked, "is_flipped", shape)[..., 0] > 0,
        adversarial_gained=_dense(attacked, "n_gained", shape)[..., 0],
        noise_gained=_dense(noisy, "n_gained", shape)[..., 0],
    )


def _dense(rows: pl.DataFrame, column: str, shape: tuple[int, ...]) -> Floats:
    values: Floats = rows[column].cast(pl.Float64).to_numpy().astype(np.float64)
    return values.reshape(shape)
