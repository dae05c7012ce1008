"""The opening of a study's page: the main result, findings, warnings, the study at a glance."""

from typing import Any

from camdrift.figures.scope import Scope
from camdrift.report import findings, single, story
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, percent, value_text
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import UNREADABLE, strength_text


def opening_section(material: Material) -> dict[str, Any]:
    """Values of template `opening`, and of the head of the page."""
    tables, record, scope = material.tables, material.record, material.scope
    return {
        "model": scope.model,
        "attack": effective(record).get("attack") or "attack",
        "headline": story.study_headline(tables, record, scope),
        "noise_times": story.noise_times(tables, scope) if material.is_interactive else "",
        "contrast": f"{story.contrast(tables, scope)} {story.caution(tables, scope)}".strip(),
        "assurance": story.assurance(tables, scope),
        "first_layer": _first_layer(material),
        "reading": findings.reading_of(scope),
        "nothing": material.nothing,
        "warnings": preflight_warnings(record),
        "sentences": findings.study_sentences(tables, record, scope),
        "is_single": scope.analysed == 1,
        "facts": _facts(tables, record, scope),
    }


def _first_layer(material: Material) -> str:
    """Name and place of the layer that the page opens with; empty if nothing was measured."""
    tops = material.scope.headline.tops
    return story.layer_place(material.scope, tops[0]) if tops and material.is_interactive else ""


def preflight_warnings(record: Record) -> list[str]:
    """Warnings of the preflight, which a reader should know before trusting the study."""
    return [str(warning) for warning in (record.get("preflight") or {}).get("warnings") or []]


def _facts(tables: Tables, record: Record, scope: Scope) -> list[tuple[str, str]]:
    """The study at a glance: label and value; of one image without counts."""
    images = f"{scope.analysed:,} of {scope.readable:,}"
    rate = f"{images} ({percent(scope.analysed / scope.readable)})" if scope.readable else "none was attacked"
    counts = [
        ("Images", f"{scope.total:,} found, {scope.total - scope.statuses.get(UNREADABLE, 0):,} readable"),
        ("Adversarial examples", rate),
    ]
    return [
        ("Model", scope.model),
        ("Attack", value_text(effective(record).get("attack"))),
        *([] if single.is_single(tables) else counts),
        ("Layers", f"{len(scope.layers):,}"),
        ("Maps", " by ".join(scope.measure.words)),
        ("Strengths", ", ".join(map(strength_text, scope.strengths)) or UNDEFINED),
    ]
