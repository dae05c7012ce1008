"""What the report's template is filled with: plain rows and texts, made from tables and record."""

from typing import Final, NamedTuple

import polars as pl

from camdrift.figures.scope import Scope
from camdrift.report import numbers
from camdrift.tables.reading import Tables, scan, streamed
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import ADVERSARIAL, FAILED, NO_ADVERSARIAL, NOISE, UNREADABLE, count, strength_text

LONGEST_LIST: Final = 50
_LEFT_OUT: Final = {
    NO_ADVERSARIAL: "Without an adversarial example",
    UNREADABLE: "Unreadable",
    FAILED: "Failed",
}


class LeftOut(NamedTuple):
    """Images of one status that could not be analysed.

    Attributes:
        title: What they have in common.
        total: How many there are.
        rows: Seed and reason of the first `LONGEST_LIST`.
    """

    title: str
    total: int
    rows: list[tuple[str, str]]


def layers_left_out(tables: Tables) -> list[LeftOut]:
    """The images that could not be analysed, by status, with their reasons."""
    found = []
    for status, title in _LEFT_OUT.items():
        rows = tables["seeds"].filter(pl.col("status") == status)
        if rows.height:
            first = rows.head(LONGEST_LIST).select("seed_id", pl.col("reason").fill_null(numbers.UNDEFINED))
            found.append(LeftOut(title, rows.height, list(first.iter_rows())))
    return found


def shown_seeds(shown: int, scope: Scope) -> str:
    """How many images the explorer shows, in a sentence; empty for none."""
    if not shown:
        return ""
    if shown >= scope.analysed:
        return f"All {count(scope.analysed, 'analysed image')}." if shown > 1 else "The one analysed image."
    return f"{count(shown, 'image')} of {scope.analysed:,} analysed, chosen to span the range of deviation."


def undefined(tables: Tables) -> list[str]:
    """How many similarities are undefined, and why, one sentence per condition; the layers that have most."""
    similarity = scan(tables, "similarity")
    is_lost = pl.col("similarity").is_null()
    reason = pl.col("undefined_reason").fill_null("unknown")
    totals = dict(streamed(similarity.group_by("condition").len()).iter_rows())
    lost = streamed(similarity.filter(is_lost).group_by("condition", "layer_label", "layer_index", reason).len())
    lines = []
    for condition in (ADVERSARIAL, NOISE):
        if total := totals.get(condition):
            reasons = (
                lost.filter(pl.col("condition") == condition).group_by("undefined_reason").agg(pl.col("len").sum())
            )
            why = ", ".join(f"{word} {n:,}" for word, n in reasons.sort("undefined_reason").iter_rows())
            of_all = f"{reasons['len'].sum():,} of {total:,} {condition} similarities are undefined"
            lines.append(f"{of_all} ({why})." if why else f"{of_all}.")
    if lost.height:
        by_layer = lost.group_by("layer_label", "layer_index").agg(pl.col("len").sum().cast(pl.Int64))
        most = by_layer.sort(-pl.col("len"), "layer_index")
        named = ", ".join(f"{label} ({n:,})" for label, _, n in most.head(5).iter_rows())
        lines.append(f"Most of them are in {named}.")
    return lines


def warnings(record: Record) -> list[str]:
    """What the preflight found that a reader should know before trusting the study."""
    return [str(warning) for warning in (record.get("preflight") or {}).get("warnings") or []]


def facts(record: Record, scope: Scope) -> list[tuple[str, str]]:
    """The study at a glance: label and value."""
    found = f"{scope.analysed:,} of {scope.readable:,}"
    rate = f"{found} ({numbers.percent(scope.analysed / scope.readable)})" if scope.readable else "none was attacked"
    return [
        ("Model", scope.model),
        ("Attack", numbers.shown(effective(record).get("attack"))),
        ("Images", f"{scope.total:,} found, {scope.total - scope.statuses.get(UNREADABLE, 0):,} readable"),
        ("Adversarial examples", rate),
        ("Layers", f"{len(scope.layers):,}"),
        ("Maps", " by ".join(scope.measure.words)),
        ("Strengths", ", ".join(map(strength_text, scope.strengths)) or numbers.UNDEFINED),
    ]


def making(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """How the study was made: groups of label and value; what the record lacks is left out."""
    model, images = record.get("model") or {}, record.get("images") or {}
    groups = {
        "Run": {key: record.get(key) for key in ("command", "started", "finished", "engine", "device", "machine")},
        "Settings": effective(record),
        "Model": {key: value for key, value in model.items() if key != "labels"},
        "Images": images,
        "Preflight": {k: v for k, v in (record.get("preflight") or {}).items() if k != "warnings"},
        "Versions": {"camdrift": record.get("camdrift"), **(record.get("versions") or {})},
        "Time": {k: numbers.duration(float(v)) for k, v in (record.get("timings") or {}).items()},
    }
    rows = {title: [(_words(k), numbers.shown(v)) for k, v in values.items()] for title, values in groups.items()}
    return [(title, [row for row in group if row[1] != numbers.UNDEFINED]) for title, group in rows.items() if group]


def _words(key: str) -> str:
    return key.replace("_", " ").replace("sha256", "SHA-256")
