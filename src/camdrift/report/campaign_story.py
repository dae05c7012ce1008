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
_LEVEL: Final = 0.05


def campaign_headline(tables: Tables, record: Record) -> str:
    """Return the main result in a sentence without its full stop."""
    n_seeds = tables["starts"].filter(pl.col("status") == FUZZED).height
    rows = tables["frameworks"].filter(pl.col("count") == UNIQUE)
    least, most = min(rows["median"].to_list()), max(rows["median"].to_list())
    worst, best = (rows.filter(pl.col("median") == end)["framework"].to_list() for end in (least, most))
    settings = record["settings"]
    trials = "" if settings["trials"] == 1 else f" (median of {settings['trials']} trials)"
    where = f"on {count(n_seeds, 'seed image')} in {settings['budget'].replace('-', ' ')}{trials}"
    if most == 0:
        return f"{best[0]} finds no failure {where}" if rows.height == 1 else f"No framework finds a failure {where}"
    pairs = f"{'one pair' if most == 1 else f'{most:g} pairs'} of seed and wrong class"
    if rows.height == 1:
        return f"{best[0]} finds {pairs} {where}"
    if least == most:
        return f"{_listed(best)} find {pairs} each, {where}"
    if len(best) == 1 and _is_ahead(tables["pairs"], best[0], rows.height):
        return f"{best[0]} finds most: {pairs} {where}"
    each = " each" if len(best) > 1 else ""
    return (
        f"Which framework finds most cannot be told: {_listed(best)} {pairs}{each}, {_listed(worst)} {least:g}, {where}"
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_ahead(pairs: pl.DataFrame, name: str, n_frameworks: int) -> bool:
    """Does a framework find more than each of the others, beyond chance?"""
    is_its = (pl.col("framework") == name) | (pl.col("other") == name)
    beyond = pairs.filter(is_its, pl.col("count") == UNIQUE, pl.col("p_holm") < _LEVEL)
    return beyond.height == n_frameworks - 1


def campaign_sentences(tables: Tables, record: Record) -> list[str]:
    """Return what follows the headline: seeds left out, moved pictures, where failures take hold, differences."""
    lines = []
    failures, left_out = tables["failures"], tables["starts"].filter(pl.col("status") != FUZZED)
    if left_out.height:
        lines.append(f"{count(left_out.height, 'seed image')} not fuzzed: {left_out['reason'][0]}")
    n_moved = failures.filter(pl.col("is_moved")).height
    if n_moved:
        trials = " of all trials" if failures.select("framework", "trial").n_unique() > 1 else ""
        has, keeps = ("has a moved picture", "keeps its") if n_moved == 1 else ("have moved pictures", "keep their")
        lines.append(
            f"{n_moved:,} of {count(failures.height, 'failure')}{trials} {has} (rotated, scaled, ...), "
            f"which {keeps} label by convention only"
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
        return ["One trial: no statement about differences between frameworks"] if is_compared else []
    rows = tables["pairs"].filter(pl.col("count") == UNIQUE).to_dicts()
    trials, pairs = record["settings"]["trials"], len(rows)
    # The smallest p-value that the test can give, without ties, times Holm's first factor.
    least = 2 / comb(2 * trials, trials) * pairs
    if pairs and least >= _LEVEL:
        cure = "more trials" if pairs == 1 else "more trials or fewer frameworks"
        return [
            f"{trials} trials of each framework cannot tell any difference from chance (p is at least "
            f"{min(1.0, least):.2g}, with Holm's correction for {count(pairs, 'pair')}): {cure} can"
        ]
    return [_difference(row) for row in rows if _is_with_control(row) or row["p_holm"] < _LEVEL] or (
        ["No two frameworks differ in pairs of seed and wrong class beyond chance (Mann-Whitney, Holm)"] if rows else []
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
    verdict = "beyond chance" if row["p_holm"] < _LEVEL else "not beyond chance"
    return f"{first} against {second}: finds more in {effect:.0%} of pairs of trials, {verdict} (p {row['p_holm']:.2g})"
