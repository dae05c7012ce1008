"""The defects of the released code and the findings that each makes: numbers and sentences of a section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.figures import rungs
from camdrift.figures.scope import Scope
from camdrift.paper.defects import ALL_DEFECTS, NO_DEFECT, Defects
from camdrift.paper.readings import compromised_fraction, read
from camdrift.report.material import Material
from camdrift.report.numbers import measured
from camdrift.report.verdicts import is_reproduction
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row

AGREEMENT_HEADS: Final = {
    "mean_deviation": "Mean deviation",
    "excess": "Excess over noise",
    "tau_deviation": "Tau, by deviation",
    "tau_gain": "Tau, by gain",
    "half_one": "Distance, 0.5 and 1",
    "quarter_two_four": "Distance, 0.25, 2 and 4",
    "compromised_middle": "Compromised at 0.5 and 1",
    "compromised_outer": "Compromised elsewhere",
}
# Claims whose number is one of those.
_COLUMNS: Final = {
    "Strengths 0.5 and 1 are almost identical": "half_one",
    "Strengths 0.25, 2 and 4 are very similar": "quarter_two_four",
    "A layer is compromised in about 40 % of cases": "compromised_middle",
    "A layer is compromised in about 80 % of cases": "compromised_outer",
}
_RANK: Final = "rank by mean deviation"
_MIDDLE: Final = (0.5, 1.0)
# A number per set of defects.
_Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Rung:
    """One set of defects as the page shows it.

    Attributes:
        name: As table `ladder` names it.
        words: The set in plain words.
        meaning: The effect of the defect; empty for a set of several.
        cells: The numbers of `AGREEMENT_HEADS`.
    """

    name: str
    words: str
    meaning: str
    cells: list[str]


def defects_section(material: Material) -> dict[str, Any]:
    """Values of template `defects`, and `rungs`, the data of its script; empty for a study that is no reproduction."""
    tables = material.tables
    is_filled = material.is_interactive and is_reproduction(tables) and rungs.has_ladder(tables)
    return {
        "agreement_heads": list(AGREEMENT_HEADS.values()),
        "rung_groups": groups(tables) if is_filled else [],
        "makers": makers(tables) if is_filled else [],
        "rungs": rung_data(tables, material.scope) if is_filled else {},
    }


def groups(tables: Tables) -> list[tuple[str, list[Rung]]]:
    """The sets of defects in display order, in groups with a title."""
    by_name = {row["defects"]: row for row in rungs.rung_numbers(tables).to_dicts()}
    return [(title, [_rung(by_name[name]) for name in names]) for title, names in rungs.sets(list(by_name))]


def rung_data(tables: Tables, scope: Scope) -> dict[str, Any]:
    """Data of the page's script: `names`, `words` and `meanings` [set], the rest [set][strength][layer].

    Args:
        tables: Tables of a reproduction.
        scope: The scope of the study; its strengths and layers are the indexes.
    """
    table = rungs.rung_rows(tables)
    order = [name for _, names in rungs.sets(table["defects"].unique().to_list()) for name in names]
    return {
        "names": order,
        "words": [rungs.words_of(name) for name in order],
        "meanings": [rungs.RUNG_MEANINGS.get(name, "") for name in order],
        "similarity": _cells(table, "mean_similarity", order, scope),
        "compromised": _cells(table, "compromised_fraction", order, scope),
    }


def makers(tables: Tables) -> list[str]:
    """The defects that make each finding of the released code that the equations do not make, a sentence each."""
    table, sentences = rungs.rung_rows(tables), []
    agreement = rungs.rung_numbers(tables)
    for row in tables["claims"].to_dicts():
        numbers = _ranks(table, row["subject"]) if row["measure"] == _RANK else _numbers_of(row, agreement, tables)
        if numbers and _within(row, row["as_released"]) and not _within(row, row["corrected"]):
            sentences.append(_maker(row, numbers))
    return sentences


def _rung(row: Row) -> Rung:
    name = row["defects"]
    cells = [measured(row[column]) for column in AGREEMENT_HEADS]
    return Rung(name, rungs.words_of(name), rungs.RUNG_MEANINGS.get(name, ""), cells)


def _cells(table: pl.DataFrame, column: str, order: Sequence[str], scope: Scope) -> list[Any]:
    cube: list[Any] = [[[None] * len(scope.layers) for _ in scope.strengths] for _ in order]
    for name, strength, layer, value in table.select("defects", "strength", "layer", column).iter_rows():
        if value is not None and strength in scope.strengths and layer in scope.layers:
            place = cube[order.index(name)][scope.strengths.index(strength)]
            place[scope.layers.index(layer)] = float(f"{value:.6g}")
    return cube


def _numbers_of(row: Row, agreement: pl.DataFrame, tables: Tables) -> _Numbers:
    """The number of a claim under every set of defects; empty if it is none of `agreement`."""
    column = _COLUMNS.get(row["claim"], "")
    if not column:
        return {}
    numbers = dict(agreement.select("defects", column).iter_rows())
    if column.startswith("compromised"):
        numbers |= _medians(tables, is_middle=column == "compromised_middle")
    return {name: value for name, value in numbers.items() if value is not None}


def _ranks(table: pl.DataFrame, label: str) -> _Numbers:
    """Rank of one layer by its deviation, mean over strengths, per set of defects."""
    means = table.group_by("defects", "layer", "layer_label").agg(pl.col("mean_similarity").mean())
    ranks = means.with_columns(rank=pl.col("mean_similarity").rank("min").over("defects"))
    return dict(ranks.filter(pl.col("layer_label") == label).select("defects", "rank").iter_rows())


def _medians(tables: Tables, *, is_middle: bool) -> dict[str, float]:
    """Compromised fraction of the released code's images and of all but one defect, by a median per layer."""
    fractions = {}
    for name in ("", *Defects.names()):
        defects = replace(Defects.all(), **{name: False}) if name else Defects.all()
        reading = read(tables["emulation"], defects)
        is_counted = np.isin(reading.strengths, _MIDDLE) == is_middle
        fractions[defects.name] = float(np.nanmean(compromised_fraction(reading)[is_counted]))
    return fractions


def _within(row: Row, value: float | None) -> bool:
    low, high = row["holds_from"], row["holds_to"]
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _maker(row: Row, numbers: _Numbers) -> str:
    about = f" ({row['subject']})" if row["subject"] else ""
    names = [name for name in Defects.names() if name in numbers]
    alone = [name for name in names if _within(row, numbers[name])]
    necessary = [name for name in names if not _within(row, numbers.get(f"{rungs.BUT}{name}"))]
    ends = (measured(numbers.get(name), row["measure"]) for name in (NO_DEFECT, ALL_DEFECTS))
    word = "rank " if row["measure"] == _RANK else ""
    text = "{}{}: {}{} by the equations, {}{} as released.".format(
        row["claim"], about, *(p for e in ends for p in (word, e))
    )
    text += f" One defect is enough: {_quoted(alone, 'or')}." if alone else " No defect alone makes it."
    if not necessary:
        return f"{text} It does not hang on any single one."
    return f"{text} It is gone without {_quoted(necessary, 'and also without')}."


def _quoted(names: Sequence[str], word: str) -> str:
    """Some defects in plain words, in quotes because those are half sentences."""
    return f" {word} ".join(f"\u201c{rungs.WORDS[name]}\u201d" for name in names)
