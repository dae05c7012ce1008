"""The tables `sides` and `profiles` of a comparison, and the targets and strengths that its sides share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.comparison.alignment import relative_depth
from camdrift.comparison.sides import Side
from camdrift.errors import UserError
from camdrift.masking import without_home
from camdrift.statistics.estimates import paired_shares, wilson_interval
from camdrift.tables.comparison import PROFILES, SIDE_FLIPS, SIDE_OUTCOMES, SIDES
from camdrift.tables.words import ANALYSED, NO_ADVERSARIAL, TARGET_ORDER

_LEAST_PAIRED: Final = 2


@dataclass(frozen=True)
class Common:
    """Targets and strengths of all sides, and those of only some of them.

    Attributes:
        targets: Targets of all sides, in display order.
        strengths: Strengths of all sides, ascending.
        dropped: Targets and strengths that a side lacks, as words such as `strength 4`.
    """

    targets: tuple[str, ...]
    strengths: tuple[float, ...]
    dropped: tuple[str, ...]


def common_to(sides: Sequence[Side], targets: Sequence[str] | None = None) -> Common:
    """Return the targets and strengths that all sides have.

    Args:
        sides: The sides.
        targets: The targets to compare by; None for all.

    Raises:
        UserError: The sides share no target or no strength, or a target to compare by is not in all of them.
    """
    all_targets, lone_targets = _values(sides, "target")
    strengths, lone_strengths = _values(sides, "strength")
    missing = [target for target in targets or () if target not in all_targets]
    if missing:
        raise UserError(
            f"`target` must be in all runs, got: {', '.join(missing)}",
            f"in all of them: {', '.join(sorted(all_targets))}",
        )
    order = [target for target in TARGET_ORDER if target in (targets or all_targets)]
    lone = [f"target {target}" for target in TARGET_ORDER if target in lone_targets]
    lone += [f"strength {strength:g}" for strength in sorted(lone_strengths)]
    return Common(tuple(order), tuple(sorted(strengths)), tuple(lone))


def _values(sides: Sequence[Side], name: str) -> tuple[set[Any], set[Any]]:
    """Values of a column that all sides have, at least one, and those that only some have."""
    values = [set(side.rows(side.study.layers)[name]) for side in sides]
    everywhere, anywhere = set.intersection(*values), set.union(*values)
    if not everywhere:
        pairs = zip(sides, values, strict=True)
        text = "; ".join(f"{side.name}: {', '.join(map(str, sorted(its)))}" for side, its in pairs)
        raise UserError(f"`runs` must have a {name} in common, got: {text}", f"run them with the same {name}s")
    return everywhere, anywhere - everywhere


def sides_table(sides: Sequence[Side]) -> pl.DataFrame:
    """Return the table `sides`."""
    return SIDES.frame([_side_row(side) for side in sides])


def _side_row(side: Side) -> dict[str, Any]:
    seeds = side.study.seeds
    analysed_seeds = seeds.filter(pl.col("status") == ANALYSED)
    n_analysed = analysed_seeds.height
    n_attacked = n_analysed + seeds.filter(pl.col("status") == NO_ADVERSARIAL).height
    interval = wilson_interval(np.array([n_analysed]), np.array([n_attacked]))
    return {
        "side": side.name,
        "run": without_home(str(side.study.path)),
        **side.words,
        "weights": side.words["weights"] or None,
        "n_layers": side.study.layers["layer"].n_unique(),
        "n_seeds": seeds.height,
        "n_attacked": n_attacked,
        "n_analysed": n_analysed,
        "success": n_analysed / n_attacked if n_attacked else None,
        "success_low": float(interval.low[0]) if n_attacked else None,
        "success_high": float(interval.high[0]) if n_attacked else None,
        "relative_l2": analysed_seeds["relative_l2"].median(),
        "linf": analysed_seeds["perturbation_linf"].median(),
    }


def profiles(sides: Sequence[Side], common: Common) -> pl.DataFrame:
    """Return the table `profiles`: the runs' numbers on every layer, side by side."""
    return pl.concat([_profile(side, common) for side in sides])


def _profile(side: Side, common: Common) -> pl.DataFrame:
    rows = side.rows(side.study.layers).filter(pl.col("strength").is_in(list(common.strengths)))
    parts = [rows.filter(pl.col("target") == target).sort("strength", "layer_index") for target in common.targets]
    names = layers_of(side)["layer"].to_list()
    depth = dict(zip(names, relative_depth(len(names)).tolist(), strict=True))
    table = pl.concat(parts).with_columns(
        pl.lit(side.name).alias("side"), pl.col("layer").replace_strict(depth).alias("relative_depth")
    )
    return table.select(PROFILES.schema.names())


def layers_of(side: Side) -> pl.DataFrame:
    """Return names and labels of a side's layers in execution order."""
    rows = side.rows(side.study.layers)
    return rows.select("layer", "layer_label", "layer_index").unique().sort("layer_index", "layer")


def flips_table(sides: Sequence[Side]) -> pl.DataFrame:
    """Return the table `flips` of a comparison: the runs' own, side by side."""
    parts = [side.study.flips.select(pl.lit(side.name).alias("side"), pl.all()) for side in sides]
    return pl.concat(parts).select(SIDE_FLIPS.schema.names())


def outcomes_table(sides: Sequence[Side]) -> pl.DataFrame:
    """Return the table `outcomes`: whom the attack fools, of the images that two runs attacked."""
    victims = {side.study.path: _attacked(side) for side in sides}
    pairs = ((a, b) for a, b in combinations(sides, 2) if a.study.path != b.study.path)
    rows = (_outcome(a, b, victims[a.study.path], victims[b.study.path]) for a, b in pairs)
    return SIDE_OUTCOMES.frame([row for row in rows if row["n"] >= _LEAST_PAIRED])


def _attacked(side: Side) -> pl.DataFrame:
    """Name and checksum of the images that a side's attack ran on, and whether they have an adversarial example."""
    seeds = side.study.seeds.filter(pl.col("status").is_in([ANALYSED, NO_ADVERSARIAL]), pl.col("sha256").is_not_null())
    return seeds.select("seed_id", "sha256", (pl.col("status") == ANALYSED).alias("hit"))


def _outcome(a: Side, b: Side, of_a: pl.DataFrame, of_b: pl.DataFrame) -> dict[str, Any]:
    pairs = of_a.join(of_b, on=("seed_id", "sha256"), suffix="_b")
    counts = [pairs.filter(hit=hit, hit_b=hit_b).height for hit in (True, False) for hit_b in (True, False)]
    both, only_a, only_b, neither = counts
    n = pairs.height
    row = {"side_a": a.name, "side_b": b.name, "n": n}
    row |= {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    if not n:
        return row
    change = paired_shares(both, only_a, only_b, neither)
    shares = {"share_a": (both + only_a) / n, "share_b": (both + only_b) / n, "difference": change.difference}
    return row | shares | {"difference_low": change.low, "difference_high": change.high, "p": change.p}
