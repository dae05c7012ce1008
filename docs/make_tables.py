"""Writes docs/tables.md from the column documentation in camdrift.tables."""

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
    parts += ["# Tables of a comparison\n", "What `camdrift compare` writes; [compare.md](compare.md) explains them.\n"]
    for table in COMPARISON_TABLES.values():
        parts += _section(table)
    return "\n".join(parts)


def _section(table: Table) -> list[str]:
    rows = [f"| `{c.name}` | {c.dtype} | {c.meaning} |" for c in table.columns]
    heads = ["| column | type | meaning |", "|---|---|---|"]
    return [f"## {table.name}\n", f"One row per {table.row}.\n", *heads, *rows, ""]


if __name__ == "__main__":
    Path(__file__).with_name("tables.md").write_text(tables_page(), encoding="utf-8")
