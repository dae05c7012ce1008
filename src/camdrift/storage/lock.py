"""The lock of a run directory: one process at a time writes into it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from camdrift.errors import StoreError

LOCK: Final = ".lock"
_PATIENCE: Final = 0.2


@contextmanager
def locked(folder: Path, patience: float = _PATIENCE) -> Iterator[bool]:
    """Keep every other process out of a folder while the block runs; yield whether that is so.

    The kernel releases the lock when the process ends, however it ends, so that none is ever left over. Where files
    cannot be locked (a file system without locks, a folder that cannot be written) the block runs without a lock.

    Args:
        folder: The folder, made if it is missing.
        patience: Seconds to wait for another process; some, since a last holder may just be removing the file.

    Raises:
        StoreError: Another process holds it.
    """
    path = folder / LOCK
    lock = _acquired(path, patience)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            # Removed while it is held: who has opened it by now sees that it is not the file of that name any more.
            with suppress(OSError):
                path.unlink()
            lock.release()
            if sys.platform == "win32":  # where an open file cannot be removed, ours or another's
                with suppress(OSError):
                    path.unlink()


def _acquired(path: Path, patience: float) -> FileLock | None:
    """The lock, held; None where there can be none."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience, poll_interval=0.05)
    except Timeout:
        raise StoreError(
            f"another process is writing to {path.parent}", "wait until it has ended, or choose another --out"
        ) from None
    except (OSError, NotImplementedError):
        return None
    return lock
