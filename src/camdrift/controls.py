"""Controls: comparisons whose outcome is known, or that rule out another reason for what a study finds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.gain import percentile_interval, resample_counts
from camdrift.reading import as_study
from camdrift.records import (
    ADVERSARIAL,
    CHANNEL_NOISE,
    CONTROLS,
    FLOOR,
    NOISE,
    SPECTRUM_NOISE,
    UNPERTURBED,
)
from camdrift.stats import layer_statistics, ratio

NOISE_AGAINST_NOISE: Final = "noise against noise"
SECOND_DRAW: Final = "another draw of the noise"
SPECTRUM: Final = "noise of the attack's spectrum"
CHANNELS: Final = "noise matched per channel"
NOTHING: Final = "strength 0"
UNRELATED: Final = "unrelated images"
OWN_CLASS: Final = "own class against fixed class"
FOOLING: Final = "images that still fool the network"
NORM: Final = "norm after clipping"

Rows = list[dict[str, Any]]
_KEYS: Final = ("seed_id", "strength")


def study_controls(tables: Mapping[str, pl.DataFrame], *, rng_seed: int, n_bootstrap: int = 1000) -> pl.DataFrame:
    """Rows of table `controls` that the tables of any study give.

    Args:
        tables: similarity, variants and floor, by name.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    similarity, variants = tables["similarity"], tables["variants"]
    if similarity.is_empty():
        return CONTROLS.frame()
    draw = _Bootstrap(similarity["seed_id"].unique().sort().to_list(), n_bootstrap, rng_seed)
    rows = [
        *_realised_norm(variants, draw),
        *_unrelated(similarity, tables["floor"], draw),
        *_own_class(similarity, draw),
        *_fooling(similarity, variants, draw),
    ]
    if similarity["draw"].max():
        first, second = _noise(similarity, 0), _noise(similarity, 1)
        attack, control = _noise(variants, 0), _noise(variants, 1)
        rows += _null(_compared(second, first, control, attack, rng_seed, n_bootstrap))
    return CONTROLS.frame(rows)


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


class _Bootstrap:
    """Means over seeds with bootstrap intervals, the same resamples for all."""

    def __init__(self, seed_ids: Sequence[str], n_bootstrap: int, rng_seed: int) -> None:
        self.seed_ids = pl.DataFrame({"seed_id": seed_ids})
        self._weights = resample_counts(len(seed_ids), n_bootstrap, rng_seed=rng_seed).astype(np.float64)

    def mean(self, values: pl.DataFrame) -> dict[str, Any]:
        """value, low, high and n of the mean of `value` over seeds, of a frame with one row per `seed_id`."""
        found = self.seed_ids.join(values, on="seed_id", how="left", maintain_order="left")["value"]
        numbers: NDArray[np.float64] = found.cast(pl.Float64).fill_null(np.nan).to_numpy()
        defined = ~np.isnan(numbers)
        n = int(defined.sum())
        if not n:
            return {"n": 0}
        drawn = self._weights @ defined
        totals = self._weights @ np.where(defined, numbers, 0)
        ends = percentile_interval(ratio(totals, drawn)[:, None]) if n > 1 else None
        interval = {} if ends is None else {"low": float(ends.low[0]), "high": float(ends.high[0])}
        return {"value": float(numbers[defined].mean()), **interval, "n": n}

    def by(self, rows: pl.DataFrame, keys: Sequence[str], value: pl.Expr, words: Mapping[str, Any]) -> Rows:
        """One row of controls per combination of `keys`: the mean over seeds of each seed's mean of `value`."""
        each = rows.group_by(*keys, "seed_id").agg(value.mean().alias("value"))
        parts = each.sort(*keys, "seed_id").group_by(*keys, maintain_order=True)
        return [{**words, **dict(zip(keys, key, strict=True)), **self.mean(part)} for key, part in parts]


def _realised_norm(variants: pl.DataFrame, draw: _Bootstrap) -> Rows:
    """What clipping leaves of the norm: relative to the weakest strength, where it takes least."""
    first = variants.filter(pl.col("draw") == 0)
    unit = first.sort("strength").group_by("seed_id", "condition", maintain_order=True).first()
    unit = unit.select("seed_id", "condition", unit=pl.col("realised_l2") / pl.col("strength"))
    ratio = first.join(unit, on=["seed_id", "condition"]).filter(pl.col("unit") > 0)
    share = pl.col("realised_l2") / (pl.col("strength") * pl.col("unit"))
    rows: Rows = []
    for condition in (ADVERSARIAL, NOISE):
        words = {"control": NORM, "quantity": f"realised over requested L2, {condition}", "expected": 1.0}
        rows += draw.by(ratio.filter(pl.col("condition") == condition), ["strength"], share, words)
    return rows


def _unrelated(similarity: pl.DataFrame, floor: pl.DataFrame, draw: _Bootstrap) -> Rows:
    """How far similarity under the attack lies above that of unrelated images."""
    means = floor.group_by("target", "layer").agg(pl.col("similarity").mean().alias("floor"))
    joined = similarity.filter(pl.col("condition") == ADVERSARIAL).join(means, on=["target", "layer"])
    words = {"control": UNRELATED, "quantity": "similarity under the attack above the floor"}
    return draw.by(joined, ["target", "strength"], pl.col("similarity") - pl.col("floor"), words)


