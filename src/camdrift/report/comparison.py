"""The figures and the page of a comparison: one self-contained file beside the tables it was made from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl

from camdrift.figures.comparison import comparison_figures
from camdrift.figures.sides import Sides, compared_sides
from camdrift.report import contrasts, standing
from camdrift.report.comparison_data import comparison_data
from camdrift.report.encoding import figure_files
from camdrift.report.numbers import UNDEFINED, between, p_text, percent, percent_between, spec_text, times, value_text
from camdrift.report.page.assets import fill_page, script
from camdrift.report.photos import SidePhoto, photo_rows
from camdrift.report.side_changes import side_change_sentences, side_changes_section
from camdrift.report.story import strength_words
from camdrift.report.terms import comparison_terms
from camdrift.statistics.ranks import LEAST_IMAGES
from camdrift.tables.file_names import COMPARISON_PAGE
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.table import Row
from camdrift.tables.words import TARGET_WORDS, strength_text

# Columns of the table of sides; what all sides share stands among the facts.
_WORDS: Final = {
    "model": "Model",
    "head": "Head",
    "attack": "Attack",
    "surrogate": "Surrogate",
    "explanation": "Explanation",
    "metric": "Metric",
}
_SCRIPTS: Final = ("text", "terms", "comparison_charts", "comparison")
_SHEETS: Final = ("style", "comparison", "perturbations")


def comparison_files(
    tables: Tables,
    record: Record,
    links: Mapping[str, str],
    notes: tuple[str, ...] = (),
    photos: Sequence[SidePhoto] = (),
) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the files of a comparison: every figure as PNG and PDF, and last the page.

    Args:
        tables: Tables of `tables.comparison.COMPARISON_TABLES` by name.
        record: The record of the comparison.
        links: Address of each run's own report as seen from the page, by the run's path; a run may have none.
        notes: Sentences on what was left out.
        photos: The same photo in each of the first sides; may be empty.
    """
    for name, figure in comparison_figures(tables).items():
        yield from figure_files(name, figure)
    yield COMPARISON_PAGE, render_comparison(tables, record, links, notes, photos).encode()


def render_comparison(
    tables: Tables,
    record: Record,
    links: Mapping[str, str],
    notes: tuple[str, ...] = (),
    photos: Sequence[SidePhoto] = (),
) -> str:
    """The page of a comparison; arguments as for `comparison_files`."""
    sides = compared_sides(tables)
    words = {name: head for name, head in _WORDS.items() if tables["sides"][name].n_unique() > 1}
    values = {
        "headline": standing.comparison_headline(tables),
        "photos": photo_rows(list(photos)),
        "strength_words": strength_words(sides.reference),
        "photo": photos[0].seed_id if photos else "",
        "reading": _reading(tables, sides),
        "outcomes": _outcomes(tables, sides),
        "sentences": [
            *standing.outcome_sentences(tables),
            *contrasts.comparison_sentences(tables),
            *side_change_sentences(tables),
            *notes,
        ],
        "changes": side_changes_section(tables),
        "facts": _facts(tables, sides),
        "sides": sides,
        "has_ranks": tables["profiles"]["rank"].drop_nulls().len() > 0,
        "least_images": LEAST_IMAGES,
        "words": list(words.values()),
        "side_rows": [_side(row, links, tuple(words)) for row in tables["sides"].iter_rows(named=True)],
        "target_words": TARGET_WORDS,
        "terms": comparison_terms(),
        "making": _making(record),
        "version": record.get("camdrift") or "",
        "data": comparison_data(tables, sides),
    }
    return fill_page("comparison.html.jinja", values, scripts=(script(_SCRIPTS),), sheets=_SHEETS)


def _reading(tables: Tables, sides: Sides) -> str:
    runs = tables["sides"]["run"].n_unique()
    left = f" The views show the first {len(sides.names)}." if sides.total > len(sides.names) else ""
    studies = "1 study" if runs == 1 else f"{runs:,} studies"
    ways = "" if sides.total == runs else f", seen in {sides.total:,} ways"
    return f"{studies} side by side{ways}.{left}"


def _facts(tables: Tables, sides: Sides) -> list[tuple[str, str]]:
    """The comparison at a glance: label and value."""
    table = tables["sides"]
    rows = []
    for column, label in _WORDS.items():
        values = [spec_text(value) for value in table[column].drop_nulls().unique(maintain_order=True)]
        if not values:
            continue
        rows.append((label if len(values) == 1 else f"{label}s", value_text(values)))
    return [
        *rows,
        (
            "Layers",
            f"{len(sides.layers):,}, the same in all" if sides.layers else value_text(sorted(set(table["n_layers"]))),
        ),
        ("Strengths in common", ", ".join(map(strength_text, sides.strengths))),
    ]


def _side(row: dict[str, Any], links: Mapping[str, str], words: tuple[str, ...]) -> dict[str, Any]:
    """One line of the table of sides: words, and a link to the run's own report."""
    images = f"{row['n_analysed']:,} of {row['n_attacked']:,}"
    linf = f"{255 * row['linf']:.1f}/255" if row["linf"] is not None else UNDEFINED
    return {
        "name": row["side"],
        "link": links.get(row["run"], ""),
        "words": [spec_text(row[name] or UNDEFINED) for name in words],
        "numbers": [f"{row['n_layers']:,}", images],
        "success": (percent(row["success"]), percent_between(row["success_low"], row["success_high"])),
        "sizes": [times(row["relative_l2"]), linf],
    }


def _outcomes(tables: Tables, sides: Sides) -> list[list[str]]:
    """On how many images the attack succeeds, one line for every two runs: words and numbers, cell by cell."""
    run_of = dict(tables["sides"].select("side", "run").iter_rows())
    are_shown = pl.all_horizontal(pl.col("side_a", "side_b").is_in(sides.names))
    rows: dict[tuple[str, str], Row] = {}
    for row in tables["outcomes"].filter(are_shown).iter_rows(named=True):
        rows.setdefault((run_of[row["side_a"]], run_of[row["side_b"]]), row)
    counts = ("n", "both", "only_a", "only_b", "neither")
    return [
        [
            *(row["side_a"], row["side_b"]),
            *(f"{row[name]:,}" for name in counts),
            *(percent(row["share_a"]), percent(row["share_b"])),
            f"{100 * row['difference']:.0f} {between(100 * row['difference_low'], 100 * row['difference_high'], 0)}",
            p_text(row["p"]),
        ]
        for row in rows.values()
    ]


def _making(record: Record) -> list[tuple[str, str]]:
    rows = {
        "Made": record.get("made"),
        "Runs": ", ".join(record.get("runs") or ()),
        "Layers aligned by": record.get("align"),
        "Versions": value_text({"camdrift": record.get("camdrift"), **(record.get("versions") or {})}),
    }
    return [(label, value_text(value)) for label, value in rows.items() if value]
