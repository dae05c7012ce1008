"""A campaign in sentences."""

from collections.abc import Mapping
from math import comb
from typing import Any, Final

import polars as pl

from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import count

# The count by which a campaign is told in a sentence.
UNIQUE: Final = "seed_classes"
FUZZED: Final = "fuzzed"
_WITH_CONTROL: Final = "keep-random"


def campaign_headline(tables: Tables, record: Record) -> str:
    """Return the main result in a sentence without its full stop."""
    n_seeds = tables["starts"].filter(pl.col("status") == FUZZED).height
    rows = tables["frameworks"].filter(pl.col("count") == UNIQUE)
    most = max(rows["median"].to_list())
    best = rows.filter(pl.col("median") == most)["framework"].to_list()
    settings = record["settings"]
    trials = "" if settings["trials"] == 1 else f" (median of {settings['trials']} trials)"
    where = f"on {count(n_seeds, 'seed image')} in {settings['budget'].replace('-', ' ')}{trials}"
    if most == 0:
        return f"{best[0] if rows.height == 1 else 'each framework'} finds no failure {where}"
    pairs = f"{'one pair' if most == 1 else f'{most:g} pairs'} of seed and wrong class"
    if len(best) > 1:
        most_of_all = "most, " if rows.height > len(best) else ""
        return f"{', '.join(best[:-1])} and {best[-1]} find {most_of_all}{pairs} each, {where}"
    return f"{best[0]} finds {'most: ' if rows.height > 1 else ''}{pairs} {where}"


def campaign_sentences(tables: Tables, record: Record) -> list[str]:
    """Return what follows the headline: seeds left out, moved pictures, where failures take hold, differences."""
    lines = []
    failures, left_out = tables["failures"], tables["starts"].filter(pl.col("status") != FUZZED)
    if left_out.height:
        lines.append(f"{count(left_out.height, 'seed image')} not fuzzed: {left_out['reason'][0]}")
    n_moved = failures.filter(pl.col("is_moved")).height
    if n_moved:
        lines.append(
            f"{n_moved:,} of {failures.height:,} failures have moved pictures (rotated, scaled, ...), "
            "which keep their label by convention only"
        )
    return [*lines, *_onsets(tables["clusters"]), *framework_sentences(tables, record)]


def _onsets(clusters: pl.DataFrame) -> list[str]:
    """A sentence on the layer at which most failures take hold."""
    by_layer = clusters.group_by("layer", maintain_order=True).agg(pl.col("failures").sum())
    if not by_layer.height:
        return []
    total = int(by_layer["failures"].sum())
    layer, number = by_layer.sort("failures", descending=True, maintain_order=True).row(0)
    ending = "s" if number == 1 else ""
    where = f"stay{ending} within matched noise at the last layer" if layer is None else f"take{ending} hold in {layer}"
    return [f"{number} of {count(total, 'failure')} whose pictures are not moved {where}"]


def framework_sentences(tables: Tables, record: Record) -> list[str]:
    """Return sentences on differences between frameworks; none for one framework."""
    if record["settings"]["trials"] == 1:
        is_compared = tables["frameworks"]["framework"].n_unique() > 1
        return ["one trial: no statement about differences between frameworks"] if is_compared else []
    rows = tables["pairs"].filter(pl.col("count") == UNIQUE).to_dicts()
    trials, pairs = record["settings"]["trials"], len(rows)
    # The smallest p-value that the test can give, without ties, times Holm's first factor.
    least = 2 / comb(2 * trials, trials) * pairs
    if pairs and least >= 0.05:
        return [
            f"{trials} trials of {count(pairs, 'pair')} of frameworks cannot tell any difference from chance (p is at "
            f"least {min(1.0, least):.2g} after Holm's correction): more trials or fewer frameworks can"
        ]
    return [_difference(row) for row in rows if _is_with_control(row) or row["p_holm"] < 0.05] or (
        ["no two frameworks differ in pairs of seed and wrong class beyond chance (Mann-Whitney, Holm)"] if rows else []
    )


def _is_with_control(row: Mapping[str, Any]) -> bool:
    return any(row[name].startswith(_WITH_CONTROL) for name in ("framework", "other"))


def _difference(row: Mapping[str, Any]) -> str:
    """One pair of frameworks in words."""
    first, second, effect = row["framework"], row["other"], row["a12"]
    if effect == 0.5:
        return f"{first} against {second}: each finds more as often as the other (p {row['p_holm']:.2g})"
    if effect < 0.5:
        first, second, effect = second, first, 1 - effect
    verdict = "beyond chance" if row["p_holm"] < 0.05 else "not beyond chance"
    return f"{first} against {second}: finds more in {effect:.0%} of pairs of trials, {verdict} (p {row['p_holm']:.2g})"
