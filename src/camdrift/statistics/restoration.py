"""Restoration: how far a purifier brings the map of each layer back to the clean one."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.statistics.bootstrap import percentile_interval, resample_counts, resampled_medians
from camdrift.statistics.residual import NoiseRuler, gains_left
from camdrift.tables.arrays import Floats
from camdrift.tables.defences import NOTHING_MOVED, RESTORATION
from camdrift.tables.table import Rows

_DEVIATIONS: Final = ("attacked", "purified", "clean_purified", "noise", "noise_purified")
_LAYERS: Final = ("layer", "layer_label", "layer_index")
# A layer counts as back where restoration stays above this.
RETURNED: Final = 0.5


def restoration(
    maps: pl.DataFrame, ruler: NoiseRuler | None = None, *, rng_seed: int, n_bootstrap: int = 1000
) -> pl.DataFrame:
    """Table `restoration`: per defence and layer 1 - median deviation purified / median deviation attacked.

    Median over median, not the median of ratios, which explode where an attack hardly moves a map. Seeds whose map the
    attack does not move are left out, layer by layer. Intervals resample the seeds.

    Args:
        maps: Table `purified_maps`.
        ruler: What noise does to the layers; None leaves gains out.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    rows: Rows = []
    for (defence, strength), part in maps.group_by("defence", "strength", maintain_order=True):
        for subset in (None, True, False):
            subset_rows = part if subset is None else part.filter(pl.col("returned") == subset)
            if subset_rows.height:
                keys = {"defence": defence, "strength": strength, "returned": subset}
                rows += _layer_rows(keys, subset_rows, ruler, rng_seed, n_bootstrap)
    return RESTORATION.frame(rows)


def _layer_rows(
    keys: Mapping[str, Any], maps: pl.DataFrame, ruler: NoiseRuler | None, rng_seed: int, n_bootstrap: int
) -> Rows:
    """One row per layer of one defence, strength and subset."""
    ordered_maps = maps.sort("layer_index", "seed_id")
    layers = ordered_maps.select(_LAYERS).unique(maintain_order=True)
    seeds = ordered_maps["seed_id"].unique().sort().to_list()
    shape = (layers.height, len(seeds))
    values = {name: _array(ordered_maps[name]).reshape(shape) for name in _DEVIATIONS}
    usable = _usable(values)
    resamples = resample_counts(shape[1], n_bootstrap, rng_seed=rng_seed)
    shares = {"restoration": ("purified", "attacked"), "ceiling": ("clean_purified", "attacked")}
    shares["restoration_noise"] = ("noise_purified", "noise")
    columns = {name: restored(usable[top], usable[bottom]) for name, (top, bottom) in shares.items()}
    medians = {name: resampled_medians(usable[name][..., None], resamples) for name in ("purified", "attacked")}
    counts = np.count_nonzero(~np.isnan(usable["attacked"]), axis=-1)
    # One image has no interval.
    has_interval = counts > 1
    interval = percentile_interval(_restored(medians["purified"], medians["attacked"]))
    columns |= {name: np.where(has_interval, end, np.nan) for name, end in zip(("low", "high"), interval, strict=True)}
    columns |= {f"deviation_{name}": _median(usable[name]) for name in _DEVIATIONS}
    gains: Rows = [{}] * layers.height
    if ruler is not None:
        attack = ruler.gains(usable["attacked"], seeds, keys["strength"], resamples[:0])
        left = ruler.gains(usable["purified"], seeds, keys["strength"], resamples)
        gains = gains_left(attack, left, has_interval=has_interval)
    rows: Rows = []
    for place, layer in enumerate(layers.iter_rows(named=True)):
        numbers = {name: _or_none(float(column[place])) for name, column in columns.items()}
        reason = NOTHING_MOVED if numbers["restoration"] is None else None
        rows.append({**keys, **layer, **numbers, "n": int(counts[place]), "undefined_reason": reason, **gains[place]})
    return rows


def _usable(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """The deviations of seeds whose maps are all defined and moved by the attack; NaN for the others."""
    is_usable = (values["attacked"] > 0) & ~np.isnan(values["purified"]) & ~np.isnan(values["clean_purified"])
    return {name: np.where(is_usable, column, np.nan) for name, column in values.items()}


def restored(behind: Floats, before: Floats) -> Floats:
    """1 - median of the deviations behind a purifier / median of those before it, along the last axis.

    NaN are left out; NaN where none is left, or where the lower median is 0.

    Example:
        >>> round(float(restored(np.array([0.1, 0.3, 0.5]), np.array([0.4, 0.2, 0.5]))), 6)
        0.25
    """
    return _restored(_median(behind), _median(before))


def _restored(behind: Floats, before: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = np.where(before > 0, behind / before, np.nan)
    return np.subtract(1, ratio)


def _median(values: Floats) -> Floats:
    """Median of the defined values along the last axis; NaN where there are none."""
    is_empty = np.asarray(np.isnan(values).all(-1))
    values_or_zero = np.where(is_empty[..., None], 0.0, values)
    medians: Floats = np.where(is_empty, np.nan, np.nanmedian(values_or_zero, axis=-1))
    return medians


def depth_of_return(rows: pl.DataFrame) -> str | None:
    """Label of the first layer from which restoration stays above 0.5 with the lower end of its interval.

    Args:
        rows: Rows of table `restoration` of one defence, strength and subset.

    Returns:
        The label; None where the last layer does not come back.
    """
    label = None
    for row in rows.sort("layer_index", descending=True).iter_rows(named=True):
        if row["restoration"] is None:
            continue
        if row["low"] is None or row["low"] <= RETURNED:
            break
        label = row["layer_label"]
    return label


def _array(column: pl.Series) -> Floats:
    return column.fill_null(np.nan).to_numpy()


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
