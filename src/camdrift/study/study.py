"""A finished study: its tables, its record, its report."""

import os
import sys
import weakref
import webbrowser
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import Any, Final

import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from camdrift.errors import StoreError, UserError
from camdrift.figures.study import FigureName, study_figure
from camdrift.masking import public
from camdrift.notebook import CellOutput, is_notebook, tell
from camdrift.report import verdicts
from camdrift.report.citation import Citation, citation
from camdrift.report.notebook import framed, notebook_html
from camdrift.report.study import headline, headline_strength, report_files, summary
from camdrift.statistics.flips import flips
from camdrift.statistics.ranks import ranked
from camdrift.storage.defence_files import DefenceFiles
from camdrift.storage.disk import read_small, readable
from camdrift.storage.integrity import check_fit
from camdrift.storage.remote_directory import RemoteDirectory, is_url, working_copy
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import DEFENCE_KEYS, FIGURES, REPORT
from camdrift.tables.further import FLIPS, FURTHER_TABLES, RUN_TABLES, RunTables, TableName
from camdrift.tables.gallery import Photos
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import Stored
from camdrift.tables.run_json import effective
from camdrift.tables.study import LAYERS, TABLES
from camdrift.tables.table import Table
from camdrift.tables.words import ANALYSED

# A page with the pictures of as many photos as fit takes a tenth of that.
_MOST_BYTES: Final = 2**28


