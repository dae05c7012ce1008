"""The run directory: finished chunks, final tables, the run record. Knows files, no science.

Everything is written under another name first and renamed when complete, so a killed run leaves whole files only:

    run.json               what was run, with what, and how far it is
    chunks/00007/          tables, gallery and checksums of one finished chunk, until the run is complete
    .lock                  keeps a second process out, until the run is complete
    seeds.parquet ...      the final tables
    gallery.npz            images and heatmaps of some seeds
"""

import json
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED

import polars as pl
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.file_names import CHUNKS, FIGURES, GALLERY, RECORD, REPORT
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.checksums import CHECKSUMS, Checked, checksum, checksums, damage
from camdrift.storage.disk import on_disk, readable, sync, write_whole
from camdrift.storage.lock import LOCK
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Stored
from camdrift.tables.reproduction import FURTHER_TABLES
from camdrift.tables.run_json import misfit
from camdrift.tables.study import TABLES
from camdrift.tables.words import SCHEMA_VERSION

_SCHEMAS: Final = {**TABLES, **FURTHER_TABLES}
# The record is last, so that a folder in which clearing was cut short still counts as a run.
FILES: Final = (GALLERY, REPORT, *(f"{name}.parquet" for name in _SCHEMAS), RECORD)


class RunDirectory:
    """A run directory on disk.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked = Checked()

    @property
    def place(self) -> Path | str:
        """Where the run is kept, for people."""
        return self.path

    @classmethod
    def create(cls, path: Path, *, overwrite: bool = False) -> "RunDirectory":
        """A new, empty run directory.

        Raises:
            StoreError: The folder is there already and has something in it.
        """
        cls.check_free(path, overwrite=overwrite)
        cls._clear(path)
        with on_disk(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool = False) -> None:
        """Raises `StoreError` if there is something that a new run may not replace."""
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        with on_disk(path):
            is_taken = path.is_dir() and any(entry.name != LOCK for entry in path.iterdir())
        if not is_taken:
            return
        if not is_made_by_camdrift(path / RECORD):
            raise StoreError(
                f"`out` must be new or a run directory, got: {path} (a folder with other things in it)",
                "choose another --out",
            )
        if not overwrite:
            raise StoreError(
                f"`out` must be new, got: {path} (there is a run in it)",
                "--resume continues it, --overwrite starts again, another --out leaves it alone",
            )

    @classmethod
    def _clear(cls, path: Path) -> None:
        figures = path / FIGURES
        with on_disk(path):
            shutil.rmtree(path / CHUNKS, ignore_errors=True)
            for file in filter(lambda file: is_figure(file.name), figures.glob("*")):
                file.unlink()
            if figures.is_dir() and not any(figures.iterdir()):
                figures.rmdir()
            for name in FILES:
                (path / f".{name}.part").unlink(missing_ok=True)
                (path / name).unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run directory.

        Raises:
            StoreError: No run there, or one of another schema.
        """
        if not (path / RECORD).is_file():
            raise StoreError(f"no run in {path} ({RECORD} is missing)", "name the folder that `camdrift run` wrote")
        directory = cls(path)
        directory.check_version()
        return directory

    def check_version(self) -> None:
        """Raises `StoreError` for a run of another schema."""
        version = self.read_record().get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.place} has schema version {version}, this camdrift reads {SCHEMA_VERSION}",
                "read it with the camdrift that wrote it, or run the study again",
            )

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace run.json."""
        self._write(RECORD, lambda path: path.write_bytes(record_bytes(record)))

    def read_record(self) -> dict[str, Any]:
        """run.json.

        Raises:
            StoreError: It is damaged.
        """
        try:
            record = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.place}/{RECORD} cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise StoreError(f"{self.place}/{RECORD} must hold an object, got: {type(record).__name__}")
        return record

    def read_run(self) -> dict[str, Any]:
        """run.json of a study, with everything in it that a study's readers need.

        Raises:
            StoreError: It is damaged, or something is missing in it.
        """
        record = self.read_record()
        if (text := misfit(record)) is not None:
            raise StoreError(f"{self.place}/{RECORD} is not what camdrift wrote: {text}", "put back a copy of the file")
        return record

    def write_chunk(self, index: int, tables: Mapping[str, pl.DataFrame], arrays: Gallery) -> None:
        """Store a finished chunk, whole or not at all."""
        final = self._chunk(index)
        # A name of its own: a worker that was given up for lost may still be writing the same chunk.
        aside = final.with_name(f"{final.name}.{secrets.token_hex(4)}.part")
        with on_disk(self.path):
            aside.mkdir(parents=True)
            for name, table in tables.items():
                table.write_parquet(aside / f"{name}.parquet")
            with (aside / GALLERY).open("wb") as file:
                # Not compressed: it is read once more and then removed.
                write_arrays(file, arrays.items(), ZIP_STORED)
            (aside / CHECKSUMS).write_text(json.dumps(checksums(aside), indent=2), encoding="utf-8")
            for path in aside.iterdir():
                sync(path)
            try:
                aside.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
                shutil.rmtree(aside)  # it was still writing, and has been faster

    def chunks_done(self) -> set[int]:
        """Indexes of the chunks that are stored."""
        folder = self.path / CHUNKS
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return {int(name) for name in names if re.fullmatch(r"\d{5,}", name)}

    def fetch_chunks(self, indexes: Iterable[int]) -> None:
        """Bring here what workers have stored of some chunks: in a folder that all share, nothing."""

    def drop_chunk(self, index: int) -> None:
        """Remove a chunk."""
        with on_disk(self.path):
            shutil.rmtree(self._chunk(index))

    def damaged_chunks(self, indexes: Iterable[int]) -> dict[int, str]:
        """Which of some chunks are not as they were written, and why."""
        found = {index: damage(self._chunk(index)) for index in sorted(indexes)}
        return {index: reason for index, reason in found.items() if reason is not None}

    def drop_damaged_chunks(self) -> dict[int, str]:
        """Remove the chunks that are not as they were written, and half-written ones; why, by index of the former."""
        damaged = self.damaged_chunks(self.chunks_done())
        with on_disk(self.path):
            for index in damaged:
                shutil.rmtree(self._chunk(index))
            for aside in (self.path / CHUNKS).glob("*.part"):
                shutil.rmtree(aside, ignore_errors=True)
        return damaged

    def _chunk(self, index: int) -> Path:
        return self.path / CHUNKS / f"{index:05d}"

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
            with open_arrays(self._chunk(index) / GALLERY) as arrays:
                yield arrays

    def drop_chunks(self) -> None:
        """Remove the chunks, once the final tables hold everything in them."""
        with on_disk(self.path):
            shutil.rmtree(self.path / CHUNKS, ignore_errors=True)

    def merge_table(self, name: str) -> None:
        """Make a final table out of the chunks' parts, in chunk order, without holding it in memory."""
        files = [self._chunk(i) / f"{name}.parquet" for i in sorted(self.chunks_done())]
        parts = pl.scan_parquet(files, glob=False)
        self._write(f"{name}.parquet", lambda path: parts.sink_parquet(path, maintain_order=True))

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Replace a final table; its columns must be the ones that `records` documents."""
        if table.schema != _SCHEMAS[name].schema:
            raise ValueError(f"table `{name}` must have the schema {_SCHEMAS[name].schema}, got: {table.schema}")
        self._write(f"{name}.parquet", table.write_parquet)

    def replace_tables(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Replace final tables of a run that is complete, and in its record what it knows of them."""
        record = self.read_record()
        known = record.get("files")
        others = {name: entry for name, entry in (known or {}).items() if name.removesuffix(".parquet") not in tables}
        # Whoever is stopped in between leaves tables of which nothing is known, not ones that look damaged.
        self.write_record({**record, "files": others if known else known})
        for name, table in tables.items():
            self.write_table(name, table)
        # A record that knew no files stays so: with some it would seem to vouch for all.
        self.write_record({**record, "files": others | self.files(*tables) if known else known})

    def has_table(self, name: str) -> bool:
        """Is a final table there?"""
        return (self.path / f"{name}.parquet").is_file()

    def read_table(self, name: str) -> pl.DataFrame:
        """A final table.

        Raises:
            StoreError: It is not there (yet), or damaged.
        """
        with readable(self._table(name)) as path:
            return pl.read_parquet(path, glob=False)

    def scan_table(self, name: str) -> pl.LazyFrame:
        """A final table, not read yet: for tables that may be too large to hold.

        Raises:
            StoreError: It is not there (yet), or damaged so that its columns cannot be read.
        """
        with readable(self._table(name)) as path:
            table = pl.scan_parquet(path, glob=False)
            table.collect_schema()
            return table

    def stored_tables(self, *names: str) -> Stored:
        """Final tables by name, each read when it is asked for.

        Raises:
            StoreError: As `scan_table`.
        """
        return Stored({name: self.scan_table(name) for name in names})

    def _table(self, name: str) -> Path:
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            raise StoreError(
                f"{path} is missing",
                "the run is not complete: `camdrift run ... --resume` with the same --out ends it",
            )
        expected = self._checksums().get(path.name)
        # Reading damaged tables can end the process, and an altered number looks like any other.
        if expected is not None and (what := self._checked.changed(path, expected)) is not None:
            raise StoreError(f"{path} {what}", "put back a copy of the file, or run the study again")
        return path

    def _checksums(self) -> dict[str, str]:
        """Checksums of the final files by name, as the record has them; none before the run is complete."""
        files = self.read_record().get("files") if (self.path / RECORD).is_file() else None
        return {name: entry["sha256"] for name, entry in (files or {}).items()}

    def keep(self, *names: str) -> None:
        """Send files of a finished run, changed here, to where it is kept: of a run in a folder, nowhere."""

    def files(self, *names: str) -> dict[str, dict[str, Any]]:
        """Checksum and rows of final tables by file name; without names of all that are there, and of the gallery.

        Raises:
            StoreError: A table is damaged.
        """
        found: dict[str, dict[str, Any]] = {}
        for name in names or _SCHEMAS:
            path = self.path / f"{name}.parquet"
            if path.is_file():
                found[path.name] = {"sha256": checksum(path), "rows": _rows(path)}
        if not names and (self.path / GALLERY).is_file():
            found[GALLERY] = {"sha256": checksum(self.path / GALLERY)}
        return found

    def damaged_files(self) -> dict[str, str]:
        """Which final files are not those of the record, and why; nothing for a record that knows no files."""
        # A record may be anybody's: names that lead elsewhere are not followed.
        found = {
            name: self._checked.changed(self.path / name, expected) if name in FILES else "is no file of a run"
            for name, expected in self._checksums().items()
        }
        return {name: what for name, what in found.items() if what is not None}

    def write_gallery(self, arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Replace the gallery; keys and arrays are taken one by one."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                write_arrays(file, arrays, ZIP_DEFLATED)

        self._write(GALLERY, write)

    @contextmanager
    def open_gallery(self) -> Iterator[Gallery]:
        """The gallery's arrays, each read when it is asked for; empty if there is none.

        Raises:
            StoreError: It is damaged; an array that cannot be read raises it, too.
        """
        path = self.path / GALLERY
        if not path.is_file():
            yield {}
            return
        with open_arrays(path) as arrays:
            yield arrays

    def _write(self, name: str, write: Any) -> None:
        write_whole(self.path, name, write)


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as the bytes of its file, schema version first."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **record}, indent=2, ensure_ascii=False, allow_nan=False)
    # Bytes of a file name that are no UTF-8 reach Python as lone surrogates, which no file can hold.
    return f"{text}\n".encode("utf-8", "replace")


def _rows(path: Path) -> int:
    with readable(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def is_figure(name: str) -> bool:
    """Is this the name of a file that camdrift draws?"""
    return re.fullmatch(r"(figure_.*|layer_grid)\.(png|pdf)", name) is not None


def is_made_by_camdrift(path: Path) -> bool:
    """Is this the file of a record that camdrift wrote?"""
    try:
        return path.is_file() and is_record(path.read_bytes())  # a pipe would keep the reader waiting
    except OSError:
        return False


def is_record(data: bytes | None) -> bool:
    """Are these the bytes of a record that camdrift wrote?"""
    try:
        record = json.loads(data or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and {"schema_version", "camdrift"} <= record.keys()
