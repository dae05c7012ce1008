"""Controls: comparisons whose outcome is known, or that rule out another reason for the findings of a study."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import percentile_interval, resample_counts, resampled_totals
from camdrift.statistics.estimates import ratio
from camdrift.statistics.layers import layer_statistics
from camdrift.tables.reading import AnyFrame, by_seeds, collected, scan, streamed
from camdrift.tables.study import CONTROLS, FLOOR
from camdrift.tables.table import Rows
from camdrift.tables.words import ADVERSARIAL, NOISE

# Names of the controls.
NOISE_AGAINST_NOISE: Final = "noise against noise"
SECOND_DRAW: Final = "another draw of the noise"
SPECTRUM: Final = "noise of the attack's spectrum"
CHANNELS: Final = "noise matched per channel"
NOTHING: Final = "strength 0"
UNRELATED: Final = "unrelated images"
OWN_CLASS: Final = "own class against fixed class"
FOOLING: Final = "images that still fool the network"
NORM: Final = "norm after clipping"

_Frame = TypeVar("_Frame", pl.DataFrame, pl.LazyFrame)


class ImageRows(NamedTuple):
    """The rows of some images, one image per seed and strength.

    Attributes:
        similarity: Rows of table `similarity`.
        variants: Rows of table `variants`.
    """

    similarity: pl.LazyFrame
    variants: pl.DataFrame


def study_controls(tables: Mapping[str, pl.DataFrame], *, rng_seed: int, n_bootstrap: int = 1000) -> pl.DataFrame:
    """Rows of table `controls` that the tables of any study give.

    Args:
        tables: similarity, variants and floor, by name; the first is read piece by piece.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    similarity, variants = scan(tables, "similarity"), tables["variants"]
    seed_ids = streamed(similarity.select("seed_id").unique())["seed_id"].sort().to_list()
    if not seed_ids:
        return CONTROLS.frame()
    bootstrap = _Bootstrap(seed_ids, n_bootstrap, rng_seed)
    rows = _realised_norm(variants, bootstrap)
    rows += _of_similarity(similarity, variants, scan(tables, "floor"), bootstrap)
    if streamed(similarity.select(pl.col("draw").max())).item():
        first, second = (ImageRows(_noise(similarity, draw), _noise(variants, draw)) for draw in (0, 1))
        rows += null_rows(statistics_between(second, first, rng_seed=rng_seed, n_bootstrap=n_bootstrap))
    return CONTROLS.frame(rows)


