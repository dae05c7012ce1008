"""The tables of a comparison, made of the tables of the studies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl

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
from camdrift.errors import UserError
from camdrift.statistics.bootstrap import Interval
from camdrift.statistics.estimates import ratio, wilson_interval
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
    PROFILES,
    SIDES,
    TOO_FEW,
    TRENDS,
)
from camdrift.tables.table import Table
from camdrift.tables.words import ANALYSED, NO_ADVERSARIAL, TARGET_ORDER

OnPair = Callable[[int, int], None]

_LEAST_PAIRED: Final = 2
# Those of two runs by every measure, usually; orders once per ranking.
_KEPT_DRAWS: Final = 48


@dataclass(frozen=True)
class Common:
    """What all sides have, and what only some of them have.

    Attributes:
        targets: Targets of all sides, in display order.
        strengths: Strengths of all sides, ascending.
        dropped: What only some sides have, as words such as `strength 4`.
    """

    targets: tuple[str, ...]
    strengths: tuple[float, ...]
    dropped: tuple[str, ...]


def common(sides: Sequence[Side], targets: Sequence[str] | None = None) -> Common:
    """The targets and strengths that all sides have.

    Args:
        sides: The sides.
        targets: Those that are wanted; None for all.

    Raises:
        UserError: No target or no strength in all of them, or a wanted target that is not in all.
    """
    found = {}
    for name in ("target", "strength"):
        values = [set(side.rows(side.study.layers)[name]) for side in sides]
        shared, either = set.intersection(*values), set.union(*values)
        if not shared:
            pairs = zip(sides, values, strict=True)
            listed = "; ".join(f"{side.name}: {', '.join(map(str, sorted(its)))}" for side, its in pairs)
            raise UserError(f"`runs` must have a {name} in common, got: {listed}", f"run them with the same {name}s")
        found[name] = shared, either - shared
    shared, lost = found["target"]
    missing = [target for target in targets or () if target not in shared]
    if missing:
        raise UserError(
            f"`target` must be in all runs, got: {', '.join(missing)}", f"in all of them: {', '.join(sorted(shared))}"
        )
    wanted = [target for target in TARGET_ORDER if target in (targets or shared)]
    dropped = [f"target {target}" for target in TARGET_ORDER if target in lost]
    dropped += [f"strength {strength:g}" for strength in sorted(found["strength"][1])]
    return Common(tuple(wanted), tuple(sorted(found["strength"][0])), tuple(dropped))


def sides_table(sides: Sequence[Side]) -> pl.DataFrame:
    """Table `sides`."""
    return SIDES.frame([_side_row(side) for side in sides])


def _side_row(side: Side) -> dict[str, Any]:
    seeds = side.study.seeds
    analysed = seeds.filter(pl.col("status") == ANALYSED)
    attacked = analysed.height + seeds.filter(pl.col("status") == NO_ADVERSARIAL).height
    interval = wilson_interval(np.array([analysed.height]), np.array([attacked]))
    words = {name: value for name, value in side.words.items() if name != "weights"}
    return {
        "side": side.name,
        "run": str(side.study.path),
        **words,
        "n_layers": side.study.layers["layer"].n_unique(),
        "n_seeds": seeds.height,
        "n_attacked": attacked,
        "n_analysed": analysed.height,
        "success": analysed.height / attacked if attacked else None,
        "success_low": float(interval.low[0]) if attacked else None,
        "success_high": float(interval.high[0]) if attacked else None,
        "relative_l2": analysed["relative_l2"].median(),
        "linf": analysed["perturbation_linf"].median(),
    }


def profiles(sides: Sequence[Side], of: Common) -> pl.DataFrame:
    """Table `profiles`: what the runs say of every layer, side by side."""
    return pl.concat([_profile(side, of) for side in sides])


def _profile(side: Side, of: Common) -> pl.DataFrame:
    rows = side.rows(side.study.layers).filter(pl.col("strength").is_in(list(of.strengths)))
    parts = [rows.filter(pl.col("target") == target).sort("strength", "layer_index") for target in of.targets]
    names = _layers(side)["layer"].to_list()
    depth = dict(zip(names, relative_depth(len(names)).tolist(), strict=True))
    added = pl.concat(parts).with_columns(
        pl.lit(side.name).alias("side"), pl.col("layer").replace_strict(depth).alias("relative_depth")
    )
    return added.select(PROFILES.schema.names())


def _layers(side: Side) -> pl.DataFrame:
    """Names and labels of a side's layers in execution order."""
    rows = side.rows(side.study.layers)
    return rows.select("layer", "layer_label", "layer_index").unique().sort("layer_index", "layer")


