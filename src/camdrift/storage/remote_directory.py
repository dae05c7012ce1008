"""A run directory at a URL: a temporary folder here to work in, its chunks and files kept wherever fsspec can write."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import polars as pl

from camdrift.errors import StoreError, install_hint, one_line
from camdrift.storage.checksums import CHECKSUMS
from camdrift.storage.run_directory import RunDirectory
from camdrift.storage.run_files import FILES, TAKEN, is_figure, is_record
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import CHUNKS, FIGURES, RECORD

# Also a chain of protocols, such as simplecache::s3://.
_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# Protocols in which a folder is made before its files. Others have no folders, or only buckets, which cost money.
_WITH_FOLDERS: Final = {"file", "local", "memory"}


def is_url(place: Any) -> bool:
    """Is a place a URL, and no path?"""
    return isinstance(place, str) and _URL.match(place) is not None


def local_folder(name: str, place: str | PathLike[str]) -> Path:
    """The path of a folder that must not be at a URL.

    Args:
        name: The option's name.
        place: Its value.

    Raises:
        StoreError: It is a URL.
    """
    if is_url(place):
        raise StoreError(
            f"`{name}` must be a folder, got: {place} (a URL)",
            "`run`, `explain` and `reproduce` write to URLs; `check`, `report`, `verify` and `detect` read from them",
        )
    return Path(place)


class Remote:
    """Files below a URL, by their path from there.

    Args:
        url: A URL of any protocol that fsspec knows.

    Raises:
        StoreError: fsspec does not know the protocol, or not without another package.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        if "::" in url.partition("://")[0]:
            raise StoreError(
                f"`out` must be the URL of one store, got: {url} (a chain)", f"without `::`: {url.rpartition('::')[2]}"
            )
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            cure = install_hint("s3") if url.startswith("s3") else "install it with pip"
            raise StoreError(f"`out` {url} needs another package: {one_line(error)}", cure) from error
        except Exception as error:  # of any library
            raise StoreError(
                f"`out` must be a folder or a URL that fsspec can write to, got: {url} ({one_line(error)})",
                "like s3://BUCKET/run, gs://BUCKET/run or file:///shared/run",
            ) from error
        kinds = self._files.protocol
        self._has_folders = bool(_WITH_FOLDERS & {kinds, *(() if isinstance(kinds, str) else kinds)})

    def names(self, folder: str = "") -> list[str]:
        """Names of the files and folders in a folder; none if it is not there."""
        with self._asking("read"):
            self._files.invalidate_cache()
            try:
                paths = self._files.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rpartition("/")[2] for path in paths]

    def find(self, folder: str) -> list[str]:
        """Every file in a folder and below, by its path from there; none if the folder is not there."""
        with self._asking("read"):
            self._files.invalidate_cache()
            start = f"{self._at(folder)}/"
            return [str(path).partition(start)[2] for path in self._files.find(self._at(folder))]

    def read(self, name: str) -> bytes | None:
        """Bytes of a file; None if it is not there."""
        with self._asking("read"):
            self._files.invalidate_cache()
            try:
                return bytes(self._files.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: Path) -> None:
        """Bring a file here."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._asking("read"):
            self._files.get_file(self._at(name), str(path))

    def put(self, path: Path, name: str) -> None:
        """Send a file there."""
        with self._asking("write to"):
            if self._has_folders:
                self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._at(name))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it; do nothing if it is not there."""
        with self._asking("write to"):
            self._files.invalidate_cache()
            if self._files.exists(self._at(name)):
                self._files.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        """Path of a file or folder in the file system of fsspec; without a name that of the URL itself."""
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Inside the block an error of the store is one clear line: that it cannot `what` the URL."""
        try:
            yield
        except Exception as error:  # every store has errors of its own
            raise StoreError(
                f"cannot {what} {self.url}: {one_line(error)}", "is the address right, and may you write there?"
            ) from error


class RemoteDirectory(RunDirectory):
    """A run directory whose chunks and files are sent to a URL.

    A chunk is there when its checksums are there, which are sent last. A run is done when its record says so, which is
    sent after all other files.

    Attributes:
        path: The folder here.
        is_kept: Is the finished run there?
    """

    def __init__(self, path: Path, url: str) -> None:
        super().__init__(path)
        self.is_kept = False
        self._remote = Remote(url)

    @property
    def place(self) -> str:
        """The URL."""
        return self._remote.url

    def claim(self, *, overwrite: bool) -> None:
        """Make sure that a new run may be put there, and remove an old one if it may be replaced.

        Raises:
            StoreError: There is something that may not be replaced.
        """
        names = self._remote.names()
        if names and not is_record(self._remote.read(RECORD)):
            raise StoreError(
                f"`out` must be new or a run, got: {self.place} (there are other things in it)", "choose another --out"
            )
        if names and not overwrite:
            raise StoreError(
                f"`out` must be new, got: {self.place} (there is a run in it)",
                TAKEN,
            )
        figures = [name for name in self._remote.find(FIGURES) if is_figure(name)]
        # The record is last, so that a place in which clearing was cut short still counts as a run.
        for name in (CHUNKS, *(f"{FIGURES}/{figure}" for figure in figures), *FILES):
            if name.partition("/")[0] in names:
                self._remote.remove(name)

    def fetch(self) -> None:
        """Bring here all files of a finished run."""
        for name in set(self._remote.names()) & {*FILES} - {RECORD}:
            self._remote.get(name, self.path / name)
        self.is_kept = True

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace run.json, here and there; that of a run that is done is sent later, after the other files."""
        super().write_record(record)
        if record.get("status") != "done":
            self._remote.put(self.path / RECORD, RECORD)

    def read_record(self) -> dict[str, Any]:
        """run.json, fetched first if there is none here.

        Raises:
            StoreError: There is none, or it is damaged.
        """
        if not (self.path / RECORD).is_file():
            if not is_record(self._remote.read(RECORD)):
                raise StoreError(f"no run in {self.place} ({RECORD} is missing)", "name what `camdrift run` wrote")
            self._remote.get(RECORD, self.path / RECORD)
        return super().read_record()

    def write_chunk(self, index: int, tables: Mapping[str, pl.DataFrame], arrays: Gallery) -> None:
        """Store a finished chunk here and there; it counts there once its checksums are there."""
        super().write_chunk(index, tables, arrays)
        folder, name = self._chunk(index), f"{CHUNKS}/{self._chunk(index).name}"
        self._remote.remove(f"{name}/{CHECKSUMS}")
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CHECKSUMS):
            self._remote.put(path, f"{name}/{path.name}")

    def fetch_chunks(self, indexes: Iterable[int] | None = None) -> None:
        """Bring here the chunks that are whole there, or some of them.

        Args:
            indexes: Their numbers; None for all of them.
        """
        chunks: dict[str, list[str]] = {}
        for path in self._remote.find(CHUNKS):
            chunk, _, name = path.partition("/")
            if "/" not in name and name != "..":  # others are not ours, and lead elsewhere
                chunks.setdefault(chunk, []).append(name)
        whole = {int(chunk) for chunk, names in chunks.items() if re.fullmatch(r"\d{5,}", chunk) and CHECKSUMS in names}
        requests = whole if indexes is None else whole & set(indexes)
        for index in sorted(requests - self.chunks_done()):
            folder = self._chunk(index)
            for name in chunks[folder.name]:
                self._remote.get(f"{CHUNKS}/{folder.name}/{name}", folder / name)

    def drop_chunk(self, index: int) -> None:
        """Remove a chunk here and there."""
        self._remote.remove(f"{CHUNKS}/{self._chunk(index).name}")
        shutil.rmtree(self._chunk(index), ignore_errors=True)

    def publish(self) -> None:
        """Send all files of a run that is done, its record last, and remove its chunks there."""
        self.is_kept = True
        self.keep(*(path.name for path in self.path.iterdir() if path.name != CHUNKS and path.name[0] != "."))
        self.drop_sent_chunks()

    def keep(self, *names: str) -> None:
        """Send files and folders of a finished run, the record last; do nothing for a run that is not kept there."""
        if not self.is_kept:
            return
        for name in sorted(names, key=lambda name: name == RECORD):
            paths = [self.path / name] if (self.path / name).is_file() else sorted((self.path / name).rglob("*"))
            for path in paths:
                if path.is_file():
                    self._remote.put(path, path.relative_to(self.path).as_posix())

    def drop_sent_chunks(self) -> None:
        """Remove the chunks there, once the finished run is there."""
        self._remote.remove(CHUNKS)

    def discard(self) -> None:
        """Remove the folder here."""
        shutil.rmtree(self.path, ignore_errors=True)


