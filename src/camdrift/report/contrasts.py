"""The findings of a comparison in words: sentences whose every number comes from its tables."""

from itertools import combinations
from math import comb
from typing import Final

import polars as pl

from camdrift.figures.scope import span
from camdrift.figures.sides import Sides, compared_sides, profile
from camdrift.report.crossed import crossed_sentences
from camdrift.report.numbers import between, fraction, percent, times, times_between
from camdrift.tables.comparison import BY_GAIN
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import TARGET_CLASSES, count, strength_text

_LONGEST: Final = 4
# In simulations with 2, 3 and 5 images the interval held the tau of the true rankings in 65, 89 and 93 %.
_FEW: Final = 5


def comparison_sentences(tables: Tables) -> list[str]:
    """The findings in full sentences; those that the tables cannot support are left out."""
    sides = compared_sides(tables)
    sentences = [
        scene(sides),
        agreement_sentence(tables, sides),
        depth(tables, sides),
        tops(tables, sides),
        stability(tables, sides),
        ratios(tables, sides),
        *crossed_sentences(tables, sides.targets[0], sides.reference),
        *cautions(tables, sides),
    ]
    return [sentence for sentence in sentences if sentence]


def scene(sides: Sides) -> str:
    """The strength and the class that all other sentences are about."""
    classes = TARGET_CLASSES[sides.targets[0]]
    return f"All that follows is at strength {strength_text(sides.reference)}, explaining {classes}."


def agreement_sentence(tables: Tables, sides: Sides) -> str:
    """The sides most and least alike in their ranking, with Kendall's tau, interval, n, and the tau within reach."""
    rows = _agreements(tables, sides)
    if not rows:
        return "No two sides rank their layers."
    pairs = comb(sides.total, 2)
    gaps = f" {pairs - len(rows):,} of {count(pairs, 'pair')} have no tau: all layers of a side are tied, or too few."
    gaps = gaps if len(rows) < pairs else ""
    if len(rows) == 1:
        row = rows[0]
        itself = [_itself(tables, sides, row[side]) for side in ("side_a", "side_b")]
        ceiling = " and ".join(f"{fraction(tau, 2)} ({named(name)})" for name, tau in itself if tau is not None)
        tail = f" Repeated on other images, a side would agree with itself at about {ceiling}." if ceiling else ""
        return f"{_pair(row)} {_likeness(row)}: {_tau(row)}.{tail}{gaps}"
    # By the end of the interval that says least, so that no tau of a handful of images comes first.
    first = max(rows, key=lambda row: (_or(row["tau_low"], -1), row["tau"]))
    last = min(rows, key=lambda row: (_or(row["tau_high"], 1), row["tau"]))
    agreeing = sum(row["tau_low"] is not None and row["tau_low"] > 0 for row in rows)
    text = f"{agreeing:,} of {count(pairs, 'pair')} of sides agree more than by chance on which layers gain most"
    most = f"{text}. The most alike are {_pair(first)}: {_tau(first)}"
    return f"{most}; the least alike {_pair(last)}: {_tau(last)}.{gaps}"


def depth(tables: Tables, sides: Sides) -> str:
    """The sides in which the gain grows with depth, and those in which it falls."""
    rows = tables["trends"].filter(_here(sides), pl.col("tau").is_not_null())
    if rows.is_empty():
        return ""
    kinds: dict[str, list[Row]] = {"grows with depth": [], "falls with depth": [], "shows no clear trend": []}
    for row in rows.sort("tau", descending=True).iter_rows(named=True):
        low, high = row["tau_low"], row["tau_high"]
        kind = 0 if low is not None and low > 0 else 1 if high is not None and high < 0 else 2
        kinds[list(kinds)[kind]].append(row)
    parts = [f"{verb} in {_listed(group)}" for verb, group in kinds.items() if group]
    return f"The gain {'; it '.join(parts)} (tau of gain and depth)."


def _listed(rows: list[Row]) -> str:
    words = [f"{named(row['side'])} ({_value('', row)})" for row in rows[:_LONGEST]]
    rest = len(rows) - len(words)
    return ", ".join(words) + (f" and {count(rest, 'other side')}" if rest else "")


