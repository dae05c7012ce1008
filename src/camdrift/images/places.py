"""Where the bytes of an image lie: a seed image knows what holds it and by which key, and is read only when asked."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

from camdrift.images.files import read_bytes


@runtime_checkable
class Place(Protocol):
    """What holds many images: a folder, a shard, a data set."""

    def read(self, key: Any) -> bytes:
        """The bytes of one image; raises `ImageError` with a reason where there are none."""
        ...

    def path(self, key: Any) -> Path:
        """Where one image lies, to be shown and compared; only what lies in a folder can be opened by it."""
        ...

    def counts(self, classes: int) -> bool:
        """Are labels here indices of a model of so many classes?"""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One seed image, not yet read; a million of them fit in memory.

    Attributes:
        seed_id: Its name in the study, unique: the path below the folder that is studied, with forward slashes;
            `shard/member`; `split/index`.
        place: What holds it.
        key: What `place` knows it by.
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
        """Where it lies, to be shown and compared."""
        return self.place.path(self.key)

    def read(self) -> bytes:
        """Its bytes; raises `ImageError` with a reason where there are none."""
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
        """The bytes of a file."""
        return read_bytes(self.root / key)

    def path(self, key: str) -> Path:
        """The file."""
        return self.root / key

    def counts(self, classes: int) -> bool:
        """Are labels here indices of a model of so many classes?"""
        return classes == self.classes


def display_path(path: PurePath) -> str:
    """A path as text that every file can hold: bytes of a name that are no UTF-8 are written as escapes."""
    return display_name(path.as_posix())


def display_name(name: str) -> str:
    """A name as text that every file can hold: bytes that are no UTF-8 are written as escapes."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
