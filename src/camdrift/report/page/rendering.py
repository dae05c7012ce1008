"""The page of a study: one self-contained file, section by section.

A section is a Python file that gives the values of its template, the template, and where it needs one a script: one
row of `_SECTIONS` and one name of `_SCRIPTS`.
"""

from collections.abc import Callable
from typing import Any, Final

from camdrift.figures.scope import few_seeds, scope_of
from camdrift.report.checks import checks_section
from camdrift.report.defects import defects_section
from camdrift.report.defences import defences_section
from camdrift.report.explorer import explorer_section
from camdrift.report.focus import focus_section
from camdrift.report.lime import has_lime, lime_section
from camdrift.report.making import making_section
from camdrift.report.material import Material
from camdrift.report.measures import measures_section
from camdrift.report.missing import missing_section
from camdrift.report.opening import opening_section
from camdrift.report.page.assets import fill_page, plotting_library, script
from camdrift.report.perturbations import has_changes, perturbations_section
from camdrift.report.terms import terms_section
from camdrift.report.verdicts import verdicts_section
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import TARGET_WORDS, strength_text

_SCRIPTS: Final = (
    *("text", "state", "address", "terms", "controls", "strip", "layer", "pictures", "first", "saving"),
    *("changes", "explorer"),
    *("grid", "charts", "dose", "flips", "focus", "defects", "table", "main"),
)
_SHEETS: Final = ("style", "reproduction", "defences", "perturbations", "lime")
# Templates in the order of the page, and what fills each; None for one that the values common to all are enough for.
_SECTIONS: Final[dict[str, Callable[[Material], dict[str, Any]] | None]] = {
    "opening": opening_section,
    "controls": None,
    "verdicts": verdicts_section,
    "defects": defects_section,
    "layer": None,
    "explorer": explorer_section,
    "focus": focus_section,
    "lime": lime_section,
    "perturbations": perturbations_section,
    "defences": defences_section,
    "charts": None,
    "table": None,
    "measures": measures_section,
    "checks": checks_section,
    "missing": missing_section,
    "terms": terms_section,
    "making": making_section,
}
# The same for every study.
_CONTENTS: Final = (
    *(("where", "Network"), ("layer", "Layer"), ("images", "Images"), ("focus", "Focus"), ("gain", "Figures")),
    *(("layers", "Numbers"), ("missing", "Missing"), ("terms", "Words"), ("making", "Making")),
)


def render(tables: Tables, record: Record, gallery: Gallery) -> str:
    """The report as one page: its words ready to read, its views drawn by the script inside it.

    Args:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    material = Material(tables, record, gallery, scope_of(tables, record))
    values = _common(material)
    for fill in filter(None, _SECTIONS.values()):
        values |= fill(material)
    scripts = (plotting_library(), script(_SCRIPTS)) if material.is_interactive else ()
    return fill_page("template.html.jinja", values, scripts=scripts, sheets=_SHEETS)


def _contents(material: Material) -> list[tuple[str, str]]:
    """The sections of the page that the bar at its top leads to: id and words."""
    tables = material.tables
    reproduction = [("claims", "The paper")] if "claims" in tables else []
    controls = [("checks", "Controls")] if tables["controls"].height else []
    defences = [("defences", "Defences")] if "defences" in tables else []
    changes = [("changes", "Changes")] if has_changes(tables) else []
    lime = [("lime", "LIME")] if has_lime(tables) else []
    return [
        *_CONTENTS[:2],
        *reproduction,
        *_CONTENTS[2:4],
        *lime,
        *changes,
        *defences,
        *_CONTENTS[4:6],
        *controls,
        *_CONTENTS[6:],
    ]


def _common(material: Material) -> dict[str, Any]:
    """Values of more than one section."""
    scope = material.scope
    return {
        "sections": list(_SECTIONS),
        "contents": _contents(material),
        "interactive": material.is_interactive,
        "strengths": [strength_text(strength) for strength in scope.strengths],
        "targets": scope.targets,
        "target_words": TARGET_WORDS,
        "explanation": scope.measure.words[0],
        "metric": scope.measure.words[1],
        "few_seeds": "" if material.nothing else few_seeds(material.tables, scope),
        "version": material.record.get("camdrift") or "",
    }
