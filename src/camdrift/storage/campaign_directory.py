"""The directory of a fuzzing campaign.

fuzz.json              the record
*.parquet              the tables
failures.csv           for every seed its closest failure, as `camdrift run --adversarial` takes it
failures/*.npy         images of new failures
profile.npz            what neurons do on ordinary images, where a criterion asks for that
gallery.npz            pictures of the failures that the page shows
report.html, figures/  the page and the figures
trials/                the trials of a campaign that goes on, with a record of its own
trials/00003/          one trial: its images, and its two last checkpoints
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.errors import StoreError
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.checksums import CHECKSUMS, checksums, damage
from camdrift.storage.disk import (
    Write,
    on_disk,
    read_small,
    readable,
    refuse_links,
    remove,
    sync,
    sync_folder,
    write_whole,
)
from camdrift.storage.image_stack import FileStack
from camdrift.storage.lock import LOCK, locked
from camdrift.storage.replacement import drop_leftovers, is_unsettled, replace_files, settle
from camdrift.storage.run_files import MOST_BYTES_OF_RECORD, is_made_by_camdrift, is_unused, record_bytes
from camdrift.tables.arrays import Gallery
from camdrift.tables.campaign import CAMPAIGN_TABLES
from camdrift.tables.file_names import FIGURES, GALLERY, PROFILE, REPORT
from camdrift.tables.meaning import MEANING_TABLES

CAMPAIGN_RECORD: Final = "fuzz.json"
TRIALS: Final = "trials"
FAILURES: Final = "failures"
FAILURES_LIST: Final = "failures.csv"
_FILES: Final = (
    CAMPAIGN_RECORD,
    FAILURES_LIST,
    GALLERY,
    PROFILE,
    REPORT,
    *(f"{name}.parquet" for name in (*CAMPAIGN_TABLES, *MEANING_TABLES)),
)
_OWN: Final = re.compile(rf"{FAILURES}/\d+-\d+\.npy|{FIGURES}/fuzz_[a-z_]+\.(png|pdf)")
_STATE: Final = "state.npz"
_COUNTS: Final = "counts.json"
_KEPT: Final = 2
_PATIENCE: Final = 20.0
# The covariances of the neurons of a large network.
_MOST_BYTES: Final = 2**32

# Returns the bytes of a file when they are written, so that many large ones need not be held at once.
Contents = Callable[[], bytes]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial.

    Attributes:
        tables: Tables by name.
        arrays: Arrays by name.
        counts: Plain numbers and texts.
    """

    tables: Mapping[str, pl.DataFrame]
    arrays: Mapping[str, NDArray[Any]]
    counts: Mapping[str, Any]


