"""Controls that only a reproduction of the paper can make: they need its control images."""

import polars as pl

from camdrift.paper.readings import as_study
from camdrift.statistics.controls import CHANNELS, NOTHING, SECOND_DRAW, SPECTRUM, _compared, _gains, _null
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

    def compared(attack: tuple[str, int], noise: tuple[str, int]) -> pl.DataFrame:
        attacked = _chosen(plain, *attack).filter(pl.col("strength").is_in(strengths))
        pair = [as_study(rows) for rows in (attacked, _chosen(plain, *noise))]
        return _compared(pair[0][0], pair[1][0], pair[0][1], pair[1][1], rng_seed, n_bootstrap)

    white, second = (NOISE, 0), (NOISE, 1)
    rows = _null(compared(second, white)) + _nothing(plain)
    for control, noise in ((SECOND_DRAW, second), (SPECTRUM, (SPECTRUM_NOISE, 0)), (CHANNELS, (CHANNEL_NOISE, 0))):
        rows += _gains(control, "gain of the attack over it", compared((ADVERSARIAL, 0), noise))
        if control != SECOND_DRAW:
            rows += _gains(control, "gain of it over white noise", compared(noise, white), expected=1.0)
    return CONTROLS.frame(rows)


def _nothing(plain: pl.DataFrame) -> Rows:
    """The seed as its own variant: no deviation at all, up to the rounding of another batch."""
    rows = plain.filter(pl.col("condition") == UNPERTURBED)
    worst = (1 - rows["similarity"].drop_nulls()).max()
    n = rows["seed_id"].n_unique()
    words = {"control": NOTHING, "quantity": "largest deviation", "target": "seed", "strength": 0.0}
    return [{**words, "value": worst, "n": n, "expected": 0.0}]


def _chosen(plain: pl.DataFrame, condition: str, draw: int) -> pl.DataFrame:
    return plain.filter(pl.col("condition") == condition, pl.col("draw") == draw)
