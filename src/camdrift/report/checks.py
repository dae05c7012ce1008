"""The controls of a study in words: the doubt that each rules out, and its numbers by strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from camdrift.figures.scope import span
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, measured, measured_between
from camdrift.statistics import controls
from camdrift.tables.reading import Tables
from camdrift.tables.words import strength_text

CONTROL_MEANINGS: Final = {
    controls.NOISE_AGAINST_NOISE: "Noise takes the attack's place, and nothing may be found. This rules out that the "
    "statistics make findings of their own.",
    controls.NOTHING: "The seed image itself goes through the whole pipeline as a variant. This rules out that batches "
    "or rounding move maps.",
    controls.SECOND_DRAW: "The noise is drawn anew. This rules out that the gain hangs on one lucky draw.",
    controls.SPECTRUM: "Noise gets the power spectrum of the perturbation. This rules out that the attack moves maps "
    "only because its frequencies are not those of white noise; what they explain is this noise's gain over white "
    "noise.",
    controls.CHANNELS: "Noise gets the mean and standard deviation of each colour channel. This rules out that the "
    "attack moves maps only because it spreads over the colours in another way.",
    controls.UNRELATED: "Maps of different images are similar, too: that is the floor. This rules out that similarity "
    "says nothing; at 0 the attack leaves no more of a map than another image would.",
    controls.OWN_CLASS: "Explaining each image's own class adds the change of class to what is called deviation. This "
    "says how much, and why the fixed class is the one to rank layers by.",
    controls.FOOLING: "Adversarial images that change the prediction at a strength, and those that do not, apart. This "
    "rules out that maps move only where the prediction has changed.",
    controls.NORM: "Clipping shortens a perturbation. This says by how much, and rules out that it flatters attack or "
    "noise: gains count what is left.",
}


@dataclass(frozen=True)
class Line:
    """One quantity of a control.

    Attributes:
        quantity: The quantity and its target, in words.
        cells: Value and interval per strength; both empty where there is none.
        n: Seed images behind it.
        expected: Its value if nothing is wrong.
    """

    quantity: str
    cells: list[tuple[str, str]]
    n: str
    expected: str


@dataclass(frozen=True)
class ControlCheck:
    """One control.

    Attributes:
        name: Its name.
        meaning: The doubt that it rules out; empty for a control that this page does not know.
        strengths: Its strengths, as text.
        lines: Its quantities.
    """

    name: str
    meaning: str
    strengths: list[str]
    lines: list[Line]


def checks_section(material: Material) -> dict[str, Any]:
    """Values of template `checks`."""
    return {"checks": checks(material.tables)}


def checks(tables: Tables) -> list[ControlCheck]:
    """The controls of a study, without their rows for single layers; empty if it has none."""
    rows = tables["controls"].filter(pl.col("layer").is_null(), pl.col("value").is_not_null())
    parts = rows.partition_by("control", as_dict=True, maintain_order=True)
    by_name = {str(name): _check(str(name), part) for (name,), part in parts.items()}
    order = [name for name in CONTROL_MEANINGS if name in by_name]
    return [by_name[name] for name in [*order, *(name for name in by_name if name not in order)]]


def _check(name: str, rows: pl.DataFrame) -> ControlCheck:
    strengths = rows["strength"].drop_nulls().unique().sort().to_list()
    lines = rows.partition_by("quantity", "target", maintain_order=True)
    words = [strength_text(strength) for strength in strengths]
    return ControlCheck(name, CONTROL_MEANINGS.get(name, ""), words, [_line(part, strengths) for part in lines])


def _line(rows: pl.DataFrame, strengths: Sequence[float | None]) -> Line:
    at: dict[Any, dict[str, Any]] = {row["strength"]: row for row in rows.to_dicts()}
    first = rows.row(0, named=True)
    target = f", target {first['target']}" if first["target"] else ""
    counts = rows["n"].drop_nulls().to_list()
    return Line(
        quantity=f"{first['quantity']}{target}",
        cells=[_cell(at.get(strength)) for strength in strengths or (None,)],
        n=span(counts) if counts else UNDEFINED,
        expected=measured(first["expected"]),
    )


def _cell(row: dict[str, Any] | None) -> tuple[str, str]:
    return ("", "") if row is None else (measured(row["value"]), measured_between(row["low"], row["high"]))