def tops(tables: Tables, sides: Sides) -> str:
    """The layer whose map each side moves most, of those that have a rank."""
    parts = []
    for side in sides.names[:_LONGEST]:
        layers = profile(tables, side, sides.targets[0], sides.reference).filter(pl.col("rank").is_not_null())
        if rows := layers.filter(pl.col("rank") == pl.col("rank").min()).to_dicts():
            gain = f"{times(rows[0]['gain'], rows[0]['gain_censored'])} {times_between(rows[0])}".strip()
            others = f" and {count(len(rows) - 1, 'other layer')}" if len(rows) > 1 else ""
            parts.append(f"{named(side)}: {rows[0]['layer_label']}{others}, gain {gain}, n = {rows[0]['n']}")
    rest = sides.total - len(sides.names[:_LONGEST])
    tail = f"; {count(rest, 'other side')} in the table" if rest > 0 else ""
    return f"Highest gain: {'; '.join(parts)}{tail}." if parts else ""


def stability(tables: Tables, sides: Sides) -> str:
    """The layers that keep their rank over the sides, and the one whose rank differs most; empty for other layers."""
    spread = _rank_spread(tables, sides)
    if not spread:
        return ""
    stable = [row for row in spread if row["low"] <= row["high"]]
    which = "both" if sides.total == 2 else "all"
    text = (
        f"For {len(stable):,} of {count(len(spread), 'layer')} the rank intervals of {which} sides overlap, so that no "
        "difference in rank can be told"
    )
    movers = [row for row in spread if row["low"] > row["high"]]
    if movers:
        worst = max(movers, key=lambda row: (row["low"] - row["high"], row["last"] - row["first"]))
        text += (
            f"; of the others the rank of {worst['label']} differs most: {worst['first']} in "
            f"{named(worst['first_side'])}, {worst['last']} in {named(worst['last_side'])}"
        )
    return f"{text}."


def _rank_spread(tables: Tables, sides: Sides) -> list[Row]:
    """First and last rank of every layer with their sides, and the ends that all its rank intervals share."""
    rows = tables["profiles"].filter(_here(sides), pl.col("rank_low").is_not_null())
    spread = []
    for layer, label in zip(sides.layers, sides.labels, strict=True):
        its = rows.filter(pl.col("layer") == layer).sort("rank").to_dicts()
        if len(its) == sides.total:
            common = {"low": max(row["rank_low"] for row in its), "high": min(row["rank_high"] for row in its)}
            ends = {"first": its[0]["rank"], "first_side": its[0]["side"]}
            ends |= {"last": its[-1]["rank"], "last_side": its[-1]["side"]}
            spread.append({"label": label, **common, **ends})
    return spread


def ratios(tables: Tables, sides: Sides) -> str:
    """The layer and pair with the largest difference of gain, and the number of such layers of that pair."""
    rows = tables["differences"].filter(_here(sides), pl.col("log2_gain_ratio").is_not_null())
    # One end may be open where a replicate's gain is a bound: the other alone can exclude no difference.
    clear = (pl.col("log2_gain_ratio_low") > 0) | (pl.col("log2_gain_ratio_high") < 0)
    differing = rows.filter(clear).sort(pl.col("log2_gain_ratio").abs(), descending=True)
    if rows.is_empty():
        return ""
    if differing.is_empty():
        return "No layer's measured gain differs between any two sides by more than its interval."
    top = differing.row(0, named=True)
    same = (pl.col("side_a") == top["side_a"]) & (pl.col("side_b") == top["side_b"])
    sign = 1 if top["log2_gain_ratio"] > 0 else -1
    less, more = (named(top["side_a"]), named(top["side_b"]))[::sign]
    value = 2 ** abs(top["log2_gain_ratio"])
    low, high = (_power(top[f"log2_gain_ratio_{end}"], sign) for end in ("low", "high")[::sign])
    return (
        f"Gains differ most between {more} and {less} at {_layer(top)}: {times(value)} [{low}, {high}] "
        f"times as high in {more} (n = {span([top['n_a'], top['n_b']])}); of this pair's "
        f"{count(rows.filter(same).height, 'measured layer')} {differing.filter(same).height:,} differ by more than "
        "their 95 % intervals, which are not corrected for the number of layers."
    )


def _power(end: float | None, sign: int) -> str:
    """An end of a ratio's interval; a word where nothing bounds it."""
    return "open" if end is None else times(2 ** (sign * end))


def cautions(tables: Tables, sides: Sides) -> list[str]:
    """Cautions for the reader: different images, few images, different success, different sizes."""
    is_of_two = pl.col("side_a") != pl.col("side_b")
    pairs = tables["agreement"].filter(_here(sides), pl.col("ranked_by") == BY_GAIN, is_of_two)
    rows = tables["sides"].to_dicts()
    sentences = [_different_images(pairs), _few_images(pairs), _different_success(pairs, rows), _different_sizes(rows)]
    return [sentence for sentence in sentences if sentence]


