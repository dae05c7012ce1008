"""The report of a stored study: figures as files, and one HTML page that holds everything a reader needs."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from markupsafe import escape

from camdrift.figures.scope import reason_for_nothing, scope_of
from camdrift.figures.study import study_figures
from camdrift.report import findings
from camdrift.report.files import write_figure, write_file
from camdrift.report.page.rendering import render
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective


def write_report(directory: Path, tables: Tables, record: Record, gallery: Gallery) -> Path:
    """Write `figures/*.png`, `figures/*.pdf` and `report.html` into a run directory; the path of the page.

    The same tables, record and gallery give the same bytes.

    Args:
        directory: The run directory.
        tables: All tables of `records.TABLES` by name.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    # Beside each other: most of the page's time goes into encoders and a bundler that need no interpreter.
    with ThreadPoolExecutor(1) as pool:
        rendered = pool.submit(render, tables, record, gallery)
        for name, figure in study_figures(tables, record, gallery).items():
            write_figure(directory, name, figure)
    page = directory / "report.html"
    write_file(page, rendered.result().encode())
    return page


def summary(tables: Tables, record: Record) -> list[str]:
    """What a study found, in full sentences with intervals and n; why there is nothing, if there is nothing."""
    scope = scope_of(tables, record)
    return findings.study_sentences(tables, record, scope) if scope.analysed else [reason_for_nothing(scope)]


def notebook_html(directory: Path, tables: Tables, record: Record) -> str:
    """A study for a notebook: what was found, the two main figures, the others folded away.

    Figures are those that `write_report` left in the directory; without them the words stand alone.
    """
    scope = scope_of(tables, record)
    pictures = {path.stem: _inline(path) for path in sorted((directory / "figures").glob("figure_*.png"))}
    first = [
        pictures.pop(name) for name in ("figure_12_released", "figure_8_gain", "figure_3_heatmaps") if name in pictures
    ]
    rest = f"<details><summary>More figures</summary>{''.join(pictures.values())}</details>" if pictures else ""
    words = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary(tables, record))
    title = f"{scope.model} under {effective(record).get('attack') or 'attack'}: {findings.reading_of(scope)}"
    return f"<div><p><b>{escape(title)}</b></p><ul>{words}</ul>{''.join(first)}{rest}</div>"


def _inline(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    look = "max-width: 100%; background: #fff"
    return f'<img alt="{escape(path.stem.replace("_", " "))}" style="{look}" src="data:image/png;base64,{data}">'
