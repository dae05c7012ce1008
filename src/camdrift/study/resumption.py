"""The run directory of a study: a new one, or one whose run goes on because it is of the same study."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from camdrift.errors import StoreError
from camdrift.images.places import ImageFile
from camdrift.pipeline.chunk import TIMINGS
from camdrift.pipeline.plan import Plan, image_checksum
from camdrift.pipeline.settings import Settings
from camdrift.storage.lock import locked
from camdrift.storage.remote_directory import is_url, working_copy
from camdrift.storage.run_directory import RunDirectory
from camdrift.storage.run_files import is_unused
from camdrift.study.extension import CHOICES, check_images, extend, is_extension
from camdrift.study.record import LISTING, identity_changes
from camdrift.tables.file_names import REPORT
from camdrift.tables.run_json import effective, passed


@contextmanager
def run_directory(
    path: Path | str, record: dict[str, Any], plan: Plan, files: Sequence[ImageFile], *, resume: bool, overwrite: bool
) -> Iterator[RunDirectory]:
    """Yield the run directory, with every other process locked out; a run that is complete stays untouched.

    A run that is complete and shall get more images yields a directory inside its own, which takes its place. A
    directory at a URL is filled in a temporary folder and sent there in the end; no lock keeps others out of it.

    Args:
        path: Its path or URL.
        record: The record of the run.
        plan: Its plan.
        files: Its images.
        resume: Continue the run that is there.
        overwrite: Replace it.

    Raises:
        StoreError: There is a run that may not be replaced, or one of another study that cannot go on.
    """
    if is_url(path):
        with _remote_directory(str(path), record, plan.settings, resume=resume, overwrite=overwrite) as directory:
            yield directory
        return
    path = Path(path)
    if resume:
        directory = RunDirectory.open(path, is_resumed=True)
        if is_extension(directory.read_run(), record):
            yield from _extended(directory, record, plan, files)
            return
        _check_same(directory, record, plan.settings)
        with nullcontext(False) if _is_tidy(directory) else locked(path) as directory.is_locked:
            yield from _tidied(directory)
        return
    RunDirectory.check_free(path, overwrite=overwrite)
    with locked(path) as is_locked:
        RunDirectory.check_free(path, overwrite=overwrite)
        directory = RunDirectory.create(path) if is_unused(path) else RunDirectory.succeed(path)
        directory.is_locked = is_locked
        yield from _tidied(directory)


def _extended(
    directory: RunDirectory, record: dict[str, Any], plan: Plan, files: Sequence[ImageFile]
) -> Iterator[RunDirectory]:
    """Yield a directory that begins with what a finished run has, and takes its place if it gets complete."""
    _check_same(directory, record, plan.settings, is_larger=True)
    check_images(directory, plan, files)
    with locked(directory.path) as is_locked:
        check_undamaged(directory)
        larger = RunDirectory.succeed(directory.path)
        larger.is_locked = is_locked
        extend(directory, larger, plan, files, record)
        yield from _tidied(larger)


def _tidied(directory: RunDirectory) -> Iterator[RunDirectory]:
    """Yield a run directory without leftovers; the run in it takes its place if it gets complete."""
    try:
        if directory.is_locked:
            directory.tidy()
        yield directory
        directory.take_place()
    finally:
        directory.is_locked = False


def is_begun(place: str | PathLike[str]) -> bool:
    """Is there more in the folder of a run than what a command leaves that was killed at its very start?"""
    return is_url(place) or not Path(place).is_dir() or not is_unused(Path(place))


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
    """Is the run complete, with nothing left over and a report?"""
    is_complete = directory.read_record()["status"] == "done"
    return is_complete and directory.is_tidy() and (directory.path / REPORT).is_file()


def _check_same(
    directory: RunDirectory, record: dict[str, Any], settings: Settings, *, is_larger: bool = False
) -> None:
    """Raise `StoreError` unless the run in a directory is of the same study, but for its images if that is larger."""
    before, images = directory.read_run(), (*CHOICES, LISTING) if is_larger else ()
    changes = [
        *settings.differences(passed(before), without=images),
        *identity_changes(before, record, without=images),
    ]
    size = effective(before)["batch_size"]
    if settings.batch_size not in (0, size):
        # Sums of another number of images are rounded otherwise, and an attack may make much of that.
        changes.append(f"batch_size was {size}, now {settings.batch_size}")
    if changes:
        raise StoreError(
            f"`resume` must continue the same study, got: {directory.place}, where {'; '.join(changes)}",
            f"give the arguments and files of the first command, or another --out{_more_images(directory)}",
        )


def _more_images(directory: RunDirectory) -> str:
    """When a run takes more images, for the end of a hint."""
    if is_url(str(directory.place)):
        return "; a run at a URL takes no more images"
    begun = "" if directory.read_record()["status"] == "done" else "; once it is complete, it takes more images"
    if directory.path == directory.place:
        return begun
    return f"{begun}; removing {directory.path} gives it up, and keeps the run that it was to replace"


def continued(plan: Plan, record: dict[str, Any], directory: RunDirectory) -> Plan:
    """Return the plan with the batch size of the run that it continues, and complete the new record from the old one.

    The record says where two halves of the run were computed by other versions, on another device, or with another
    number of threads.
    """
    before = directory.read_run()
    arguments, old = record["arguments"]["effective"], effective(before)
    if arguments["device"] == old["device"]:
        plan = plan.with_batch_size(old["batch_size"])
    arguments["batch_size"] = plan.batch_size
    record["timings"] = before.get("timings") or {}
    plan.clock.add(record["timings"])
    record["extension"] = before.get("extension")
    preflight = before.get("preflight") or record.get("preflight")
    if changes := _other_surroundings(before, record):
        text = f"resumed where {'; '.join(changes)}: similarities before and after may differ by more than rounding"
        preflight = {**(preflight or {}), "warnings": [*((preflight or {}).get("warnings") or ()), text]}
    record["preflight"] = preflight
    return plan


def _other_surroundings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a sentence on all that is another than when the run was begun: libraries, device, threads."""
    old, new = before.get("versions") or {}, now["versions"]
    changes = [f"{name} was {old[name]}, now {new[name]}" for name in old if name in new and old[name] != new[name]]
    devices = before.get("device"), now["device"]
    changes += [] if devices[0] == devices[1] else ["device was {}, now {}".format(*devices)]
    threads = [(record.get("engine") or {}).get("threads") for record in (before, now)]
    if None not in threads and threads[0] != threads[1]:
        changes.append("the number of threads was {0}, now {1} (OMP_NUM_THREADS={0} keeps it)".format(*threads))
    return changes


