"""The lock of a run directory: one process at a time writes into it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from camdrift.errors import StoreError

if sys.platform != "win32":
    import fcntl

LOCK: Final = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder while the block runs.

    The kernel releases the lock when the process ends, however it ends, so that none is ever left over. Where files
    cannot be locked (no `flock`, a folder that cannot be written) the block runs without a lock.

    Args:
        folder: The folder, made if it is missing.

    Raises:
        StoreError: Another process holds it.
    """
    path = folder / LOCK
    descriptor = _acquire(path)
    try:
        yield
    finally:
        if descriptor is not None:
            # Removed while it is held: a process that has opened it by now sees that it is not the file of that name.
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """The descriptor that holds the lock; None where there can be none."""
    if sys.platform == "win32":
        return None
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise StoreError(
                f"another process is writing to {path.parent}",
                "wait until it has ended, or choose another --out",
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Is the open file the one of that name, and not one that its last holder has removed?"""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