class Contrasts:
    """Every two sides against each other.

    Args:
        sides: The sides.
        of: What they have in common.
        by: How layers are aligned: auto, name or depth.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """

    def __init__(
        self, sides: Sequence[Side], of: Common, *, by: str = AUTO, rng_seed: int = 0, n_bootstrap: int = 1000
    ) -> None:
        self._sides, self._of, self._by = sides, of, by
        self._rng_seed, self._n_bootstrap = rng_seed, n_bootstrap
        self._drawn = lru_cache(_KEPT_DRAWS)(self._draw)
        self._ordered = lru_cache(2 * _KEPT_DRAWS)(self._order)

    def tables(self, on_pair: OnPair | None = None) -> dict[str, pl.DataFrame]:
        """Tables `differences`, `agreement` and `trends`.

        Args:
            on_pair: Called after every pair with the number of pairs that are done and that of all.
        """
        differences, agreement, trends = [DIFFERENCES.frame()], [AGREEMENT.frame()], [TRENDS.frame()]
        done = 0
        for target in self._of.targets:
            for side in range(len(self._sides)):
                agreement.append(self._with_itself(side, target))
                trends.append(self._trend(side, target))
            pairs = list(combinations(range(len(self._sides)), 2))
            # Runs two by two, so that what was drawn on the seeds that they share serves all their measures.
            found = {}
            for pair in sorted(pairs, key=self._runs):
                found[pair] = self._pair(*pair, target).tables()
                if on_pair is not None:
                    done += 1
                    on_pair(done, len(pairs) * len(self._of.targets))
            differences += [found[pair][0] for pair in pairs]
            agreement += [found[pair][1] for pair in pairs]
        return {
            DIFFERENCES.name: pl.concat(differences),
            AGREEMENT.name: pl.concat(agreement),
            TRENDS.name: pl.concat(trends),
        }

    def _draw(self, side: int, target: str, seeds: tuple[str, ...], stream: int) -> Draws:
        chosen = self._sides[side]
        rows = chosen.rows(chosen.study.scan("similarity")).filter(pl.col("target") == target)
        options = {"rng_seed": self._rng_seed + stream, "n_bootstrap": self._n_bootstrap}
        return draws(rows, chosen.study.variants, seeds, self._of.strengths, **options)

    def _runs(self, pair: tuple[int, int]) -> tuple[str, ...]:
        return tuple(str(self._sides[side].study.path) for side in pair)

    def _order(self, drawn_from: tuple[Any, ...], ranked_by: str, layers: tuple[int, ...]) -> Order:
        return order(_ranking(self._drawn(*drawn_from), ranked_by)[..., layers])

    def _pair(self, a: int, b: int, target: str) -> "_Pair":
        one, other = self._sides[a], self._sides[b]
        seeds_a, seeds_b = one.seeds, other.seeds
        shared = tuple(name for name, checksum in seeds_a.items() if checksum and seeds_b.get(name) == checksum)
        is_paired = len(shared) >= _LEAST_PAIRED
        # Other seeds: drawn from a stream of their own.
        from_a = (a, target, shared if is_paired else tuple(seeds_a), 0)
        from_b = (b, target, shared if is_paired else tuple(seeds_b), 0 if is_paired else 1)
        layers = _layers(one), _layers(other)
        aligned = align(layers[0]["layer"].to_list(), layers[1]["layer"].to_list(), by=self._by)
        sides = ((from_a, tuple(aligned.a.tolist())), (from_b, tuple(aligned.b.tolist())))
        orders = {
            ranked_by: tuple(self._ordered(drawn_from, ranked_by, places) for drawn_from, places in sides)
            for ranked_by in (BY_GAIN, BY_DEVIATION)
        }
        common = {"side_a": one.name, "side_b": other.name, "target": target, "paired": is_paired}
        same_metric = one.words["metric"] == other.words["metric"]
        drawn_a, drawn_b = self._drawn(*from_a), self._drawn(*from_b)
        return _Pair(common, self._of.strengths, layers, aligned, drawn_a, drawn_b, orders, same_metric)

    def _with_itself(self, side: int, target: str) -> pl.DataFrame:
        seeds = self._sides[side].seeds
        drawn = self._drawn(side, target, tuple(seeds), 0)
        name = self._sides[side].name
        common = {"side_a": name, "side_b": name, "target": target, "aligned_by": "name", "paired": True}
        parts = []
        for ranked_by in (BY_GAIN, BY_DEVIATION):
            values = _ranking(drawn, ranked_by)
            tau, ends = repeatability(values)
            n_layers = np.count_nonzero(~np.isnan(values[0]), axis=-1)
            sizes = {"ranked_by": ranked_by, "n_a": len(seeds), "n_b": len(seeds)}
            parts.append(_agreement_rows({**common, **sizes}, self._of.strengths, tau, ends, n_layers))
        return _by_strength(parts)

    def _trend(self, side: int, target: str) -> pl.DataFrame:
        seeds = tuple(self._sides[side].seeds)
        gains = self._drawn(side, target, seeds, 0).gains.value
        taus = kendall_tau(gains, np.broadcast_to(np.arange(gains.shape[-1], dtype=np.float64), gains.shape))
        ends = _of_several(tau_interval(taus), len(seeds))
        strengths = self._of.strengths
        words = {"side": self._sides[side].name, "target": target, "n": len(seeds)}
        columns = {name: [value] * len(strengths) for name, value in words.items()}
        columns |= {"strength": list(strengths)}
        n_layers = np.count_nonzero(~np.isnan(gains[0]), axis=-1)
        numbers = {"n_layers": n_layers, "tau": taus[0], "tau_low": ends.low, "tau_high": ends.high}
        return _frame(TRENDS, {**columns, **numbers})


