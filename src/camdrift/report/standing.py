"""The main result of a comparison in a newcomer's words: who stands the attack better, and where it takes hold."""

from typing import Final

import polars as pl

from camdrift.figures.scope import part_of
from camdrift.figures.sides import Sides, compared_sides, profile
from camdrift.report.contrasts import named
from camdrift.statistics.headline import UNKNOWN, certainty_of
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import count

_MEASURES: Final = ("explanation", "metric")
_MAKERS: Final = ("model", "attack", "surrogate")


def comparison_headline(tables: Tables) -> str:
    """The main result as a sentence without its full stop."""
    sides = compared_sides(tables)
    rows = tables["sides"].filter(pl.col("success").is_not_null()).to_dicts()
    varying = {name for name in (*_MAKERS, *_MEASURES) if tables["sides"][name].n_unique() > 1}
    places = _places(tables, sides)
    if not varying & set(_MAKERS) or len(rows) < 2:
        return f"The same attack{places}" if places else f"{count(sides.total, 'side')}: no two rank their layers"
    ordered = sorted(rows, key=lambda row: (row["success"], row["side"]))
    return f"{_rates(ordered[0], ordered[-1], is_of_attacks='model' not in varying)}{places and f'; it{places}'}"


def _rates(least: Row, most: Row, *, is_of_attacks: bool) -> str:
    """Which network stands the attack better, or which attack fools more, with counts."""
    numbers = [f"{row['n_analysed']:,} of {count(row['n_attacked'], 'image')}" for row in (least, most)]
    first, last = named(least["side"]), named(most["side"])
    if least["success_high"] >= most["success_low"]:
        question = "fools more images" if is_of_attacks else "stands the attack better"
        who = "attack" if is_of_attacks else "network"
        return f"Which {who} {question} cannot be told: {numbers[0]} are fooled with {first}, {numbers[1]} with {last}"
    if is_of_attacks:
        return f"{last} fools the network on {numbers[1]}, {first} only on {numbers[0]}"
    return f"{first} stands the attack better: it is fooled on {numbers[0]}, {last} on {numbers[1]}"


def _places(tables: Tables, sides: Sides) -> str:
    """Where the attack takes hold in the first sides, as the end of a sentence; empty if nothing is known."""
    if len(sides.names) > 2:
        return ""
    places = {name: _place(tables, sides, name) for name in sides.names}
    if not any(places.values()):
        return ""
    if len(set(places.values())) == 1:
        return f" takes hold in {next(iter(places.values()))} in both"
    told = [f"in {place} with {named(name)}" for name, place in places.items() if place]
    rest = [f"where with {named(name)} cannot be told" for name, place in places.items() if not place]
    return f" takes hold {', '.join([' and '.join(told), *rest])}"


def _place(tables: Tables, sides: Sides, side: str) -> str:
    """The part of the network that a side's first layer stands for; empty where it cannot be told."""
    rows = profile(tables, side, sides.targets[0], sides.reference).sort("layer_index")
    ranks = rows.filter(pl.col("rank").is_not_null()).sort("rank", "layer_index")
    if ranks.is_empty() or certainty_of(ranks.row(0, named=True), ranks.height) == UNKNOWN:
        return ""
    return part_of(rows["layer_label"].to_list(), rows["layer"].to_list().index(ranks["layer"][0]))
