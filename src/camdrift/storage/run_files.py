"""The files of a run directory by name, and how one tells a run from somebody else's folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from camdrift.masking import public
from camdrift.storage.disk import on_disk, read_small
from camdrift.storage.lock import LOCK
from camdrift.storage.replacement import IsOurs, leftovers
from camdrift.tables.file_names import CHUNKS, DEFENCE_PICTURES, FIGURES, GALLERY, LEARNT, RECORD, REPORT
from camdrift.tables.further import RUN_TABLES
from camdrift.tables.words import SCHEMA_VERSION

# The record is last, so that a folder in which clearing was cut short still counts as a run.
FILES: Final = (GALLERY, DEFENCE_PICTURES, REPORT, *(f"{name}.parquet" for name in RUN_TABLES), RECORD)
# What may be done where a run lies already; `explain` goes on with none.
TAKEN: Final = (
    "--overwrite starts again, another --out or --name leaves it alone; `run` and `reproduce` go on with --resume"
)
# A hundred thousand class names take 3 MB.
MOST_BYTES_OF_RECORD: Final = 2**27


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as the bytes of its file, schema version first; without secrets and the path of a home."""
    content = {"schema_version": SCHEMA_VERSION, **public(record)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # Bytes of a file name that are no UTF-8 reach Python as lone surrogates, which no file can hold.
    return f"{text}\n".encode("utf-8", "replace")


def is_file_of_run(name: str) -> bool:
    """Is this the name, below a run directory, of a file (or of the folder of chunks) that camdrift writes?"""
    folder, _, figure = name.rpartition("/")
    is_learnt = re.fullmatch(re.escape(LEARNT).replace(r"\{\}", "[0-9a-f]{12}"), name) is not None
    return name in (*FILES, CHUNKS, FIGURES) or is_learnt or (folder == FIGURES and is_figure(figure))


def is_unused(path: Path, is_ours: IsOurs = is_file_of_run) -> bool:
    """Is there nothing in a folder, or only what a command leaves that was killed at its very start?"""
    with on_disk(path):
        entries = set(path.iterdir()) if path.is_dir() else set()
    return entries <= {path / LOCK, *leftovers(path, is_ours)}


def is_figure(name: str) -> bool:
    """Is this the name of a file that camdrift draws?"""
    return re.fullmatch(r"(figure_.*|layer_grid)\.(png|pdf)", name) is not None


def is_made_by_camdrift(path: Path) -> bool:
    """Is this the file of a record that camdrift wrote?"""
    try:
        return path.is_file() and is_record(
            read_small(path, MOST_BYTES_OF_RECORD)
        )  # a pipe would keep the reader waiting
    except OSError:
        return False


def is_record(data: bytes | None) -> bool:
    """Are these the bytes of a record that camdrift wrote?"""
    try:
        record = json.loads(data or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and {"schema_version", "camdrift"} <= record.keys()
