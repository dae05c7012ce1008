"""A finished fuzzing campaign: its tables, its record, its sentences."""

import webbrowser
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from camdrift.errors import StoreError
from camdrift.masking import public
from camdrift.report.campaign import campaign_files
from camdrift.report.campaign_story import campaign_headline, campaign_sentences
from camdrift.storage.campaign_directory import CAMPAIGN_RECORD, FAILURES_LIST, CampaignDirectory
from camdrift.storage.remote_directory import is_url, local_folder
from camdrift.study.study import has_screen
from camdrift.tables.campaign import CAMPAIGN_TABLES
from camdrift.tables.file_names import REPORT
from camdrift.tables.meaning import MEANING, MEANING_TABLES


class Campaign:
    """A finished campaign. Its tables are polars data frames, read when first asked for."""

    def __init__(self, directory: CampaignDirectory) -> None:
        self._directory = directory
        self._tables: dict[str, pl.DataFrame] = {}

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """fuzz.json: arguments, model, versions, timings."""
        record: Mapping[str, Any] = public(self._directory.read_record())
        return record

    @property
    def starts(self) -> pl.DataFrame:
        """One row per seed image."""
        return self._table("starts")

    @property
    def failures(self) -> pl.DataFrame:
        """One row per failure."""
        return self._table("failures")

    @property
    def growth(self) -> pl.DataFrame:
        """One row per hundredth of the budget."""
        return self._table("growth")

    @property
    def corpus(self) -> pl.DataFrame:
        """One row per entry of a trial's corpus."""
        return self._table("corpus")

    @property
    def mutators(self) -> pl.DataFrame:
        """One row per operator of a trial."""
        return self._table("mutators")

    @property
    def frameworks(self) -> pl.DataFrame:
        """Median and interval of every count over the trials of each framework."""
        return self._table("frameworks")

    @property
    def pairs(self) -> pl.DataFrame:
        """Effect size and test for every pair of frameworks."""
        return self._table("pairs")

    @property
    def clusters(self) -> pl.DataFrame:
        """Failures that take hold alike."""
        return self._table("clusters")

    @property
    def meaning(self) -> pl.DataFrame:
        """Whether coverage is meaningful here.

        Raises:
            StoreError: Nobody has asked yet.
        """
        if not self._directory.has_table(MEANING.name):
            hint = f"`camdrift coverage {self.path} --meaning` makes it"
            raise StoreError(f"no {MEANING.name}.parquet in {self.path}", hint)
        return self._table(MEANING.name)

    @property
    def failures_list(self) -> Path | None:
        """The list of failures that `camdrift run --adversarial` takes; None where there are none."""
        path = self.path / FAILURES_LIST
        return path if path.is_file() else None

    def _table(self, name: str) -> pl.DataFrame:
        if name not in self._tables:
            self._tables[name] = self._directory.read_table(name)
        return self._tables[name]

    def __repr__(self) -> str:
        return f"Campaign({self.headline()}; {self.path})"

    def headline(self) -> str:
        """Return the main result in a sentence."""
        return campaign_headline(self._all(), self.record)

    def summary(self) -> str:
        """Return the result in sentences, one a line."""
        return "\n".join([self.headline(), *campaign_sentences(self._all(), self.record)])

    def report(self) -> Path:
        """Rebuild figures and page from what is stored alone, and return the page's path.

        Raises:
            StoreError: A file is missing or damaged, or the run directory cannot be written.
        """
        self._write_report({})
        return self.path / REPORT

    def add_meaning(self, table: pl.DataFrame) -> None:
        """Write the table `meaning`, and the page anew with it.

        Raises:
            StoreError: As `report`.
        """
        self._tables[MEANING.name] = table
        self._write_report({MEANING.name: table})

    def _write_report(self, new: Mapping[str, pl.DataFrame]) -> None:
        with self._directory.open_gallery() as gallery:
            files = campaign_files({**self._all(), **new}, self.record, gallery)
            self._directory.write_report(files, new)

    def explore(self) -> Path:
        """Open the page in a browser on this screen, and return its path; one that is missing is made first.

        Over SSH and without a screen nothing is opened.
        """
        page = self.path / REPORT
        if not page.is_file():
            self.report()
        if has_screen():
            webbrowser.open(page.resolve().as_uri())
        return page

    def _all(self) -> Mapping[str, pl.DataFrame]:
        """All tables by name; those of `MEANING_TABLES` where they are there."""
        further = [name for name in MEANING_TABLES if self._directory.has_table(name)]
        return {name: self._table(name) for name in (*CAMPAIGN_TABLES, *further)}


def is_campaign(path: str | PathLike[str]) -> bool:
    """Is this the directory of a campaign, finished or not?"""
    if is_url(path):
        return False
    directory = CampaignDirectory(Path(path))
    return directory.is_going_on or directory.is_done


def open_campaign(path: str | PathLike[str]) -> Campaign:
    """Return a finished campaign.

    Args:
        path: The directory that `camdrift fuzz` wrote.

    Raises:
        StoreError: There is none, or it has not ended.
    """
    directory = CampaignDirectory(local_folder("campaign", path))
    if not directory.is_done:
        hint = (
            f"`camdrift fuzz --resume --out {path}` goes on with it"
            if directory.is_going_on
            else "name a folder that `camdrift fuzz` wrote"
        )
        raise StoreError(f"no finished campaign in {path} ({CAMPAIGN_RECORD} is missing)", hint)
    unknown = [name for name in CAMPAIGN_TABLES if not (directory.path / f"{name}.parquet").is_file()]
    if unknown:
        raise StoreError(f"{path} is not complete: {unknown[0]}.parquet is missing", "run the campaign again")
    return Campaign(directory)
