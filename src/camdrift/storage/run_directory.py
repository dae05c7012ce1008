"""The run directory: the run record, the final tables, the gallery. It knows files and no science.

Everything is written under another name first and renamed when complete, so that a killed run leaves whole files only:

    run.json               what was run, with what, and how far it is
    chunks/00007/          tables, gallery and checksums of one finished chunk, until the run is complete
    .lock                  keeps a second process out, while somebody writes
    .next/                 a run that takes the place of this one when it is complete
    seeds.parquet ...      the final tables
    gallery.npz            images and heatmaps of some seeds
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from camdrift.errors import StoreError
from camdrift.storage.defence_files import ASIDE
from camdrift.storage.disk import Write, on_disk, refuse_links, remove
from camdrift.storage.lock import LOCK, locked
from camdrift.storage.replacement import (
    READY,
    clear,
    drop_leftovers,
    is_unsettled,
    leftovers,
    publish,
    replace_files,
    settle,
    write_files,
)
from camdrift.storage.run_contents import RunContents, check_schema, entries_of
from camdrift.storage.run_files import (
    FILES,
    TAKEN,
    is_file_of_run,
    is_made_by_camdrift,
    is_unused,
    record_bytes,
)
from camdrift.tables.file_names import CHUNKS, FIGURES, RECORD

NEXT: Final = ".next"
# Seconds that a command waits for another one that writes into the same run.
_PATIENCE: Final = 20.0


class RunDirectory(RunContents):
    """A run directory on disk: its record, its final tables, its gallery, and until it is complete its chunks.

    Args:
        path: The directory.
        successor_of: The directory of the run whose place this one takes when it is complete.

    Attributes:
        path: The directory.
        is_locked: Does this process keep all others out of it?
    """

    def __init__(self, path: Path, successor_of: Path | None = None) -> None:
        super().__init__(path)
        self.is_locked = False
        self._successor_of = successor_of

    @property
    def place(self) -> Path | str:
        """Path or URL of the run, for messages."""
        return self._successor_of or self.path

    @classmethod
    def create(cls, path: Path, *, overwrite: bool = False) -> "RunDirectory":
        """A new, empty run directory.

        Raises:
            StoreError: The folder is there already and has something in it.
        """
        cls.check_free(path, overwrite=overwrite)
        with on_disk(path):
            path.mkdir(parents=True, exist_ok=True)
            settle(path, is_file_of_run)
            remove(path / NEXT)
            remove(path / ASIDE)
            clear(path, is_file_of_run)
        return cls(path)

    @classmethod
    def succeed(cls, path: Path) -> "RunDirectory":
        """A new, empty run directory inside that of a run, whose place it takes when it is complete."""
        with on_disk(path):
            settle(path, is_file_of_run)
            remove(path / NEXT)
            (path / NEXT).mkdir()
        return cls(path / NEXT, successor_of=path)

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool = False) -> None:
        """Raise `StoreError` if there is something that a new run may not replace."""
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        if is_unused(path):
            return
        if not is_made_by_camdrift(path / RECORD):
            raise StoreError(
                f"`out` must be new or a run directory, got: {path} (a folder with other things in it)",
                "choose another --out",
            )
        if not overwrite:
            raise StoreError(
                f"`out` must be new, got: {path} (there is a run in it)",
                TAKEN,
            )

    @classmethod
    def open(cls, path: Path, *, is_resumed: bool = False) -> "RunDirectory":
        """An existing run directory.

        Args:
            path: The directory.
            is_resumed: Prefer the run that shall take its place, if there is one.

        Raises:
            StoreError: No run there, or one of another schema, or links in it.
        """
        if is_unsettled(path):
            with locked(path, _PATIENCE), on_disk(path):
                settle(path, is_file_of_run)
        refuse_links(path, (LOCK, NEXT, CHUNKS, FIGURES, *FILES))
        if is_resumed and is_made_by_camdrift(path / NEXT / RECORD):
            refuse_links(path / NEXT, (CHUNKS, FIGURES, *FILES))
            directory = cls(path / NEXT, successor_of=path)
        elif (path / RECORD).is_file():
            directory = cls(path)
        else:
            raise StoreError(f"no run in {path} ({RECORD} is missing)", "name the folder that `camdrift run` wrote")
        directory.check_version()
        return directory

    def is_tidy(self) -> bool:
        """Is nothing left over here, and no place to be taken?"""
        leftover_names = (self.path / NEXT, self.path / LOCK, *leftovers(self.path, is_file_of_run))
        has_more = any(map(Path.exists, leftover_names)) or is_unsettled(self.path)
        return self._successor_of is None and not has_more and not self.chunks_done()

    def tidy(self) -> None:
        """Remove what commands that were killed have left, here and in the directory whose place this one takes."""
        for path in filter(None, (self.path, self._successor_of)):
            with on_disk(path):
                drop_leftovers(path, is_file_of_run)
        if self._successor_of is None:
            with on_disk(self.path):
                settle(self.path, is_file_of_run)
                remove(self.path / NEXT)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside the block no other process writes here; what killed ones have left is removed first."""
        if self.is_locked:
            yield
            return
        with locked(self.path, _PATIENCE) as self.is_locked:
            try:
                if self.is_locked:
                    with on_disk(self.path):
                        drop_leftovers(self.path, is_file_of_run)
                yield
            finally:
                self.is_locked = False

    def write_report(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Replace figures and page, all of them or none.

        Args:
            files: Name, such as `figures/gain.png`, and bytes of each.
        """
        report = list(files)  # before others are kept out
        with self.writing():
            write_files(self.path, report, is_file_of_run)

    def take_place(self) -> None:
        """Let this run, which is complete, take the place of the one that it is the successor of."""
        if (path := self._successor_of) is not None:
            with on_disk(path):
                publish(self.path, path / READY)
                settle(path, is_file_of_run)
            self.path, self._successor_of = path, None

    def replace_tables(self, tables: Mapping[str, pl.DataFrame], figures: Iterable[tuple[str, bytes]] = ()) -> None:
        """Replace final tables of a run that is complete, the entries of its record about them, and figures.

        Args:
            tables: The tables by name.
            figures: Name and bytes of each file.
        """
        files: list[tuple[str, Write]] = [(name, partial(Path.write_bytes, data=data)) for name, data in figures]
        for name, table in tables.items():
            check_schema(name, table)
            files.append((f"{name}.parquet", table.write_parquet))

        def write_record(path: Path) -> None:
            record = self.read_record()
            # A record that knew no files stays so: with some it would seem to vouch for all.
            if record.get("files"):
                record["files"] = {**record["files"], **entries_of(path.parent, tables)}
            path.write_bytes(record_bytes(record))

        with self.writing():
            replace_files(self.path, [*files, (RECORD, write_record)], is_file_of_run)

    def keep(self, *names: str) -> None:
        """Send files that changed here to the place where the run is kept; a run in a folder is kept here."""
