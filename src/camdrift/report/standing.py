"""The main result of a comparison in a newcomer's words: who stands the attack better, and where it takes hold."""

import re
from collections.abc import Mapping
from math import comb
from typing import Final, NamedTuple

import polars as pl

from camdrift.figures.scope import part_of
from camdrift.figures.sides import Sides, compared_sides, profile
from camdrift.report.contrasts import named
from camdrift.report.numbers import between, p_text, percent
from camdrift.statistics.headline import Certainty, certainty_of, moves_further
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import count

_NETWORK: Final = ("model", "weights")
_ATTACK: Final = ("attack", "surrogate")
_LEVEL: Final = 0.05


def comparison_headline(tables: Tables) -> str:
    """The main result as a sentence without its full stop."""
    sides, names = compared_sides(tables), short_names(tables)
    extremes = _extremes(tables)
    has_networks, has_attacks = (tables["sides"].select(kind).n_unique() > 1 for kind in (_NETWORK, _ATTACK))
    places = _places(tables, sides, names, by="in" if has_networks else "under" if has_attacks else "by")
    if extremes is None or not (has_networks or has_attacks):
        return f"The same attack {places}" if places else f"The same attack, seen in {sides.total} ways"
    least, most = extremes
    # Networks can be told apart under one attack, attacks on one network.
    if has_networks and has_attacks:
        rates = _counts(least, most)
    else:
        rates = _rates(_duel(tables, least, most), names, is_of_attacks=has_attacks)
    return f"{rates}; the attack {places}" if places else rates


def outcome_sentences(tables: Tables) -> list[str]:
    """How far the shares of fooled images lie apart on the same images, in the two sides that differ most."""
    extremes = _extremes(tables)
    row = _outcome(tables, *extremes) if extremes else None
    if row is None:
        return []
    a, b = named(row["side_a"]), named(row["side_b"])
    ends = between(100 * row["difference_low"], 100 * row["difference_high"], 0)
    p = p_text(row["p"])
    return [
        f"On the {row['n']:,} images that both runs attacked, the attack succeeds on {percent(row['share_a'])} in {a} "
        f"and on {percent(row['share_b'])} in {b}, a difference of {100 * row['difference']:.0f} {ends} percentage "
        f"points: {row['only_a']:,} fooled in {a} alone, {row['only_b']:,} in {b} alone (McNemar's exact test, "
        f"p {p if p.startswith('<') else f'= {p}'})."
    ]


def _extremes(tables: Tables) -> tuple[Row, Row] | None:
    """The sides whose attacks succeed least and most; None where there are no two."""
    rows = tables["sides"].filter(pl.col("success").is_not_null()).sort("success", "side").to_dicts()
    return (rows[0], rows[-1]) if len(rows) > 1 else None


def _outcome(tables: Tables, one: Row, other: Row) -> Row | None:
    """The row of table `outcomes` of two sides; None where they share no images."""
    names = [one["side"], other["side"]]
    return next(
        iter(tables["outcomes"].filter(pl.all_horizontal(pl.col("side_a", "side_b").is_in(names))).to_dicts()), None
    )


class _Duel(NamedTuple):
    """Two sides, and on how many images their attacks succeed.

    Attributes:
        first: Name of the side with fewer of them.
        last: Name of the other.
        few: Images that are fooled in the first.
        many: Images that are fooled in the last.
        n: Images that the attack ran on, in either.
        are_same: Are they the same images?
        is_open: Can it not be told which side has more?
    """

    first: str
    last: str
    few: int
    many: int
    n: tuple[int, int]
    are_same: bool
    is_open: bool


