"""The folder of a measurement of coverage: its tables, its record, and the profile that it was made against."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_STORED

import polars as pl
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.disk import Write, on_disk, write_whole
from camdrift.storage.lock import locked
from camdrift.storage.replacement import drop_leftovers, replace_files
from camdrift.storage.run_files import is_made_by_camdrift, is_unused, record_bytes
from camdrift.tables.criteria import MEASUREMENT_TABLES
from camdrift.tables.file_names import MEASUREMENT_RECORD, PROFILE

_FILES: Final = (*(f"{name}.parquet" for name in MEASUREMENT_TABLES), MEASUREMENT_RECORD, PROFILE)
# Features of fifty thousand images in a layer of two thousand neurons.
_MOST_BYTES: Final = 2**29


def check_measurement_folder(path: Path) -> None:
    """Raise `StoreError` unless a folder is new, or holds a measurement, which another may replace."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"`out` must be a folder, got: {path} (a file)")
    has_measurement = is_made_by_camdrift(path / MEASUREMENT_RECORD) or (path / PROFILE).is_file()
    if not has_measurement and not is_unused(path, _is_ours):
        raise StoreError(
            f"`out` must be new or the folder of a measurement, got: {path} (a folder with other things in it)",
            "choose another --out",
        )


def write_measurement(path: Path, tables: Mapping[str, pl.DataFrame], record: Mapping[str, Any]) -> None:
    """Write tables and record into a folder, all of them or none; a profile there stays.

    Raises:
        StoreError: They cannot be written.
    """
    files: list[tuple[str, Write]] = []
    for name, rows in tables.items():
        if rows.schema != MEASUREMENT_TABLES[name].schema:
            raise ValueError(f"table `{name}` must have the schema {MEASUREMENT_TABLES[name].schema}")
        files.append((f"{name}.parquet", rows.write_parquet))
    files.append((MEASUREMENT_RECORD, partial(Path.write_bytes, data=record_bytes(record))))
    with on_disk(path):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path) as is_locked:
        if is_locked:
            with on_disk(path):
                drop_leftovers(path, _is_ours)
        replace_files(path, files, _is_ours)


def write_profile(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a profile, as arrays without objects.

    Args:
        path: Its file.
        arrays: Its arrays by name.

    Raises:
        StoreError: It cannot be written.
    """

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            write_arrays(file, arrays.items(), ZIP_STORED)

    with on_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.parent, path.name, write)


def read_profile(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a profile.

    Raises:
        StoreError: It is damaged, or none.
    """
    with open_arrays(path, _MOST_BYTES) as arrays:
        return {name: arrays[name] for name in arrays}


def _is_ours(name: str) -> bool:
    """Is this the name of a file that a measurement writes into its folder?"""
    return name in _FILES
