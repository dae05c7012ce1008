"""Writes docs/tables.md from the column documentation in camdrift.records."""

from pathlib import Path

from camdrift.records import FURTHER_TABLES, TABLES


def tables_page() -> str:
    """The page as Markdown."""
    parts = [
        "# Tables of a run directory\n",
        "One Parquet file per table. A value that does not exist is null, never NaN, 0 or an empty string.",
        "This page is written by `python docs/make_tables.py`.\n",
    ]
    for table in (TABLES | FURTHER_TABLES).values():
        parts += [
            f"## {table.name}\n",
            f"One row per {table.row}.\n",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        parts += [f"| `{c.name}` | {c.dtype} | {c.meaning} |" for c in table.columns]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("tables.md").write_text(tables_page(), encoding="utf-8")