def statistics_between(attack: ImageRows, noise: ImageRows, *, rng_seed: int, n_bootstrap: int) -> pl.DataFrame:
    """Table `layers` of a study in which some images stand for the attack and others for noise.

    Args:
        attack: The images that stand for the attack.
        noise: The images that stand for noise.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    similarity = pl.concat([_relabel(attack.similarity, ADVERSARIAL), _relabel(noise.similarity, NOISE)])
    variants = pl.concat([_relabel(attack.variants, ADVERSARIAL), _relabel(noise.variants, NOISE)])
    return layer_statistics(similarity, variants, FLOOR.frame(), rng_seed=rng_seed, n_bootstrap=n_bootstrap)


def null_rows(statistics: pl.DataFrame) -> Rows:
    """Rows of the control `NOISE_AGAINST_NOISE`, which may find nothing.

    Args:
        statistics: Table `layers` in which a second draw of the noise stands for the attack.
    """
    rows = gain_rows(NOISE_AGAINST_NOISE, "gain", statistics, expectation=1.0)
    for (target, strength), part in statistics.group_by("target", "strength", maintain_order=True):
        words = {"control": NOISE_AGAINST_NOISE, "target": target, "strength": strength, "n": part["n_pairs"].max()}
        n_rejections = part.filter(pl.col("wilcoxon_p_holm") < 0.05).height
        values = {
            "compromised fraction": (part["compromised_fraction"].mean(), 0.5),
            "layers that differ (Holm, 5 %)": (float(n_rejections), 0.0),
            "pairs of layers whose rank intervals overlap": (_overlapping(part), 1.0),
        }
        rows += [{**words, "quantity": q, "value": v, "expected": e} for q, (v, e) in values.items()]
    return rows


def gain_rows(control: str, quantity: str, statistics: pl.DataFrame, *, expectation: float | None = None) -> Rows:
    """Rows of a control that compares gains: per strength their median over layers, and each layer's with its interval.

    Args:
        control: Name of the control.
        quantity: Name of the quantity.
        statistics: Table `layers` in which other images stand for the attack or for noise.
        expectation: The gain if nothing is wrong; None if there is no such number.
    """
    words = {"control": control, "quantity": quantity, "expected": expectation}
    rows: Rows = []
    for (target, strength), part in statistics.group_by("target", "strength", maintain_order=True):
        here = {**words, "target": target, "strength": strength}
        rows.append({**here, "value": part["gain"].median(), "n": part["n_pairs"].max()})
        layers = part.select("layer", value="gain", low="gain_low", high="gain_high", n="n_pairs")
        rows += [{**here, **row} for row in layers.iter_rows(named=True)]
    return rows


class _Bootstrap:
    """Means over seeds with bootstrap intervals; all share the same resamples."""

    def __init__(self, seed_ids: Sequence[str], n_bootstrap: int, rng_seed: int) -> None:
        self.seed_ids = pl.DataFrame({"seed_id": seed_ids})
        self._counts = resample_counts(len(seed_ids), n_bootstrap, rng_seed=rng_seed)

    def mean(self, values: pl.DataFrame) -> dict[str, Any]:
        """value, low, high and n of the mean of `value` over seeds, of a frame with one row per `seed_id`."""
        column = self.seed_ids.join(values, on="seed_id", how="left", maintain_order="left")["value"]
        numbers: NDArray[np.float64] = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        is_defined = ~np.isnan(numbers)
        n = int(is_defined.sum())
        if not n:
            return {"n": 0}
        totals = resampled_totals(np.where(is_defined, numbers, 0), self._counts)
        sizes = resampled_totals(is_defined.astype(np.float64), self._counts)
        ends = percentile_interval(ratio(totals, sizes)[:, None]) if n > 1 else None
        interval = {} if ends is None else {"low": float(ends.low[0]), "high": float(ends.high[0])}
        return {"value": float(numbers[is_defined].mean()), **interval, "n": n}

    def by(self, each: pl.DataFrame, keys: Sequence[str], words: Mapping[str, Any]) -> Rows:
        """Rows of controls, one per combination of `keys`: the mean over seeds of the values that `_each` returned."""
        parts = each.sort(*keys, "seed_id").group_by(*keys, maintain_order=True)
        return [{**words, **dict(zip(keys, key, strict=True)), **self.mean(part)} for key, part in parts]


def _each(rows: pl.DataFrame, keys: Sequence[str], value: pl.Expr) -> pl.DataFrame:
    """Each seed's mean of `value` per combination of `keys`."""
    return rows.group_by(*keys, "seed_id").agg(value.mean().alias("value"))


def _realised_norm(variants: pl.DataFrame, bootstrap: _Bootstrap) -> Rows:
    """Share of the norm that clipping leaves, relative to the weakest strength, where it takes least."""
    first = variants.filter(pl.col("draw") == 0)
    unit = first.sort("strength").group_by("seed_id", "condition", maintain_order=True).first()
    unit = unit.select("seed_id", "condition", unit=pl.col("realised_l2") / pl.col("strength"))
    ratio = first.join(unit, on=["seed_id", "condition"]).filter(pl.col("unit") > 0)
    share = pl.col("realised_l2") / (pl.col("strength") * pl.col("unit"))
    rows: Rows = []
    for condition in (ADVERSARIAL, NOISE):
        words = {"control": NORM, "quantity": f"realised over requested L2, {condition}", "expected": 1.0}
        each = _each(ratio.filter(pl.col("condition") == condition), ["strength"], share)
        rows += bootstrap.by(each, ["strength"], words)
    return rows


class _Quantity(NamedTuple):
    """A quantity of which every seed has a mean.

    Attributes:
        control: Name of the control.
        quantity: Name of the quantity.
        keys: Columns that tell its rows apart.
        read: Reads each seed's mean from a piece of table `similarity`.
    """

    control: str
    quantity: str
    keys: tuple[str, ...]
    read: Callable[[pl.DataFrame], pl.DataFrame]


