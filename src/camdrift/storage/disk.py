"""Reading and writing on a disk: whole files or none, and one clear line for an operation that fails."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from camdrift.errors import StoreError
from camdrift.tables.reading import DISK_ERRORS, POLARS_ERRORS, first_line

# A disk with less room than this is full.
_SMALLEST_PAGE: Final = 4096


def write_whole(folder: Path, name: str, write: Callable[[Path], Any]) -> None:
    """Write one file of a folder that one process at a time writes into; a reader sees it whole or not at all.

    Args:
        folder: The folder.
        name: Name of the file.
        write: Writes the file at a path.

    Raises:
        StoreError: It cannot be written.
    """
    with on_disk(folder):
        _write_aside(folder / name, folder / f".{name}.part", write)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files below a folder in their order; a reader sees each whole or not at all, whoever else writes it, too.

    Args:
        folder: The folder.
        files: Name below the folder, such as `figures/gain.png`, and bytes of each.

    Raises:
        StoreError: One cannot be written; those before it are there.
    """
    with on_disk(folder):
        for name, data in files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_aside(path, path.with_name(f".{path.name}.{os.getpid()}.part"), partial(Path.write_bytes, data=data))


def read_files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Bytes of the files of a folder by name, sorted, of names that match a pattern; empty if there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """The path; inside the block a table at it that cannot be read is one clear line.

    Raises:
        StoreError: The table at the path cannot be read.
    """
    try:
        yield path
    except DISK_ERRORS as error:
        raise StoreError(f"{path} cannot be read: {first_line(error)}") from error


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Inside the block an operation on the disk that fails is one clear line.

    Args:
        path: The folder that the block writes into.

    Raises:
        StoreError: Something could not be written.
    """
    try:
        yield
    except DISK_ERRORS as error:
        is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if isinstance(error, POLARS_ERRORS):
            # Polars does not always say that it was the disk ("Invalid thrift: transport error").
            is_full = is_full or _is_full(path)
        what = "the disk is full" if is_full else first_line(error)
        hint = "free some space, then go on" if is_full else "is the folder writable?"
        if getattr(error, "errno", None) == errno.EFBIG:
            hint = "the system allows no file of that size (`ulimit -f`)"
        raise StoreError(f"cannot write to {path}: {what}", hint) from error


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_aside(path: Path, aside: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name first, and rename what is complete."""
    try:
        write(aside)
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _is_full(path: Path) -> bool:
    """Is there no room left on the disk of a folder?"""
    try:
        return shutil.disk_usage(path).free < _SMALLEST_PAGE
    except OSError:
        return False
