"""Archives of arrays (.npz), written and read array by array."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.tables.arrays import Gallery


def write_arrays(file: IO[bytes], arrays: Iterable[tuple[str, NDArray[Any]]], compression: int) -> None:
    """Write a .npz file array by array.

    `np.savez_compressed` needs all arrays at once, and spends its time on noise.

    Args:
        file: The file.
        arrays: Keys and arrays.
        compression: One of the constants `ZIP_STORED` and `ZIP_DEFLATED` of `zipfile`.
    """
    with ZipFile(file, "w", compression, compresslevel=1) as archive:
        for key, value in arrays:
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)


@contextmanager
def open_arrays(path: Path) -> Iterator[Gallery]:
    """The arrays of a .npz file, each read when it is asked for.

    Raises:
        StoreError: It is damaged; an array that cannot be read raises it, too.
    """
    with ExitStack() as stack:
        with _readable(path):
            # NumPy leaves a file that it opened itself open if the archive is damaged.
            file = stack.enter_context(path.open("rb"))
            archive = stack.enter_context(np.load(file, allow_pickle=False))
        yield _StoredArrays(path, archive)


class _StoredArrays(Mapping[str, NDArray[Any]]):
    """The arrays of an open .npz file, each read when it is asked for."""

    def __init__(self, path: Path, archive: Any) -> None:
        self._path = path
        self._archive = archive
        self._keys = dict.fromkeys(archive.files)

    def __getitem__(self, key: str) -> NDArray[Any]:
        if key not in self._keys:
            raise KeyError(key)
        with _readable(self._path):
            return np.asarray(self._archive[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Inside the block an archive that cannot be read is one clear line."""
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