def _different_images(pairs: pl.DataFrame) -> str:
    """A caution if pairs share too few images to be compared image by image; empty if none do."""
    independent = pairs.filter(~pl.col("paired")).height
    if not independent:
        return ""
    which = "The two sides" if pairs.height == 1 else f"{independent:,} of {count(pairs.height, 'pair')}"
    return (
        f"{which} share fewer than two images with an adversarial example in both, and are compared as "
        "independent samples, all images of either side."
    )


def _few_images(pairs: pl.DataFrame) -> str:
    """A caution if pairs rest on few images; empty if none do."""
    few = pairs.filter(pl.min_horizontal("n_a", "n_b") < _FEW).height
    if not few:
        return ""
    which = "The two sides rest" if pairs.height == 1 else f"{few:,} of {count(pairs.height, 'pair')} rest"
    return f"{which} on fewer than {_FEW} images: their bootstrap intervals are too narrow."


def _different_success(pairs: pl.DataFrame, rows: list[Row]) -> str:
    """A caution on the pair whose attacks differ most in success, of those compared image by image; empty if none do.

    Args:
        pairs: Rows of table `agreement`, one per pair.
        rows: Rows of table `sides`.
    """
    names = set(pairs.filter("paired").select("side_a", "side_b").iter_rows())
    pairs_on_both = ((a, b) for a, b in combinations(rows, 2) if (a["side"], b["side"]) in names)
    apart = [pair for pair in pairs_on_both if _succeed_differently(*pair)]
    if not apart:
        return ""
    a, b = max(apart, key=lambda pair: abs(pair[0]["success"] - pair[1]["success"]))
    return (
        f"The attacks succeed at different rates ({named(a['side'])}: {percent(a['success'])}, "
        f"{named(b['side'])}: {percent(b['success'])} of the images): pairs rest on the images that both "
        "fool, which may be the easier ones."
    )


def _succeed_differently(a: Row, b: Row) -> bool:
    """Do the intervals of the success of two sides lie apart?"""
    if a["success"] is None:
        return False
    return bool(a["success_low"] > b["success_high"] or b["success_low"] > a["success_high"])


def _different_sizes(rows: list[Row]) -> str:
    """A caution if one side's perturbations are larger than another's by a fifth; empty if none are."""
    sizes = [row for row in rows if row["relative_l2"]]
    if not sizes:
        return ""
    least, most = (pick(sizes, key=lambda row: row["relative_l2"]) for pick in (min, max))
    if most["relative_l2"] <= 1.2 * least["relative_l2"]:
        return ""
    larger = times(most["relative_l2"] / least["relative_l2"])
    return (
        f"At strength 1 the perturbations of {named(most['side'])} are {larger} times as large as those of "
        f"{named(least['side'])} (median relative L2 norm): deviations grow with this, gains are relative "
        "to it."
    )


def _here(sides: Sides) -> pl.Expr:
    return (pl.col("target") == sides.targets[0]) & (pl.col("strength") == sides.reference)


def _agreements(tables: Tables, sides: Sides) -> list[Row]:
    """Agreement of different sides by gain, where it is defined."""
    rows = tables["agreement"].filter(
        _here(sides), pl.col("ranked_by") == BY_GAIN, pl.col("side_a") != pl.col("side_b"), pl.col("tau").is_not_null()
    )
    return rows.to_dicts()


def _itself(tables: Tables, sides: Sides, side: str) -> tuple[str, float | None]:
    is_itself = (pl.col("side_a") == side) & (pl.col("side_b") == side) & (pl.col("ranked_by") == BY_GAIN)
    return side, tables["agreement"].filter(_here(sides), is_itself)["tau"].item()


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _likeness(row: Row) -> str:
    low, high = row["tau_low"], row["tau_high"]
    if low is not None and low > 0:
        return "agree more than by chance on which layers gain most"
    if high is not None and high < 0:
        return "rank their layers in opposite order"
    return "neither agree nor disagree on which layers gain most, as far as can be told"


def named(side: str) -> str:
    """A side's name in running text: one of several parts in quotation marks."""
    return f"\u201c{side}\u201d" if ", " in side else side


def _pair(row: Row) -> str:
    return f"{named(row['side_a'])} and {named(row['side_b'])}"


def _tau(row: Row) -> str:
    images = span([row["n_a"], row["n_b"]])
    return f"{_value('tau ', row)} (n = {images} images, {count(row['n_layers'], 'layer')})"


def _value(word: str, row: Row) -> str:
    return f"{word}{fraction(row['tau'], 2)} {between(row['tau_low'], row['tau_high'])}".strip()


def _layer(row: Row) -> str:
    if row["layer_a"] == row["layer_b"]:
        return str(row["layer_label_a"])
    return f"{row['layer_label_a']} and {row['layer_label_b']}"
