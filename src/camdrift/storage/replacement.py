"""New files in the place of old ones: all of them or none, and nothing left over.

They are written into a folder aside, which one renaming makes the new state (`READY`, `MOVING`); `settle` then brings
each file to its place. Whoever opens the folder after a stop ends that first, so that it finds the old state or the
new one.
"""

import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from camdrift.storage.disk import Write, is_link, on_disk, remove, sync, sync_folder
from camdrift.tables.file_names import CHUNKS, FIGURES

# A complete new state of a folder: what it lacks is removed first, and then its files take their places.
READY: Final = ".ready.tmp"
# Complete new files of a folder, on their way to their places.
MOVING: Final = ".moving.tmp"
# Of this version and of those before: `.run.json.0123456789abcdef.part`, `.run.json.part`, `.report.html.4711.tmp`.
_ASIDE: Final = re.compile(r"\.(.+?)(?:\.[0-9a-f]+)?\.(?:part|tmp)")
_STAGE: Final = re.compile(r"\.[0-9a-f]{16}\.tmp")

# Is this the name of a file, below a folder, that we write there?
IsOurs = Callable[[str], bool]


def write_files(folder: Path, files: Iterable[tuple[str, bytes]], is_ours: IsOurs = bool) -> None:
    """Write files below a folder, all or none of them; raises as `replace_files`.

    Args:
        folder: The folder.
        files: Name below the folder, such as `figures/gain.png`, and bytes of each.
        is_ours: Is this the name of a file, below the folder, that we write there?
    """
    replace_files(folder, ((name, partial(Path.write_bytes, data=data)) for name, data in files), is_ours)


def replace_files(
    folder: Path, files: Iterable[tuple[str, Write]], is_ours: IsOurs = bool, *, is_all: bool = False
) -> None:
    """Replace files of a folder that nobody else writes into, all or none of them.

    Args:
        folder: The folder.
        files: Name below the folder, such as `figures/gain.png`, and what writes each at a path, in their order.
        is_ours: Is this the name of a file, below the folder, that we write there?
        is_all: Shall our other files there go?

    Raises:
        StoreError: One cannot be written; all are as they were.
    """
    stage = folder / f".{secrets.token_hex(8)}.tmp"
    with on_disk(folder):
        settle(folder, is_ours)
        try:
            stage.mkdir()
            for name, write in files:
                path = stage / name
                path.parent.mkdir(exist_ok=True)
                write(path)
                sync(path)
            publish(stage, folder / (READY if is_all else MOVING))
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        settle(folder, is_ours)


def publish(stage: Path, name: Path) -> None:
    """Give a folder whose files are flushed its name, and make that last."""
    for folder in {stage, *((stage / file).parent for file in _entries(stage))}:
        sync_folder(folder)
    stage.rename(name)
    sync_folder(name.parent)


def is_unsettled(folder: Path) -> bool:
    """Are there new files that have not all reached their places?"""
    return (folder / READY).exists() or (folder / MOVING).exists()


def settle(folder: Path, is_ours: IsOurs) -> None:
    """Bring the new files of a folder to their places, also where somebody was stopped in that.

    Args:
        folder: The folder; nobody else writes into it.
        is_ours: Is this the name of a file, below the folder, that we write there?
    """
    ready, moving = folder / READY, folder / MOVING
    for link in filter(is_link, (ready, moving)):
        link.unlink()
    if moving.is_dir():
        _move(moving, folder, is_ours)
    if ready.is_dir():
        clear(folder, is_ours, without=_entries(ready))
        ready.rename(moving)
        _move(moving, folder, is_ours)


def _move(moving: Path, folder: Path, is_ours: IsOurs) -> None:
    places = {folder}
    for name in _entries(moving):
        place = folder / name
        if not is_ours(name) or is_link(moving / name):
            continue
        if place.parent != folder and is_link(place.parent):
            place.parent.unlink()
        place.parent.mkdir(exist_ok=True)
        (moving / name).replace(place)
        places.add(place.parent)
    for place in places:
        sync_folder(place)
    remove(moving)


def clear(folder: Path, is_ours: IsOurs, without: Collection[str] = ()) -> None:
    """Remove our files from a folder, but for some names, and what is left of our writing; a record goes last."""
    drop_leftovers(folder, is_ours)
    if is_ours(CHUNKS):
        remove(folder / CHUNKS)
    for name in _entries(folder):
        if is_ours(name) and name not in without:
            (folder / name).unlink()
    figures = folder / FIGURES
    if figures.is_dir() and not any(figures.iterdir()):
        figures.rmdir()


def _entries(folder: Path) -> list[str]:
    """Files and links in a folder and in its folders, by their path from there; records, in JSON, are last."""
    top = sorted(folder.iterdir())
    inner = [path for entry in top if entry.is_dir() and not is_link(entry) for path in sorted(entry.iterdir())]
    names = [path.relative_to(folder).as_posix() for path in (*inner, *top) if is_link(path) or not path.is_dir()]
    return sorted(names, key=lambda name: name.endswith(".json"))


def drop_leftovers(folder: Path, is_ours: IsOurs) -> None:
    """Remove what commands that were killed have left in a folder that nobody else writes into."""
    for path in leftovers(folder, is_ours):
        remove(path)


def leftovers(folder: Path, is_ours: IsOurs) -> list[Path]:
    """Files and folders that commands that were killed have left in a folder and its figures."""
    figures = folder / FIGURES
    places = [place for place in (folder, figures) if place.is_dir() and not (place == figures and is_link(place))]
    return [path for place in places for path in place.glob(".*") if _is_leftover(path.relative_to(folder), is_ours)]


def _is_leftover(path: Path, is_ours: IsOurs) -> bool:
    aside = _ASIDE.fullmatch(path.name)
    is_stage = len(path.parts) == 1 and _STAGE.fullmatch(path.name) is not None
    return is_stage or (aside is not None and is_ours(path.with_name(aside[1]).as_posix()))
