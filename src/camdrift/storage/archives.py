"""Archives of arrays (.npz), written and read array by array."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from threading import Lock, local
from typing import IO, Any, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.disk import is_link
from camdrift.tables.arrays import Gallery

# An array of a gallery: an image of 4,600 pixels along a side, or the names of ten thousand seeds.
MOST_BYTES_OF_ARRAY: Final = 2**26
# A header is a literal of Python. CPython, seen in 3.11.7, fails by chance where two threads parse such at once.
_PARSING: Final = Lock()
_HEADERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
def open_arrays(path: Path, most: int = MOST_BYTES_OF_ARRAY) -> Iterator[Gallery]:
    """The arrays of a .npz file, each read when it is asked for, by as many threads as like.

    Args:
        path: The file.
        most: Bytes that an array may unpack to.

    Raises:
        StoreError: It is damaged or a link; an array that is damaged or too large raises it when it is read.
    """
    with ExitStack() as stack:
        arrays = _StoredArrays(path, stack, most)
        len(arrays)  # which opens it
        yield arrays


class _StoredArrays(Mapping[str, NDArray[Any]]):
    """The arrays of an open .npz file, each read when it is asked for.

    Every thread has an archive of its own. When one of Python 3.12 or 3.13 opens a member it skips a field from where
    its file stands, and another reader may have moved that: sound arrays are then taken for damaged ones.
    """

    def __init__(self, path: Path, stack: ExitStack, most: int) -> None:
        self._path, self._stack, self._most = path, stack, most
        self._own = local()

    def __getitem__(self, key: str) -> NDArray[Any]:
        with _readable(self._path):
            member = self._archive.NameToInfo.get(f"{key}.npy")
            if member is not None:
                return _read(self._archive, member, self._most)
        raise KeyError(key)

    def __reduce__(self) -> tuple[Any, ...]:
        return _StoredArrays, (self._path, ExitStack(), self._most)  # another process opens an archive of its own

    def __contains__(self, key: object) -> bool:
        # The method of `Mapping` would read the array.
        return f"{key}.npy" in self._archive.NameToInfo

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self._archive.namelist())

    def __len__(self) -> int:
        return len(self._archive.namelist())

    @property
    def _archive(self) -> ZipFile:
        """The archive of this thread."""
        if not hasattr(self._own, "archive"):
            with _readable(self._path):
                if is_link(self._path):
                    raise OSError("it is a link")
                self._own.archive = self._stack.enter_context(ZipFile(self._path))
        archive: ZipFile = self._own.archive
        return archive


def _read(archive: ZipFile, member: ZipInfo, most: int) -> NDArray[Any]:
    """An array of an archive; raises `ValueError`, before anything is unpacked, where sizes do not fit."""
    if member.file_size > most:
        raise ValueError(f"{member.filename} unpacks to {member.file_size:,} bytes, more than {most:,}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} is an array of version {version}")
        with _PARSING:
            shape, is_fortran, dtype = _HEADERS[version](file)
        size = prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects of Python")
        if file.tell() + size != member.file_size:
            raise ValueError(f"{member.filename} has {member.file_size:,} bytes, and not what its header says")
        values = np.frombuffer(bytearray(file.read(size)), dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Inside the block an archive that cannot be read is one clear line."""
    try:
        yield
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, BadZipFile, zlib.error) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
