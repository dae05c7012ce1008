"""The runs in a folder: a line on each, and a page of all of them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_from_bytes

import polars as pl

from camdrift.errors import StoreError, UserError, one_line
from camdrift.masking import public
from camdrift.report.campaign_story import FUZZED
from camdrift.report.index import GENERATOR, Card, failure_thumbnail, index_page, thumbnail
from camdrift.specs import nearest
from camdrift.storage.campaign_directory import CampaignDirectory
from camdrift.storage.disk import is_link, read_small, write_whole
from camdrift.storage.remote_directory import local_folder
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.campaign import is_campaign, open_campaign
from camdrift.study.launch import RUNS
from camdrift.study.study import Study, study_in
from camdrift.tables.file_names import INDEX, RECORD, REPORT
from camdrift.tables.run_json import Record, effective, model_name
from camdrift.tables.words import ANALYSED, count

_DONE: Final = "done"
_UNFINISHED: Final = "not complete"
_DAMAGED: Final = "cannot be read"
STUDY, CAMPAIGN = "study", "campaign"
# Ten thousand runs on a page take 200 MB.
_MOST_BYTES: Final = 2**28


@dataclass(frozen=True)
class RunEntry:
    """A run in a folder.

    Attributes:
        path: The run directory.
        state: done, not complete, or cannot be read.
        date: Its end, or its beginning where it is not complete: ISO 8601 in UTC; empty where unknown.
        model: Spec of the model.
        attack: Spec of the attack; the frameworks of a campaign.
        images: Seed images.
        analysed: Those with an adversarial example, or that were fuzzed; None where the run is not complete.
        headline: Its main result in a sentence, or what is wrong with it.
        kind: `study` or `campaign`.
    """

    path: Path
    state: str
    date: str = ""
    model: str = ""
    attack: str = ""
    images: int | None = None
    analysed: int | None = None
    headline: str = ""
    kind: str = STUDY

    def as_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {**vars(self), "path": str(self.path)}


def list_runs(folder: str | PathLike[str] = RUNS) -> list[RunEntry]:
    """Return an entry for each run in a folder, the latest first; for a run directory its own alone.

    Args:
        folder: The folder.

    Raises:
        StoreError: There is no such folder.
    """
    path = local_folder("folder", folder)
    if not path.is_dir():
        raise StoreError(f"`folder` must be a folder with runs, got: {path}", "`camdrift run` makes runs/")
    return sorted(map(_entry, _places(path)), key=lambda entry: entry.date, reverse=True)


def find_run(name: str | PathLike[str] | None = None, *, has_campaigns: bool = False) -> Path:
    """Return the directory of a run: by its path, by its name in `runs/`, or the latest one there that is complete.

    Args:
        name: Its path or name; None for the latest.
        has_campaigns: May the latest be a campaign of fuzzing?

    Raises:
        StoreError: There is none.
    """
    if name is not None:
        return _named(local_folder("run", name))
    entries = [entry for entry in list_runs() if entry.state == _DONE] if RUNS.is_dir() else []
    entries = [entry for entry in entries if has_campaigns or entry.kind == STUDY]
    if not entries:
        raise StoreError(f"no run in {RUNS} is complete", "`camdrift run` makes one; elsewhere, name its folder")
    return entries[0].path


def _named(path: Path) -> Path:
    """The run directory at a path, or of that name in `runs/`."""
    for place in (path, RUNS / path):
        if _is_run(place):
            return place
    names = [place.name for place in _places(RUNS)]
    raise StoreError(
        f"no run at {path}, and none of this name in {RUNS}",
        f"{nearest(str(path), names)}`camdrift list` shows the runs in {RUNS}",
    )


def write_index(folder: Path = RUNS) -> None:
    """Write the page of all runs into a folder of camdrift's; a page of somebody else's stays as it is.

    A folder that cannot be written stops nothing: the runs in it are complete.
    """
    page = folder / INDEX
    if is_link(page) or (page.exists() and not _is_ours(page)):
        return
    text = index_page([_card(entry, folder) for entry in list_runs(folder)])
    with suppress(StoreError):
        write_whole(folder, INDEX, partial(Path.write_bytes, data=text.encode("utf-8", "replace")))


def _places(folder: Path) -> Iterator[Path]:
    """Yield the run directories in a folder."""
    if _is_run(folder):
        yield folder
    elif folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_dir() and _is_run(path))


def _is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file() or is_campaign(folder)


def _entry(path: Path) -> RunEntry:
    try:
        if is_campaign(path):
            return _of_campaign(path)
        directory = RunDirectory.open(path)
        record = public(directory.read_run())
        return _finished(study_in(directory)) if record["status"] == _DONE else _begun(path, record)
    except UserError as error:
        return RunEntry(path, _DAMAGED, headline=error.message, kind=_kind(path))
    except Exception as error:  # a run of before, or of somebody else, may hold anything
        return RunEntry(path, _DAMAGED, headline=one_line(error), kind=_kind(path))


def _kind(path: Path) -> str:
    return CAMPAIGN if is_campaign(path) else STUDY


def _of_campaign(path: Path) -> RunEntry:
    record = public(CampaignDirectory(path).read_record())
    frameworks = ", ".join(record["settings"]["frameworks"])
    if record["finished"] is None:
        seeds = len(record["seeds"])
        return RunEntry(path, _UNFINISHED, record["started"], model_name(record), frameworks, seeds, kind=CAMPAIGN)
    campaign = open_campaign(path)
    return RunEntry(
        path,
        _DONE,
        record["finished"],
        model_name(record),
        frameworks,
        campaign.starts.height,
        campaign.starts.filter(status=FUZZED).height,
        campaign.headline(),
        CAMPAIGN,
    )


def _begun(path: Path, record: Record) -> RunEntry:
    arguments = effective(record)
    return RunEntry(
        path, _UNFINISHED, record["started"], model_name(record), arguments["attack"], record["images"]["n"]
    )


def _finished(study: Study) -> RunEntry:
    record = study.record
    return RunEntry(
        study.path,
        _DONE,
        record.get("finished") or record["started"],
        model_name(record),
        effective(record)["attack"],
        record["images"]["n"],
        study.seeds.filter(pl.col("status") == ANALYSED).height,
        study.headline(),
    )


def _card(entry: RunEntry, folder: Path) -> Card:
    """The card of a run on the page of all runs."""
    picture = ""
    with suppress(Exception):  # a run may hold anything
        picture = _picture(entry)
    page = entry.path.relative_to(folder) / REPORT
    return Card(
        name=entry.path.name,
        link=quote_from_bytes(os.fsencode(page.as_posix())) if (folder / page).is_file() else "",
        picture=picture,
        pair="a seed and a failure" if entry.kind == CAMPAIGN else "an image, clean and attacked",
        headline=entry.headline or f"The run is {entry.state}",
        facts=_facts(entry),
        is_done=entry.state == _DONE,
    )


def _picture(entry: RunEntry) -> str:
    """The most telling pair of pictures of a run."""
    if entry.kind == CAMPAIGN:
        with CampaignDirectory(entry.path).open_gallery() as gallery:
            return failure_thumbnail(gallery)
    with RunDirectory(entry.path).open_gallery() as gallery:
        return thumbnail(gallery, study_in(RunDirectory.open(entry.path)).headline_strength)


def _facts(entry: RunEntry) -> list[str]:
    """Model, attack, images and date, as far as they are known."""
    images = "" if entry.images is None else count(entry.images, "image")
    if entry.analysed is not None:
        images = f"{entry.analysed:,} of {images} {'fuzzed' if entry.kind == CAMPAIGN else 'fooled the network'}"
    return [text for text in (entry.model, entry.attack, images, day(entry.date)) if text]


def day(date: str) -> str:
    """Return day and time of an ISO 8601 date, to the minute.

    Example:
        >>> day("2026-11-27T20:53:34+00:00")
        '2026-11-27 20:53'
    """
    return date[:16].replace("T", " ")


def _is_ours(page: Path) -> bool:
    """Did camdrift write a page?"""
    try:
        return GENERATOR.encode() in read_small(page, _MOST_BYTES)
    except OSError:
        return False