@dataclass(frozen=True)
class _Pair:
    """Two sides, and what was drawn of them on the seeds that they are compared on."""

    common: Mapping[str, Any]
    strengths: tuple[float, ...]
    layers: tuple[pl.DataFrame, pl.DataFrame]
    aligned: Alignment
    a: Draws
    b: Draws
    orders: Mapping[str, tuple[Order, ...]]
    same_metric: bool

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows of the tables `differences` and `agreement`."""
        return self.differences(), self.agreement()

    def differences(self) -> pl.DataFrame:
        """Rows of table `differences`."""
        x, y = self.a.deviation[:, self.aligned.a], self.b.deviation[:, self.aligned.b]
        is_paired = self.common["paired"]
        if is_paired:
            both = np.isnan(x) | np.isnan(y)
            x, y = np.where(both, np.nan, x), np.where(both, np.nan, y)
        found = (paired_difference if is_paired else unpaired_difference)(x, y)
        n_a, n_b = (np.count_nonzero(~np.isnan(values), axis=-1) for values in (x, y))
        enough = np.minimum(n_a, n_b) > 1
        keep = enough & self.same_metric
        ratios = log2_ratio(_take(self.a.gains, self.aligned.a), _take(self.b.gains, self.aligned.b))
        columns = {
            "n_a": n_a,
            "n_b": n_b,
            "deviation_a": _mean(x),
            "deviation_b": _mean(y),
            "difference": np.where(self.same_metric, found.mean, np.nan),
            "difference_low": np.where(keep, found.interval.low, np.nan),
            "difference_high": np.where(keep, found.interval.high, np.nan),
            "difference_undefined_reason": self._why_no_difference(enough),
            "log2_gain_ratio": ratios.mean,
            "log2_gain_ratio_low": np.where(enough, ratios.interval.low, np.nan),
            "log2_gain_ratio_high": np.where(enough, ratios.interval.high, np.nan),
            "log2_gain_ratio_undefined_reason": self._why_no_ratio(ratios.mean),
        }
        return _frame(DIFFERENCES, {**self._keys(), **columns})

    def _keys(self) -> dict[str, Any]:
        names: dict[str, Any] = {}
        depths = []
        for which, layers, chosen in zip("ab", self.layers, (self.aligned.a, self.aligned.b), strict=True):
            names[f"layer_{which}"] = layers["layer"].to_numpy()[chosen]
            names[f"layer_label_{which}"] = layers["layer_label"].to_numpy()[chosen]
            depths.append(relative_depth(layers.height)[chosen])
        names["relative_depth"] = (depths[0] + depths[1]) / 2
        n_layers, n_strengths = len(self.aligned.a), len(self.strengths)
        repeated = {name: np.tile(values, n_strengths) for name, values in names.items()}
        constant = {**self.common, "aligned_by": self.aligned.by}
        spread = {name: [value] * (n_layers * n_strengths) for name, value in constant.items()}
        return {**spread, "strength": np.repeat(self.strengths, n_layers), **repeated}

    def _why_no_difference(self, enough: np.ndarray) -> list[str | None]:
        if not self.same_metric:
            return [OTHER_METRIC] * enough.size
        return [None if known else TOO_FEW for known in enough.ravel()]

    def _why_no_ratio(self, ratios: Floats) -> list[str | None]:
        gains = self.a.gains.value[0][:, self.aligned.a], self.b.gains.value[0][:, self.aligned.b]
        no_gain = np.isnan(gains[0]) | np.isnan(gains[1])
        pairs = zip(np.isnan(ratios).ravel(), no_gain.ravel(), strict=True)
        return [None if not is_null else NO_GAIN if lacking else CENSORED for is_null, lacking in pairs]

    def agreement(self) -> pl.DataFrame:
        """Rows of table `agreement`."""
        sizes = {"n_a": self.a.deviation.shape[-1], "n_b": self.b.deviation.shape[-1], "aligned_by": self.aligned.by}
        parts = []
        for ranked_by, orders in self.orders.items():
            taus = kendall_tau(*orders)
            x = _ranking(self.a, ranked_by)[0][..., self.aligned.a]
            y = _ranking(self.b, ranked_by)[0][..., self.aligned.b]
            n_layers = np.count_nonzero(~np.isnan(x + y), axis=-1)
            common = {**self.common, **sizes, "ranked_by": ranked_by}
            parts.append(_agreement_rows(common, self.strengths, taus[0], tau_interval(taus), n_layers))
        return _by_strength(parts)


def _ranking(drawn: Draws, ranked_by: str) -> Floats:
    """What layers are ranked by, (1 + replicates, strengths, layers)."""
    return drawn.gains.value if ranked_by == BY_GAIN else drawn.means


def _agreement_rows(
    common: Mapping[str, Any], strengths: Sequence[float], tau: Floats, ends: Interval, n_layers: np.ndarray
) -> pl.DataFrame:
    n_seeds = min(common["n_a"], common["n_b"])
    is_alone = n_seeds < 2 and common["side_a"] == common["side_b"]
    if is_alone:
        tau = np.full_like(tau, np.nan)
    reasons = [
        None if known else TOO_FEW if n < 2 or is_alone else CONSTANT_RANKING
        for known, n in zip(~np.isnan(tau), n_layers, strict=True)
    ]
    columns = {name: [value] * len(strengths) for name, value in common.items()}
    ends = _of_several(ends, n_seeds)
    numbers = {"tau": tau, "tau_low": ends.low, "tau_high": ends.high, "n_layers": n_layers}
    return _frame(AGREEMENT, {**columns, "strength": np.array(strengths), **numbers, "undefined_reason": reasons})


def _of_several(ends: Interval, n_seeds: int) -> Interval:
    """The interval; none of a single seed, of which every bootstrap replicate is the same."""
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
