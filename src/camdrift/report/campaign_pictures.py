"""The pictures of a campaign's page: failures as triples, the middles of clusters, one way through the corpus."""

from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.report.mutations import chain_words, mutation_words
from camdrift.report.numbers import percent
from camdrift.report.pictures import encoded
from camdrift.statistics.examples import example_rows, telling_rows
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.table import Row
from camdrift.tables.words import count

_QUALITY: Final = 80
_QUALITY_OF_DIFFERENCE: Final = 55
# How the class of a failure is named, by oracle; that of others is the prediction of the model itself.
_OF_OTHERS: Final = {"disagree": "one model says {}", "precision": "in bfloat16 {}"}
_NO_CLASS: Final = "a logit is not finite"


def telling_failures(tables: Tables, record: Record, gallery: Gallery) -> list[dict[str, Any]]:
    """The failures that the page opens with, as its template shows them."""
    failures, pictures = tables["failures"], _stored(gallery)
    rows = [row for row in telling_rows(failures) if row in pictures]
    return [_card(tables, record, gallery, row) for row in rows]


def cluster_examples(tables: Tables, record: Record, gallery: Gallery) -> dict[str, dict[str, Any]]:
    """The failures in the middle of clusters, by their file."""
    failures, pictures = tables["failures"], _stored(gallery)
    rows = [row for row in example_rows(failures, tables["clusters"]) if row in pictures]
    return {failures["image"][row]: _card(tables, record, gallery, row) for row in rows}


def longest_way(tables: Tables, record: Record, gallery: Gallery) -> dict[str, Any] | None:
    """The way from seed to failure through the most entries of a corpus; None without failures."""
    rows = [row for row in telling_rows(tables["failures"]) if row in _stored(gallery)]
    if not rows:
        return None
    row = max(rows, key=lambda each: len(gallery[f"{each}/entries"]))
    failure = tables["failures"].row(row, named=True)
    corpus = tables["corpus"].filter(framework=failure["framework"], trial=failure["trial"])
    entries = gallery[f"{row}/entries"].tolist()
    pictures = [encoded(picture, _QUALITY) for picture in gallery[f"{row}/steps"]]
    nodes = [
        {"picture": picture, **_node(corpus, entry, tables["failures"], failure)}
        for entry, picture in zip(entries, pictures, strict=False)
    ]
    last = {
        "picture": pictures[-1],
        "step": mutation_words(failure["parameters"]),
        "title": "failure",
        "words": [" ".join((_wrong(record, failure), _certainty(record, failure)))],
    }
    left_out = len(_ancestry(corpus, failure["parent"])) - len(entries)
    return {
        "nodes": [*nodes, last],
        "framework": failure["framework"],
        "trial": failure["trial"] + 1,
        "seed": failure["seed_id"],
        "left_out": left_out,
        "is_first_left_out": left_out > 0,
    }


def _stored(gallery: Gallery) -> set[int]:
    return set(gallery["rows"].tolist()) if "rows" in gallery else set()


def _card(tables: Tables, record: Record, gallery: Gallery, row: int) -> dict[str, Any]:
    """One failure as a triple."""
    failure = tables["failures"].row(row, named=True)
    start = tables["starts"].filter(seed_id=failure["seed_id"]).row(0, named=True)
    steps = gallery[f"{row}/steps"]
    factor = float(gallery[f"{row}/enlarged"])
    return {
        "seed": failure["seed_id"],
        "clean": encoded(steps[0], _QUALITY),
        "failing": encoded(steps[-1], _QUALITY),
        "difference": encoded(gallery[f"{row}/difference"], _QUALITY_OF_DIFFERENCE) if factor else "",
        "enlarged": f"{factor:.2g}",
        "clean_class": class_name(record, failure["clean_class"]),
        "clean_probability": _probability(start, failure),
        "wrong_class": _wrong(record, failure),
        "probability": _certainty(record, failure),
        "chain": chain_words(failure["chain"]),
        "is_moved": failure["is_moved"],
        "size": _size(failure),
        "origin": f"{failure['framework']}, trial {failure['trial'] + 1}, pass {failure['passes']:,}",
        "onset": failure["onset"],
    }


def _probability(start: Row, failure: Row) -> str:
    """Probability of the seed's class, where that is what the model predicts."""
    return percent(start["clean_probability"]) if start["clean_class"] == failure["clean_class"] else ""


def _wrong(record: Record, failure: Row) -> str:
    """What the failure is seen as, in words."""
    index = failure["wrong_class"]
    return _NO_CLASS if index is None else _OF_OTHERS.get(record["oracle"], "{}").format(class_name(record, index))


def _certainty(record: Record, failure: Row) -> str:
    """Probability of the wrong class; empty where another model sees it, or there is none."""
    is_own = failure["wrong_class"] is not None and record["oracle"] not in _OF_OTHERS
    return percent(failure["probability"]) if is_own else ""


def _size(failure: Row) -> str:
    """How far a failure lies from its seed, in words."""
    if failure["l2"] == 0:
        return "nothing but moved"
    return f"L2 {failure['l2']:.3g}, largest change {255 * failure['linf']:.3g}/255"


def _node(corpus: pl.DataFrame, entry: int, failures: pl.DataFrame, failure: Row) -> dict[str, Any]:
    """An entry of the corpus: how it was made, why it was kept, what was made of it."""
    row = corpus.filter(entry=entry).row(0, named=True)
    children = corpus.filter(parent=entry).height
    own = {"framework": failure["framework"], "trial": failure["trial"], "parent": entry}
    failing = failures.filter(**own).height
    uses = [f"chosen {count(row['times'], 'time')}", f"{children:,} of its mutants kept", f"{failing:,} failed"]
    is_seed = row["parent"] is None
    reason = [] if is_seed else [f"kept for {row['reason']}{_gain(row['gain'])}"]
    return {
        "step": "" if is_seed else mutation_words(row["parameters"]),
        "title": "seed" if is_seed else f"entry {entry}",
        "words": [*reason, ", ".join(uses)],
    }


def _gain(gain: float | None) -> str:
    return "" if gain is None or not np.isfinite(gain) else f" (adds {gain:.3g})"


def _ancestry(corpus: pl.DataFrame, entry: int) -> list[int]:
    parents = dict(zip(corpus["entry"], corpus["parent"], strict=True))
    way = list[int]()
    step: int | None = entry
    while step is not None:
        way.append(step)
        step = parents[step]
    return way
