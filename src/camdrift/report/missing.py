"""The gaps of a study in words: images that could not be analysed, similarities that are undefined."""

from typing import Any, Final, NamedTuple

import polars as pl

from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED
from camdrift.tables.reading import Tables, scan, streamed
from camdrift.tables.words import ADVERSARIAL, FAILED, NO_ADVERSARIAL, NOISE, UNREADABLE

LONGEST_LIST: Final = 50
_TITLES: Final = {
    NO_ADVERSARIAL: "Without an adversarial example",
    UNREADABLE: "Unreadable",
    FAILED: "Failed",
}


class ImagesLeftOut(NamedTuple):
    """Images of one status that could not be analysed.

    Attributes:
        title: Their status in words.
        total: Their number.
        rows: Seed and reason of the first `LONGEST_LIST`.
    """

    title: str
    total: int
    rows: list[tuple[str, str]]


def missing_section(material: Material) -> dict[str, Any]:
    """Values of template `missing`."""
    return {"left_out": _images_left_out(material.tables), "undefined": _undefined(material.tables)}


def _images_left_out(tables: Tables) -> list[ImagesLeftOut]:
    """The images that could not be analysed, by status, with their reasons."""
    groups = []
    for status, title in _TITLES.items():
        rows = tables["seeds"].filter(pl.col("status") == status)
        if rows.height:
            first = rows.head(LONGEST_LIST).select("seed_id", pl.col("reason").fill_null(UNDEFINED))
            groups.append(ImagesLeftOut(title, rows.height, list(first.iter_rows())))
    return groups


def _undefined(tables: Tables) -> list[str]:
    """One sentence per condition on how many similarities are undefined and why, and one on the layers with most."""
    similarity = scan(tables, "similarity")
    totals = dict(streamed(similarity.group_by("condition").len()).iter_rows())
    reason = pl.col("undefined_reason").fill_null("unknown")
    gaps = similarity.filter(pl.col("similarity").is_null())
    counts = streamed(gaps.group_by("condition", "layer_label", "layer_index", reason).len())
    sentences = [_by_reason(counts, c, totals[c]) for c in (ADVERSARIAL, NOISE) if totals.get(c)]
    return [*sentences, _by_layer(counts)] if counts.height else sentences


def _by_reason(counts: pl.DataFrame, condition: str, total: int) -> str:
    reasons = counts.filter(pl.col("condition") == condition).group_by("undefined_reason").agg(pl.col("len").sum())
    words = ", ".join(f"{word} {n:,}" for word, n in reasons.sort("undefined_reason").iter_rows())
    text = f"{reasons['len'].sum():,} of {total:,} {condition} similarities are undefined"
    return f"{text} ({words})." if words else f"{text}."


def _by_layer(counts: pl.DataFrame) -> str:
    layers = counts.group_by("layer_label", "layer_index").agg(pl.col("len").sum().cast(pl.Int64))
    first = layers.sort(-pl.col("len"), "layer_index").head(5)
    return f"Most of them are in {', '.join(f'{label} ({n:,})' for label, _, n in first.iter_rows())}."
