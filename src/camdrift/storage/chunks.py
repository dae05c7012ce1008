"""The finished chunks of a run: tables, gallery and checksums of each, until the final files hold everything."""

import json
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_STORED

import polars as pl

from camdrift.storage.archives import MOST_BYTES_OF_ARRAY, open_arrays, write_arrays
from camdrift.storage.checksums import CHECKSUMS, checksums, damage
from camdrift.storage.disk import is_link, on_disk, readable, refuse_links, remove, sync, sync_folder
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import CHUNKS, GALLERY


class Chunks:
    """The chunks in a run directory.

    Attributes:
        path: The run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_chunk(self, index: int, tables: Mapping[str, pl.DataFrame], arrays: Gallery) -> None:
        """Store a finished chunk, whole or not at all."""
        final = self._chunk(index)
        # A name of its own, because a worker that was given up for lost may still be writing the same chunk.
        aside = final.with_name(f"{final.name}.{secrets.token_hex(4)}.part")
        with on_disk(self.path):
            refuse_links(self.path, [CHUNKS])
            aside.mkdir(parents=True)
            for name, table in tables.items():
                table.write_parquet(aside / f"{name}.parquet")
            with (aside / GALLERY).open("wb") as file:
                # Not compressed: it is read once more and then removed.
                write_arrays(file, arrays.items(), ZIP_STORED)
            (aside / CHECKSUMS).write_text(json.dumps(checksums(aside), indent=2), encoding="utf-8")
            for path in aside.iterdir():
                sync(path)
            sync_folder(aside)
            try:
                aside.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
                shutil.rmtree(aside)  # the other worker was still writing, and faster
            sync_folder(final.parent)
            sync_folder(self.path)

    def chunks_done(self) -> set[int]:
        """Indexes of the chunks that are stored."""
        folder = self.path / CHUNKS
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() and not is_link(folder) else []
        return {int(name) for name in names if re.fullmatch(r"\d{5,}", name)}

    def has_chunk(self, index: int) -> bool:
        """Is this chunk stored?"""
        return self._chunk(index).is_dir()

    def fetch_chunks(self, indexes: Iterable[int]) -> None:
        """Bring here the chunks that workers have stored elsewhere; in a folder that all share there are none."""

    def drop_chunk(self, index: int) -> None:
        """Remove a chunk."""
        with on_disk(self.path):
            remove(self._chunk(index))

    def damaged_chunks(self, indexes: Iterable[int]) -> dict[int, str]:
        """Damage of those of some chunks that are not as they were written, by index."""
        reasons = {index: damage(self._chunk(index)) for index in sorted(indexes)}
        return {index: reason for index, reason in reasons.items() if reason is not None}

    def drop_damaged_chunks(self) -> dict[int, str]:
        """Remove damaged chunks and half-written ones; return the damage of the former by index."""
        refuse_links(self.path, [CHUNKS])
        reasons = self.damaged_chunks(self.chunks_done())
        with on_disk(self.path):
            for path in (*map(self._chunk, reasons), *(self.path / CHUNKS).glob("*.part")):
                remove(path)
        return reasons

    def lost_chunks(self, indexes: Iterable[int]) -> dict[int, str]:
        """Remove those of some chunks that are damaged; return what is wrong with each that is not here, by index."""
        requests = set(indexes)
        reasons = self.damaged_chunks(requests & self.chunks_done())
        for index in reasons:
            self.drop_chunk(index)
        return {index: reasons.get(index, "it is gone") for index in sorted(requests - self.chunks_done())}

    def read_chunk(self, index: int, name: str) -> pl.DataFrame:
        """One table of a finished chunk.

        Raises:
            StoreError: It is not there, or damaged.
        """
        with readable(self._chunk(index) / f"{name}.parquet") as path:
            return pl.read_parquet(path, glob=False)

    def chunk_tables(self, name: str) -> Iterator[pl.DataFrame]:
        """One table of each finished chunk, in chunk order."""
        return (self.read_chunk(index, name) for index in sorted(self.chunks_done()))

    def chunk_table_names(self) -> list[str]:
        """Names of the tables that every finished chunk holds."""
        return sorted({path.stem for index in self.chunks_done() for path in self._chunk(index).glob("*.parquet")})

    def chunk_galleries(self) -> Iterator[Gallery]:
        """The arrays of each finished chunk, in chunk order; open until the next."""
        for index in sorted(self.chunks_done()):
            with open_arrays(self._chunk(index) / GALLERY, self._largest_array()) as arrays:
                yield arrays

    def _largest_array(self) -> int:
        """Bytes that an array of a gallery may unpack to."""
        return MOST_BYTES_OF_ARRAY

    def drop_chunks(self) -> None:
        """Remove the chunks, once the final tables hold everything in them."""
        with suppress(OSError):  # what stays goes with the next command that resumes the run
            remove(self.path / CHUNKS)

    def _chunk(self, index: int) -> Path:
        """Folder of a finished chunk."""
        return self.path / CHUNKS / f"{index:05d}"
