"""Statistics of the layers of a study: thresholds, compromised layers, intervals, gains, ranks.

The independent unit is the seed. Inside this file tables are dense arrays with NaN where a similarity is undefined or
missing. Seeds are sorted by name, so that the order of rows changes no digit.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import scipy.stats
from numpy.typing import NDArray

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
from camdrift.statistics.gain import ABOVE, BELOW, Gains, gain_interval, noise_equivalent_gain, rank_interval
from camdrift.statistics.ranks import RANKING, are_too_few, ranked
from camdrift.tables.arrays import Floats
from camdrift.tables.further import CEILING
from camdrift.tables.reading import AnyFrame, by_seeds, collected, distinct, streamed
from camdrift.tables.study import COUNTS, LAYERS, MEASURE
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CENSORED_BELOW, NOISE, ROUNDING, TARGETS

# Upper quantile of a 95 % interval.
_UPPER_QUANTILE: Final = 0.975
# Words for the side of the bound on which a censored gain lies.
_SIDES: Final = {ABOVE: CENSORED_ABOVE, BELOW: CENSORED_BELOW}


def layer_statistics(
    similarity: AnyFrame,
    variants: pl.DataFrame,
    floor: AnyFrame,
    ceiling: pl.DataFrame | None = None,
    *,
    rng_seed: int,
    n_bootstrap: int = 1000,
) -> pl.DataFrame:
    """Table `layers`: every statistic of a layer, per measure, target and strength of the attack (method section 3).

    A measure is an explanation and a metric; measures keep the order in which they first come in the table.

    Args:
        similarity: Table `similarity`; its seeds are those that count. It is read piece by piece: a table scanned from
            a file may be larger than memory.
        variants: Table `variants`, for the L2 norms that the strengths realise.
        floor: Table `floor`.
        ceiling: Table `ceiling`; None if there is none.
        rng_seed: Fixes the bootstrap; all targets, strengths and layers share its resamples.
        n_bootstrap: Number of resamples of the seeds.

    Raises:
        ValueError: Two rows for one cell, a target that is none of `TARGETS`, or negative `n_bootstrap`.
    """
    rows = similarity.lazy()
    groups = _groups(similarity.filter(pl.col("condition") == ADVERSARIAL))
    if not groups:
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
        ceilings = _ceiling(CEILING.frame() if ceiling is None else ceiling.filter(here), names)
        columns |= {name: np.tile(values, len(arrays.strengths)) for name, values in ceilings.columns().items()}
        is_rounding = _are_rounding(arrays, ceilings)
        columns |= {"gain_undefined_reason": [ROUNDING if flag else None for flag in is_rounding.ravel()]}
        columns |= _gain(arrays, is_rounding, all_gains(arrays, variants, seeds, resamples), columns["n_pairs"])
        parts.append(_frame(columns))
    return ranked(pl.concat(parts))


def compromised_counts(similarity: AnyFrame, layers: pl.DataFrame) -> pl.DataFrame:
    """Table `counts`: number of adversarial examples that compromise exactly k layers, k = 0 to all.

    An undefined similarity, or one without a threshold, does not count as compromised. An adversarial example without
    any defined similarity counts with k = 0.

    Args:
        similarity: Table `similarity`; read piece by piece.
        layers: Table `layers` of the same study, for the thresholds.
    """
    adversarial = similarity.lazy().filter(pl.col("condition") == ADVERSARIAL)
    thresholds = layers.select(*RANKING, "layer", "threshold")
    pieces = by_seeds(adversarial, *RANKING, "seed_id", "layer", "similarity")
    tally = pl.concat(_tally(_compromised_layers(piece, thresholds)) for piece in pieces)
    totals = tally.group_by(*RANKING, "n_compromised").agg(pl.col("n_seeds").sum())
    counts = _possible_counts(layers).join(totals, on=[*RANKING, "n_compromised"], how="left", nulls_equal=True)
    return _in_order_of(layers, counts.with_columns(pl.col("n_seeds").fill_null(0))).select(COUNTS.schema.names())


def all_gains(arrays: SimilarityArrays, variants: pl.DataFrame, seeds: Sequence[str], resamples: Counts) -> Gains:
    """Gains, (1 + replicates, strengths, layers): those of all seeds first, then those of every resample.

    Args:
        arrays: Similarities of one target.
        variants: Table `variants`.
        seeds: Names of the seeds, in the order of the arrays.
        resamples: Number of times that each replicate draws each seed, (replicates, seeds).
    """
    counts = np.concatenate([np.ones((1, len(seeds)), resamples.dtype), resamples])
    attack_l2 = resampled_medians(_norms(variants, ADVERSARIAL, arrays.strengths, seeds), counts)
    noise_l2 = resampled_medians(_norms(variants, NOISE, arrays.ladder, seeds), counts)
    attack = resampled_medians(1 - arrays.adversarial.values, counts)
    noise = resampled_medians(1 - arrays.noise.values, counts)
    ladder_last = np.moveaxis(noise, 1, -1)[:, None]
    return noise_equivalent_gain(attack, attack_l2[..., None], ladder_last, noise_l2[:, None, None])


def _groups(rows: AnyFrame) -> list[tuple[str | None, str | None, str]]:
    """Measures in the order of the table, and of each its targets in the order of `TARGETS`."""
    groups = distinct(rows, *MEASURE, "target").rows()
    order = {group[:2]: place for place, group in reversed(list(enumerate(groups)))}
    return sorted(groups, key=lambda group: (order[group[:2]], TARGETS.index(group[2])))


def _compromised_layers(rows: pl.DataFrame, thresholds: pl.DataFrame) -> pl.DataFrame:
    """Number of layers that each adversarial example compromises: columns `RANKING`, seed_id, n_compromised."""
    is_compromised = (pl.col("similarity") < pl.col("threshold")).fill_null(False)
    return (
        rows.join(thresholds, on=[*RANKING, "layer"], how="left", nulls_equal=True)
        .group_by(*RANKING, "seed_id")
        .agg(is_compromised.sum().cast(pl.Int64).alias("n_compromised"))
    )


def _tally(compromised_layers: pl.DataFrame) -> pl.DataFrame:
    """Number of adversarial examples per number of compromised layers: columns `RANKING`, n_compromised, n_seeds."""
    return compromised_layers.group_by(*RANKING, "n_compromised").agg(pl.len().cast(pl.Int64).alias("n_seeds"))


def _possible_counts(layers: pl.DataFrame) -> pl.DataFrame:
    """Every number of layers that may be compromised, 0 to all: columns `RANKING`, n_compromised."""
    numbers = pl.int_range(0, pl.col("layer").n_unique() + 1, dtype=pl.Int64).alias("n_compromised")
    return layers.group_by(*RANKING).agg(numbers).explode("n_compromised")


def _in_order_of(layers: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """The counts, sorted by measure and target as table `layers`, then by strength and number."""
    keys = [*MEASURE, "target"]
    place = pl.DataFrame(_groups(layers), schema=dict.fromkeys(keys, pl.String), orient="row").with_row_index("place")
    return counts.join(place, on=keys, nulls_equal=True).sort("place", "strength", "n_compromised")


def _keys(arrays: SimilarityArrays, explanation: str | None, metric: str | None, target: str) -> dict[str, Any]:
    """The columns that name a row."""
    n_layers, n_strengths = len(arrays.layers), len(arrays.strengths)
    layer_columns = {name: np.tile(arrays.layers[name].to_numpy(), n_strengths) for name in arrays.layers.columns}
    return {
        "explanation": [explanation] * (n_layers * n_strengths),
        "metric": [metric] * (n_layers * n_strengths),
        "target": [target] * (n_layers * n_strengths),
        "strength": np.repeat(arrays.strengths, n_layers),
        **layer_columns,
    }


def _medians(values: Floats) -> Floats:
    """Median over the last two axes."""
    medians: Floats = resampled_medians(values, np.ones((1, values.shape[-2]), np.int16))[0]
    return medians


def _descriptive(arrays: SimilarityArrays) -> dict[str, Any]:
    """The columns on either condition alone, on the threshold, and on the layers that the attack compromises."""
    adversarial, noise = arrays.adversarial.values, arrays.matched.values
    attack, control = moments(_pool(adversarial)), moments(_pool(noise))
    threshold = _medians(noise)
    successes = np.count_nonzero(adversarial < threshold[..., None, None], axis=(-2, -1))
    trials = np.where(np.isnan(threshold), 0, attack.n)
    wilson = wilson_interval(successes, trials)
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
        "compromised_fraction": ratio(successes, trials),
        "compromised_low": wilson.low,
        "compromised_high": wilson.high,
    }


def _pool(values: Floats) -> Floats:
    """Seeds and draws on one axis."""
    return values.reshape(*values.shape[:-2], -1)


def _paired(arrays: SimilarityArrays, resamples: Counts) -> dict[str, Any]:
    """The columns that compare the attack on a seed with noise on the same seed."""
    adversarial, noise = arrays.adversarial.values, arrays.matched.values
    difference = moments(noise).mean - adversarial[..., 0]
    wins = np.where(np.isnan(noise), np.nan, (adversarial < noise) + (adversarial == noise) / 2)
    auc = np.where(np.isnan(difference), np.nan, moments(wins).mean)
    pairs = moments(difference)
    ends = _auc_interval(auc, resamples)
    degrees = np.maximum(pairs.n - 1, 1)
    half = scipy.stats.t.ppf(_UPPER_QUANTILE, degrees) * pairs.std / np.sqrt(degrees + 1)
    p = wilcoxon_p(difference)
    return {
        "n_pairs": pairs.n,
        "auc": moments(auc).mean,
        "auc_low": ends.low,
        "auc_high": ends.high,
        "difference_mean": pairs.mean,
        "difference_low": pairs.mean - half,
        "difference_high": pairs.mean + half,
        "wilcoxon_p": p,
        "wilcoxon_p_holm": holm(p),
    }


def _auc_interval(auc: Floats, resamples: Counts) -> Interval:
    """Bootstrap interval of the mean over seeds (last axis); NaN below two seeds."""
    is_defined = ~np.isnan(auc)
    n = resampled_totals(is_defined.reshape(-1, auc.shape[-1]).T.astype(np.float64), resamples)
    total = resampled_totals(np.where(is_defined, auc, 0).reshape(-1, auc.shape[-1]).T, resamples)
    ends = percentile_interval(ratio(total, n))
    is_enough = np.count_nonzero(is_defined, axis=-1) > 1
    return Interval(*(np.where(is_enough, end.reshape(is_enough.shape), np.nan) for end in ends))


def _floor(floor: pl.LazyFrame, layers: Sequence[str], n_strengths: int) -> dict[str, Any]:
    """The columns on unrelated seeds: the mean of their similarities, the same at every strength."""
    names = ("seed_id", "other_seed_id", "layer", "similarity")
    rows = collected(floor.select(names).drop_nulls("similarity")).sort("seed_id", "other_seed_id")
    pairs = [rows.filter(pl.col("layer") == layer)["similarity"].to_numpy() for layer in layers]
    means = [values.mean() if values.size else np.nan for values in pairs]
    return {"floor": np.tile(means, n_strengths), "n_floor": np.tile([v.size for v in pairs], n_strengths)}


class _Ceilings(NamedTuple):
    """The numerical ceiling of every layer: its mean, the least, seeds behind it, and seeds with a map of rounding."""

    mean: Floats
    least: Floats
    n: Ints
    n_rounding: Ints

    def columns(self) -> dict[str, Floats | Ints]:
        """The columns of table `layers`."""
        return {"ceiling": self.mean, "ceiling_least": self.least, "n_ceiling": self.n}


def _ceiling(rows: pl.DataFrame, layers: Sequence[str]) -> _Ceilings:
    rows = rows.sort("seed_id")
    values, roundings = [], []
    for layer in layers:
        part = rows.filter(pl.col("layer") == layer)
        values.append(part["similarity"].drop_nulls().to_numpy())
        roundings.append(part.filter(pl.col("undefined_reason") == ROUNDING).height)
    ends = [(v.mean(), v.min()) if v.size else (np.nan, np.nan) for v in values]
    mean, least = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return _Ceilings(mean, least, np.array([v.size for v in values]), np.array(roundings))


def _are_rounding(arrays: SimilarityArrays, ceilings: _Ceilings) -> NDArray[np.bool_]:
    """Flags of the cells whose deviation, of attack or noise, rounding alone would make: (strengths, layers)."""
    medians = (_medians(arrays.adversarial.values), _medians(arrays.matched.values))
    is_no_lower = [median >= ceilings.mean for median in medians]
    return is_no_lower[0] | is_no_lower[1] | (ceilings.n_rounding > ceilings.n)


def _gain(arrays: SimilarityArrays, is_rounding: NDArray[np.bool_], gains: Gains, n_pairs: Ints) -> dict[str, Any]:
    """The columns on gain, and the interval of its rank; an interval takes two seeds on either side.

    Layers with too few pairs of images take part in no ranking.
    """
    gains = gains.without(is_rounding)
    sample, replicates = gains[0], gains[1:]
    has_attack = ~np.isnan(arrays.adversarial.values[..., 0])
    has_noise = (~np.isnan(arrays.noise.values)).any(axis=(0, 3))
    is_enough = (np.count_nonzero(has_attack, axis=-1) > 1) & (np.count_nonzero(has_noise, axis=-1) > 1)
    ends, flags = gain_interval(sample, replicates)
    n_measured = np.where(np.isnan(sample.value), 0, n_pairs)
    ranks = rank_interval(replicates.without(are_too_few(n_measured)).value)
    low, high, rank_low, rank_high = (np.where(is_enough, end, np.nan) for end in (*ends, *ranks))
    return {
        "gain": sample.value,
        "gain_low": low,
        "gain_high": high,
        "gain_censored": sides(sample.censored),
        "gain_low_censored": sides(np.where(is_enough, flags.low, 0)),
        "gain_high_censored": sides(np.where(is_enough, flags.high, 0)),
        "rank_low": rank_low,
        "rank_high": rank_high,
    }


def _norms(variants: pl.DataFrame, condition: str, strengths: Floats, seeds: Sequence[str]) -> Floats:
    """Realised L2 norms of one condition at some strengths, (strengths, seeds, draws)."""
    rows = variants.filter(
        pl.col("condition") == condition,
        pl.col("seed_id").is_in(list(seeds)),
        pl.col("strength").is_in(strengths.tolist()),
    ).with_columns(layer=pl.lit("all"))
    cells = ArrayBuilder("realised_l2", strengths, ["all"], seeds, rows["draw"])
    cells.add(rows)
    return cells.dense().values[:, 0]


def sides(codes: Floats | Ints) -> list[str | None]:
    """Words for the sides of censored gains; None where measured."""
    return [_SIDES.get(int(code)) for code in codes.ravel()]


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    """Rows of table `layers` from arrays of any shape; NaN becomes null."""
    data = {}
    for name, values in columns.items():
        dtype = LAYERS.schema[name]
        cells = np.asarray(values, np.float64) if dtype.is_float() else values
        flat = cells.ravel() if isinstance(cells, np.ndarray) else cells
        data[name] = pl.Series(name, flat, nan_to_null=True).cast(dtype)
    return LAYERS.frame(data)
