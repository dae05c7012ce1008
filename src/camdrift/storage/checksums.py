"""SHA-256 of stored files, and the damage of files and folders that differ from it."""

import json
from hashlib import file_digest
from pathlib import Path
from typing import Final

from camdrift.storage.disk import is_link, read_small

CHECKSUMS: Final = "checksums.json"
_MOST_BYTES: Final = 2**20


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Checksum of every file in a folder, by name.

    Raises:
        OSError: One cannot be read.
    """
    return {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.is_file()}


def damage(folder: Path) -> str | None:
    """Damage of a folder that holds `CHECKSUMS`, in words; None where every file is as it was written."""
    if is_link(folder):
        return "is a link"
    try:
        checksum_of = json.loads(read_small(folder / CHECKSUMS, _MOST_BYTES))
    except FileNotFoundError:
        return f"{CHECKSUMS} is missing"
    except (OSError, ValueError, RecursionError):
        return f"{CHECKSUMS} cannot be read"
    if not isinstance(checksum_of, dict) or not checksum_of:
        return f"{CHECKSUMS} names no files"
    if not all(Path(name).name == name for name in checksum_of):
        return f"{CHECKSUMS} names files elsewhere"
    problems = ((name, changed(folder / name, sha256)) for name, sha256 in checksum_of.items())
    return next((f"{name} {problem}" for name, problem in problems if problem is not None), None)


def changed(path: Path, sha256: str) -> str | None:
    """Difference of a file from what was written, in words; None where its checksum is `sha256`."""
    if is_link(path):
        return "is a link"
    if path.exists() and not path.is_file():
        return "is no file"
    try:
        current = checksum(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return None if current == sha256 else "is not what was written (its SHA-256 differs)"


class Checked:
    """Files of known checksum. A file that was whole is not read again while its size and time stay."""

    def __init__(self) -> None:
        self._whole: dict[Path, tuple[str, int, int]] = {}

    def changed(self, path: Path, sha256: str) -> str | None:
        """As the function of this name."""
        stat = path.stat() if path.is_file() and not is_link(path) else None
        state = None if stat is None else (sha256, stat.st_size, stat.st_mtime_ns)
        if state is not None and self._whole.get(path) == state:
            return None
        problem = changed(path, sha256)
        if problem is None and state is not None:
            self._whole[path] = state
        return problem
