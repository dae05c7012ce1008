"""Campaigns beside studies: listed, opened, reported, and on the page of all runs."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import camdrift
from camdrift.report.index import failure_thumbnail
from camdrift.study.runs import find_run, list_runs, write_index
from support.studies import tiny_classifier, write_images


class StopError(Exception):
    pass


def stop(progress):
    if progress.stage == "fuzz":
        raise StopError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with a campaign that has ended, and one that has not."""
    folder = tmp_path_factory.mktemp("campaigns")
    write_images(folder / "images", 2)
    options = {"budget": "10-passes", "frameworks": ("random", "keep-all"), "mutators": "noise"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("camdrift.report.campaign.campaign_figures", lambda *_: {})
        camdrift.fuzz(tiny_classifier(), "images", name="whole", progress=False, **options)
        with pytest.raises(StopError):
            camdrift.fuzz(tiny_classifier(), "images", name="begun", on_progress=stop, **options)
    return folder


@pytest.fixture
def inside(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr("camdrift.report.campaign.campaign_figures", lambda *_: {})
    return home


def test_campaigns_are_listed(inside, camdrift_command):
    entries = {entry.path.name: entry for entry in list_runs()}
    whole, begun = entries["whole"], entries["begun"]
    assert (whole.state, begun.state) == ("done", "not complete")
    assert (whole.kind, whole.attack, whole.images, whole.analysed) == ("campaign", "random, keep-all", 2, 2)
    assert (begun.images, begun.analysed) == (2, None)
    assert whole.headline == camdrift.open_campaign("runs/whole").headline()
    code, out, _ = camdrift_command("list")
    assert code == 0
    assert "runs/whole" in out
    assert "2 of 2" in out
    assert [entry.path.name for entry in list_runs("runs/begun")] == ["begun"]
    write_index()
    page = (inside / "runs" / "index.html").read_text()
    assert 'href="whole/report.html"' in page
    assert "2 of 2 images fuzzed" in page
    n_failures = camdrift.open_campaign("runs/whole").failures.height
    assert page.count("whole: a seed and a failure") == min(1, n_failures)


def test_the_picture_is_a_seed_beside_its_failure():
    """The failure that the page opens with, without the steps between."""
    steps = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (50, 120, 200)])
    gallery = {"rows": np.array([7, 3]), "7/steps": steps, "3/steps": steps[::-1]}
    picture = Image.open(BytesIO(base64.b64decode(failure_thumbnail(gallery).partition(",")[2])))
    halves = np.split(np.asarray(picture.convert("RGB")).astype(float), 2, axis=1)
    assert [half.mean() for half in halves] == pytest.approx([50, 200], abs=2)
    assert failure_thumbnail({"rows": np.array([], np.int64)}) == ""


def test_campaigns_are_opened_and_reported(inside, camdrift_command, monkeypatch):
    pages = []
    monkeypatch.setattr("camdrift.study.campaign.has_screen", lambda: True)
    monkeypatch.setattr("camdrift.study.campaign.webbrowser.open", pages.append)
    page = inside / "runs" / "whole" / "report.html"
    before = page.read_bytes()
    for words in (["open"], ["open", "whole"], ["open", "runs/whole"]):
        code, out, _ = camdrift_command(*words)
        assert (code, out) == (0, "runs/whole/report.html\n")
    assert pages == [page.as_uri()] * 3
    page.unlink()
    assert camdrift_command("report", "runs/whole")[:2] == (0, "runs/whole/report.html\n")
    assert page.read_bytes() == before
    assert find_run(has_campaigns=True).name == "whole"
    code, _, err = camdrift_command("open", "begun")
    assert code == 2
    assert "`camdrift fuzz --resume --out runs/begun` goes on with it" in err
    code, _, err = camdrift_command("cite")  # which is of studies alone
    assert code == 2
    assert "no run in runs is complete" in err


def test_a_damaged_campaign_is_listed_too(inside, tmp_path):
    (tmp_path / "bad").mkdir()
    record = json.loads((inside / "runs" / "whole" / "fuzz.json").read_text())
    (tmp_path / "bad" / "fuzz.json").write_text(json.dumps(record))
    (entry,) = list_runs(tmp_path)
    assert (entry.state, entry.kind) == ("cannot be read", "campaign")
    assert "is not complete: starts.parquet is missing" in entry.headline
