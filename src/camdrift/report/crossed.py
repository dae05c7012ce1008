"""The parts of a difference in words: sentences whose every number comes from table `crossed`."""

from typing import Final

import polars as pl

from camdrift.report.numbers import fraction, percent
from camdrift.tables.comparison import BY_DEVIATION, CROSSED, FLIPPED
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import count, strength_text

_MOST_PAIRS: Final = 3


def crossed_sentences(tables: Tables, target: str, strength: float) -> list[str]:
    """What of the first pairs' differences is the model's and what the attack's; nothing where none were crossed.

    Args:
        tables: Those of the comparison.
        target: Whose class is explained.
        strength: Strength of the attack.
    """
    if CROSSED.name not in tables or tables[CROSSED.name].is_empty():
        return []
    table = tables[CROSSED.name].filter(pl.col("strength") == strength)
    pairs = table.select("side_a", "side_b").unique(maintain_order=True).rows()
    texts = [_pair(table.filter(side_a=a, side_b=b), target) for a, b in pairs[:_MOST_PAIRS]]
    rest = len(pairs) - _MOST_PAIRS
    return [*texts, f"Table crossed has the other {count(rest, 'pair')}."] if rest > 0 else texts


def _pair(rows: pl.DataFrame, target: str) -> str:
    layers = rows.filter(quantity=BY_DEVIATION, target=target)
    flips: Row = rows.filter(quantity=FLIPPED).row(0, named=True)
    a, b = flips["side_a"], flips["side_b"]
    names = ("difference", "maps", "attack")
    means = dict(zip(names, map(fraction, layers.select(pl.col(*names).mean()).row(0)), strict=True))
    clear = {
        name: layers.filter((pl.col(f"{name}_low") > 0) | (pl.col(f"{name}_high") < 0)).height
        for name in ("maps", "attack")
    }
    words = {name: f"{means[name]} with the {name} (clear in {clear[name]:,} of them)" for name in clear}
    shares = f"{percent(flips['value_ab'])}, those of {a} fool {b} on {percent(flips['value_ba'])}"
    return (
        f"From {a} to {b} the deviation changes by {means['difference']} on average over "
        f"{count(layers.height, 'layer')}: {words['maps']} and {words['attack']}, n = {flips['n']:,}. At strength "
        f"{strength_text(flips['strength'])} the perturbations of {b} fool {a} on {shares}."
    )
