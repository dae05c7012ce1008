"""Reading and writing on a disk: whole files or none, never through a link, and one clear line for what fails."""

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from camdrift.errors import StoreError
from camdrift.tables.reading import DISK_ERRORS, POLARS_ERRORS, first_line

# A disk with less room than this is full.
_SMALLEST_PAGE: Final = 4096
_FULL: Final = "free some space, then continue with --resume; report, compare and detect are run again"
_HINTS: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "copy the folder to a disk that can be written",
}
_EXCLUSIVE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)

Write = Callable[[Path], Any]


def write_whole(folder: Path, name: str, write: Write) -> None:
    """Write one file of a folder; a reader sees it whole or not at all.

    Args:
        folder: The folder.
        name: Name of the file.
        write: Writes the file at a path.

    Raises:
        StoreError: It cannot be written.
    """
    aside = folder / f".{name}.{secrets.token_hex(8)}.part"
    with on_disk(folder):
        os.close(os.open(aside, _EXCLUSIVE, 0o666))
        try:
            write(aside)
            sync(aside)
            aside.replace(folder / name)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
        sync_folder(folder)


def write_asked(path: Path, data: bytes) -> None:
    """Write a file that somebody has named: a plain one whole, anything else (a link, a device, a pipe) as it is.

    Args:
        path: The file.
        data: Its bytes.

    Raises:
        StoreError: It cannot be written.
    """
    if is_link(path) or (path.exists() and not path.is_file()):
        with on_disk(path):
            path.write_bytes(data)
    else:
        write_whole(path.parent, path.name, lambda aside: aside.write_bytes(data))


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with everything in it; nothing if it is not there."""
    if path.is_dir() and not is_link(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_link(path: Path) -> bool:
    """Is this a link (or on Windows a junction)?"""
    return path.is_symlink() or (sys.version_info >= (3, 12) and path.is_junction())


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise `StoreError` if one of our names in a folder is a link, which may lead anywhere."""
    for name in names:
        if is_link(folder / name):
            raise StoreError(
                f"{folder / name} is a link: nothing is read or written through links in such a folder",
                "remove it, or put what it leads to in its place",
            )


def read_small(path: Path, most: int) -> bytes:
    """Bytes of a file that is no link and has at most so many bytes.

    Raises:
        OSError: It cannot be read, is a link, or is larger.
    """
    if is_link(path):
        raise OSError(errno.ELOOP, "is a link", str(path))
    if (size := path.stat().st_size) > most:
        raise OSError(errno.EFBIG, f"has {size:,} bytes, more than {most:,}", str(path))
    return path.read_bytes()


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
        number = getattr(error, "errno", None)
        is_full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if isinstance(error, POLARS_ERRORS):
            # Polars does not always say that it was the disk ("Invalid thrift: transport error").
            is_full = is_full or _is_full(path)
        what = "the disk is full" if is_full else first_line(error)
        hint = _FULL if is_full else _HINTS.get(number or 0, "is the folder writable?")
        raise StoreError(f"cannot write to {path}: {what}", hint) from error


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("r+b") as file:  # Windows flushes what may be written alone
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where a system has a way to ask for that."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of file systems that flush no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full(path: Path) -> bool:
    """Is there no room left on the disk of a folder?"""
    try:
        return shutil.disk_usage(path).free < _SMALLEST_PAGE
    except OSError:
        return False