def chunk_seconds(directory: RunDirectory, index: int) -> dict[str, float]:
    """Return the seconds by stage that a stored chunk took; nothing for one of before they were noted."""
    if TIMINGS not in directory.chunk_table_names():
        return {}
    return dict(directory.read_chunk(index, TIMINGS).select("stage", "seconds").iter_rows())


def check_undamaged(directory: RunDirectory) -> None:
    """Raise `StoreError` unless the tables of a complete run are as they were written."""
    damages = directory.damaged_files()
    if damages:
        raise StoreError(
            f"the finished run in {directory.place} is damaged: {'; '.join(map(' '.join, damages.items()))}",
            "put back a copy of the file, or run it again with --overwrite in place of --resume",
        )
    directory.drop_chunks()


def check_stored(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> list[str]:
    """Remove the chunks that are damaged, or hold images as unreadable that can be read now; return a line on each.

    Raises:
        StoreError: An image has changed since its chunk was stored.
    """
    return told_again(directory.drop_damaged_chunks() | _drop_unread_chunks(plan, files, directory))


def told_again(reasons: Mapping[int, str]) -> list[str]:
    """A line on each chunk that is done again, from the reasons by index."""
    return [f"chunk {index:05d} is done again: {reason}" for index, reason in sorted(reasons.items())]


def _drop_unread_chunks(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> dict[int, str]:
    """Remove the chunks with images that were unreadable and can be read now; return the reasons by index."""
    by_name = {file.seed_id: file for file in files}
    changes, reasons = [], dict[int, str]()
    for index in sorted(directory.chunks_done()):
        for seed_id, before in directory.read_chunk(index, "seeds").select("seed_id", "sha256").iter_rows():
            now = image_checksum(plan, by_name[seed_id]) if seed_id in by_name else before
            if before is None and now is not None:
                reasons[index] = f"{seed_id} could not be read, and can be now"
            elif now != before:
                changes.append(seed_id)
    if changes:
        raise StoreError(
            f"`resume` must continue with the same images, got: {len(changes)} changed (first: {changes[0]})",
            "--overwrite starts again, another --out keeps what is there",
        )
    for index in reasons:
        directory.drop_chunk(index)
    return reasons