class Study(RunTables):
    """A study in a run directory. Tables are polars data frames, read when first asked for, or scanned with `scan`."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """The run directory; for one at a URL a copy of it that lasts as long as this object."""
        return self._directory.path

    @property
    def place(self) -> Path | str:
        """Its path, or that URL."""
        return self._directory.place

    def __repr__(self) -> str:
        arguments = effective(self.record)
        n_analysed = self.seeds.filter(pl.col("status") == ANALYSED).height
        return (
            f"Study({arguments['model']}, {arguments['attack']}: {n_analysed} of {self.seeds.height} seed images "
            f"analysed, {self.layers['layer'].n_unique()} layers; {self.path})"
        )

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json: arguments, versions, checksums, timings."""
        # Those of before may hold a secret, or the path of a home.
        record: dict[str, Any] = public(self._directory.read_run())
        return record

    def _read(self, table: Table) -> pl.DataFrame:
        if table is FLIPS and not self._directory.has_table(table.name):  # a run of before
            return flips(self.variants, self.seeds)
        rows = self._directory.read_table(table.name)
        return ranked(rows) if table is LAYERS else rows

    def summary(self) -> str:
        """Return the findings in a few sentences with intervals and n."""
        return "\n".join(summary(self._tables, self.record))

    def headline(self) -> str:
        """Return the main result as a sentence without its full stop."""
        return headline(self._tables, self.record)

    @property
    def headline_strength(self) -> float:
        """The strength at which the headline is taken: the lowest at which half of the examples fool the network."""
        return headline_strength(self._tables, self.record)

    def cite(self) -> Citation:
        """Return what a paper needs of the study: methods paragraph, layer table, BibTeX entries."""
        return citation(self._tables, self.record)

    def claims_in_words(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return heads and rows of a table of the paper's claims; a claim about every layer is one row.

        Raises:
            StoreError: The study is no reproduction.
        """
        names = self.layers.unique("layer").sort("layer_index")["layer_label"].to_list()
        return verdicts.HEADS, verdicts.cells(self.claims, names)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the headline, one photo, the layers whose maps are moved most."""
        with self.open_gallery() as gallery:
            return notebook_html(self._tables, self.record, gallery)

    def show(self, height: int = 900) -> None:
        """Show the report: in a notebook below the cell, else in a browser on this screen, or by its path.

        In a notebook the page becomes part of the cell, in a frame of its own, so that it works over SSH, in Colab and
        after an export, and takes as much room there as the file. Elsewhere a line on standard error says where it
        lies.

        Args:
            height: Height of the frame in pixels.

        Raises:
            StoreError: As `report`.
        """
        if not is_notebook():
            tell(f"report: {self.explore()}")
            return
        page = self._page()
        with readable(page):
            text = read_small(page, _MOST_BYTES).decode()
        CellOutput(framed(text, height), f"report: {page}")

    def explore(self) -> Path:
        """Open the report in a browser on this screen, and return its path; a report that is missing is made first.

        Over SSH and without a screen nothing is opened.

        Raises:
            StoreError: As `report`.
        """
        page = self._page()
        if has_screen():
            webbrowser.open(page.resolve().as_uri())
        return page

    def plot(self, name: FigureName) -> Figure:
        """Return a figure of the study, drawn anew from its tables: `gain`, `heatmaps`, `similarity_adversarial`, ...

        A notebook shows it. It belongs to no window of pyplot: `figure.savefig("gain.pdf")` writes it.

        Args:
            name: Its name: that of its file in `figures/`, without the number.

        Raises:
            UserError: The study has no such figure; the message lists those that it has.
            StoreError: A table is missing or damaged.
        """
        with self.open_gallery() as gallery:
            return study_figure(name, self._tables, self.record, gallery)

    @property
    def gallery(self) -> Photos:
        """The photos that the run keeps pictures of, by name: clean, attacked and noisy, and where each layer looks.

        Nothing is read but their names until a picture is asked for.
        """
        return Photos(_StoredGallery(self), effective(self.record)["layers"])

    def _page(self) -> Path:
        """The report's path; it is made if it is missing."""
        page = self.path / REPORT
        if not page.is_file():
            self.report()
        return page

    def scan(self, table: TableName) -> pl.LazyFrame:
        """Return a table that is not read yet: a polars lazy frame, for tables that are too large to hold.

        Args:
            table: Its name, such as `similarity`.

        Raises:
            UserError: There is no table of this name.
            StoreError: This study has no such table, or it is damaged.

        Example:
            >>> study.scan("similarity").filter(layer="features.28").collect()  # doctest: +SKIP
        """
        if table not in RUN_TABLES:
            raise UserError(f"`table` must be one of {', '.join(RUN_TABLES)}, got: {table}")
        return self._directory.scan_table(table)

    @property
    def _tables(self) -> Mapping[str, pl.DataFrame]:
        further = [name for name in FURTHER_TABLES if self._directory.has_table(name)]
        tables = of_first_measure(self._directory.stored_tables(*TABLES, *further))
        assert isinstance(tables, Stored)
        # Runs of before have other ranks.
        layers = {"layers": ranked(tables.scans["layers"]), "measures": ranked(self.scan("layers"))}
        return Stored({**tables.scans, **layers})

    @contextmanager
    def open_gallery(self) -> Iterator[Gallery]:
        """Give the arrays of the gallery, each read when it is asked for, with the keys of `pipeline/gallery.py`.

        Raises:
            StoreError: It is damaged; an array that cannot be read raises it, too.
        """
        with self._directory.open_gallery() as gallery:
            yield gallery

    @contextmanager
    def _open_pictures(self) -> Iterator[Gallery]:
        """The arrays of the gallery, with the pictures behind defences."""
        with self.open_gallery() as gallery, DefenceFiles(self.path).open_pictures() as pictures:
            more = {DEFENCE_KEYS.format(key): array for key, array in pictures.items()}
            yield ChainMap(more, gallery) if more else gallery  # type: ignore[arg-type]

    def check_fit(self) -> None:
        """Raise `StoreError` unless tables and record fit each other."""
        check_fit(self._directory)

    def report(self) -> Path:
        """Rebuild figures and report from the stored tables alone, and return the report's path.

        Raises:
            StoreError: A table is missing or damaged, or the run directory cannot be written.
        """
        check_fit(self._directory, is_drawn=True)
        tables = self._tables
        with self._open_pictures() as gallery:
            self._directory.write_report(report_files(tables, self.record, gallery))
        self.keep(REPORT, FIGURES)
        return self.path / REPORT

    def keep(self, *names: str) -> None:
        """Send files that were written into `path` to the URL of the run, if it has one.

        Args:
            names: Names of files or folders in the run directory.

        Raises:
            StoreError: They cannot be sent.
        """
        self._directory.keep(*names)


class _StoredGallery(Mapping[str, NDArray[Any]]):
    """The gallery of a study, opened whenever something is asked of it."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getitem__(self, key: str) -> NDArray[Any]:
        with self._study.open_gallery() as gallery:
            return gallery[key]

    def __contains__(self, key: object) -> bool:
        with self._study.open_gallery() as gallery:
            return key in gallery

    def __iter__(self) -> Iterator[str]:
        with self._study.open_gallery() as gallery:
            return iter(list(gallery))

    def __len__(self) -> int:
        with self._study.open_gallery() as gallery:
            return len(gallery)


def has_screen() -> bool:
    """Is whoever has started this process in front of a screen that a browser can use?"""
    if {"SSH_CONNECTION", "SSH_TTY"} & os.environ.keys():
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def open_study(path: str | PathLike[str]) -> Study:
    """Return the study in a run directory; one at a URL that fsspec can read is copied here first.

    Raises:
        StoreError: There is no run, or one that is not complete.
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
    """Return the study in a run directory; the local copy of one at a URL lasts as long as the study.

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
