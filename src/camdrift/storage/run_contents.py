"""The contents of a run directory: the run record, the final tables, the gallery, each checked before it is used."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED

import polars as pl
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.checksums import Checked, checksum
from camdrift.storage.chunks import Chunks
from camdrift.storage.disk import read_small, readable, write_whole
from camdrift.storage.run_files import FILES, MOST_BYTES_OF_RECORD, record_bytes
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import GALLERY, RECORD
from camdrift.tables.further import RUN_TABLES
from camdrift.tables.reading import Stored
from camdrift.tables.run_json import misfit
from camdrift.tables.words import SCHEMA_VERSION

# Images of a gallery have at most so many pixels along a side.
_LARGEST_IMAGE: Final = 2**14
# Tables of more rows have their numbers in their files, which take bytes.
_FEW_ROWS: Final = 2**22
_ROWS_OF_BYTE: Final = 16
_CURE: Final = "put back a copy of the file, or run the study again"


class RunContents(Chunks):
    """The record, the final tables and the gallery of a run, and until it is complete its chunks.

    Attributes:
        path: The run directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._checked = Checked()
        self._heights: dict[Path, tuple[tuple[int, int, int], int]] = {}

    @property
    def place(self) -> Path | str:
        """Path or URL of the run, for messages."""
        return self.path

    def check_version(self) -> None:
        """Raise `StoreError` for a run of another schema."""
        record = self.read_record()
        if "schema_version" not in record:
            raise StoreError(
                f"{self.place}/{RECORD} is not what camdrift wrote: schema_version is missing",
                "name the folder that `camdrift run` wrote",
            )
        version = record["schema_version"]
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
            record = json.loads(read_small(self.path / RECORD, MOST_BYTES_OF_RECORD))
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
                f"{self.place}/{RECORD} is not what camdrift wrote: {problem}",
                "put back a copy of the file; a run of an older camdrift is read by that one, or studied again",
            )
        return record

    def merge_table(self, name: str) -> None:
        """Merge the parts in the chunks into a final table, in chunk order, without holding it in memory."""
        files = [self._chunk(i) / f"{name}.parquet" for i in sorted(self.chunks_done())]
        # A run of before that goes on has chunks without a table that was added since; damage shows in checksums.
        parts = pl.scan_parquet([file for file in files if file.is_file()], glob=False)
        write_whole(self.path, f"{name}.parquet", lambda path: parts.sink_parquet(path, maintain_order=True))

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Replace a final table; its columns must be those in `tables`."""
        check_schema(name, table)
        write_whole(self.path, f"{name}.parquet", table.write_parquet)

    def has_table(self, name: str) -> bool:
        """Is a final table there?"""
        return (self.path / f"{name}.parquet").is_file()

    def read_table(self, name: str) -> pl.DataFrame:
        """A final table.

        Raises:
            StoreError: It is not there (yet), or damaged.
        """
        with readable(self._table(name)) as path:
            self._check_size(path)
            return RUN_TABLES[name].completed(pl.read_parquet(path, glob=False).lazy()).collect()

    def scan_table(self, name: str) -> pl.LazyFrame:
        """A final table, not read yet: for tables that may be too large to hold.

        Raises:
            StoreError: It is not there (yet), or damaged so that its columns cannot be read.
        """
        with readable(self._table(name)) as path:
            table = pl.scan_parquet(path, glob=False)
            table.collect_schema()
            return RUN_TABLES[name].completed(table)

    def stored_tables(self, *names: str) -> Stored:
        """Final tables by name, each read when it is asked for.

        Raises:
            StoreError: As `scan_table`.
        """
        scans = {name: self.scan_table(name) for name in names}
        for name in names:
            self._check_size(self.path / f"{name}.parquet")
        return Stored(scans)

    def files(self, *names: str) -> dict[str, dict[str, Any]]:
        """Checksum and rows of final tables by file name; without `names` of all that are there, and of the gallery.

        Raises:
            StoreError: A table is damaged.
        """
        entries = entries_of(self.path, names or RUN_TABLES, self._height)
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
        with open_arrays(path, self._largest_array()) as arrays:
            yield arrays

    def _largest_array(self) -> int:
        """Bytes that an array of the gallery may unpack to: its images are of the size that the model takes."""
        record = self.read_record() if (self.path / RECORD).is_file() else {}
        size = (record.get("model") or {}).get("size")
        side = min(size, _LARGEST_IMAGE) if isinstance(size, int) else 0
        return max(super()._largest_array(), 4 * side * side)

    def _check_size(self, path: Path) -> None:
        """Raise `StoreError` if a table has not the rows that were written, or far more than its file can hold."""
        with readable(path):
            size, n_rows = path.stat().st_size, self._height(path)
        rows = self._files().get(path.name, {}).get("rows", n_rows)
        if rows != n_rows:
            raise StoreError(f"{path} has {n_rows:,} rows, {rows:,} were written", _CURE)
        if n_rows > max(_FEW_ROWS, _ROWS_OF_BYTE * size):
            raise StoreError(f"{path} unpacks to {n_rows:,} rows, too many for {size:,} bytes", _CURE)

    def _height(self, path: Path) -> int:
        """Number of rows of a table, counted once while it is the same file of the same size and time."""
        stat = path.stat()
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        before, n_rows = self._heights.get(path, (None, 0))
        if before != state:
            n_rows = _rows(path)
            self._heights[path] = (state, n_rows)
        return n_rows

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
            raise StoreError(f"{path} {problem}", _CURE)
        return path

    def _checksums(self) -> dict[str, str]:
        """Checksums of the final files by name, as the record has them; none before the run is complete."""
        return {name: entry["sha256"] for name, entry in self._files().items()}

    def _files(self) -> dict[str, dict[str, Any]]:
        """Entries of the record on the final files by name; none before the run is complete."""
        return (self.read_record().get("files") if (self.path / RECORD).is_file() else None) or {}


def check_schema(name: str, table: pl.DataFrame) -> None:
    """Raise `ValueError` if a table has other columns than `tables` says."""
    if table.schema != RUN_TABLES[name].schema:
        raise ValueError(f"table `{name}` must have the schema {RUN_TABLES[name].schema}, got: {table.schema}")


def entries_of(
    folder: Path, names: Iterable[str], height_of: Callable[[Path], int] | None = None
) -> dict[str, dict[str, Any]]:
    """Checksum and rows of those of some tables that lie in a folder, by file name; `height_of` counts the rows."""
    height_of = height_of or _rows
    paths = (folder / f"{name}.parquet" for name in names)
    return {path.name: {"sha256": checksum(path), "rows": height_of(path)} for path in paths if path.is_file()}


def _rows(path: Path) -> int:
    """Number of rows of a table."""
    with readable(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
