"""The figures and the page of a campaign: one self-contained file beside the tables it was made from."""

from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from camdrift.figures.campaign import campaign_figures
from camdrift.figures.campaign_growth import growth_curves, growth_note
from camdrift.figures.mutators import mutator_yield
from camdrift.report.campaign_pictures import cluster_examples, longest_way, telling_failures
from camdrift.report.campaign_story import (
    FUZZED,
    UNIQUE,
    campaign_headline,
    campaign_sentences,
    framework_sentences,
)
from camdrift.report.curves import HEIGHT, WIDTH, drawn_chart
from camdrift.report.encoding import figure_files
from camdrift.report.meaning import meaning_section
from camdrift.report.numbers import UNDEFINED, percent, percent_between, spec_text, value_text
from camdrift.report.page.assets import fill_page
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import REPORT
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.words import count

_COUNT_WORDS: Final = {
    "seed_classes": "Seed and wrong class",
    "unmoved_seed_classes": "of those not moved",
    "failing_seeds": "Failing seeds",
    "class_pairs": "Clean and wrong class",
    "failures": "Failures",
}
_FIRST: Final = 6
_SHEETS: Final = ("style", "campaign")


def campaign_files(tables: Tables, record: Record, gallery: Gallery) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the files of a campaign's report: every figure as PNG and PDF, and last the page.

    The same tables, record and gallery give the same bytes.

    Args:
        tables: Tables of `tables.campaign.CAMPAIGN_TABLES` by name, and `meaning` where somebody has asked.
        record: The record, as `fuzz.json` holds it.
        gallery: Pictures, as `study/campaign_gallery.py` makes them; may be empty.
    """
    for stem, figure in campaign_figures(tables, record).items():
        yield from figure_files(stem, figure)
    yield REPORT, render_campaign(tables, record, gallery).encode("utf-8", "replace")


def render_campaign(tables: Tables, record: Record, gallery: Gallery) -> str:
    """The page of a campaign; arguments as for `campaign_files`."""
    cards = telling_failures(tables, record, gallery)
    values = {
        "model": record["model"]["spec"],
        "headline": campaign_headline(tables, record),
        "reading": _reading(tables, record),
        "sentences": campaign_sentences(tables, record),
        "cards": cards[:_FIRST],
        "further": cards[_FIRST:],
        "n_stored": tables["failures"].filter(pl.col("image").is_not_null()).height,
        **_frameworks(tables, record),
        **_growth(tables, record),
        **_clusters(tables, record, gallery),
        **meaning_section(tables),
        "way": longest_way(tables, record, gallery),
        "mutators": _mutators(tables),
        "making": _making(record),
        "version": record.get("camdrift") or "",
    }
    return fill_page("campaign.html.jinja", values, scripts=(), sheets=_SHEETS)


def _reading(tables: Tables, record: Record) -> str:
    """What was fuzzed and how, in a line."""
    n_seeds = tables["starts"].filter(status=FUZZED).height
    settings = record["settings"]
    parts = [
        count(n_seeds, "seed image"),
        f"oracle {record['oracle']}",
        f"constraint {spec_text(settings['constraint'])}",
        f"{count(int(settings['trials']), 'trial')} of {settings['budget'].replace('-', ' ')} for each framework",
    ]
    return ", ".join(parts)


def _frameworks(tables: Tables, record: Record) -> dict[str, Any]:
    """The frameworks by what they find, those that find most first, and pairs of them."""
    table = tables["frameworks"]
    order = table["framework"].unique(maintain_order=True).to_list()
    by_name = {(row["framework"], row["count"]): row for row in table.to_dicts()}
    most = max([1.0, *(max(row["median"], row["high"] or 0) for row in by_name.values() if row["count"] == UNIQUE)])
    rows = [
        {
            "name": name,
            "place": place,
            "at": 100 * by_name[name, UNIQUE]["median"] / most,
            "ends": [100 * (by_name[name, UNIQUE][end] or 0) / most for end in ("low", "high")],
            "has_interval": by_name[name, UNIQUE]["low"] is not None,
            "cells": [_median(by_name[name, each]) for each in _COUNT_WORDS],
        }
        for place, name in enumerate(order)
    ]
    names = list(_COUNT_WORDS)
    pairs = [
        {
            **row,
            "count": _COUNT_WORDS[row["count"]],
            "values": [f"{row[name]:.2g}" for name in ("a12", "p_value", "p_holm")],
        }
        for row in sorted(tables["pairs"].to_dicts(), key=lambda row: names.index(row["count"]))
    ]
    return {
        "frameworks": sorted(rows, key=lambda row: -row["at"]),
        "heads": list(_COUNT_WORDS.values()),
        "differences": framework_sentences(tables, record),
        "pairs": pairs,
        "trials": record["settings"]["trials"],
    }


def _median(row: dict[str, Any]) -> tuple[str, str]:
    """A median and its interval."""
    interval = "" if row["low"] is None else f"[{row['low']:,g}, {row['high']:,g}]"
    return f"{row['median']:,g}", interval


def _growth(tables: Tables, record: Record) -> dict[str, Any]:
    uniques, criterion = (growth_curves(tables["growth"], column) for column in (UNIQUE, "criterion"))
    return {
        "growth": drawn_chart(uniques, is_whole=True, unit="Pairs of seed and wrong class"),
        "criterion": drawn_chart(criterion, is_whole=False, unit="Value of the criterion"),
        "criterion_name": spec_text(record.get("criterion") or ""),
        "growth_note": growth_note(record),
        "chart_size": (WIDTH, HEIGHT),
    }


def _clusters(tables: Tables, record: Record, gallery: Gallery) -> dict[str, Any]:
    """Clusters with the failure in the middle of each, and the layers at which failures take hold."""
    examples = cluster_examples(tables, record, gallery)
    layers = list(record.get("layers") or ())
    clusters = [
        {
            "layer": row["layer"] or "",
            "place": f"layer\u00a0{row['layer_index'] + 1}\u00a0of\u00a0{len(layers)}"
            if layers and row["layer"]
            else "",
            "classes": [class_name(record, row[name]) for name in ("clean_class", "wrong_class")],
            "size": f"{count(row['failures'], 'failure')} from {count(row['seeds'], 'seed')}",
            "share": f"{percent(row['share'])} {percent_between(row['low'], row['high'])}".strip(),
            "card": examples.get(row["example"]),
        }
        for row in tables["clusters"].to_dicts()
    ]
    at_layer = dict(tables["clusters"].group_by("layer").agg(pl.col("failures").sum()).iter_rows())
    peak = max([1, *(number for name, number in at_layer.items() if name is not None)])
    cells = [(name, at_layer.get(name, 0), round(100 * at_layer.get(name, 0) / peak)) for name in layers]
    return {"clusters": clusters, "cells": cells, "within_noise": at_layer.get(None, 0)}


def _place(index: int | None, layers: int) -> str:
    return "" if index is None or not layers else f"layer\u00a0{index + 1}\u00a0of\u00a0{layers}"


def _mutators(tables: Tables) -> list[dict[str, Any]]:
    rows = mutator_yield(tables["mutators"]).to_dicts()
    most, peak = max([1, *(row["tried"] for row in rows)]), max([1e-9, *(row["rate"] or 0 for row in rows)])
    return [
        {
            **row,
            "widths": [100 * row["tried"] / most, 100 * row["valid"] / most, 100 * (row["rate"] or 0) / peak],
            "rate": percent(row["rate"]) if row["rate"] is not None else UNDEFINED,
        }
        for row in rows
    ]


def _making(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of label and value; what the record lacks is left out."""
    model = {key: value for key, value in record["model"].items() if key not in ("labels", "loaded_from")}
    groups = {
        "Run": {key: record.get(key) for key in ("command", "started", "finished", "images", "machine")},
        "Settings": {**record["settings"], "criterion": record.get("criterion"), "oracle": record.get("oracle")},
        "Model": model,
        "Versions": {"camdrift": record.get("camdrift"), **(record.get("versions") or {})},
    }
    return [
        (title, [(key.replace("_", " "), value_text(value)) for key, value in group.items() if value is not None])
        for title, group in groups.items()
    ]
