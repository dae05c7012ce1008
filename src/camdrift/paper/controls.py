"""Controls of a reproduction of the paper: they need its control images."""

import polars as pl

from camdrift.paper.readings import as_study
from camdrift.statistics.controls import (
    CHANNELS,
    NOTHING,
    SECOND_DRAW,
    SPECTRUM,
    ImageRows,
    gain_rows,
    null_rows,
    statistics_between,
)
from camdrift.tables.study import CONTROLS
from camdrift.tables.table import Rows
from camdrift.tables.words import ADVERSARIAL, CHANNEL_NOISE, NOISE, SPECTRUM_NOISE, UNPERTURBED


def reproduction_controls(emulation: pl.DataFrame, *, rng_seed: int, n_bootstrap: int = 1000) -> pl.DataFrame:
    """Rows of table `controls` that need the control images of a reproduction.

    Args:
        emulation: Table `emulation`.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    if emulation.is_empty():
        return CONTROLS.frame()
    plain = emulation.filter(
        ~pl.col("is_accumulated"),
        ~pl.col("is_truncated"),
        pl.col("target") == "seed",
        pl.col("clean_score") == "logit",
        pl.col("metric") == "cosine",
    )
    strengths = plain.filter(pl.col("condition") == ADVERSARIAL)["strength"].unique().to_list()

    def between(attack: tuple[str, int], noise: tuple[str, int]) -> pl.DataFrame:
        attack_rows = _images(plain, *attack).filter(pl.col("strength").is_in(strengths))
        pair = (as_study(rows) for rows in (attack_rows, _images(plain, *noise)))
        stand_ins = (ImageRows(similarity.lazy(), variants) for similarity, variants in pair)
        return statistics_between(*stand_ins, rng_seed=rng_seed, n_bootstrap=n_bootstrap)

    attack, white, second = (ADVERSARIAL, 0), (NOISE, 0), (NOISE, 1)
    rows = null_rows(between(second, white)) + _nothing(plain)
    for control, noise in ((SECOND_DRAW, second), (SPECTRUM, (SPECTRUM_NOISE, 0)), (CHANNELS, (CHANNEL_NOISE, 0))):
        rows += gain_rows(control, "gain of the attack over it", between(attack, noise))
        if control != SECOND_DRAW:
            rows += gain_rows(control, "gain of it over white noise", between(noise, white), expectation=1.0)
    return CONTROLS.frame(rows)


def _nothing(plain: pl.DataFrame) -> Rows:
    """The control in which the seed is its own variant: no deviation at all, up to the rounding of another batch."""
    rows = plain.filter(pl.col("condition") == UNPERTURBED)
    worst = (1 - rows["similarity"].drop_nulls()).max()
    n = rows["seed_id"].n_unique()
    words = {"control": NOTHING, "quantity": "largest deviation", "target": "seed", "strength": 0.0}
    return [{**words, "value": worst, "n": n, "expected": 0.0}]


def _images(plain: pl.DataFrame, condition: str, draw: int) -> pl.DataFrame:
    """The rows of one draw of one condition."""
    return plain.filter(pl.col("condition") == condition, pl.col("draw") == draw)
