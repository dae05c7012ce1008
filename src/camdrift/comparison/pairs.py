"""Every two sides of a comparison against each other: the tables `differences`, `agreement` and `trends`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.comparison.alignment import AUTO, Alignment, align, relative_depth
from camdrift.comparison.contrast import (
    Draws,
    Order,
    draws,
    kendall_tau,
    log2_ratio,
    order,
    paired_difference,
    repeatability,
    tau_interval,
    unpaired_difference,
)
from camdrift.comparison.sides import Side
from camdrift.comparison.tables import Common, layers_of
from camdrift.statistics.bootstrap import Interval
from camdrift.statistics.estimates import ratio
from camdrift.statistics.gain import Gains
from camdrift.tables.arrays import Floats
from camdrift.tables.comparison import (
    AGREEMENT,
    BY_DEVIATION,
    BY_GAIN,
    CENSORED,
    CONSTANT_RANKING,
    DIFFERENCES,
    NO_GAIN,
    OTHER_METRIC,
    TOO_FEW,
    TRENDS,
)
from camdrift.tables.table import Table
from camdrift.tables.words import ROUNDING

OnPair = Callable[[int, int], None]
# Called with what is done, in words, and how many of how many seeds.
OnCross = Callable[[str, int, int], None]

_LEAST_PAIRED: Final = 2
# Draws of two runs by every measure, usually; orders once per ranking.
_CACHED_DRAWS: Final = 48


class Contrasts:
    """Every two sides against each other.

    Args:
        sides: The sides.
        common: Targets and strengths of all of them.
        by: How layers are aligned: auto, name or depth.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """

    def __init__(
        self, sides: Sequence[Side], common: Common, *, by: str = AUTO, rng_seed: int = 0, n_bootstrap: int = 1000
    ) -> None:
        self._sides, self._common, self._by = sides, common, by
        self._rng_seed, self._n_bootstrap = rng_seed, n_bootstrap
        self._draws = lru_cache(_CACHED_DRAWS)(self._draw)
        self._orders = lru_cache(2 * _CACHED_DRAWS)(self._order)

    def tables(self, on_pair: OnPair | None = None) -> dict[str, pl.DataFrame]:
        """Return the tables `differences`, `agreement` and `trends` by name.

        Args:
            on_pair: Called after every pair with the number of pairs so far and the number of all pairs.
        """
        differences, agreement, trends = [DIFFERENCES.frame()], [AGREEMENT.frame()], [TRENDS.frame()]
        n_pairs = 0
        for target in self._common.targets:
            for side in range(len(self._sides)):
                agreement.append(self._with_itself(side, target))
                trends.append(self._trend(side, target))
            pairs = list(combinations(range(len(self._sides)), 2))
            # Runs two by two, so that the draws on the seeds that they share serve all their measures.
            parts = {}
            for pair in sorted(pairs, key=self._runs):
                parts[pair] = self._pair(*pair, target).tables()
                if on_pair is not None:
                    n_pairs += 1
                    on_pair(n_pairs, len(pairs) * len(self._common.targets))
            differences += [parts[pair][0] for pair in pairs]
            agreement += [parts[pair][1] for pair in pairs]
        return {
            DIFFERENCES.name: pl.concat(differences),
            AGREEMENT.name: pl.concat(agreement),
            TRENDS.name: pl.concat(trends),
        }

    def _draw(self, number: int, target: str, seeds: tuple[str, ...], stream: int) -> Draws:
        side = self._sides[number]
        rows = side.rows(side.study.scan("similarity")).filter(pl.col("target") == target)
        options = {"rng_seed": self._rng_seed + stream, "n_bootstrap": self._n_bootstrap}
        values = draws(rows, side.study.variants, seeds, self._common.strengths, **options)
        return values._replace(gains=values.gains.without(self._are_rounding(side, target)))

    def _are_rounding(self, side: Side, target: str) -> NDArray[np.bool_]:
        """Flags of a study's cells without a gain because of rounding: (strengths, layers)."""
        rows = side.rows(side.study.layers).filter(target=target, gain_undefined_reason=ROUNDING)
        cells = set(rows.select("strength", "layer").iter_rows())
        names = layers_of(side)["layer"]
        flags = [[(strength, name) in cells for name in names] for strength in self._common.strengths]
        return np.array(flags, dtype=np.bool_)

    def _runs(self, pair: tuple[int, int]) -> tuple[str, ...]:
        return tuple(str(self._sides[side].study.path) for side in pair)

    def _order(self, source: tuple[Any, ...], quantity: str, layers: tuple[int, ...]) -> Order:
        return order(_ranking(self._draws(*source), quantity)[..., layers])

    def _pair(self, a: int, b: int, target: str) -> "_Pair":
        one, other = self._sides[a], self._sides[b]
        seeds_a, seeds_b = one.seeds, other.seeds
        both = tuple(name for name, checksum in seeds_a.items() if checksum and seeds_b.get(name) == checksum)
        is_paired = len(both) >= _LEAST_PAIRED
        # Other seeds: drawn from a stream of their own.
        source_a = (a, target, both if is_paired else tuple(seeds_a), 0)
        source_b = (b, target, both if is_paired else tuple(seeds_b), 0 if is_paired else 1)
        layers = layers_of(one), layers_of(other)
        alignment = align(layers[0]["layer"].to_list(), layers[1]["layer"].to_list(), by=self._by)
        halves = ((source_a, tuple(alignment.a.tolist())), (source_b, tuple(alignment.b.tolist())))
        orders = {
            quantity: tuple(self._orders(source, quantity, places) for source, places in halves)
            for quantity in (BY_GAIN, BY_DEVIATION)
        }
        return _Pair(
            keys={"side_a": one.name, "side_b": other.name, "target": target, "paired": is_paired},
            strengths=self._common.strengths,
            layers=layers,
            alignment=alignment,
            a=self._draws(*source_a),
            b=self._draws(*source_b),
            orders=orders,
            is_same_metric=one.words["metric"] == other.words["metric"],
        )

    def _with_itself(self, number: int, target: str) -> pl.DataFrame:
        side = self._sides[number]
        seeds = tuple(side.seeds)
        draws_of_all = self._draws(number, target, seeds, 0)
        keys = {"side_a": side.name, "side_b": side.name, "target": target, "aligned_by": "name", "paired": True}
        parts = []
        for quantity in (BY_GAIN, BY_DEVIATION):
            values = _ranking(draws_of_all, quantity)
            tau, ends = repeatability(values)
            n_layers = np.count_nonzero(~np.isnan(values[0]), axis=-1)
            sizes = {"ranked_by": quantity, "n_a": len(seeds), "n_b": len(seeds)}
            parts.append(_agreement_rows({**keys, **sizes}, self._common.strengths, tau, ends, n_layers))
        return _by_strength(parts)

    def _trend(self, number: int, target: str) -> pl.DataFrame:
        side, strengths = self._sides[number], self._common.strengths
        seeds = tuple(side.seeds)
        gains = self._draws(number, target, seeds, 0).gains.value
        taus = kendall_tau(gains, np.broadcast_to(np.arange(gains.shape[-1], dtype=np.float64), gains.shape))
        ends = _of_several(tau_interval(taus), len(seeds))
        words = {"side": side.name, "target": target, "n": len(seeds)}
        columns = {name: [value] * len(strengths) for name, value in words.items()}
        columns |= {"strength": list(strengths)}
        n_layers = np.count_nonzero(~np.isnan(gains[0]), axis=-1)
        numbers = {"n_layers": n_layers, "tau": taus[0], "tau_low": ends.low, "tau_high": ends.high}
        return _frame(TRENDS, {**columns, **numbers})


