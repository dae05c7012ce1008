"""Reading and writing on a disk: whole files or none, and one clear line for what fails."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from camdrift.errors import StoreError
from camdrift.tables.reading import DISK_ERRORS, POLARS_ERRORS, first_line

# A disk with less room than this is full.
_SMALLEST_PAGE: Final = 4096


def write_whole(folder: Path, name: str, write: Any) -> None:
    """Write under another name first, and rename what is complete."""
    final, aside = folder / name, folder / f".{name}.part"
    try:
        with on_disk(folder):
            write(aside)
            sync(aside)
            aside.replace(final)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """The path, turning what cannot be read inside the block into one clear line.

    Raises:
        StoreError: The table at the path cannot be read.
    """
    try:
        yield path
    except DISK_ERRORS as error:
        raise StoreError(f"{path} cannot be read: {first_line(error)}") from error


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_full(path: Path) -> bool:
    """Is there no room left on the disk of a folder?"""
    try:
        return shutil.disk_usage(path).free < _SMALLEST_PAGE
    except OSError:
        return False


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turns what fails on the disk inside the block into one clear line.

    Raises:
        StoreError: Something could not be written.
    """
    try:
        yield
    except DISK_ERRORS as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if isinstance(error, POLARS_ERRORS):
            # Polars does not always say that it was the disk ("Invalid thrift: transport error").
            full = full or _is_full(path)
        what = "the disk is full" if full else first_line(error)
        hint = "free some space, then continue with --resume" if full else "is the folder writable?"
        raise StoreError(f"cannot write to {path}: {what}", hint) from error
