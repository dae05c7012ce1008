"""SHA-256 of stored files, and whether a folder still holds what was written."""

import json
from hashlib import file_digest
from pathlib import Path
from typing import Final

CHECKSUMS: Final = "checksums.json"


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Checksum of every file that lies in a folder, by name.

    Raises:
        OSError: One cannot be read.
    """
    return {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.is_file()}


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that holds `CHECKSUMS`, in words; None where every file is as it was written."""
    try:
        stored = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{CHECKSUMS} is missing"
    except (OSError, ValueError, RecursionError):
        return f"{CHECKSUMS} cannot be read"
    if not isinstance(stored, dict) or not stored:
        return f"{CHECKSUMS} names no files"
    if not all(Path(name).name == name for name in stored):
        return f"{CHECKSUMS} names files elsewhere"
    found = (changed(folder / name, expected) for name, expected in stored.items())
    return next((f"{name} {what}" for name, what in zip(stored, found, strict=True) if what is not None), None)


def changed(path: Path, expected: str) -> str | None:
    """What is wrong with a file of known checksum, in words; None if nothing is."""
    if path.exists() and not path.is_file():
        return "is no file"
    try:
        found = checksum(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return None if found == expected else "is not what was written (its SHA-256 differs)"


class Checked:
    """Files of known checksum; one that was found whole is not read again while its size and time stay."""

    def __init__(self) -> None:
        self._whole: dict[Path, tuple[str, int, int]] = {}

    def changed(self, path: Path, expected: str) -> str | None:
        """As the function of this name."""
        state = path.stat() if path.is_file() else None
        seen = None if state is None else (expected, state.st_size, state.st_mtime_ns)
        if seen is not None and self._whole.get(path) == seen:
            return None
        what = changed(path, expected)
        if what is None and seen is not None:
            self._whole[path] = seen
        return what
