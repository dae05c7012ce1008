"""A finished study in a notebook and in the browser."""

import webbrowser

import pytest

import camdrift
from camdrift.study.study import Study
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
