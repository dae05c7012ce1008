"""Seed images before they are read: each knows the place that holds its bytes, and its key there."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

from camdrift.images.files import read_bytes


@runtime_checkable
class Place(Protocol):
    """A folder, a shard or a data set, which holds many images."""

    def read(self, key: Any) -> bytes:
        """Return the bytes of one image; raise `ImageError` with a reason where there are none."""
        ...

    def path(self, key: Any) -> Path:
        """Return the path of one image, to show and to compare. It opens only files in a folder."""
        ...

    def counts(self, classes: int) -> bool:
        """Are the labels indices of a model of so many classes?"""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One seed image, not yet read; a million of them fit in memory.

    Attributes:
        seed_id: Its name in the study, unique: the path below the folder that is studied, with forward slashes;
            `shard/member`; `split/index`.
        place: The folder, shard or data set that holds it.
        key: Its name or number in `place`.
        folder: Name of a candidate class: first folder below the studied one; None for an image in none.
        label: Index of its true class, None where unknown.
    """

    seed_id: str
    place: Place
    key: Any
    folder: str | None = None
    label: int | None = None

    @property
    def path(self) -> Path:
        """Path of the image, to show and to compare."""
        return self.place.path(self.key)

    def read(self) -> bytes:
        """Return the bytes of the image; raise `ImageError` with a reason where there are none."""
        return self.place.read(self.key)


@dataclass(frozen=True)
class Folder:
    """Files below a folder, by their path from there.

    Attributes:
        root: The folder; the empty path for files named one by one.
        classes: Number of classes that the labels count.
    """

    root: Path = Path()
    classes: int = 0

    def read(self, key: str) -> bytes:
        """Return the bytes of a file."""
        return read_bytes(self.root / key)

    def path(self, key: str) -> Path:
        """Return the path of a file."""
        return self.root / key

    def counts(self, classes: int) -> bool:
        """Are the labels indices of a model of so many classes?"""
        return classes == self.classes


def display_path(path: PurePath) -> str:
    """Return a path as text that every file can hold: bytes of a name that are no UTF-8 become escapes."""
    return display_name(path.as_posix())


def display_name(name: str) -> str:
    """Return a name as text that every file can hold: bytes that are no UTF-8 become escapes."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
