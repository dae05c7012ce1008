"""The page of a report: one self-contained file that fetches nothing, with everything it shows inside."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
import matplotlib as mpl
import numpy as np
import vl_convert
from markupsafe import Markup

from camdrift.figures.focus import MEASURES
from camdrift.figures.rungs import has_ladder
from camdrift.figures.scope import Scope, few_seeds, reason_for_nothing, scope_of
from camdrift.report import checks, contents, defects, findings, focus, measures, single, verdicts
from camdrift.report.data import study_data
from camdrift.report.pictures import picture_data
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import TARGET_WORDS, strength_text

_SCRIPTS: Final = ("text", "state", "controls", "strip", "explorer", "charts", "focus", "reproduction", "table", "main")
_RAMPS: Final = ("viridis", "inferno")


def render(tables: Tables, record: Record, gallery: Gallery) -> str:
    """The report as one page: its words ready to read, its views drawn by the script inside it.

    Args:
        tables: All tables of `records.TABLES` by name.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    scope = scope_of(tables, record)
    nothing = "" if (tables["layers"]["n"] > 0).any() else reason_for_nothing(scope)
    shown, pictures = picture_data({} if nothing else gallery, scope.indices)
    data = {} if nothing else study_data(tables, record, scope, shown) | {"ramps": _ramps()}
    scripts = () if nothing else (plotting_library(), script())
    return (
        environment()
        .get_template("template.html.jinja")
        .render(
            headline=findings.study_headline(tables, record, scope),
            reading=findings.reading_of(scope),
            sentences=findings.study_sentences(tables, record, scope),
            focus=[] if nothing else focus.focus_sentences(tables, record, scope),
            measures=MEASURES,
            nothing=nothing,
            warnings=contents.warnings(record),
            few_seeds="" if nothing else few_seeds(tables, scope),
            interactive=not nothing,
            is_single=single.is_single(tables),
            facts=contents.facts(record, scope),
            left_out=contents.layers_left_out(tables),
            undefined=contents.undefined(tables),
            making=contents.making(record),
            model=scope.model,
            attack=effective(record).get("attack") or "attack",
            version=record.get("camdrift") or "",
            explanation=scope.measure.words[0],
            metric=scope.measure.words[1],
            others=measures.side_by_side(tables, scope),
            checks=checks.checks(tables),
            **_reproduction(tables, scope, interactive=not nothing),
            strengths=[strength_text(strength) for strength in scope.strengths],
            targets=scope.targets,
            target_words=TARGET_WORDS,
            shown_seeds=contents.shown_seeds(len(shown), scope),
            study=script_json(data),
            pictures=script_json(pictures),
            scripts=[Markup(script) for script in scripts],
            policy=policy(scripts),
            style=Markup(style()),
        )
    )


def _reproduction(tables: Tables, scope: Scope, *, interactive: bool) -> dict[str, Any]:
    """What the sections of a reproduction are filled with; empty for any other study."""
    has_rungs = interactive and verdicts.is_reproduction(tables) and has_ladder(tables)
    return {
        "claims": verdicts.families(tables["claims"], scope.labels) if verdicts.is_reproduction(tables) else [],
        "rule": verdicts.RULE,
        "marks": verdicts.MARKS,
        "rung_groups": defects.groups(tables) if has_rungs else [],
        "makers": defects.makers(tables) if has_rungs else [],
        "agreement_heads": list(defects.AGREEMENT_HEADS.values()),
        "rungs": script_json(defects.rung_data(tables, scope)) if has_rungs else "",
    }


@cache
def plotting_library() -> str:
    """Vega-Embed, Vega-Lite and Vega as one script: `vegaEmbed` in the page."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in script.lower()
    return script


def script_json(value: Any) -> Markup:
    """A value as JSON that stays inside its script element, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text.encode("utf-8", "replace").decode())


def _asset(name: str) -> str:
    return (files("camdrift.report.page") / name).read_text(encoding="utf-8")


def script(names: Sequence[str] = _SCRIPTS) -> str:
    """A page's own script, one scope for all of its files."""
    body = "\n".join(_asset(f"{name}.js") for name in names)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def style(sheets: Sequence[str] = ("style", "reproduction")) -> str:
    """The style sheets of a page as one."""
    steps = np.linspace(0, 1, 9)
    viridis = ", ".join(mpl.colors.to_hex(colour) for colour in mpl.colormaps["viridis"](steps))
    joined = "".join(_asset(f"{name}.css") for name in sheets)
    return joined.replace(":root {", f":root {{\n  --viridis: {viridis};", 1)


def _ramps() -> dict[str, str]:
    """256 RGB triplets of each colour map, as bytes in base64."""
    shades = np.arange(256)
    return {
        name: base64.b64encode(mpl.colormaps[name](shades, bytes=True)[:, :3].tobytes()).decode("ascii")
        for name in _RAMPS
    }


def policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy under which only these scripts run, and nothing is fetched."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests) or "'none'"
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": allowed,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def environment() -> jinja2.Environment:
    """Where templates are loaded; everything they show is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("camdrift.report.page", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
