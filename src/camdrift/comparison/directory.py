"""The folder of a comparison of studies: its tables, record, figures and page."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import polars as pl

from camdrift.errors import StoreError
from camdrift.storage.disk import Write, is_link, on_disk
from camdrift.storage.lock import locked
from camdrift.storage.replacement import MOVING, READY, drop_leftovers, is_unsettled, replace_files, settle
from camdrift.storage.run_files import is_made_by_camdrift, is_unused, record_bytes
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.file_names import COMPARISON_PAGE, COMPARISON_RECORD, FIGURES, REPORT

_FILES: Final = (COMPARISON_PAGE, *(f"{name}.parquet" for name in COMPARISON_TABLES), COMPARISON_RECORD)
# Seconds that a comparison waits for another one that writes into the same folder.
_PATIENCE: Final = 20.0


class ComparisonDirectory:
    """The folder of a comparison of studies.

    Args:
        path: The folder.
        overwrite: May a comparison in it be replaced?

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite

    def check_free(self, *, is_locked: bool = False) -> None:
        """Raise `StoreError` if something else lies there, or a comparison that may not be replaced.

        Args:
            is_locked: Does this process keep all others out of the folder?
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        if is_unsettled(path) and any(map(is_made_by_camdrift, _records(path))):
            with nullcontext() if is_locked else locked(path, _PATIENCE), on_disk(path):
                settle(path, _is_ours)
        if is_unused(path, _is_ours):
            return
        if not is_made_by_camdrift(path / COMPARISON_RECORD):
            raise StoreError(
                f"`out` must be new or the folder of a comparison, got: {path} (a folder with other things in it)",
                "choose another --out",
            )
        if not self._overwrite:
            raise StoreError(
                f"`out` must be new, got: {path} (there is a comparison in it)",
                "--overwrite replaces it, another --out leaves it alone",
            )

    def write(
        self, tables: Mapping[str, pl.DataFrame], record: Mapping[str, Any], files: Iterable[tuple[str, bytes]]
    ) -> None:
        """Write a comparison in the place of the one that lies there, all of it or nothing.

        Args:
            tables: Those of `COMPARISON_TABLES` by name.
            record: The record.
            files: Name below the folder and bytes of figures and page.

        Raises:
            StoreError: It cannot be written; what was there is as it was.
        """
        new: list[tuple[str, Write]] = [(name, partial(Path.write_bytes, data=data)) for name, data in files]
        for name, table in tables.items():
            if table.schema != COMPARISON_TABLES[name].schema:
                raise ValueError(f"table `{name}` must have the schema {COMPARISON_TABLES[name].schema}")
            new.append((f"{name}.parquet", table.write_parquet))
        new.append((COMPARISON_RECORD, partial(Path.write_bytes, data=record_bytes(record))))
        with on_disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, _PATIENCE) as is_locked:
            self.check_free(is_locked=True)
            if is_locked:
                with on_disk(self.path):
                    drop_leftovers(self.path, _is_ours)
            replace_files(self.path, new, _is_ours, is_all=True)

    def link(self, run: Path) -> str:
        """Address of a run's report as seen from this folder; empty where there is none."""
        page = run / REPORT
        if not page.is_file():
            return ""
        try:
            return quote(Path(os.path.relpath(page, self.path)).as_posix())
        except ValueError:  # another drive
            return ""


def _records(path: Path) -> list[Path]:
    """Places of the record of a comparison in a folder, also while its files are on their way there."""
    return [folder / COMPARISON_RECORD for folder in (path, path / READY, path / MOVING) if not is_link(folder)]


def _is_ours(name: str) -> bool:
    """Is this the name, below the folder of a comparison, of a file that camdrift writes?"""
    return name in (*_FILES, FIGURES) or re.fullmatch(rf"{FIGURES}/comparison_[^/]*\.(png|pdf)", name) is not None
