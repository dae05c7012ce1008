"""Images one behind the other in a file, so that a corpus of any size leaves memory flat."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.disk import is_link, on_disk


class FileStack:
    """Images (3, height, width), float32, in a file of nothing else.

    Args:
        path: The file, made if it is missing.
        shape: Channels, height and width.

    Raises:
        StoreError: The file is a link, or cannot be opened.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path, self._shape = path, shape
        self._bytes = int(np.prod(shape)) * 4
        if is_link(path):
            raise StoreError(f"{path} is a link: nothing is written through links in such a folder", "remove it")
        with on_disk(path.parent):
            self._file = path.open("r+b" if path.exists() else "w+b")
        self._size = path.stat().st_size // self._bytes

    def __len__(self) -> int:
        return self._size

    def append(self, images: NDArray[np.float32]) -> None:
        """Add images behind the others."""
        with on_disk(self._path.parent):
            self._file.seek(self._size * self._bytes)
            self._file.write(np.ascontiguousarray(images, dtype="<f4").tobytes())
        self._size += len(images)

    def read(self, places: Sequence[int]) -> NDArray[np.float32]:
        """Return images by their places, (n, 3, height, width)."""
        images = np.empty((len(places), *self._shape), dtype=np.float32)
        for row, place in enumerate(places):
            self._file.seek(place * self._bytes)
            images[row] = np.frombuffer(self._file.read(self._bytes), dtype="<f4").reshape(self._shape)
        return images

    def truncate(self, size: int) -> None:
        """Keep the first `size` images.

        Raises:
            StoreError: There are fewer.
        """
        if size > self._size:
            raise StoreError(f"{self._path} holds {self._size} images, {size} were written")
        with on_disk(self._path.parent):
            self._file.truncate(size * self._bytes)
        self._size = size

    def sync(self) -> None:
        """Wait until all images are on the disk."""
        with on_disk(self._path.parent):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