def gather(directory: RunDirectory, indexes: Iterable[int], patience: float = 30.0) -> None:
    """Wait until chunks that workers have stored can be read here.

    Args:
        directory: The run directory.
        indexes: The chunks.
        patience: Seconds after which a shared folder shows what other machines have written.

    Raises:
        StoreError: One cannot be read in time, or is damaged.
    """
    requests, deadline = set(indexes), monotonic() + patience
    fresh = requests - directory.chunks_done()
    while True:
        directory.fetch_chunks(requests)
        missing = requests - directory.chunks_done()
        if not missing:
            break
        if monotonic() > deadline:
            raise StoreError(
                f"{directory.place} lacks {len(missing)} chunks that workers have stored (first: {min(missing):05d})",
                "`out` must be a folder that all machines share, or a URL; --resume computes what is missing",
            )
        sleep(0.5)
    if reasons := directory.damaged_chunks(fresh):
        index, reason = next(iter(reasons.items()))
        raise StoreError(f"chunk {index:05d} of {directory.place} is damaged: {reason}", "--resume does it again")


def working_copy(url: str) -> RemoteDirectory:
    """A run directory at a URL, with a new temporary folder here."""
    remote = Remote(url)  # before there is a folder that nobody would remove
    return RemoteDirectory(Path(tempfile.mkdtemp(prefix="camdrift-run-")), remote.url)


@contextmanager
def directory_at(place: str | PathLike[str]) -> Iterator[RunDirectory]:
    """The run directory at a path or URL, to add to it; the copy here of one at a URL is gone afterwards."""
    if not is_url(place):
        yield RunDirectory(Path(place))
        return
    directory = working_copy(str(place))
    try:
        yield directory
    finally:
        directory.discard()
