"""Where a run is written: a directory of its own, or one whose run is continued if it is of the same study."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from camdrift.errors import StoreError
from camdrift.images.places import ImageFile
from camdrift.pipeline.plan import Plan, image_checksum
from camdrift.pipeline.settings import Settings
from camdrift.storage.lock import locked
from camdrift.storage.remote_directory import is_url, working_copy
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.record import identity
from camdrift.tables.words import REPORT


@contextmanager
def run_directory(
    path: Path | str, record: dict[str, Any], settings: Settings, *, resume: bool, overwrite: bool
) -> Iterator[RunDirectory]:
    """The run directory, with every other process kept out; one in which nothing is left to do stays untouched.

    One at a URL is worked on in a temporary folder and sent there in the end; nobody is kept out of it.
    """
    if is_url(path):
        with _remote_directory(str(path), record, settings, resume=resume, overwrite=overwrite) as directory:
            yield directory
        return
    path = Path(path)
    if resume:
        directory = RunDirectory.open(path)
        _check_same(directory, record, settings)
        with nullcontext() if _is_tidy(directory) else locked(path):
            yield directory
    else:
        RunDirectory.check_free(path, overwrite=overwrite)
        with locked(path):
            yield RunDirectory.create(path, overwrite=overwrite)


@contextmanager
def _remote_directory(
    url: str, record: dict[str, Any], settings: Settings, *, resume: bool, overwrite: bool
) -> Iterator[RunDirectory]:
    directory = working_copy(url)
    try:
        if not resume:
            directory.claim(overwrite=overwrite)
        else:
            directory.check_version()
            _check_same(directory, record, settings)
            if directory.read_record()["status"] == "done":
                directory.fetch()
                directory.drop_sent_chunks()
            else:
                directory.fetch_chunks()
        yield directory
        if not directory.is_kept:
            directory.publish()
    except BaseException:
        directory.discard()
        raise


def _is_tidy(directory: RunDirectory) -> bool:
    done = directory.read_record()["status"] == "done"
    return done and not directory.chunks_done() and (directory.path / REPORT).is_file()


def _check_same(directory: RunDirectory, record: dict[str, Any], settings: Settings) -> None:
    """Raises `StoreError` unless the run in a directory is of the same study."""
    before = directory.read_run()
    changed = settings.differences(before["arguments"]["passed"])
    for (name, old), new in zip(identity(before).items(), identity(record).values(), strict=True):
        if old != new:
            changed.append(f"{name} was {old}, now {new}")
    if changed:
        raise StoreError(
            f"`resume` must continue the same study, got: {directory.place}, where {'; '.join(changed)}",
            "give the arguments of the first command, or another --out",
        )


def check_undamaged(directory: RunDirectory) -> None:
    """Raises `StoreError` unless the tables of a run that is done are those that were written."""
    damaged = directory.damaged_files()
    if damaged:
        raise StoreError(
            f"the finished run in {directory.place} is damaged: {'; '.join(map(' '.join, damaged.items()))}",
            "put back a copy of the file, or run it again with --overwrite in place of --resume",
        )
    directory.drop_chunks()


def check_stored(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> list[str]:
    """Remove the chunks that are damaged, or hold images as unreadable that can be read now, and say so.

    Raises:
        StoreError: An image has changed since its chunk was stored.
    """
    again = directory.drop_damaged_chunks() | _drop_unread_chunks(plan, files, directory)
    return [f"chunk {index:05d} is done again: {reason}" for index, reason in sorted(again.items())]


def _drop_unread_chunks(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> dict[int, str]:
    """Remove the chunks with images that could not be read when they were stored, and can be now; why, by index."""
    by_name = {file.seed_id: file for file in files}
    changed, unread = [], dict[int, str]()
    for index in sorted(directory.chunks_done()):
        for seed_id, before in directory.read_chunk(index, "seeds").select("seed_id", "sha256").iter_rows():
            now = image_checksum(plan, by_name[seed_id]) if seed_id in by_name else before
            if before is None and now is not None:
                unread[index] = f"{seed_id} could not be read, and can be now"
            elif now != before:
                changed.append(seed_id)
    if changed:
        raise StoreError(
            f"`resume` must continue with the same images, got: {len(changed)} changed (first: {changed[0]})",
            "--overwrite starts again, another --out keeps what is there",
        )
    for index in unread:
        directory.drop_chunk(index)
    return unread
