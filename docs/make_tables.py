"""Writes what the docs take from the code: docs/tables.md, and the two tables of docs/explanations.md."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from camdrift.fuzzing.names import CONSTRAINT_WORDS, FRAMEWORK_WORDS, OPERATOR_WORDS, ORACLE_WORDS
from camdrift.tables.campaign import CAMPAIGN_TABLES
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.criteria import MEASUREMENT_TABLES
from camdrift.tables.further import RUN_TABLES
from camdrift.tables.meaning import MEANING_TABLES
from camdrift.tables.measures import EXPLANATION_ROWS, METRIC_ROWS
from camdrift.tables.table import Table

DOCS = Path(__file__).parent


def tables_page() -> str:
    """The page as Markdown."""
    parts = [
        "# Tables of a run directory\n",
        "One Parquet file per table. A value that does not exist is null, never NaN, 0 or an empty string.",
        "This page is written by `python docs/make_tables.py`.\n",
    ]
    for table in RUN_TABLES.values():
        parts += _section(table)
    parts += ["# Pictures of a run directory: gallery.npz\n", _top_of("camdrift.pipeline.gallery"), ""]
    parts += ["`numpy.load` reads it, one array at a time.\n"]
    parts += ["# Tables of a campaign\n", "What `camdrift fuzz` writes; [fuzzing.md](fuzzing.md) explains them.\n"]
    for table in CAMPAIGN_TABLES.values():
        parts += _section(table)
    parts += ["What `camdrift coverage RUN --meaning` adds; [coverage.md](coverage.md) explains it.\n"]
    for table in MEANING_TABLES.values():
        parts += _section(table)
    parts += ["# Tables of a comparison\n", "What `camdrift compare` writes; [compare.md](compare.md) explains them.\n"]
    for table in COMPARISON_TABLES.values():
        parts += _section(table)
    parts += ["# Tables of a measurement of coverage\n"]
    parts += ["What `camdrift coverage` writes; [coverage.md](coverage.md) explains them.\n"]
    for table in MEASUREMENT_TABLES.values():
        parts += _section(table)
    return "\n".join(parts)


def _top_of(module: str) -> str:
    """Docstring of a module that is not imported, since it may need torch."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def explanations_page() -> str:
    """The page on explanations as Markdown, its tables made of their rows; that of Captum's stays as it stands."""
    page = (DOCS / "explanations.md").read_text(encoding="utf-8")
    explanations = [f"| `{row.name}` | {row.formula} | {row.source} |" for row in EXPLANATION_ROWS.values()]
    metrics = [f"| `{row.name}` | {row.meaning} | {row.range} | {row.resolution} |" for row in METRIC_ROWS.values()]
    return _with_rows(_with_rows(page, "| name | map |", explanations), "| name | of two maps |", metrics)


def fuzzing_page() -> str:
    """The page on fuzzing as Markdown, its tables made of the names."""
    page = (DOCS / "fuzzing.md").read_text(encoding="utf-8")
    for head, names in (
        ("### Frameworks", FRAMEWORK_WORDS),
        ("### Operators", OPERATOR_WORDS),
        ("### Constraints", CONSTRAINT_WORDS),
        ("### Oracles", ORACLE_WORDS),
    ):
        before, after = page.split(head, 1)
        rows = [f"| `{name}` | {words} |" for name, words in names.items()]
        page = before + head + _with_rows_once(after, rows)
    return page


def _with_rows_once(text: str, rows: list[str]) -> str:
    """The text with these rows in its first table."""
    table = re.compile(r"(\| name \|.*\n\|[-|]+\|\n)(?:\| `[^`]+` \|.*\n)*")
    return table.sub(lambda match: match[1] + "".join(f"{row}\n" for row in rows), text, count=1)


def _with_rows(page: str, head: str, rows: list[str]) -> str:
    """The page with these rows in the table of some head, in place of all that begin with a plain name."""
    table = re.compile(rf"({re.escape(head)}.*\n\|[-|]+\|\n)(?:\| `[^`:]+` \|.*\n)*")
    return table.sub(lambda match: match[1] + "".join(f"{row}\n" for row in rows), page)


def _section(table: Table) -> list[str]:
    rows = [f"| `{c.name}` | {c.dtype} | {c.meaning} |" for c in table.columns]
    heads = ["| column | type | meaning |", "|---|---|---|"]
    return [f"## {table.name}\n", f"One row per {table.row}.\n", *heads, *rows, ""]


if __name__ == "__main__":
    (DOCS / "tables.md").write_text(tables_page(), encoding="utf-8")
    (DOCS / "explanations.md").write_text(explanations_page(), encoding="utf-8")
    (DOCS / "fuzzing.md").write_text(fuzzing_page(), encoding="utf-8")
