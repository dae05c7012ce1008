"""Flips: how many predictions attack and noise change, strength by strength, and the accuracy that is left."""

from typing import Final

import numpy as np
import polars as pl

from camdrift.statistics.estimates import wilson_interval
from camdrift.tables.further import FLIPS
from camdrift.tables.reading import Tables
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CLEAN, NO_ADVERSARIAL

_KEYS: Final = ("condition", "strength", "draw")


def flips(variants: pl.DataFrame, seeds: pl.DataFrame) -> pl.DataFrame:
    """Table `flips` over the analysed seeds: one row per condition, strength and draw, and one of the clean images.

    Intervals are Wilson's. The accuracy is that of the seeds with a label.

    Args:
        variants: Table `variants`.
        seeds: Table `seeds`.
    """
    analysed_seeds = seeds.filter(pl.col("status") == ANALYSED)
    rows = variants.filter(pl.col("is_flipped").is_not_null()).join(
        analysed_seeds.select("seed_id", "label"), on="seed_id"
    )
    return _table(pl.concat([_clean(analysed_seeds), rows.select(*_KEYS, "is_flipped", "predicted_class", "label")]))


def flips_of_readable(variants: pl.DataFrame, seeds: pl.DataFrame) -> pl.DataFrame:
    """The same table over all readable seeds, of the clean images and the attack.

    A seed without an adversarial example keeps its prediction at every strength. Noise has the size of a perturbation,
    so that such a seed has none.

    Args:
        variants: Table `variants`.
        seeds: Table `seeds`.
    """
    readable = seeds.filter(pl.col("status").is_in([ANALYSED, NO_ADVERSARIAL]))
    firm = _clean(readable.filter(pl.col("status") == NO_ADVERSARIAL)).drop(_KEYS)
    own = variants.filter(pl.col("condition") == ADVERSARIAL, pl.col("is_flipped").is_not_null())
    own = own.join(readable.select("seed_id", "label"), on="seed_id")
    constant = own.select(_KEYS).unique().join(firm, how="cross")
    columns = [*_KEYS, "is_flipped", "predicted_class", "label"]
    return _table(pl.concat([_clean(readable), own.select(columns), constant.select(columns)]))


def flips_of(tables: Tables) -> pl.DataFrame:
    """Table `flips` of a study, computed where a run of before has none."""
    return tables[FLIPS.name] if FLIPS.name in tables else flips(tables["variants"], tables["seeds"])


def _clean(seeds: pl.DataFrame) -> pl.DataFrame:
    """The clean images of some seeds as variants of strength 0."""
    zero = pl.lit(0, dtype=pl.Int64)
    return seeds.select(
        condition=pl.lit(CLEAN),
        strength=pl.lit(0.0),
        draw=zero,
        is_flipped=pl.lit(False),
        predicted_class="clean_class",
        label="label",
    )


def _table(rows: pl.DataFrame) -> pl.DataFrame:
    """Table `flips` from one row per image: the keys, is_flipped, predicted_class, label."""
    is_right = (pl.col("predicted_class") == pl.col("label")).cast(pl.Int64)
    counts = rows.group_by(_KEYS).agg(
        n=pl.len().cast(pl.Int64),
        flipped=pl.col("is_flipped").cast(pl.Int64).sum(),
        n_labelled=pl.col("label").count().cast(pl.Int64),
        right=is_right.sum(),
    )
    counts = counts.sort(_KEYS)
    columns: dict[str, object] = {name: counts[name] for name in (*_KEYS, "n", "flipped")}
    for hits, trials, names in (
        ("flipped", "n", ("share", "low", "high")),
        ("right", "n_labelled", ("accuracy", "accuracy_low", "accuracy_high")),
    ):
        k, n = counts[hits].fill_null(0).to_numpy(), counts[trials].to_numpy()
        share = np.divide(k, n, out=np.full(len(n), np.nan), where=n > 0)
        parts = zip(names, (share, *wilson_interval(k, n)), strict=True)
        columns |= {name: pl.Series(values, dtype=pl.Float64).fill_nan(None) for name, values in parts}
    return FLIPS.frame(columns)
