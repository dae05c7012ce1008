"""A finished study: its tables, its record, in a notebook and in the browser."""

import inspect
import json
import shutil
import webbrowser

import numpy as np
import polars as pl
import pytest

import camdrift
from camdrift.errors import StoreError
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.study import Study
from camdrift.tables.detection import DETECTION
from camdrift.tables.further import RUN_TABLES, RunTables, StoredTable
from support.studies import SMALL, skip_report, study_of, write_factory, write_images


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study without its report."""
    with monkeypatch.context() as patch:
        skip_report(patch)
        classifier = camdrift.load_model(write_factory(tmp_path))
        made = study_of(classifier, write_images(tmp_path / "photos", 3), tmp_path / "run", **SMALL)
    (tmp_path / "run" / "report.html").unlink(missing_ok=True)
    return made


def test_every_table_is_an_attribute():
    """A new table is a declaration and an attribute in `tables/`, and what writes it."""
    names = [name for name, value in vars(RunTables).items() if isinstance(value, StoredTable)]
    assert sorted(names) == sorted(RUN_TABLES)
    assert all(inspect.getdoc(getattr(Study, name)) == RUN_TABLES[name].summary for name in names)


def test_a_table_is_read_once_unless_it_is_replaced(study):
    assert study.seeds is study.seeds
    directory = RunDirectory(study.path)
    for auc in (0.5, 0.75):
        row = {name: 1 if dtype.is_integer() else "own" for name, dtype in DETECTION.schema.items()}
        numbers = {name: auc for name, dtype in DETECTION.schema.items() if dtype.is_float()}
        directory.replace_tables({"detection": DETECTION.frame([row | numbers])})
        assert study.detection["auc"].to_list() == [auc]


def test_what_a_later_camdrift_adds_to_the_record_does_not_matter(study):
    path = study.path / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["weather"] = {"sun": True}
    record["arguments"]["effective"]["weather"] = record["model"]["weather"] = "fair"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert camdrift.open(study.path).record == record
    assert camdrift.verify(study.path, sample=0).problems == ()


def test_a_notebook_shows_what_was_found(study):
    html = study._repr_html_()
    assert study.summary().splitlines()[0].replace("'", "&#39;") in html
    assert "<img" not in html
    study.report()
    assert study._repr_html_().count("<img") == 12


def test_explore_opens_the_report_and_makes_it_once(study, monkeypatch):
    opened, made = [], []
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report = Study.report
    monkeypatch.setattr(Study, "report", lambda self: made.append(self) or report(self))
    page = study.explore()
    assert page == study.path / "report.html"
    assert study.explore() == page
    assert opened == [page.resolve().as_uri()] * 2
    assert len(made) == 1


def renamed(folder):
    directory = RunDirectory(folder)
    seeds = directory.read_table("seeds")
    return directory.write_table("seeds", seeds.with_columns(seed_id="other " + pl.col("seed_id")))


def fewer(folder):
    directory = RunDirectory(folder)
    return directory.write_table("similarity", directory.read_table("similarity").head(7))


def layerless(folder):
    directory = RunDirectory(folder)
    return directory.write_table("similarity", directory.read_table("similarity").with_columns(layer=pl.lit("x")))


def without_columns(folder):
    return pl.read_parquet(folder / "layers.parquet").drop("gain").write_parquet(folder / "layers.parquet")


def without_pictures(folder):
    with np.load(folder / "gallery.npz") as arrays:
        kept = {key: arrays[key] for key in arrays.files if key != "0/map/1"}
    return np.savez(folder / "gallery.npz", **kept)


class TestFilesThatDoNotFit:
    """Files that were never written together, in a run whose record vouches for none of them: one clear line."""

    @pytest.fixture
    def mixed(self, study, tmp_path):
        folder = shutil.copytree(study.path, tmp_path / "mixed")
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        (folder / "run.json").write_text(json.dumps({**record, "files": None}), encoding="utf-8")
        return folder

    @pytest.mark.parametrize("spoil", [renamed, fewer, layerless, without_columns])
    def test_is_told(self, mixed, study, spoil, tmp_path):
        spoil(mixed)
        uses = (
            lambda run: run.report(),
            lambda run: camdrift.detect(run),
            lambda run: camdrift.compare(run, study, out=tmp_path / "c"),
        )
        for use in uses:
            with pytest.raises(StoreError, match=r"the files of .*mixed do not fit each other: ") as caught:
                use(camdrift.open(mixed))
            assert "camdrift verify" in caught.value.hint
        assert not (tmp_path / "c").exists()

    def test_a_gallery_that_does_not_fit_is_told_where_it_is_drawn(self, mixed):
        without_pictures(mixed)
        with pytest.raises(StoreError, match=r"do not fit each other: gallery.npz lacks 0/map/1"):
            camdrift.open(mixed).report()
