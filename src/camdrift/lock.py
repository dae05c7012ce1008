"""One process at a time writes into a run directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from camdrift.errors import StoreError
from camdrift.store import LOCK, RECORD, is_made_by_camdrift, on_disk

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside the block no other process of this machine writes into the run directory `path`, which may be new.

    The system lets go of the lock when the process ends, however it does. A folder that is neither a run directory nor
    empty is left alone.

    Raises:
        StoreError: Another process writes there, or the folder cannot be written.
    """
    is_new = not path.exists()
    is_ours = is_new or (path.is_dir() and (is_made_by_camdrift(path / RECORD) or not any(_content(path))))
    if fcntl is None or not is_ours:
        yield
        return
    with on_disk(path):
        path.mkdir(parents=True, exist_ok=True)
        file = _lock(path)
    try:
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)
        file.close()
        if is_new and not any(path.iterdir()):
            path.rmdir()


def _content(path: Path) -> Iterator[Path]:
    return (entry for entry in path.iterdir() if entry.name != LOCK)


def _lock(path: Path) -> IO[bytes]:
    while True:
        file = (path / LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise StoreError(
                f"`out` must not be in use, got: {path} (another process writes to it)",
                "wait until it has ended, or choose another --out",
            ) from error
        # Another process may have ended between the two steps and taken its file away.
        if (path / LOCK).exists() and (path / LOCK).stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()
