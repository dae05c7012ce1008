"""A finished study: its tables, its record, in a notebook and in the browser."""

import inspect
import json
import webbrowser

import pytest

import camdrift
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.study import StoredTable, Study
from camdrift.tables.detection import DETECTION
from camdrift.tables.further import RUN_TABLES
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
    """A new table is a definition in `tables/`, what writes it, and a row of `Study`."""
    names = [name for name, value in vars(Study).items() if isinstance(value, StoredTable)]
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
    assert study._repr_html_().count("<img") == 11


def test_explore_opens_the_report_and_makes_it_once(study, monkeypatch):
    opened, made = [], []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report = Study.report
    monkeypatch.setattr(Study, "report", lambda self: made.append(self) or report(self))
    page = study.explore()
    assert page == study.path / "report.html"
    assert study.explore() == page
    assert opened == [page.resolve().as_uri()] * 2
    assert len(made) == 1
