"""Images that go away while they are studied: on a disk of a network, in a folder that somebody moves."""

from collections.abc import Sequence

import polars as pl

from camdrift.errors import StoreError
from camdrift.images.places import ImageFile
from camdrift.pipeline.plan import Plan, image_checksum
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.words import UNREADABLE

# What systems say of a disk that does not answer, in the words of a reason.
_FAILING = ("input/output error", "remote i/o error", "stale file handle", "not connected", "timed out", "host is down")


def present_images(files: Sequence[ImageFile]) -> frozenset[str]:
    """Return the names of the images whose files are there; none of a data set, which is no file."""
    return frozenset(file.seed_id for file in files if _is_present(file))


def check_present(plan: Plan, files: Sequence[ImageFile], present: frozenset[str], directory: RunDirectory) -> None:
    """Raise `StoreError` if images could not be read because they went away in the meantime.

    Args:
        plan: The plan of the study.
        files: The seed images.
        present: Names of those whose files were there when the run began.
        directory: The run directory, with all chunks.
    """
    reasons: dict[str, str] = {}
    for index in sorted(directory.chunks_done()):
        seeds = directory.read_chunk(index, "seeds").filter(pl.col("status") == UNREADABLE)
        reasons.update(seeds.select("seed_id", "reason").iter_rows())
    missing = [
        file for file in files if file.seed_id in reasons and _is_lost(plan, file, reasons[file.seed_id], present)
    ]
    if missing:
        first = missing[0].seed_id
        raise StoreError(
            f"`images` must stay where they are, got: {len(missing)} of {len(files)} that could not be read in mid-run "
            f"(first: {first}: {reasons[first]}); the run is not complete",
            "once they are back, --resume studies them",
        )


def _is_lost(plan: Plan, file: ImageFile, reason: str, present: frozenset[str]) -> bool:
    """Was an image that could not be read there before, or is it there again?"""
    if any(words in reason for words in _FAILING):
        return True
    is_gone = file.seed_id in present and not _is_present(file)
    return is_gone or image_checksum(plan, file) is not None


def _is_present(file: ImageFile) -> bool:
    # A shard is a file that holds many images.
    path = getattr(file.place, "file", file.path)
    try:
        return bool(path.exists())
    except OSError:
        return False
