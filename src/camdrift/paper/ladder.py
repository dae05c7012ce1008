"""The ladder from the equations to the released code: the effect of every defect on the findings."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
import scipy.stats

from camdrift.paper.defects import NO_DEFECT, Defects, pooled_compromise, rungs
from camdrift.paper.readings import as_study, rows_of
from camdrift.statistics.layers import layer_statistics
from camdrift.tables.arrays import Floats
from camdrift.tables.reproduction import LADDER
from camdrift.tables.study import FLOOR
from camdrift.tables.words import ADVERSARIAL, NOISE

# The ranks of table `layers` are for inference and leave out layers with few images; these are held against each other.
_BY_GAIN: Final = pl.col("gain").rank("min", descending=True).over("strength").cast(pl.Int64)


def ladder(emulation: pl.DataFrame) -> pl.DataFrame:
    """Table `ladder`: every set of defects that `defects.rungs` names.

    Args:
        emulation: Table `emulation`.
    """
    if emulation.is_empty():
        return LADDER.frame()
    return pl.concat([_rung(emulation, defects) for defects in rungs()])


def rank_agreement(ladder: pl.DataFrame) -> pl.DataFrame:
    """Agreement of the findings under every set of defects with those of the equations: one row per set.

    Columns: defects; mean_deviation (mean over strengths and layers of 1 - similarity under the attack); excess (the
    same minus that under noise); tau_deviation and tau_gain (Kendall's tau of the layer rankings against those of
    the equations, mean over strengths; null where a ranking is constant); half_one and quarter_two_four (how far the
    curves of these strengths lie apart, as share of the range over all strengths, see `curve_distances`);
    compromised_middle (mean compromised fraction at the strengths 0.5 and 1) and compromised_outer (at the others).

    Args:
        ladder: Table `ladder`.
    """
    reference = ladder.filter(pl.col("defects") == NO_DEFECT)
    parts = ladder.partition_by("defects", as_dict=True, maintain_order=True)
    rows = [{"defects": str(name), **_agreement(part, reference)} for (name,), part in parts.items()]
    return pl.DataFrame(rows, infer_schema_length=None)


def curve_distances(similarity: Floats, strengths: Sequence[float]) -> tuple[float, float]:
    """Distance of the curves of 0.5 and 1, and of those of 0.25, 2 and 4, over the range of all strengths.

    Both are the mean over layers of a range of mean similarities, divided by the mean over layers of the range over
    all strengths: 0 for curves that coincide, 1 for curves that span everything. NaN where a strength is missing or
    all curves coincide.

    Args:
        similarity: Mean similarity, (strengths, layers).
        strengths: The strengths.
    """
    everything = _range(similarity)

    def distance(*group: float) -> float:
        places = [list(strengths).index(s) for s in group if s in strengths]
        is_complete = len(places) == len(group) and everything > 0
        return _range(similarity[places]) / everything if is_complete else np.nan

    return distance(0.5, 1.0), distance(0.25, 2.0, 4.0)


def _range(similarity: Floats) -> float:
    """Mean over layers of the range over strengths."""
    return float(np.nanmean(similarity.max(0) - similarity.min(0)))


def _rung(emulation: pl.DataFrame, defects: Defects) -> pl.DataFrame:
    """Rows of table `ladder` of one set of defects."""
    rows = rows_of(emulation, defects)
    similarity, variants = as_study(rows)
    statistics = layer_statistics(similarity, variants, FLOOR.frame(), rng_seed=0, n_bootstrap=0)
    shape = (statistics["strength"].n_unique(), -1)
    means = statistics["adversarial_mean"].fill_null(np.nan).to_numpy().reshape(shape)
    ranks = [scipy.stats.rankdata(row, method="min", nan_policy="omit") for row in means]
    return LADDER.frame(
        {
            "defects": [defects.name] * statistics.height,
            **{name: statistics[name] for name in ("strength", "layer", "layer_label", "layer_index", "n")},
            "mean_similarity": statistics["adversarial_mean"],
            "noise_similarity": statistics["noise_mean"],
            "compromised_fraction": _compromised(similarity, variants, statistics, defects),
            "rank": pl.Series(np.concatenate(ranks), nan_to_null=True).cast(pl.Int64),
            "gain": statistics["gain"],
            "gain_censored": statistics["gain_censored"],
            "gain_rank": statistics.select(_BY_GAIN)["gain"],
        }
    )


def _compromised(
    similarity: pl.DataFrame, variants: pl.DataFrame, statistics: pl.DataFrame, defects: Defects
) -> pl.Series:
    """Compromised fraction of every row of `statistics`, by the rule that the defects leave."""
    if defects.noise_for_attack:
        similarity, variants = _noise_for_attack(similarity), _noise_for_attack(variants)
        statistics = layer_statistics(similarity, variants, FLOOR.frame(), rng_seed=0, n_bootstrap=0)
    if not defects.pooled_threshold:
        return statistics["compromised_fraction"]
    shape = (statistics["strength"].n_unique(), -1)
    attack, noise = (
        statistics[name].fill_null(np.nan).to_numpy().reshape(shape) for name in ("adversarial_mean", "noise_mean")
    )
    return pl.Series(pooled_compromise(attack, noise).ravel(), nan_to_null=True)


def _noise_for_attack(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with those of noise in place of the attack's, at every strength of the attack but the lowest."""
    strengths = rows.filter(pl.col("condition") == ADVERSARIAL)["strength"].unique().sort()
    is_stronger = pl.col("strength").is_in(strengths[1:].to_list())
    rest = rows.filter(~((pl.col("condition") == ADVERSARIAL) & is_stronger))
    stand_in = rows.filter((pl.col("condition") == NOISE) & is_stronger)
    return pl.concat([rest, stand_in.with_columns(condition=pl.lit(ADVERSARIAL))])


def _agreement(part: pl.DataFrame, reference: pl.DataFrame) -> dict[str, float | None]:
    """The columns of `rank_agreement` for one set of defects."""
    strengths = part["strength"].unique(maintain_order=True).to_list()
    shape = (len(strengths), -1)
    attack, noise, fraction = (
        part[name].fill_null(np.nan).to_numpy().reshape(shape)
        for name in ("mean_similarity", "noise_similarity", "compromised_fraction")
    )
    distances = curve_distances(attack, strengths)
    is_middle = np.isin(strengths, (0.5, 1.0))
    values = {
        "mean_deviation": _mean(1 - attack),
        "excess": _mean(noise - attack),
        "tau_deviation": _tau(part, reference, "rank"),
        "tau_gain": _tau(part, reference, "gain_rank"),
        "half_one": distances[0],
        "quarter_two_four": distances[1],
        "compromised_middle": _mean(fraction[is_middle]),
        "compromised_outer": _mean(fraction[~is_middle]),
    }
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}


def _tau(part: pl.DataFrame, reference: pl.DataFrame, column: str) -> float:
    """Kendall's tau-b of two rankings, mean over strengths."""
    pairs = part.join(reference, on=["strength", "layer"], suffix="_reference").drop_nulls(column)
    taus = [
        scipy.stats.kendalltau(group[column].to_numpy(), group[f"{column}_reference"].to_numpy()).statistic
        for _, group in pairs.group_by("strength", maintain_order=True)
    ]
    return _mean(np.array(taus, dtype=np.float64))


def _mean(values: Floats) -> float:
    """Mean of the defined values; NaN where there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else np.nan
