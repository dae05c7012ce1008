"""Writes docs/tables.md from the column documentation in camdrift.tables and the top of camdrift.pipeline.gallery."""

import ast
from importlib.util import find_spec
from pathlib import Path

from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.reproduction import FURTHER_TABLES
from camdrift.tables.study import TABLES
from camdrift.tables.table import Table


def tables_page() -> str:
    """The page as Markdown."""
    parts = [
        "# Tables of a run directory\n",
        "One Parquet file per table. A value that does not exist is null, never NaN, 0 or an empty string.",
        "This page is written by `python docs/make_tables.py`.\n",
    ]
    for table in (TABLES | FURTHER_TABLES).values():
        parts += _section(table)
    parts += ["# Pictures of a run directory: gallery.npz\n", _top_of("camdrift.pipeline.gallery"), ""]
    parts += ["`numpy.load` reads it, one array at a time.\n"]
    parts += ["# Tables of a comparison\n", "What `camdrift compare` writes; [compare.md](compare.md) explains them.\n"]
    for table in COMPARISON_TABLES.values():
        parts += _section(table)
    return "\n".join(parts)


def _top_of(module: str) -> str:
    """Docstring of a module that is not imported, since it may need torch."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _section(table: Table) -> list[str]:
    rows = [f"| `{c.name}` | {c.dtype} | {c.meaning} |" for c in table.columns]
    heads = ["| column | type | meaning |", "|---|---|---|"]
    return [f"## {table.name}\n", f"One row per {table.row}.\n", *heads, *rows, ""]


if __name__ == "__main__":
    Path(__file__).with_name("tables.md").write_text(tables_page(), encoding="utf-8")