@dataclass(frozen=True)
class _Pair:
    """Two sides, with the draws of each on the seeds that they are compared on.

    Attributes:
        keys: Columns that are the same in every row of the pair.
        strengths: Strengths to compare by.
        layers: Layers of either side, as `layers_of` returns them.
        alignment: The layers that correspond.
        a: Draws of the first side.
        b: Draws of the second.
        orders: By quantity that layers are ranked by, their order on either side.
        is_same_metric: Are both similarities by one metric, so that a difference means something?
    """

    keys: Mapping[str, Any]
    strengths: tuple[float, ...]
    layers: tuple[pl.DataFrame, pl.DataFrame]
    alignment: Alignment
    a: Draws
    b: Draws
    orders: Mapping[str, tuple[Order, ...]]
    is_same_metric: bool

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return rows of the tables `differences` and `agreement`."""
        return self.differences(), self.agreement()

    def differences(self) -> pl.DataFrame:
        """Return rows of the table `differences`."""
        x, y = self.a.deviation[:, self.alignment.a], self.b.deviation[:, self.alignment.b]
        is_paired = self.keys["paired"]
        if is_paired:
            is_missing = np.isnan(x) | np.isnan(y)
            x, y = np.where(is_missing, np.nan, x), np.where(is_missing, np.nan, y)
        change = (paired_difference if is_paired else unpaired_difference)(x, y)
        n_a, n_b = (np.count_nonzero(~np.isnan(values), axis=-1) for values in (x, y))
        is_enough = np.minimum(n_a, n_b) > 1
        is_bounded = is_enough & self.is_same_metric
        ratios = log2_ratio(_take(self.a.gains, self.alignment.a), _take(self.b.gains, self.alignment.b))
        columns = {
            "n_a": n_a,
            "n_b": n_b,
            "deviation_a": _mean(x),
            "deviation_b": _mean(y),
            "difference": np.where(self.is_same_metric, change.mean, np.nan),
            "difference_low": np.where(is_bounded, change.interval.low, np.nan),
            "difference_high": np.where(is_bounded, change.interval.high, np.nan),
            "difference_undefined_reason": self._why_no_difference(is_enough),
            "log2_gain_ratio": ratios.mean,
            "log2_gain_ratio_low": np.where(is_enough, ratios.interval.low, np.nan),
            "log2_gain_ratio_high": np.where(is_enough, ratios.interval.high, np.nan),
            "log2_gain_ratio_undefined_reason": self._why_no_ratio(ratios.mean),
        }
        return _frame(DIFFERENCES, {**self._key_columns(), **columns})

    def _key_columns(self) -> dict[str, Any]:
        names: dict[str, Any] = {}
        depths = []
        for which, layers, places in zip("ab", self.layers, (self.alignment.a, self.alignment.b), strict=True):
            names[f"layer_{which}"] = layers["layer"].to_numpy()[places]
            names[f"layer_label_{which}"] = layers["layer_label"].to_numpy()[places]
            depths.append(relative_depth(layers.height)[places])
        names["relative_depth"] = (depths[0] + depths[1]) / 2
        n_layers, n_strengths = len(self.alignment.a), len(self.strengths)
        layer_columns = {name: np.tile(values, n_strengths) for name, values in names.items()}
        keys = {**self.keys, "aligned_by": self.alignment.by}
        columns = {name: [value] * (n_layers * n_strengths) for name, value in keys.items()}
        return {**columns, "strength": np.repeat(self.strengths, n_layers), **layer_columns}

    def _why_no_difference(self, is_enough: np.ndarray) -> list[str | None]:
        if not self.is_same_metric:
            return [OTHER_METRIC] * is_enough.size
        return [None if is_known else TOO_FEW for is_known in is_enough.ravel()]

    def _why_no_ratio(self, ratios: Floats) -> list[str | None]:
        gains = self.a.gains.value[0][:, self.alignment.a], self.b.gains.value[0][:, self.alignment.b]
        is_gainless = np.isnan(gains[0]) | np.isnan(gains[1])
        pairs = zip(np.isnan(ratios).ravel(), is_gainless.ravel(), strict=True)
        return [None if not is_null else NO_GAIN if lacks_gain else CENSORED for is_null, lacks_gain in pairs]

    def agreement(self) -> pl.DataFrame:
        """Return rows of the table `agreement`."""
        sizes = {"n_a": self.a.deviation.shape[-1], "n_b": self.b.deviation.shape[-1], "aligned_by": self.alignment.by}
        parts = []
        for quantity, orders in self.orders.items():
            taus = kendall_tau(*orders)
            x = _ranking(self.a, quantity)[0][..., self.alignment.a]
            y = _ranking(self.b, quantity)[0][..., self.alignment.b]
            n_layers = np.count_nonzero(~np.isnan(x + y), axis=-1)
            keys = {**self.keys, **sizes, "ranked_by": quantity}
            parts.append(_agreement_rows(keys, self.strengths, taus[0], tau_interval(taus), n_layers))
        return _by_strength(parts)


def _ranking(side: Draws, quantity: str) -> Floats:
    """The quantity that layers are ranked by, (1 + replicates, strengths, layers)."""
    return side.gains.value if quantity == BY_GAIN else side.means


def _agreement_rows(
    keys: Mapping[str, Any], strengths: Sequence[float], tau: Floats, ends: Interval, n_layers: np.ndarray
) -> pl.DataFrame:
    n_seeds = min(keys["n_a"], keys["n_b"])
    is_alone = n_seeds < 2 and keys["side_a"] == keys["side_b"]
    if is_alone:
        tau = np.full_like(tau, np.nan)
    reasons = [
        None if is_known else TOO_FEW if n < 2 or is_alone else CONSTANT_RANKING
        for is_known, n in zip(~np.isnan(tau), n_layers, strict=True)
    ]
    columns = {name: [value] * len(strengths) for name, value in keys.items()}
    ends = _of_several(ends, n_seeds)
    numbers = {"tau": tau, "tau_low": ends.low, "tau_high": ends.high, "n_layers": n_layers}
    return _frame(AGREEMENT, {**columns, "strength": np.array(strengths), **numbers, "undefined_reason": reasons})


def _of_several(ends: Interval, n_seeds: int) -> Interval:
    """The interval; without ends for a single seed, of which every bootstrap replicate is the same."""
    return ends if n_seeds > 1 else Interval(*(np.full_like(end, np.nan) for end in ends))


def _by_strength(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).sort("strength", maintain_order=True)


def _take(gains: Gains, layers: np.ndarray) -> Gains:
    """The gains of some layers (last axis)."""
    return Gains(
        gains.value[..., layers], gains.censored[..., layers], gains.least[..., layers], gains.most[..., layers]
    )


def _mean(values: Floats) -> Floats:
    n = np.count_nonzero(~np.isnan(values), axis=-1)
    return ratio(np.nansum(values, axis=-1), n)


def _frame(table: Table, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Rows from arrays of any shape; what is not finite becomes null."""
    return table.frame(dict(_series(table, columns)))


def _series(table: Table, columns: Mapping[str, Any]) -> Iterator[tuple[str, pl.Series]]:
    for name, values in columns.items():
        flat = values.ravel() if isinstance(values, np.ndarray) else values
        if isinstance(flat, np.ndarray) and flat.dtype.kind == "f":
            flat = [value if np.isfinite(value) else None for value in flat.tolist()]
        yield name, pl.Series(name, flat, dtype=table.schema[name])
