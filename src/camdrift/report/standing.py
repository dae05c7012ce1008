"""The main result of a comparison in a newcomer's words: who stands the attack better, and where it takes hold."""

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from camdrift.figures.scope import part_of
from camdrift.figures.sides import Sides, compared_sides, profile
from camdrift.report.contrasts import named
from camdrift.statistics.headline import Certainty, certainty_of, moves_further
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import count

_NETWORK: Final = ("model", "weights")
_ATTACK: Final = ("attack", "surrogate")


def comparison_headline(tables: Tables) -> str:
    """The main result as a sentence without its full stop."""
    sides, names = compared_sides(tables), short_names(tables)
    rows = tables["sides"].filter(pl.col("success").is_not_null()).to_dicts()
    has_networks, has_attacks = (tables["sides"].select(kind).n_unique() > 1 for kind in (_NETWORK, _ATTACK))
    places = _places(tables, sides, names, by="in" if has_networks else "under" if has_attacks else "by")
    if len(rows) < 2 or not (has_networks or has_attacks):
        return f"The same attack {places}" if places else f"The same attack, seen in {sides.total} ways"
    least, *_, most = sorted(rows, key=lambda row: (row["success"], row["side"]))
    # Networks can be told apart under one attack, attacks on one network.
    if has_networks and has_attacks:
        rates = _counts(least, most)
    else:
        rates = _rates(least, most, names, is_of_attacks=has_attacks)
    return f"{rates}; the attack {places}" if places else rates


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


def _rates(least: Row, most: Row, names: Mapping[str, str], *, is_of_attacks: bool) -> str:
    """Which network stands the attack better, or which attack fools more, with counts."""
    few, many = (f"{row['n_analysed']:,} of {count(row['n_attacked'], 'image')}" for row in (least, most))
    first, last = names[least["side"]], names[most["side"]]
    is_open = least["success_high"] >= most["success_low"]
    if is_of_attacks:
        if is_open:
            return (
                f"Whether {last} or {first} fools the network more cannot be told: {last} on {many}, {first} on {few}"
            )
        return f"{last} fools the network on {many}, {first} only on {few}"
    if is_open:
        question = f"Whether {first} or {last} stands the attack better cannot be told"
        return f"{question}: {first} is fooled on {few}, {last} on {many}"
    return f"{first} stands the attack better: it is fooled on {few}, {last} on {many}"


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
