"""The report of a study: figures, one HTML page that holds everything a reader needs, and words for a notebook."""

import base64
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from markupsafe import escape

from camdrift.figures.scope import reason_for_nothing, scope_of
from camdrift.figures.study import study_figures
from camdrift.report import findings, story, verdicts
from camdrift.report.encoding import figure_files
from camdrift.report.page.rendering import render
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import REPORT
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective

# What a notebook shows at once, as far as it is there; the others are folded away.
_MAIN_FIGURES = ("figure_12_released", "figure_8_gain", "figure_3_heatmaps")


def report_files(tables: Tables, record: Record, gallery: Gallery) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the files of a report: every figure as PNG and PDF, and last the page.

    The same tables, record and gallery give the same bytes.

    Args:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    # Beside each other: most of the page's time goes into encoders and a bundler that need no interpreter.
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(render, tables, record, gallery)
        for name, figure in study_figures(tables, record, gallery).items():
            yield from figure_files(name, figure)
        yield REPORT, page.result().encode()


def summary(tables: Tables, record: Record) -> list[str]:
    """The headline of a study and its findings with intervals and n; the reason if there are none."""
    scope = scope_of(tables, record)
    if not scope.analysed:
        return [reason_for_nothing(scope)]
    # A reproduction's sentences begin with its headline.
    headline = [] if verdicts.is_reproduction(tables) else [f"{story.study_headline(tables, record, scope)}."]
    return headline + findings.study_sentences(tables, record, scope)


def headline(tables: Tables, record: Record) -> str:
    """The main result of a study as a sentence without its full stop."""
    return story.study_headline(tables, record, scope_of(tables, record))


def headline_strength(tables: Tables, record: Record) -> float:
    """The strength at which the headline is taken."""
    return scope_of(tables, record).reference


def notebook_html(tables: Tables, record: Record, pictures: Mapping[str, bytes]) -> str:
    """A study for a notebook: its findings, the two main figures, the others folded away.

    Args:
        tables: As for `report_files`.
        record: As for `report_files`.
        pictures: The report's figures as PNG, by file name; without them the words stand alone.
    """
    scope = scope_of(tables, record)
    images = {name.removesuffix(".png"): _image(name.removesuffix(".png"), data) for name, data in pictures.items()}
    main = [images.pop(name) for name in _MAIN_FIGURES if name in images]
    rest = f"<details><summary>More figures</summary>{''.join(images.values())}</details>" if images else ""
    words = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary(tables, record))
    title = f"{scope.model} under {effective(record).get('attack') or 'attack'}: {findings.reading_of(scope)}"
    return f"<div><p><b>{escape(title)}</b></p><ul>{words}</ul>{''.join(main)}{rest}</div>"


def _image(name: str, data: bytes) -> str:
    text = base64.b64encode(data).decode("ascii")
    look = "max-width: 100%; background: #fff"
    return f'<img alt="{escape(name.replace("_", " "))}" style="{look}" src="data:image/png;base64,{text}">'
