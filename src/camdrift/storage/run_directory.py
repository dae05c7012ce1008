"""The run directory: the run record, the final tables, the gallery. It knows files and no science.

Everything is written under another name first and renamed when complete, so that a killed run leaves whole files only:

    run.json               what was run, with what, and how far it is
    chunks/00007/          tables, gallery and checksums of one finished chunk, until the run is complete
    .lock                  keeps a second process out, until the run is complete
    seeds.parquet ...      the final tables
    gallery.npz            images and heatmaps of some seeds
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED

import polars as pl
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.masking import public
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.checksums import Checked, checksum
from camdrift.storage.chunks import Chunks
from camdrift.storage.disk import on_disk, readable, write_whole
from camdrift.storage.lock import LOCK
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import CHUNKS, FIGURES, GALLERY, RECORD, REPORT
from camdrift.tables.further import RUN_TABLES
from camdrift.tables.reading import Stored
from camdrift.tables.run_json import misfit
from camdrift.tables.words import SCHEMA_VERSION

# The record is last, so that a folder in which clearing was cut short still counts as a run.
FILES: Final = (GALLERY, REPORT, *(f"{name}.parquet" for name in RUN_TABLES), RECORD)


class RunDirectory(Chunks):
    """A run directory on disk: its record, its final tables, its gallery, and until it is complete its chunks.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._checked = Checked()

    @property
    def place(self) -> Path | str:
        """Path or URL of the run, for messages."""
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
        """Raise `StoreError` if there is something that a new run may not replace."""
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        with on_disk(path):
            is_free = not path.is_dir() or all(entry.name == LOCK for entry in path.iterdir())
        if is_free:
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
        """Raise `StoreError` for a run of another schema."""
        version = self.read_record().get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.place} has schema version {version}, this camdrift reads {SCHEMA_VERSION}",
                "read it with the camdrift that wrote it, or run the study again",
            )

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_whole(self.path, RECORD, lambda path: path.write_bytes(record_bytes(record)))

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
        """run.json of a study, with everything that a study's readers need.

        Raises:
            StoreError: It is damaged, or something is missing in it.
        """
        record = self.read_record()
        if (problem := misfit(record)) is not None:
            raise StoreError(
                f"{self.place}/{RECORD} is not what camdrift wrote: {problem}", "put back a copy of the file"
            )
        return record

    def merge_table(self, name: str) -> None:
        """Merge the parts in the chunks into a final table, in chunk order, without holding it in memory."""
        files = [self._chunk(i) / f"{name}.parquet" for i in sorted(self.chunks_done())]
        parts = pl.scan_parquet(files, glob=False)
        write_whole(self.path, f"{name}.parquet", lambda path: parts.sink_parquet(path, maintain_order=True))

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Replace a final table; its columns must be those in `tables`."""
        if table.schema != RUN_TABLES[name].schema:
            raise ValueError(f"table `{name}` must have the schema {RUN_TABLES[name].schema}, got: {table.schema}")
        write_whole(self.path, f"{name}.parquet", table.write_parquet)

    def replace_tables(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Replace final tables of a run that is complete, and the entries of its record about them."""
        record = self.read_record()
        files = record.get("files")
        others = {name: entry for name, entry in (files or {}).items() if name.removesuffix(".parquet") not in tables}
        # A process that is stopped in between leaves tables without an entry, not tables that look damaged.
        self.write_record({**record, "files": others if files else files})
        for name, table in tables.items():
            self.write_table(name, table)
        # A record that knew no files stays so: with some it would seem to vouch for all.
        self.write_record({**record, "files": others | self.files(*tables) if files else files})

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

    def files(self, *names: str) -> dict[str, dict[str, Any]]:
        """Checksum and rows of final tables by file name; without `names` of all that are there, and of the gallery.

        Raises:
            StoreError: A table is damaged.
        """
        entries: dict[str, dict[str, Any]] = {}
        for name in names or RUN_TABLES:
            path = self.path / f"{name}.parquet"
            if path.is_file():
                entries[path.name] = {"sha256": checksum(path), "rows": _rows(path)}
        if not names and (self.path / GALLERY).is_file():
            entries[GALLERY] = {"sha256": checksum(self.path / GALLERY)}
        return entries

    def damaged_files(self) -> dict[str, str]:
        """Final files that differ from the record, and why, by name; nothing for a record that knows no files."""
        # A record may be anybody's: names that lead elsewhere are not followed.
        problems = {
            name: self._checked.changed(self.path / name, sha256) if name in FILES else "is no file of a run"
            for name, sha256 in self._checksums().items()
        }
        return {name: problem for name, problem in problems.items() if problem is not None}

    def write_gallery(self, arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Replace the gallery; keys and arrays are taken one by one."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                write_arrays(file, arrays, ZIP_DEFLATED)

        write_whole(self.path, GALLERY, write)

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

    def keep(self, *names: str) -> None:
        """Send files that changed here to the place where the run is kept; a run in a folder is kept here."""

    @classmethod
    def _clear(cls, path: Path) -> None:
        """Remove the files of a run from a folder."""
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

    def _table(self, name: str) -> Path:
        """Path of a final table that is there and whole.

        Raises:
            StoreError: It is missing or damaged.
        """
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            raise StoreError(
                f"{path} is missing",
                "the run is not complete: `camdrift run ... --resume` with the same --out ends it",
            )
        sha256 = self._checksums().get(path.name)
        # Reading damaged tables can end the process, and an altered number looks like any other.
        if sha256 is not None and (problem := self._checked.changed(path, sha256)) is not None:
            raise StoreError(f"{path} {problem}", "put back a copy of the file, or run the study again")
        return path

    def _checksums(self) -> dict[str, str]:
        """Checksums of the final files by name, as the record has them; none before the run is complete."""
        files = self.read_record().get("files") if (self.path / RECORD).is_file() else None
        return {name: entry["sha256"] for name, entry in (files or {}).items()}


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as the bytes of its file, schema version first; without secrets and the path of a home."""
    content = {"schema_version": SCHEMA_VERSION, **public(record)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # Bytes of a file name that are no UTF-8 reach Python as lone surrogates, which no file can hold.
    return f"{text}\n".encode("utf-8", "replace")


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


def _rows(path: Path) -> int:
    """Number of rows of a table."""
    with readable(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
