"""Where a run is written: a directory of its own, or one whose run is continued if it is of the same study."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from camdrift.errors import ImageError, StoreError
from camdrift.images import read_image
from camdrift.lock import locked
from camdrift.places import ImageFile
from camdrift.plan import Plan
from camdrift.remote import is_url, place_of, working_copy
from camdrift.run_record import identity
from camdrift.settings import Settings
from camdrift.store import REPORT, RunDirectory
from camdrift.study import Study, open_study


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
    directory, is_done = working_copy(url), False
    try:
        if resume:
            directory.fetch()
            RunDirectory.open(directory.path)
            _check_same(directory, record, settings)
            is_done = directory.read_record()["status"] == "done"
        else:
            directory.claim(overwrite=overwrite)
        yield directory
        if not is_done:
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
            f"`resume` must continue the same study, got: {place_of(directory)}, where {'; '.join(changed)}",
            "give the arguments of the first command, or another --out",
        )


def undamaged(directory: RunDirectory) -> Study:
    """A study that is done, its tables being those that were written."""
    damaged = directory.damaged_files()
    if damaged:
        raise StoreError(
            f"the finished run in {place_of(directory)} is damaged: {'; '.join(damaged)}",
            "put back a copy of the file, or run it again with --overwrite in place of --resume",
        )
    directory.drop_chunks()
    return open_study(directory.path)


def check_stored(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> list[str]:
    """Remove the chunks that are damaged, and say so.

    Raises:
        StoreError: An image has changed since its chunk was stored.
    """
    damaged = directory.drop_damaged_chunks()
    _check_stored_images(plan, files, directory)
    return [f"chunk {index:05d} is done again: {reason}" for index, reason in damaged.items()]


def _check_stored_images(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> None:
    stored = [table.select("seed_id", "sha256") for table in directory.chunk_tables("seeds")]
    before = {seed_id: checksum for table in stored for seed_id, checksum in table.iter_rows()}
    changed = [f.seed_id for f in files if f.seed_id in before and image_checksum(plan, f) != before[f.seed_id]]
    if changed:
        raise StoreError(
            f"`resume` must continue with the same images, got: {len(changed)} changed (first: {changed[0]})",
            "--overwrite starts again, another --out keeps what is there",
        )


def image_checksum(plan: Plan, file: ImageFile) -> str | None:
    """SHA-256 of an image's file; None for an image that cannot be read."""
    model = plan.classifier
    try:
        return read_image(file, size=model.size, resize=model.resize).sha256
    except ImageError:
        return None
