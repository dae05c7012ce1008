"""A finished study: its tables, its record, in a notebook and in the browser."""

import inspect
import io
import json
import shutil
import sys
import webbrowser
from html import escape
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

import camdrift
from camdrift.errors import StoreError
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.study import Study
from camdrift.tables.detection import DETECTION
from camdrift.tables.further import RUN_TABLES, RunTables, StoredTable
from support.pages import words
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


class TestNotebook:
    """What a study shows in a cell, and elsewhere."""

    @pytest.fixture
    def shown(self, monkeypatch):
        """What IPython is asked to show."""
        shown = []

        def show(bundle, raw, display_id):
            shown.append(bundle)
            return SimpleNamespace(update=None)

        shell = SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=show))
        return shown

    def test_shows_the_report_below_the_cell(self, study, shown, monkeypatch, capfd):
        monkeypatch.setattr(webbrowser, "open", pytest.fail)
        (study.path / "report.html").write_text('<head></head><p id="a">\u2265</p>', encoding="utf-8")
        assert study.show(height=321) is None
        (bundle,) = shown
        assert bundle["text/plain"] == f"report: {study.path}/report.html"
        page = '<head><base href="about:srcdoc"></head><p id="a">\u2265</p>'
        assert f'srcdoc="{escape(page)}"' in bundle["text/html"]
        assert 'sandbox="allow-scripts allow-downloads allow-popups"' in bundle["text/html"]
        assert "height: 321px" in bundle["text/html"]
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("shell", [None, SimpleNamespace()])
    def test_elsewhere_the_report_is_named(self, study, shell, monkeypatch, capfd):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setenv("SSH_TTY", "/dev/pts/0")
        (study.path / "report.html").write_text("page")
        study.show()
        assert capfd.readouterr() == ("", f"report: {study.path}/report.html\n")

    def test_a_study_by_itself_is_light(self, study):
        html = study._repr_html_()
        assert study.headline().replace("'", "&#39;") in html
        assert html.count("<img") == 6
        assert len(html) < 300_000


def test_a_figure_by_name(study):
    figure = study.plot("gain")
    assert "gain" in words(figure).lower()
    png, size = figure._repr_png_()
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width / size["width"] == pytest.approx(picture.height / size["height"], rel=0.01)
    with pytest.raises(
        camdrift.UserError, match=r"`name` must be one of coverage_by_condition, .*, got: gian"
    ) as caught:
        study.plot("gian")
    assert caught.value.hint == "did you mean `gain`?"
    with pytest.raises(camdrift.UserError, match="got: detection"):
        study.plot("detection")


def test_photos_are_read_when_they_are_asked_for(study, monkeypatch):
    opened = []
    open_gallery = Study.open_gallery
    monkeypatch.setattr(Study, "open_gallery", lambda self: opened.append(1) or open_gallery(self))
    photos = study.gallery
    name = study.seeds.filter(status="analysed")["seed_id"][0]
    assert name in photos
    layer = study.layers["layer"][0]
    before = len(opened)
    clean, attacked = photos[name].picture(), photos[name].picture("adversarial")
    assert len(opened) > before
    with Image.open(study.path.parent / "photos" / name) as file:
        side = min(file.size)
        assert clean.shape == (32, 32, 3)
        assert side >= 32
    assert np.abs(clean.astype(int) - attacked).max() > 0
    assert photos[name].heatmap(layer).max() in (0, 255)


def test_explore_opens_the_report_and_makes_it_once(study, monkeypatch):
    opened, made = [], []
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    skip_report(monkeypatch)
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
