"""Natural changes on the scale of the attack: predictions that flip, and noise-equivalent gains of every layer."""

from collections.abc import Iterator

import polars as pl

from camdrift.statistics.flips import flips
from camdrift.statistics.layers import layer_statistics
from camdrift.tables.perturbations import NATURAL, PERTURBATION_LAYERS, PERTURBATIONS
from camdrift.tables.reading import AnyFrame
from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE


def perturbations(images: pl.DataFrame, seeds: pl.DataFrame) -> pl.DataFrame:
    """Table `perturbations`: how many predictions each natural change flips, and noise of its size.

    Args:
        images: Table `perturbed`.
        seeds: Table `seeds`.
    """
    parts = [PERTURBATIONS.frame()]
    for spec, rows in _as_attacks(images):
        variants = _variants(rows)
        sizes = variants.group_by("condition", "strength").agg(
            pl.col("realised_l2").median(), unchanged=(pl.col("realised_l2") == 0).sum().cast(pl.Int64)
        )
        shares = flips(variants, seeds).filter(pl.col("condition") != CLEAN).drop("draw")
        table = shares.join(sizes, on=("condition", "strength"), how="left", maintain_order="left")
        word = pl.when(pl.col("condition") == NOISE).then("condition").otherwise(pl.lit(NATURAL))
        parts.append(PERTURBATIONS.frame(table.with_columns(condition=word, perturbation=pl.lit(spec)).to_dict()))
    return pl.concat(parts)


def perturbation_layers(images: pl.DataFrame, floor: AnyFrame, ceiling: pl.DataFrame, *, rng_seed: int) -> pl.DataFrame:
    """Table `perturbation_layers`: what `layers` says of the attack, of each natural change (method section 3).

    Args:
        images: Table `perturbed`.
        floor: Table `floor`.
        ceiling: Table `ceiling`, for gains that rounding alone would make.
        rng_seed: Fixes the bootstrap; it draws the same seeds as for the attack where all are there.
    """
    parts = [PERTURBATION_LAYERS.frame()]
    for spec, rows in _as_attacks(images):
        similarity = rows.with_columns(draw=pl.lit(0, dtype=pl.Int64)).select(SIMILARITY.schema.names())
        layers = layer_statistics(similarity, _variants(rows), floor, ceiling, rng_seed=rng_seed)
        table = layers.with_columns(
            perturbation=pl.lit(spec),
            deviation=1 - pl.col("adversarial_median"),
            noise_deviation=1 - pl.col("noise_median"),
        )
        parts.append(table.select(PERTURBATION_LAYERS.schema.names()))
    return pl.concat(parts)


def _as_attacks(images: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Each natural change with its rows, in which it takes the attack's place."""
    is_noise = pl.col("condition") == NOISE
    rows = images.with_columns(condition=pl.when(is_noise).then("condition").otherwise(pl.lit(ADVERSARIAL)))
    for (spec,), part in rows.group_by("perturbation", maintain_order=True):
        yield str(spec), part


def _variants(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per image, as in table `variants`."""
    first = rows.unique(["seed_id", "condition", "strength"], keep="first", maintain_order=True)
    return first.with_columns(draw=pl.lit(0, dtype=pl.Int64)).select(VARIANTS.schema.names())
