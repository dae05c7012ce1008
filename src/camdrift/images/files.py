"""The bytes of files of anybody's, and their checksums."""

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from camdrift.errors import ImageError

LARGEST_FILE: Final = 2**30


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: There are none, or more than `LARGEST_FILE`; the message says why.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            next(path.iterdir(), None)  # a folder without permission says so
            raise ImageError("a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("a device or a pipe, not an image file")
        if status.st_size > LARGEST_FILE:
            raise ImageError(f"too large: {status.st_size:,} bytes, at most {LARGEST_FILE:,} are read")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        why = str(getattr(error, "strerror", None) or error)
        raise ImageError(f"cannot be opened: {why.lower()}") from error
    if not data:
        raise ImageError("empty file (0 bytes)")
    return data


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; a reason where it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageError as error:
        return error.message


def images_checksum(checksums: Iterable[str]) -> str:
    """Return the SHA-256 over the checksums of all images, sorted and joined by newlines: order does not matter."""
    return hashlib.sha256("\n".join(sorted(checksums)).encode()).hexdigest()
