"""The files of a page as one text: templates, scripts, style sheets, all inside it, so that it fetches nothing."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from camdrift.errors import StoreError

_RAMPS: Final = ("viridis", "inferno")
# Marks that turn the direction of writing; a name that holds one would be read otherwise than it is.
_MARKS: Final = {code: f"[U+{code:04X}]" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


@cache
def plotting_library() -> str:
    """Vega-Embed, Vega-Lite and Vega as one script: `vegaEmbed` in the page.

    Raises:
        StoreError: It is not there: these are sources that were never built.
    """
    try:
        return _asset("plotting_library.js")
    except FileNotFoundError as error:
        raise StoreError(
            "the script that draws charts is not there, which the installation of camdrift writes",
            "`python -m pip install -e .` in its folder writes it",
        ) from error


def script_json(value: Any) -> Markup:
    """A value as JSON that stays inside its script element, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).translate(_MARKS)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text.encode("utf-8", "replace").decode())


def _asset(name: str) -> str:
    return (files("camdrift.report.page") / name).read_text(encoding="utf-8")


def script(names: Sequence[str]) -> str:
    """A page's own script: its files in one scope."""
    body = "\n".join(_asset(f"{name}.js") for name in names)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _style(sheets: Sequence[str]) -> str:
    """The style sheets of a page as one."""
    steps = np.linspace(0, 1, 9)
    viridis = ", ".join(mpl.colors.to_hex(colour) for colour in mpl.colormaps["viridis"](steps))
    text = "".join(_asset(f"{name}.css") for name in sheets)
    return text.replace(":root {", f":root {{\n  --viridis: {viridis};", 1)


def colour_ramps() -> dict[str, str]:
    """256 RGB triplets of each colour map, as bytes in base64."""
    shades = np.arange(256)
    return {
        name: base64.b64encode(mpl.colormaps[name](shades, bytes=True)[:, :3].tobytes()).decode("ascii")
        for name in _RAMPS
    }


def _policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy under which only these scripts run, and nothing is fetched."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests) or "'none'"
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": sources,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def fill_page(template: str, values: Mapping[str, Any], *, scripts: Sequence[str], sheets: Sequence[str]) -> str:
    """A template filled with values: a page that runs these scripts alone.

    Args:
        template: File name of the template.
        values: Its values by name.
        scripts: Texts of the scripts, in their order.
        sheets: Names of the style sheets, without ending.
    """
    parts = {"scripts": list(map(Markup, scripts)), "policy": _policy(scripts), "style": Markup(_style(sheets))}
    return _environment().get_template(template).render({**values, **parts}).removesuffix("\n")


def _plain(value: Any) -> Any:
    """A value as a template shows it: marks that turn the direction of writing are written out."""
    return value.translate(_MARKS) if type(value) is str else value


def _environment() -> jinja2.Environment:
    """The environment of templates; it escapes every value that they show."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("camdrift.report.page", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["json"] = script_json
    return environment
