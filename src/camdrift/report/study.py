"""The report of a study: figures, one HTML page that holds everything a reader needs, and its sentences."""

from collections.abc import Iterator
from contextlib import closing

from camdrift.figures.scope import reason_for_nothing, scope_of
from camdrift.figures.study import figures_of
from camdrift.report import findings, story, verdicts
from camdrift.report.page.rendering import render
from camdrift.report.processes import Drawing
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import REPORT
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record


def report_files(tables: Tables, record: Record, gallery: Gallery) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the files of a report: every figure as PNG and PDF, and last the page.

    The same tables, record and gallery give the same bytes.

    Args:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    stems = [figure.stem for figure in figures_of(tables, gallery)]
    # Closed twice: polars raises a Ctrl-C, and then Python does, at the first line of whatever is called to clean up.
    with closing(Drawing(stems, tables, record, gallery)) as drawing, drawing:
        page = render(tables, record, gallery).encode()
        yield from drawing.files()
        yield REPORT, page


def summary(tables: Tables, record: Record) -> list[str]:
    """The headline of a study and its findings with intervals and n; the reason if there are none."""
    scope = scope_of(tables, record)
    if not scope.analysed:
        return [reason_for_nothing(scope)]
    # A reproduction's sentences begin with its headline.
    words = f"{story.study_headline(tables, record, scope)}. {story.caution(tables, scope)}".rstrip()
    headline = [] if verdicts.is_reproduction(tables) else [words]
    return headline + findings.study_sentences(tables, record, scope)


def headline(tables: Tables, record: Record) -> str:
    """The main result of a study as a sentence without its full stop."""
    return story.study_headline(tables, record, scope_of(tables, record))


def headline_strength(tables: Tables, record: Record) -> float:
    """The strength at which the headline is taken."""
    return scope_of(tables, record).reference