def _of_similarity(similarity: AnyFrame, variants: pl.DataFrame, floor: pl.LazyFrame, bootstrap: _Bootstrap) -> Rows:
    """Controls that are means over seeds of quantities read from their similarities."""
    quantities = [_unrelated(floor), *_own_class(), *_fooling(variants)]
    parts: list[list[pl.DataFrame]] = [[] for _ in quantities]
    for piece in by_seeds(similarity, "seed_id", "condition", "strength", "draw", "target", "layer", "similarity"):
        for each, quantity in zip(parts, quantities, strict=True):
            each.append(quantity.read(piece))
    rows: Rows = []
    for each, quantity in zip(parts, quantities, strict=True):
        words = {"control": quantity.control, "quantity": quantity.quantity}
        rows += bootstrap.by(pl.concat(each), quantity.keys, words)
    return rows


def _unrelated(floor: pl.LazyFrame) -> _Quantity:
    """Height of the similarity under the attack above that of unrelated images."""
    pairs = collected(floor.select("target", "layer", "similarity"))
    means = pairs.group_by("target", "layer").agg(pl.col("similarity").mean().alias("floor"))
    keys = ("target", "strength")

    def read(piece: pl.DataFrame) -> pl.DataFrame:
        rows = piece.filter(pl.col("condition") == ADVERSARIAL).join(means, on=["target", "layer"])
        return _each(rows, keys, pl.col("similarity") - pl.col("floor"))

    return _Quantity(UNRELATED, "similarity under the attack above the floor", keys, read)


def _own_class() -> list[_Quantity]:
    """Deviation that is added by explaining each image's own class."""
    cell, keys = ["seed_id", "strength", "draw", "layer"], ("strength",)

    def read(piece: pl.DataFrame, condition: str) -> pl.DataFrame:
        rows = piece.filter(pl.col("condition") == condition)
        own, seed = (rows.filter(pl.col("target") == target) for target in ("own", "seed"))
        pairs = own.join(seed.select(*cell, fixed="similarity"), on=cell)
        return _each(pairs, keys, pl.col("fixed") - pl.col("similarity"))

    quantity = "deviation added by the change of class"
    return [_Quantity(OWN_CLASS, f"{quantity}, {c}", keys, partial(read, condition=c)) for c in (ADVERSARIAL, NOISE)]


def _fooling(variants: pl.DataFrame) -> list[_Quantity]:
    """Deviation of adversarial images that fool the network at a strength, and of those that do not."""
    image, keys = ["seed_id", "strength"], ("target", "strength")
    flips = variants.filter(pl.col("condition") == ADVERSARIAL).select(*image, "is_flipped")

    def read(piece: pl.DataFrame, is_flipped: bool) -> pl.DataFrame:
        of_kind = flips.filter(pl.col("is_flipped") == is_flipped).select(image)
        rows = piece.filter(pl.col("condition") == ADVERSARIAL).join(of_kind, on=image)
        return _each(rows, keys, 1 - pl.col("similarity"))

    names = {"fooling": True, "not fooling": False}
    return [_Quantity(FOOLING, f"deviation, {n}", keys, partial(read, is_flipped=is_it)) for n, is_it in names.items()]


def _overlapping(part: pl.DataFrame) -> float | None:
    """Share of pairs of layers whose rank intervals overlap."""
    ranks = part.drop_nulls(["rank_low", "rank_high"])
    low, high = ranks["rank_low"].to_numpy(), ranks["rank_high"].to_numpy()
    pairs = np.triu_indices(len(low), 1)
    overlap = (low[:, None] <= high[None]) & (low[None] <= high[:, None])
    return float(overlap[pairs].mean()) if len(pairs[0]) else None


def _noise(rows: _Frame, draw: int) -> _Frame:
    """The rows of one draw of the noise."""
    return rows.filter(pl.col("condition") == NOISE, pl.col("draw") == draw)


def _relabel(rows: _Frame, condition: str) -> _Frame:
    """The rows as if their images were of one condition and the first draw."""
    return rows.with_columns(condition=pl.lit(condition), draw=pl.lit(0, dtype=pl.Int64))
