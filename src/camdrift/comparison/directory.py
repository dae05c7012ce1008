"""The folder of a comparison of studies: its tables, record, figures and page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from camdrift.errors import StoreError
from camdrift.storage.disk import on_disk, write_whole
from camdrift.storage.run_directory import is_made_by_camdrift, record_bytes
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.file_names import COMPARISON_PAGE, COMPARISON_RECORD, FIGURES, REPORT


class ComparisonDirectory:
    """The folder of a comparison of studies.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, overwrite: bool = False) -> "ComparisonDirectory":
        """Make a folder for a comparison, or remove the comparison that lies in it.

        Raises:
            StoreError: Something else lies there, or a comparison and `overwrite` is off.
        """
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        with on_disk(path):
            if path.is_dir() and any(path.iterdir()):
                cls._clear(path, overwrite=overwrite)
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def _clear(cls, path: Path, *, overwrite: bool) -> None:
        if not is_made_by_camdrift(path / COMPARISON_RECORD):
            raise StoreError(
                f"`out` must be new or the folder of a comparison, got: {path} (a folder with other things in it)",
                "choose another --out",
            )
        if not overwrite:
            raise StoreError(
                f"`out` must be new, got: {path} (there is a comparison in it)",
                "--overwrite replaces it, another --out leaves it alone",
            )
        figures = path / FIGURES
        for file in (*figures.glob("comparison_*.png"), *figures.glob("comparison_*.pdf")):
            file.unlink()
        for name in (COMPARISON_PAGE, *(f"{name}.parquet" for name in COMPARISON_TABLES), COMPARISON_RECORD):
            (path / name).unlink(missing_ok=True)

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Replace a table; its columns must be those of `COMPARISON_TABLES`."""
        if table.schema != COMPARISON_TABLES[name].schema:
            raise ValueError(f"table `{name}` must have the schema {COMPARISON_TABLES[name].schema}")
        write_whole(self.path, f"{name}.parquet", table.write_parquet)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace comparison.json."""
        write_whole(self.path, COMPARISON_RECORD, lambda path: path.write_bytes(record_bytes(record)))

    def link(self, run: Path) -> str:
        """Address of a run's report as seen from this folder; empty where there is none."""
        page = run / REPORT
        if not page.is_file():
            return ""
        try:
            return quote(Path(os.path.relpath(page, self.path)).as_posix())
        except ValueError:  # another drive
            return ""
