"""Statistics of a study, from tables to tables: thresholds, compromised layers, intervals, gains, ranks.

The independent unit is the seed. Inside this file tables are dense arrays with NaN where a similarity is
undefined or missing; seeds are sorted by name, so that the order of rows changes no digit.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
import scipy.stats

from camdrift.statistics.bootstrap import (
    Counts,
    Interval,
    Ints,
    percentile_interval,
    resample_counts,
    resampled_medians,
    resampled_totals,
)
from camdrift.statistics.cells import ArrayBuilder, SimilarityArrays, seed_arrays
from camdrift.statistics.estimates import holm, moments, ratio, wilcoxon_p, wilson_interval
from camdrift.statistics.gain import ABOVE, BELOW, Gains, gain_interval, noise_equivalent_gain, rank_by_gain
from camdrift.tables.arrays import Floats
from camdrift.tables.reading import AnyFrame, by_seeds, collected, distinct, streamed
from camdrift.tables.study import COUNTS, LAYERS, MEASURE
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CENSORED_BELOW, NOISE, TARGETS

_CENSORED: Final = {ABOVE: CENSORED_ABOVE, BELOW: CENSORED_BELOW}
_UPPER_QUANTILE: Final = 0.975


def layer_statistics(
    similarity: AnyFrame,
    variants: pl.DataFrame,
    floor: AnyFrame,
    *,
    rng_seed: int,
    n_bootstrap: int = 1000,
) -> pl.DataFrame:
    """Table `layers`: every statistic of a layer, per measure, target and strength of the attack (method section 3).

    A measure is an explanation and a metric; measures keep the order in which they first come in the table.

    Args:
        similarity: Table `similarity`; its seeds are those that count. It is read piece by piece, so that one that is
            scanned from a file may be larger than memory.
        variants: Table `variants`, for the L2 norms that the strengths realise.
        floor: Table `floor`.
        rng_seed: Fixes the bootstrap; all targets, strengths and layers share its resamples.
        n_bootstrap: Number of resamples of the seeds.

    Raises:
        ValueError: Two rows for one cell, a target that is none of `TARGETS`, or negative `n_bootstrap`.
    """
    rows, attacked = similarity.lazy(), similarity.filter(pl.col("condition") == ADVERSARIAL)
    if not (groups := _groups(attacked)):
        return LAYERS.frame()
    seeds = streamed(rows.select("seed_id").unique())["seed_id"].sort().to_list()
    resamples = resample_counts(len(seeds), n_bootstrap, rng_seed=rng_seed)
    parts = []
    for explanation, metric, target in groups:
        here = (
            pl.col("explanation").eq_missing(pl.lit(explanation))
            & pl.col("metric").eq_missing(pl.lit(metric))
            & (pl.col("target") == target)
        )
        arrays = seed_arrays(rows.filter(here), seeds)
        names = arrays.layers["layer"].to_list()
        columns = _keys(arrays, explanation, metric, target) | _descriptive(arrays) | _paired(arrays, resamples)
        columns |= _floor(floor.lazy().filter(here), names, len(arrays.strengths))
        columns |= _gain(arrays, variants, seeds, resamples)
        parts.append(_frame(columns))
    return pl.concat(parts)


def _groups(attacked: AnyFrame) -> list[tuple[str | None, str | None, str]]:
    """Measures in the order of the table, and of each its targets in the order of `TARGETS`."""
    found = distinct(attacked, *MEASURE, "target").rows()
    order = {row[:2]: place for place, row in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda row: (order[row[:2]], TARGETS.index(row[2])))


def compromised_counts(similarity: AnyFrame, layers: pl.DataFrame) -> pl.DataFrame:
    """Table `counts`: how many adversarial examples compromise exactly k layers, k = 0 to all.

    An undefined similarity, or one without a threshold, does not count as compromised; an adversarial example
    without any defined similarity counts with k = 0.

    Args:
        similarity: Table `similarity`; read piece by piece.
        layers: Table `layers` of the same study, for the thresholds.
    """
    group = [*MEASURE, "target", "strength"]
    thresholds = layers.select(*group, "layer", "threshold")
    adversarial = similarity.lazy().filter(pl.col("condition") == ADVERSARIAL)
    is_compromised = (pl.col("similarity") < pl.col("threshold")).fill_null(False)
    parts = [
        rows.join(thresholds, on=[*group, "layer"], how="left", nulls_equal=True)
        .group_by(*group, "seed_id")
        .agg(is_compromised.sum().cast(pl.Int64).alias("n_compromised"))
        .group_by(*group, "n_compromised")
        .agg(pl.len().cast(pl.Int64).alias("n_seeds"))
        for rows in by_seeds(adversarial, *group, "seed_id", "layer", "similarity")
    ]
    tally = pl.concat(parts).group_by(*group, "n_compromised").agg(pl.col("n_seeds").sum())
    possible = (
        layers.group_by(*group)
        .agg(pl.int_range(0, pl.col("layer").n_unique() + 1, dtype=pl.Int64).alias("n_compromised"))
        .explode("n_compromised")
    )
    joined = possible.join(tally, on=[*group, "n_compromised"], how="left", nulls_equal=True)
    counts = joined.with_columns(pl.col("n_seeds").fill_null(0))
    keys = [*MEASURE, "target"]
    place = pl.DataFrame(_groups(layers), schema=dict.fromkeys(keys, pl.String), orient="row").with_row_index("place")
    ordered = counts.join(place, on=keys, nulls_equal=True).sort("place", "strength", "n_compromised")
    return ordered.select(COUNTS.schema.names())


def _keys(arrays: SimilarityArrays, explanation: str | None, metric: str | None, target: str) -> dict[str, Any]:
    n_layers, n_strengths = len(arrays.layers), len(arrays.strengths)
    repeated = {name: np.tile(arrays.layers[name].to_numpy(), n_strengths) for name in arrays.layers.columns}
    return {
        "explanation": [explanation] * (n_layers * n_strengths),
        "metric": [metric] * (n_layers * n_strengths),
        "target": [target] * (n_layers * n_strengths),
        "strength": np.repeat(arrays.strengths, n_layers),
        **repeated,
    }


def _medians(values: Floats) -> Floats:
    """Median over the last two axes."""
    medians: Floats = resampled_medians(values, np.ones((1, values.shape[-2]), np.int16))[0]
    return medians


def _descriptive(arrays: SimilarityArrays) -> dict[str, Any]:
    """Both conditions by themselves, the threshold, and the layers that the attack compromises."""
    adversarial, noise = arrays.adversarial.values, arrays.matched.values
    attack, control = moments(_pool(adversarial)), moments(_pool(noise))
    threshold = _medians(noise)
    compromised = np.count_nonzero(adversarial < threshold[..., None, None], axis=(-2, -1))
    trials = np.where(np.isnan(threshold), 0, attack.n)
    wilson = wilson_interval(compromised, trials)
    return {
        "n": attack.n,
        "n_undefined": arrays.adversarial.rows - attack.n,
        "n_noise": control.n,
        "n_noise_undefined": arrays.matched.rows - control.n,
        "adversarial_mean": attack.mean,
        "adversarial_median": _medians(adversarial),
        "adversarial_std": attack.std,
        "noise_mean": control.mean,
        "noise_median": threshold,
        "noise_std": control.std,
        "threshold": threshold,
        "compromised_fraction": ratio(compromised, trials),
        "compromised_low": wilson.low,
        "compromised_high": wilson.high,
    }


def _pool(values: Floats) -> Floats:
    """Seeds and draws on one axis."""
    return values.reshape(*values.shape[:-2], -1)


def _paired(arrays: SimilarityArrays, resamples: Counts) -> dict[str, Any]:
    """What the attack does to a seed against what noise does to the same seed."""
    adversarial, noise = arrays.adversarial.values, arrays.matched.values
    difference = moments(noise).mean - adversarial[..., 0]
    wins = np.where(np.isnan(noise), np.nan, (adversarial < noise) + (adversarial == noise) / 2)
    auc = np.where(np.isnan(difference), np.nan, moments(wins).mean)
    paired = moments(difference)
    ends = _auc_interval(auc, resamples)
    degrees = np.maximum(paired.n - 1, 1)
    half = scipy.stats.t.ppf(_UPPER_QUANTILE, degrees) * paired.std / np.sqrt(degrees + 1)
    p = wilcoxon_p(difference)
    return {
        "n_pairs": paired.n,
        "auc": moments(auc).mean,
        "auc_low": ends.low,
        "auc_high": ends.high,
        "difference_mean": paired.mean,
        "difference_low": paired.mean - half,
        "difference_high": paired.mean + half,
        "wilcoxon_p": p,
        "wilcoxon_p_holm": holm(p),
    }


def _auc_interval(auc: Floats, resamples: Counts) -> Interval:
    """Bootstrap interval of the mean over seeds (last axis); NaN below two seeds."""
    defined = ~np.isnan(auc)
    drawn = resampled_totals(defined.reshape(-1, auc.shape[-1]).T.astype(np.float64), resamples)
    total = resampled_totals(np.where(defined, auc, 0).reshape(-1, auc.shape[-1]).T, resamples)
    ends = percentile_interval(ratio(total, drawn))
    enough = np.count_nonzero(defined, axis=-1) > 1
    return Interval(*(np.where(enough, end.reshape(enough.shape), np.nan) for end in ends))


def _floor(floor: pl.LazyFrame, layers: Sequence[str], n_strengths: int) -> dict[str, Any]:
    """Mean similarity of unrelated seeds: the same at every strength."""
    names = ("seed_id", "other_seed_id", "layer", "similarity")
    ordered = collected(floor.select(names).drop_nulls("similarity")).sort("seed_id", "other_seed_id")
    pairs = [ordered.filter(pl.col("layer") == layer)["similarity"].to_numpy() for layer in layers]
    means = [values.mean() if values.size else np.nan for values in pairs]
    return {"floor": np.tile(means, n_strengths), "n_floor": np.tile([v.size for v in pairs], n_strengths)}


def _gain(arrays: SimilarityArrays, variants: pl.DataFrame, seeds: Sequence[str], resamples: Counts) -> dict[str, Any]:
    """Gain and rank, both with bootstrap intervals; an interval takes two seeds on either side."""
    gains = all_gains(arrays, variants, seeds, resamples)
    observed, replicates = gains[0], gains[1:]
    attacked = ~np.isnan(arrays.adversarial.values[..., 0])
    noisy = (~np.isnan(arrays.noise.values)).any(axis=(0, 3))
    enough = (np.count_nonzero(attacked, axis=-1) > 1) & (np.count_nonzero(noisy, axis=-1) > 1)
    ends, flags = gain_interval(observed, replicates)
    ranks = percentile_interval(rank_by_gain(replicates.value))
    low, high, rank_low, rank_high = (np.where(enough, end, np.nan) for end in (*ends, *ranks))
    return {
        "gain": observed.value,
        "gain_low": low,
        "gain_high": high,
        "gain_censored": _flags(observed.censored),
        "gain_low_censored": _flags(np.where(enough, flags.low, 0)),
        "gain_high_censored": _flags(np.where(enough, flags.high, 0)),
        "rank": rank_by_gain(observed.value),
        "rank_low": rank_low,
        "rank_high": rank_high,
    }


def all_gains(arrays: SimilarityArrays, variants: pl.DataFrame, seeds: Sequence[str], resamples: Counts) -> Gains:
    """Gains (1 + replicates, strengths, layers): of all seeds first, then of every resample."""
    counts = np.concatenate([np.ones((1, len(seeds)), resamples.dtype), resamples])
    attack_l2 = resampled_medians(_norms(variants, ADVERSARIAL, arrays.strengths, seeds), counts)
    noise_l2 = resampled_medians(_norms(variants, NOISE, arrays.ladder, seeds), counts)
    attack = resampled_medians(1 - arrays.adversarial.values, counts)
    noise = resampled_medians(1 - arrays.noise.values, counts)
    ladder_last = np.moveaxis(noise, 1, -1)[:, None]
    return noise_equivalent_gain(attack, attack_l2[..., None], ladder_last, noise_l2[:, None, None])


def _norms(variants: pl.DataFrame, condition: str, strengths: Floats, seeds: Sequence[str]) -> Floats:
    """Realised L2 norms of one condition, (strengths, seeds, draws), of the given seeds and strengths."""
    wanted = variants.filter(
        pl.col("condition") == condition,
        pl.col("seed_id").is_in(list(seeds)),
        pl.col("strength").is_in(strengths.tolist()),
    ).with_columns(layer=pl.lit("all"))
    cells = ArrayBuilder("realised_l2", strengths, ["all"], seeds, wanted["draw"])
    cells.add(wanted)
    return cells.dense().values[:, 0]


def _flags(codes: Floats | Ints) -> list[str | None]:
    return [_CENSORED.get(int(code)) for code in codes.ravel()]


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    """AnyFrame of table `layers` from arrays of any shape; NaN becomes null."""
    data = {}
    for name, values in columns.items():
        series = pl.Series(name, values.ravel() if isinstance(values, np.ndarray) else values)
        data[name] = (series.fill_nan(None) if series.dtype.is_float() else series).cast(LAYERS.schema[name])
    return LAYERS.frame(data)