def _own_class(similarity: pl.DataFrame, draw: _Bootstrap) -> Rows:
    """What explaining each image's own class adds to the deviation."""
    keys = ["seed_id", "condition", "strength", "draw", "layer"]
    own, fixed = (similarity.filter(pl.col("target") == target) for target in ("own", "seed"))
    joined = own.join(fixed.select(*keys, fixed="similarity"), on=keys)
    rows: Rows = []
    for condition in (ADVERSARIAL, NOISE):
        words = {"control": OWN_CLASS, "quantity": f"deviation added by the change of class, {condition}"}
        chosen = joined.filter(pl.col("condition") == condition)
        rows += draw.by(chosen, ["strength"], pl.col("fixed") - pl.col("similarity"), words)
    return rows


def _fooling(similarity: pl.DataFrame, variants: pl.DataFrame, draw: _Bootstrap) -> Rows:
    """Deviation of adversarial images that fool the network at a strength, and of those that do not."""
    flips = variants.filter(pl.col("condition") == ADVERSARIAL).select(*_KEYS, "is_flipped")
    joined = similarity.filter(pl.col("condition") == ADVERSARIAL).join(flips, on=list(_KEYS))
    rows: Rows = []
    for is_flipped, name in ((True, "fooling"), (False, "not fooling")):
        words = {"control": FOOLING, "quantity": f"deviation, {name}"}
        chosen = joined.filter(pl.col("is_flipped") == is_flipped)
        rows += draw.by(chosen, ["target", "strength"], 1 - pl.col("similarity"), words)
    return rows


def _null(statistics: pl.DataFrame) -> Rows:
    """Noise in the place of the attack: nothing may be found."""
    rows = _gains(NOISE_AGAINST_NOISE, "gain", statistics, expected=1.0)
    for (target, strength), part in statistics.group_by("target", "strength", maintain_order=True):
        words = {"control": NOISE_AGAINST_NOISE, "target": target, "strength": strength, "n": part["n_pairs"].max()}
        rejected = part.filter(pl.col("wilcoxon_p_holm") < 0.05).height
        values = {
            "compromised fraction": (part["compromised_fraction"].mean(), 0.5),
            "layers that differ (Holm, 5 %)": (float(rejected), 0.0),
            "pairs of layers whose rank intervals overlap": (_overlapping(part), 1.0),
        }
        rows += [{**words, "quantity": q, "value": v, "expected": e} for q, (v, e) in values.items()]
    return rows


def _gains(control: str, quantity: str, statistics: pl.DataFrame, *, expected: float | None = None) -> Rows:
    """Gains per layer with their intervals, and their median over layers, per strength."""
    words = {"control": control, "quantity": quantity, "expected": expected}
    rows: Rows = []
    for (target, strength), part in statistics.group_by("target", "strength", maintain_order=True):
        here = {**words, "target": target, "strength": strength}
        rows.append({**here, "value": part["gain"].median(), "n": part["n_pairs"].max()})
        layers = part.select("layer", value="gain", low="gain_low", high="gain_high", n="n_pairs")
        rows += [{**here, **row} for row in layers.iter_rows(named=True)]
    return rows


def _overlapping(part: pl.DataFrame) -> float | None:
    """Share of pairs of layers whose rank intervals overlap."""
    ranks = part.drop_nulls(["rank_low", "rank_high"])
    low, high = ranks["rank_low"].to_numpy(), ranks["rank_high"].to_numpy()
    pairs = np.triu_indices(len(low), 1)
    overlap = (low[:, None] <= high[None]) & (low[None] <= high[:, None])
    return float(overlap[pairs].mean()) if len(pairs[0]) else None


def _nothing(plain: pl.DataFrame) -> Rows:
    """The seed as its own variant: no deviation at all, up to the rounding of another batch."""
    rows = plain.filter(pl.col("condition") == UNPERTURBED)
    worst = (1 - rows["similarity"].drop_nulls()).max()
    n = rows["seed_id"].n_unique()
    words = {"control": NOTHING, "quantity": "largest deviation", "target": "seed", "strength": 0.0}
    return [{**words, "value": worst, "n": n, "expected": 0.0}]


def _chosen(plain: pl.DataFrame, condition: str, draw: int) -> pl.DataFrame:
    return plain.filter(pl.col("condition") == condition, pl.col("draw") == draw)


def _noise(rows: pl.DataFrame, draw: int) -> pl.DataFrame:
    return rows.filter(pl.col("condition") == NOISE, pl.col("draw") == draw)


def _compared(
    attack: pl.DataFrame,
    noise: pl.DataFrame,
    attack_variants: pl.DataFrame,
    noise_variants: pl.DataFrame,
    rng_seed: int,
    n_bootstrap: int,
) -> pl.DataFrame:
    """The statistics of a study in which one set of images stands for the attack and another for noise."""
    as_attack = _relabelled(ADVERSARIAL)
    as_noise = _relabelled(NOISE)
    return layer_statistics(
        pl.concat([as_attack(attack), as_noise(noise)]),
        pl.concat([as_attack(attack_variants), as_noise(noise_variants)]),
        FLOOR.frame(),
        rng_seed=rng_seed,
        n_bootstrap=n_bootstrap,
    )


def _relabelled(condition: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(condition=pl.lit(condition), draw=pl.lit(0, dtype=pl.Int64))