class CampaignDirectory:
    """The directory of a campaign.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def trials(self) -> Path:
        """The folder of the trials, while the campaign goes on."""
        return self.path / TRIALS

    def check_free(self, *, overwrite: bool) -> None:
        """Raise `StoreError` if something lies there that a new campaign may not replace."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise StoreError(f"`out` must be a folder, got: {path} (a file)")
        if is_unused(path, is_ours):
            return
        records = (path / CAMPAIGN_RECORD, self.trials / CAMPAIGN_RECORD)
        if not any(is_made_by_camdrift(record) for record in records):
            raise StoreError(
                f"`out` must be new or the folder of a campaign, got: {path} (a folder with other things in it)",
                "choose another --out",
            )
        if not overwrite:
            raise StoreError(
                f"`out` must be new, got: {path} (there is a campaign in it)",
                "--resume goes on with it, --overwrite starts again, another --out leaves it alone",
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside the block no other process writes here; what killed ones have left is settled or removed first."""
        with on_disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        refuse_links(self.path, (LOCK, TRIALS, FAILURES, FIGURES, *_FILES))
        with locked(self.path, _PATIENCE) as is_locked:
            if is_locked:
                with on_disk(self.path):
                    settle(self.path, is_ours)
                    drop_leftovers(self.path, is_ours)
            yield

    @property
    def is_going_on(self) -> bool:
        """Is there a campaign here that has not ended?"""
        return is_made_by_camdrift(self.trials / CAMPAIGN_RECORD)

    @property
    def is_done(self) -> bool:
        """Is there a campaign here that has ended?"""
        return is_made_by_camdrift(self.path / CAMPAIGN_RECORD) or is_unsettled(self.path)

    def begin(self, record: Mapping[str, Any]) -> None:
        """Start a campaign; one that has ended stays until this one ends, too."""
        # Killed on the way, it leaves a folder that the next command removes, and never trials without a record.
        aside = self.path / f".{TRIALS}.tmp"
        with on_disk(self.path):
            remove(aside)
            aside.mkdir()
            write_whole(aside, CAMPAIGN_RECORD, partial(Path.write_bytes, data=record_bytes(record)))
            remove(self.trials)
            aside.rename(self.trials)

    def read_record(self) -> dict[str, Any]:
        """Return the record of the campaign that goes on here, or of the one that has ended.

        Raises:
            StoreError: There is none, or it is damaged.
        """
        path = self.trials / CAMPAIGN_RECORD if self.is_going_on else self.path / CAMPAIGN_RECORD
        if not self.is_going_on and not self.is_done:
            raise StoreError(
                f"no campaign in {self.path} ({CAMPAIGN_RECORD} is missing)", "name a folder of camdrift fuzz"
            )
        try:
            record: dict[str, Any] = json.loads(read_small(path, MOST_BYTES_OF_RECORD))
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        return record

    def stack(self, trial: int, name: str, side: int) -> FileStack:
        """Return the images of a trial, in a file of some name."""
        folder = self._trial(trial)
        with on_disk(self.path):
            folder.mkdir(exist_ok=True)
        return FileStack(folder / f"{name}.f32", (3, side, side))

    def write_checkpoint(self, trial: int, number: int, state: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and keep the one before it.

        Args:
            trial: Place of the trial in the campaign.
            number: Rises from checkpoint to checkpoint.
            state: What to write.
        """
        folder = self._trial(trial)
        aside = folder / f".{secrets.token_hex(8)}.part"
        with on_disk(self.path):
            aside.mkdir(parents=True)
            for name, table in state.tables.items():
                table.write_parquet(aside / f"{name}.parquet")
            with (aside / _STATE).open("wb") as file:
                write_arrays(file, state.arrays.items(), ZIP_STORED)
            (aside / _COUNTS).write_text(json.dumps(state.counts), encoding="utf-8")
            (aside / CHECKSUMS).write_text(json.dumps(checksums(aside), indent=2), encoding="utf-8")
            for path in aside.iterdir():
                sync(path)
            sync_folder(aside)
            final = folder / f"{number:09d}"
            remove(final)
            aside.rename(final)
            sync_folder(folder)
            for old in self._checkpoints(trial)[:-_KEPT]:
                remove(old)

    def read_checkpoint(self, trial: int) -> Checkpoint | None:
        """Return the last checkpoint of a trial that is as it was written; None where there is none."""
        folder = self._trial(trial)
        if not folder.is_dir():
            return None
        with on_disk(self.path):
            for path in folder.glob(".*.part"):
                remove(path)
        for path in reversed(self._checkpoints(trial)):
            if damage(path) is None:
                with readable(path):
                    tables = {file.stem: pl.read_parquet(file, glob=False) for file in path.glob("*.parquet")}
                with open_arrays(path / _STATE, _MOST_BYTES) as archive:
                    arrays = {name: archive[name] for name in archive}
                return Checkpoint(tables, arrays, json.loads((path / _COUNTS).read_text(encoding="utf-8")))
        return None

    def finish(
        self, tables: Mapping[str, pl.DataFrame], record: Mapping[str, Any], files: Iterable[tuple[str, Contents]]
    ) -> None:
        """Write the final files in the place of those that lie here, all or none; the trials go.

        Args:
            tables: Those of `CAMPAIGN_TABLES` by name.
            record: The record.
            files: Names below the directory, and what returns the bytes of each.
        """
        new: list[tuple[str, Write]] = [(name, partial(_write, contents=contents)) for name, contents in files]
        for name, table in tables.items():
            if table.schema != CAMPAIGN_TABLES[name].schema:
                raise ValueError(f"table `{name}` must have the schema {CAMPAIGN_TABLES[name].schema}")
            new.append((f"{name}.parquet", table.write_parquet))
        if (profile := self.trials / PROFILE).is_file():
            new.append((PROFILE, partial(shutil.copyfile, profile)))
        new.append((CAMPAIGN_RECORD, partial(Path.write_bytes, data=record_bytes(record))))
        replace_files(self.path, new, is_ours, is_all=True)
        with on_disk(self.path):
            remove(self.trials)

    def read_table(self, name: str) -> pl.DataFrame:
        """Return a final table.

        Raises:
            StoreError: It is not there, or damaged.
        """
        with readable(self.path / f"{name}.parquet") as path:
            return pl.read_parquet(path, glob=False)

    def has_table(self, name: str) -> bool:
        """Is there a table that not every campaign has?"""
        return (self.path / f"{name}.parquet").is_file()

    def read_failure(self, name: str) -> NDArray[np.float32]:
        """Return the image of a failure, (3, height, width).

        Args:
            name: Its file, as the table `failures` names it.

        Raises:
            StoreError: It is not there, or damaged.
        """
        path = self.path / name
        try:
            image: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        return image

    def open_gallery(self) -> AbstractContextManager[Gallery]:
        """Give the arrays of the gallery, each read when it is asked for.

        Raises:
            StoreError: It is not there, or damaged.
        """
        return open_arrays(self.path / GALLERY)

    def write_report(
        self, files: Iterable[tuple[str, bytes]], tables: Mapping[str, pl.DataFrame] | None = None
    ) -> None:
        """Write page and figures in the place of those that lie here, all or none.

        Args:
            files: Names below the directory, and bytes.
            tables: Tables of `MEANING_TABLES` by name, to be written with them.
        """
        new: list[tuple[str, Write]] = [(name, partial(Path.write_bytes, data=data)) for name, data in files]
        for name, table in (tables or {}).items():
            if table.schema != MEANING_TABLES[name].schema:
                raise ValueError(f"table `{name}` must have the schema {MEANING_TABLES[name].schema}")
            new.append((f"{name}.parquet", table.write_parquet))
        with self.writing():
            replace_files(self.path, new, is_ours)

    def _trial(self, trial: int) -> Path:
        return self.trials / f"{trial:05d}"

    def _checkpoints(self, trial: int) -> list[Path]:
        """Checkpoints of a trial, oldest first."""
        return sorted(path for path in self._trial(trial).iterdir() if re.fullmatch(r"\d{9,}", path.name))


def gallery_bytes(arrays: Gallery) -> bytes:
    """Return the bytes of the file of a gallery."""
    data = BytesIO()
    write_arrays(data, arrays.items(), ZIP_DEFLATED)
    return data.getvalue()


def _write(path: Path, *, contents: Contents) -> None:
    path.write_bytes(contents())


def is_ours(name: str) -> bool:
    """Is this the name, below the directory of a campaign, of a file or folder that camdrift writes?"""
    return name in (*_FILES, TRIALS, FAILURES, FIGURES) or _OWN.fullmatch(name) is not None