def _duel(tables: Tables, least: Row, most: Row) -> _Duel:
    """Two sides against each other: on the images that both attacked, or on all of either where they share none.

    Same images are told apart by McNemar's exact test, others by intervals that do not overlap. Of several runs these
    two are those that lie furthest apart, so p is multiplied by the number of pairs.
    """
    row = _outcome(tables, least, most)
    if row is None:
        counts, n = (least["n_analysed"], most["n_analysed"]), (least["n_attacked"], most["n_attacked"])
        is_open = least["success_high"] >= most["success_low"]
        return _Duel(least["side"], most["side"], *counts, n, are_same=False, is_open=is_open)
    hits = sorted((row["both"] + row[f"only_{end}"], row[f"side_{end}"]) for end in "ab")
    n_pairs = comb(tables["sides"]["run"].n_unique(), 2)
    is_open = row["p"] * n_pairs >= _LEVEL
    (few, first), (many, last) = hits
    return _Duel(first, last, few, many, (row["n"], row["n"]), are_same=True, is_open=is_open)


def short_names(tables: Tables) -> dict[str, str]:
    """A name of each side in as few words as tell it from the others: its model's, its attack's, or its own."""
    # Settings of an attack stand in brackets.
    parts = [re.split(r", (?![^(]*\))", name) for name in tables["sides"]["side"]]
    for place in range(max(map(len, parts))):
        words = [part[place] if place < len(part) else "" for part in parts]
        if all(words) and len(set(words)) == len(words):
            return dict(zip(tables["sides"]["side"], words, strict=True))
    return {side: named(side) for side in tables["sides"]["side"]}


def _counts(least: Row, most: Row) -> str:
    """The sides with the fewest and the most images that are fooled."""
    few, many = (f"{row['n_analysed']:,} of {count(row['n_attacked'], 'image')}" for row in (least, most))
    return f"The fewest images are fooled in {named(least['side'])}, {few}, the most in {named(most['side'])}, {many}"


def _rates(duel: _Duel, names: Mapping[str, str], *, is_of_attacks: bool) -> str:
    """Which network stands the attack better, or which attack fools more, with counts."""
    first, last = names[duel.first], names[duel.last]
    # Of the same images their number is said once, where it is first needed.
    few, many = (f"{hits:,} of {count(n, 'image')}" for hits, n in zip((duel.few, duel.many), duel.n, strict=True))
    if duel.are_same:
        few, many = f"{duel.few:,}", f"{duel.many:,}"
    same = f"of the same {count(duel.n[0], 'image')} " if duel.are_same else ""
    if is_of_attacks:
        if duel.is_open:
            return (
                f"Whether {last} or {first} fools the network more cannot be told: {same}{last} fools it on {many}, "
                f"{first} on {few}"
            )
        return f"{last} fools the network more: {same}on {many}, {first} on {few}"
    if duel.is_open:
        question = f"Whether {first} or {last} stands the attack better cannot be told"
        return f"{question}: {same}{first} is fooled on {few}, {last} on {many}"
    return f"{first} stands the attack better: {same}it is fooled on {few}, {last} on {many}"


def _places(tables: Tables, sides: Sides, names: Mapping[str, str], *, by: str) -> str:
    """Where the attack takes hold in two sides, as the end of a sentence; empty for more, or if nothing is known."""
    places = {name: _place(tables, sides, name) for name in sides.names}
    if len(places) > 2 or not any(places.values()):
        return ""
    words = {name: place.replace("its ", "the ") for name, place in places.items()}
    if len(set(words.values())) == 1:
        return f"takes hold in {next(iter(words.values()))}, {by} {' and '.join(names[name] for name in words)} alike"
    parts = [f"in {place} {by} {names[name]}" for name, place in words.items() if place]
    rest = [f" ({by} {names[name]} it cannot be told where)" for name, place in words.items() if not place]
    return f"takes hold {' and '.join(parts)}{''.join(rest)}"


def _place(tables: Tables, sides: Sides, side: str) -> str:
    """The part of the network that a side's first layer stands for; empty where it cannot be told."""
    rows = profile(tables, side, sides.targets[0], sides.reference).sort("layer_index")
    ranks = rows.filter(pl.col("rank").is_not_null()).sort("rank", "layer_index")
    if ranks.is_empty() or certainty_of(ranks.row(0, named=True), ranks.height) == Certainty.UNKNOWN:
        return ""
    if not moves_further(ranks.row(0, named=True)):
        return "no layer"
    return part_of(rows["layer_label"].to_list(), rows["layer"].to_list().index(ranks["layer"][0]))
