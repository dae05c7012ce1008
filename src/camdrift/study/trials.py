"""The trials of a campaign, here or on workers, and the tables of all of them."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.engine.dispatch import hand_out
from camdrift.engine.engine import LOCAL
from camdrift.engine.progress import Progress
from camdrift.errors import StoreError
from camdrift.fuzzing.frameworks import Setup
from camdrift.fuzzing.trial import TALLY
from camdrift.masking import public
from camdrift.report.campaign import campaign_files
from camdrift.statistics.trials import compared, summarised
from camdrift.storage.campaign_directory import (
    FAILURES,
    FAILURES_LIST,
    CampaignDirectory,
    Contents,
    gallery_bytes,
)
from camdrift.storage.image_stack import FileStack
from camdrift.study import provenance
from camdrift.study.campaign_gallery import campaign_gallery
from camdrift.study.clusters import ReadFailure, clusters, with_onsets
from camdrift.study.launch import Launch
from camdrift.study.trial_jobs import EVERY, CampaignTask, TrialJobs
from camdrift.study.trial_slices import PlannedTrial, TrialInHand
from camdrift.tables.campaign import CORPUS, FAILURES_TABLE, GROWTH_TABLE, MUTATORS, STARTS
from camdrift.tables.file_names import GALLERY
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.table import Row


class CampaignRunner:
    """Runs the trials of a campaign, each from its last checkpoint on, here or on workers."""

    def __init__(
        self, directory: CampaignDirectory, setup: Setup, cells: Sequence[PlannedTrial], launch: Launch
    ) -> None:
        self._directory, self._setup, self._cells, self._launch = directory, setup, cells, launch
        self._side = setup.design.classifier.size
        self._jobs = TrialJobs(directory, setup.design.budget, cells, launch.show)
        self._finished = dict[int, Tables]()
        self._stacks = dict[tuple[int, str], FileStack]()

    def run(self, record: dict[str, Any], rows: Sequence[Row], task: Callable[[], CampaignTask]) -> None:
        """Run what is left, and write the final files.

        Args:
            record: The campaign's record.
            rows: Rows of the table `starts`.
            task: Makes what workers are made of.
        """
        if self._launch.engine.name == LOCAL:
            self._run_here()
        else:
            is_gpu = self._setup.design.classifier.device.type != "cpu"
            hand_out(self._launch.engine, self._jobs, task, is_gpu=is_gpu)
        self._jobs.show("statistics")
        self._finished = {cell.place: self._tables(cell) for cell in self._cells}
        finals = pl.concat([self._finished[cell.place]["growth"].tail(1) for cell in self._cells])
        parts = self._merged()
        parts["failures"] = self._with_onsets(parts["failures"])
        rng_seed = self._setup.design.rng_seed
        tables = {
            "starts": STARTS.frame(list(rows)),
            **parts,
            "frameworks": summarised(finals, rng_seed=rng_seed),
            "pairs": compared(finals),
            "clusters": clusters(parts["failures"], rng_seed=rng_seed),
        }
        record["finished"] = provenance.now()
        self._jobs.show("report")
        self._directory.finish(tables, record, self._files(tables, record))
        for images in self._stacks.values():
            images.close()

    def _run_here(self) -> None:
        """Run the trials one after the other."""
        with self._setup.design.on_cores():
            self._run_all()

    def _run_all(self) -> None:
        for place in self._jobs.missing():
            rates, _ = self._jobs.arguments(place) or ({}, 0)
            with closing(TrialInHand(self._directory, self._cells[place], self._setup, rates)) as trial:
                is_finished = False
                while not is_finished:
                    part = trial.advance(EVERY, lambda progress: self._jobs.show_hands([(trial.place, progress)]))
                    is_finished, _ = self._jobs.take(place, part)
                    self._jobs.show("write")

    def _files(self, tables: Tables, record: Record) -> Iterator[tuple[str, Contents]]:
        """Names of the final files beside tables and record, and what returns the bytes of each."""
        yield from self._images(tables["failures"])
        closest = _closest(tables["failures"])
        if closest.height:
            yield FAILURES_LIST, partial(_csv, closest)
        gallery = dict(campaign_gallery(tables, self._read, self._read_entry))
        yield GALLERY, partial(gallery_bytes, gallery)
        for name, data in campaign_files(tables, public(record), gallery):
            yield name, partial(bytes, data)

    def _tables(self, cell: PlannedTrial) -> Tables:
        """The tables of a trial that has ended.

        Raises:
            StoreError: It is gone.
        """
        checkpoint = self._directory.read_checkpoint(cell.place)
        if checkpoint is None:
            raise StoreError(f"{cell.words} is gone from {self._directory.trials}", "--resume runs it again")
        return checkpoint.tables

    def _merged(self) -> dict[str, pl.DataFrame]:
        """The tables of all trials."""
        failures, growth, corpus, mutators = [FAILURES_TABLE.frame()], [GROWTH_TABLE.frame()], list[Row](), list[Row]()
        for cell in self._cells:
            tables = self._finished[cell.place]
            key = {"framework": cell.framework.spec, "trial": cell.number}
            image = pl.format(f"{FAILURES}/{cell.place:03d}-{{}}.npy", pl.col("image"))
            failures.append(tables["failures"].with_columns(image=image))
            growth.append(tables["growth"])
            corpus += [{**key, **self._entry(number, row)} for number, row in enumerate(tables["entries"].to_dicts())]
            mutators += [
                {**key, "operator": row["operator"], **dict(zip(TALLY, row["numbers"], strict=True))}
                for row in tables["tally"].sort("operator").to_dicts()
            ]
        return {
            "failures": pl.concat(failures),
            "growth": pl.concat(growth),
            "corpus": CORPUS.frame(corpus),
            "mutators": MUTATORS.frame(mutators),
        }

    def _entry(self, number: int, row: Row) -> Row:
        """A row of the table `corpus`."""
        names = ("parent", "stream", "reason", "times", "iteration", "passes")
        gain, mutation = row["gain"], row["mutation"]
        return {
            "entry": number,
            "seed_id": self._setup.design.starts[row["seed"]].seed_id,
            "operator": None if mutation is None else mutation.partition("(")[0],
            "parameters": mutation,
            "is_moved": row["matrix"] is not None,
            "gain": None if gain is None or np.isnan(gain) else gain,
            **{name: row[name] for name in names},
        }

    def _with_onsets(self, failures: pl.DataFrame) -> pl.DataFrame:
        """The failures with the layer at which they take hold."""

        def advance(count: int, total: int) -> None:
            self._launch.show(Progress("explain", count, total, count, unit="failures", result="image"))

        return with_onsets(failures, self._setup.design, self._setup.images, self._read, advance)

    def _read(self, name: str) -> NDArray[np.float32]:
        """The image of a failure by its file."""
        place, _, number = Path(name).stem.partition("-")
        return self._image(int(place), "failing", int(number))

    def _read_entry(self, framework: str, trial: int, entry: int) -> NDArray[np.float32]:
        """The image of an entry of a corpus."""
        place = next(c.place for c in self._cells if (c.framework.spec, c.number) == (framework, trial))
        return self._image(place, "corpus", entry)

    def _image(self, place: int, name: str, number: int) -> NDArray[np.float32]:
        """An image of a trial's stack of some name."""
        if (place, name) not in self._stacks:
            self._stacks[place, name] = self._directory.stack(place, name, self._side)
        image: NDArray[np.float32] = self._stacks[place, name].read([number])[0]
        return image

    def _images(self, failures: pl.DataFrame) -> Iterator[tuple[str, Contents]]:
        """Names of the images of new failures, and what returns the bytes of each."""
        return ((name, partial(_image, self._read, name)) for name in failures.filter("is_new")["image"].to_list())


def _image(read: ReadFailure, name: str) -> bytes:
    """The bytes of a .npy file of an image."""
    data = BytesIO()
    np.save(data, read(name), allow_pickle=False)
    return data.getvalue()


def _closest(failures: pl.DataFrame) -> pl.DataFrame:
    """For every seed the images failure that lies closest to it; one whose picture has moved only where all have."""
    images = failures.filter(pl.col("image").is_not_null()).sort("is_moved", "l2", maintain_order=True)
    return images.unique("seed_id", keep="first", maintain_order=True).sort("seed_id")


def _csv(closest: pl.DataFrame) -> bytes:
    """The bytes of a list that `camdrift run --adversarial` takes."""
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([("seed", "adversarial"), *closest.select("seed_id", "image").iter_rows()])
    return text.getvalue().encode("utf-8", "surrogateescape")
