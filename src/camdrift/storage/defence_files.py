"""What `defend` keeps in a run directory beside tables: work that is not complete yet, what was learnt, pictures."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED

import numpy as np
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.chunks import Chunks
from camdrift.storage.disk import on_disk, read_small, remove, write_whole
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import DEFENCE_PICTURES, LEARNT

ASIDE: Final = ".defend"
_KEY: Final = "key.txt"
_KEY_LENGTH: Final = 12
_MOST_BYTES_LEARNT: Final = 2**28


class DefenceFiles(Chunks):
    """Finished parts of an evaluation of defences, until its tables hold everything; and what it keeps for good.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(run / ASIDE)
        self._run = run

    def begin(self, key: str) -> int:
        """Keep the whole parts of the same evaluation, drop those of any other, and return how many there are.

        Args:
            key: What tells the evaluation from others.
        """
        path = self.path / _KEY
        with on_disk(self.path):
            if not path.is_file() or read_small(path, len(key) + 1) != key.encode():
                remove(self.path)
                self.path.mkdir()
                write_whole(self.path, _KEY, partial(Path.write_text, data=key, encoding="utf-8"))
        self.drop_damaged_chunks()
        return len(self.chunks_done())

    def end(self) -> None:
        """Drop the parts, once the tables hold everything in them."""
        with on_disk(self.path):
            remove(self.path)

    def find(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Arrays that were learnt under a key; None for none."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self._learnt(key)
        if not path.is_file():
            return None
        try:
            arrays: dict[str, NDArray[Any]] = load(read_small(path, _MOST_BYTES_LEARNT))
        except (SafetensorError, OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}", "delete it, and it is learnt again") from error
        return arrays

    def keep(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays that were learnt under a key."""
        from safetensors.numpy import save

        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        write_whole(self._run, self._learnt(key).name, partial(Path.write_bytes, data=data))

    def write_pictures(self, arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Replace the pictures behind defences."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                write_arrays(file, arrays, ZIP_DEFLATED)

        write_whole(self._run, DEFENCE_PICTURES, write)

    @contextmanager
    def open_pictures(self) -> Iterator[Gallery]:
        """The pictures behind defences, each read when it is asked for; empty if there are none.

        Raises:
            StoreError: The file is damaged.
        """
        path = self._run / DEFENCE_PICTURES
        if not path.is_file():
            yield {}
            return
        with open_arrays(path) as arrays:
            yield arrays

    def _learnt(self, key: str) -> Path:
        return self._run / LEARNT.format(key[:_KEY_LENGTH])
