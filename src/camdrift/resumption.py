"""Continuing a run: is it the same study, of the same images?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camdrift.errors import ImageError, StoreError
from camdrift.images import read_image
from camdrift.places import ImageFile
from camdrift.plan import Plan
from camdrift.run_record import identity
from camdrift.settings import Settings
from camdrift.store import RunDirectory


def run_directory(
    path: Path,
    record: dict[str, Any],
    settings: Settings,
    *,
    resume: bool,
    overwrite: bool,
) -> RunDirectory:
    """The directory of a run: a new one, or the one that is to be continued.

    Raises:
        StoreError: There is something else, or the run in it is of another study.
    """
    if not resume:
        return RunDirectory.create(path, overwrite=overwrite)
    directory = RunDirectory.open(path)
    before = directory.read_record()
    changed = settings.differences(before["arguments"]["passed"])
    for (name, old), new in zip(identity(before).items(), identity(record).values(), strict=True):
        if old != new:
            changed.append(f"{name} was {old}, now {new}")
    if changed:
        raise StoreError(
            f"`resume` must continue the same study, got: {path}, where {'; '.join(changed)}",
            "give the arguments of the first command, or another --out",
        )
    return directory


def check_stored_images(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory) -> None:
    """Raises `StoreError` if an image has changed since its chunk was stored."""
    stored = [table.select("seed_id", "sha256") for table in directory.chunk_tables("seeds")]
    before = {seed_id: checksum for table in stored for seed_id, checksum in table.iter_rows()}
    changed = [f.seed_id for f in files if f.seed_id in before and _checksum(plan, f) != before[f.seed_id]]
    if changed:
        raise StoreError(
            f"`resume` must continue with the same images, got: {len(changed)} changed (first: {changed[0]})",
            "--overwrite starts again, another --out keeps what is there",
        )


def _checksum(plan: Plan, file: ImageFile) -> str | None:
    model = plan.classifier
    try:
        return read_image(file, size=model.size, resize=model.resize).sha256
    except ImageError:
        return None
