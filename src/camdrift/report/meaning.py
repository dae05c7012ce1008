"""The section of a campaign's page on whether coverage is meaningful there."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from camdrift.report.meaning_words import criterion_words, meaning_sentences
from camdrift.report.numbers import UNDEFINED
from camdrift.tables.meaning import FAILURES_QUESTION, MEANING, MIXED, QUESTION_WORDS, WITHIN
from camdrift.tables.reading import Tables

_RATE: Final = "spearman, failure rate"
_UNIQUE: Final = "spearman, unique failures"
_Row = Mapping[str, Any]


def meaning_section(tables: Tables) -> dict[str, Any]:
    """What the template shows of the table `meaning`; nothing where nobody has asked."""
    if MEANING.name not in tables:
        return {"meaning": None}
    rows = tables[MEANING.name].to_dicts()
    sentences = meaning_sentences(rows)
    first = QUESTION_WORDS[FAILURES_QUESTION]
    return {
        "meaning": {
            "question": first,
            "criteria": _criteria(rows),
            "others": [(words, lines) for words, lines in sentences.items() if words != first],
            "numbers": [_numbers(row) for row in rows],
        }
    }


def _criteria(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """A row per criterion: its correlation within strata as a picture and in numbers, others beside it, the verdict."""
    by_key = {(r["criterion"], r["setting"], r["measure"]): r for r in rows if r["question"] == FAILURES_QUESTION}
    results = []
    for criterion in dict.fromkeys(key[0] for key in by_key):
        within, mixture = (by_key[criterion, setting, _RATE] for setting in (WITHIN, MIXED))
        unique = by_key[criterion, WITHIN, _UNIQUE]
        name = criterion_words(criterion)
        verdict = (within["verdict"] or "").rpartition("on this study, ")[2]
        results.append(
            {
                "name": name,
                "marks": _marks(within),
                "cells": [_correlation(within), _correlation(unique), _correlation(mixture), _null(mixture)],
                "verdict": verdict[:1].upper() + verdict[1:],
            }
        )
    return results


def _marks(row: _Row) -> dict[str, Any]:
    """Places of a correlation, its interval and its null on a line from -1 to 1, in percent."""

    def place(name: str) -> float | None:
        return None if row[name] is None else 50 + 50 * row[name]

    return {name: place(name) for name in ("estimate", "low", "high", "null_low", "null_high")}


def _correlation(row: _Row) -> tuple[str, str]:
    if row["estimate"] is None:
        return UNDEFINED, ""
    interval = "" if row["low"] is None else f"[{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['estimate']:.2f}", interval


def _null(row: _Row) -> tuple[str, str]:
    return UNDEFINED if row["null_low"] is None else f"{row['null_low']:.2f} to {row['null_high']:.2f}", ""


def _numbers(row: _Row) -> list[str]:
    """The cells of a row of the table of all numbers."""
    texts = [QUESTION_WORDS[row["question"]], criterion_words(row["criterion"] or ""), row["setting"], row["measure"]]
    values = [UNDEFINED if row[name] is None else f"{row[name]:.3g}" for name in ("estimate", "low", "high")]
    null = UNDEFINED if row["null_low"] is None else f"{row['null_low']:.3g} to {row['null_high']:.3g}"
    p_value = UNDEFINED if row["p_holm"] is None else f"{row['p_holm']:.2g}"
    return [*texts, *values, null, p_value, f"{row['n']:,}", row["undefined_reason"] or ""]
