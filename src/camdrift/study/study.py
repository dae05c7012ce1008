"""A finished study: its tables, its record, its report."""

import weakref
import webbrowser
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import Any

import polars as pl

from camdrift.errors import StoreError, UserError
from camdrift.report import verdicts
from camdrift.report.study import notebook_html, report_files, summary
from camdrift.storage.disk import read_files, write_files
from camdrift.storage.remote_directory import RemoteDirectory, is_url, working_copy
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import Stored
from camdrift.tables.reproduction import FURTHER_TABLES
from camdrift.tables.study import TABLES
from camdrift.tables.words import FIGURES, REPORT


class Study:
    """A study in a run directory. Tables are polars data frames, read when first asked for, or scanned with `scan`.

    Attributes:
        path: The run directory; for one at a URL a copy of it that lasts as long as this object.
        place: Its path, or that URL.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self.path = directory.path
        self.place: Path | str = directory.place

    @property
    def page(self) -> str:
        """Path or URL of its report."""
        return f"{self.place}/{REPORT}"

    def __repr__(self) -> str:
        effective = self.record["arguments"]["effective"]
        analysed = self.seeds.filter(pl.col("status") == "analysed").height
        return (
            f"Study({effective['model']}, {effective['attack']}: {analysed} of {self.seeds.height} seed images "
            f"analysed, {self.layers['layer'].n_unique()} layers; {self.path})"
        )

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json: arguments, versions, checksums, timings."""
        return self._directory.read_run()

    @cached_property
    def seeds(self) -> pl.DataFrame:
        """One row per seed image."""
        return self._directory.read_table("seeds")

    @cached_property
    def variants(self) -> pl.DataFrame:
        """One row per perturbed image."""
        return self._directory.read_table("variants")

    @cached_property
    def similarity(self) -> pl.DataFrame:
        """One row per perturbed image, target and layer."""
        return self._directory.read_table("similarity")

    @cached_property
    def focus(self) -> pl.DataFrame:
        """One row per perturbed image of the study's strengths, target and layer: how its map's focus moved."""
        return self._directory.read_table("focus")

    @cached_property
    def floor(self) -> pl.DataFrame:
        """One row per pair of different seeds, target and layer."""
        return self._directory.read_table("floor")

    @cached_property
    def layers(self) -> pl.DataFrame:
        """One row per target, strength and layer: the statistics."""
        return self._directory.read_table("layers")

    @cached_property
    def counts(self) -> pl.DataFrame:
        """One row per target, strength and number of compromised layers."""
        return self._directory.read_table("counts")

    @cached_property
    def coverage(self) -> pl.DataFrame:
        """One row per seed so far, condition and strength."""
        return self._directory.read_table("coverage")

    @cached_property
    def controls(self) -> pl.DataFrame:
        """One row per control, quantity, target, strength and layer."""
        return self._directory.read_table("controls")

    @cached_property
    def emulation(self) -> pl.DataFrame:
        """Every image of a reproduction in every reading; only `reproduce` makes it."""
        return self._directory.read_table("emulation")

    @cached_property
    def ladder(self) -> pl.DataFrame:
        """One row per set of defects, strength and layer; only `reproduce` makes it."""
        return self._directory.read_table("ladder")

    @cached_property
    def claims(self) -> pl.DataFrame:
        """One row per claim of the paper; only `reproduce` makes it."""
        return self._directory.read_table("claims")

    @cached_property
    def denoised(self) -> pl.DataFrame:
        """Every image against its own denoised copy; only `run --denoised` and `reproduce` make it."""
        return self._directory.read_table("denoised")

    @cached_property
    def precision(self) -> pl.DataFrame:
        """Similarities of a few seed images in float32; only `run --precision tf32` or `bf16` makes it."""
        return self._directory.read_table("precision")

    @property
    def detection(self) -> pl.DataFrame:
        """What detectors can do; read anew each time, since `detect` and `reproduce` replace it."""
        return self._directory.read_table("detection")

    @property
    def roc(self) -> pl.DataFrame:
        """ROC curves of the detectors; read anew each time as `detection`."""
        return self._directory.read_table("roc")

    def summary(self) -> str:
        """What was found, in a few sentences with intervals and n."""
        return "\n".join(summary(self._tables, self.record))

    def claims_in_words(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heads and rows of a table of the paper's claims (of a reproduction); one about every layer is one row.

        Raises:
            StoreError: The study is no reproduction.
        """
        names = self.layers.unique("layer").sort("layer_index")["layer_label"].to_list()
        return verdicts.HEADS, verdicts.cells(self.claims, names)

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the figures if the report was made."""
        pictures = read_files(self.path / FIGURES, "figure_*.png")
        return notebook_html(self._tables, self.record, pictures)

    def explore(self) -> Path:
        """Open the report in the browser, made first where it is missing; returns its path.

        Raises:
            StoreError: As `report`.
        """
        page = self.path / REPORT
        if not page.is_file():
            self.report()
        webbrowser.open(page.resolve().as_uri())
        return page

    def scan(self, table: str) -> pl.LazyFrame:
        """A table, not read yet: a polars lazy frame, for tables that are too large to hold.

        Args:
            table: Its name, such as `similarity`.

        Raises:
            UserError: There is no table of this name.
            StoreError: This study has no such table, or it is damaged.

        Example:
            >>> study.scan("similarity").filter(layer="features.28").collect()  # doctest: +SKIP
        """
        known = (*TABLES, *FURTHER_TABLES)
        if table not in known:
            raise UserError(f"`table` must be one of {', '.join(known)}, got: {table}")
        return self._directory.scan_table(table)

    @property
    def _tables(self) -> Mapping[str, pl.DataFrame]:
        further = [name for name in FURTHER_TABLES if self._directory.has_table(name)]
        tables = of_first_measure(self._directory.stored_tables(*TABLES, *further))
        assert isinstance(tables, Stored)
        return Stored({**tables.scans, "measures": self.scan("layers")})

    def report(self) -> Path:
        """Rebuild figures and report from the stored tables alone; returns the report's path.

        Raises:
            StoreError: A table is missing or damaged, or the run directory cannot be written.
        """
        tables = self._tables
        with self._directory.open_gallery() as gallery:
            write_files(self.path, report_files(tables, self.record, gallery))
        self.keep(REPORT, FIGURES)
        return self.path / REPORT

    def keep(self, *names: str) -> None:
        """Send files that were written into `path` to where the run is kept, if that is at a URL.

        Args:
            names: Of files or folders in the run directory.

        Raises:
            StoreError: They cannot be sent.
        """
        self._directory.keep(*names)


def open_study(path: str | PathLike[str]) -> Study:
    """The study in a run directory, which may be at a URL that fsspec can read: then it is copied here at first.

    Raises:
        StoreError: No run there, or one that is not complete.
    """
    if not is_url(path):
        return study_in(RunDirectory.open(Path(path)))
    directory = working_copy(str(path))
    try:
        directory.check_version()
        study = study_in(directory)
        directory.fetch()
    except BaseException:
        directory.discard()
        raise
    return study


def study_in(directory: RunDirectory) -> Study:
    """The study in a run directory; what is held here of one at a URL lasts as long as the study.

    Raises:
        StoreError: The run is not complete.
    """
    study = Study(directory)
    if study.record["status"] != "done":
        raise StoreError(
            f"the run in {study.place} is not complete",
            f"the command that began it, with --resume --out {quote(str(study.place))}, completes it",
        )
    if isinstance(directory, RemoteDirectory):
        weakref.finalize(study, directory.discard)
    return study
