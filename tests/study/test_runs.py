"""The runs of a folder: listed, opened again, and shown on a page that replaces nobody else's."""

import base64
import json
import os
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import camdrift
from camdrift.cli.app import main
from camdrift.errors import StoreError, UserError
from camdrift.report.index import thumbnail
from camdrift.study.launch import Launch
from camdrift.study.runs import find_run, list_runs, write_index
from support.studies import SMALL, skip_report, stop_when, study_of, tiny_classifier, write_images

OPTIONS = {**SMALL, "targets": ("seed",), "gallery": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with two runs that are complete, one that is not, and other things."""
    folder = tmp_path_factory.mktemp("home")
    write_images(folder / "images", 3)
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        patch.chdir(folder)
        with pytest.MonkeyPatch.context() as failing:
            # A run that is complete does not fail for the page.
            failing.setattr("camdrift.study.runs.index_page", lambda _: 1 / 0)
            first = study_of(tiny_classifier(), "images", None, **OPTIONS)
        study_of(tiny_classifier(), "images", None, name="second one", **OPTIONS)
        with pytest.raises(KeyboardInterrupt):
            study_of(tiny_classifier(), "images", None, name="third", **OPTIONS, on_progress=stop_when(lambda _: True))
        study_of(tiny_classifier(), "images", folder / "elsewhere" / "run", **OPTIONS)
    broken = folder / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text('{"schema_version": 1, "camdrift": "0"}')
    (folder / "runs" / "notes").mkdir()
    record = folder / first.path / "run.json"
    record.write_text(
        record.read_text().replace(json.loads(record.read_text())["finished"], "2020-01-01T00:00:00+00:00")
    )
    return folder


@pytest.fixture
def inside(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["camdrift", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr()


def test_a_folder_is_listed(inside, monkeypatch, capsys):
    entries = {entry.path.name: entry for entry in list_runs()}
    states = {name: entry.state for name, entry in entries.items()}
    first = next(name for name in states if name.startswith("TinyNet-dlfuzz-"))
    assert states == {first: "done", "second one": "done", "third": "not complete", "broken": "cannot be read"}
    study = camdrift.open("runs/second one")
    assert entries["second one"].headline == study.headline()
    assert (entries["second one"].images, entries["third"].images, entries["third"].analysed) == (3, 3, None)
    assert entries["second one"].analysed == study.seeds.filter(status="analysed").height
    assert [entry.path.name for entry in list_runs("runs/third")] == ["third"]
    code, streams = command(monkeypatch, capsys, "list", "--json")
    assert code == 0
    assert {row["path"]: row["state"] for row in json.loads(streams.out)} == {f"runs/{k}": v for k, v in states.items()}
    code, streams = command(monkeypatch, capsys, "list")
    assert code == 0
    assert "runs/second one" in streams.out
    assert "not complete" in streams.out
    code, streams = command(monkeypatch, capsys, "list", "no such")
    assert (code, "`folder` must be a folder with runs, got: no such" in streams.err) == (2, True)


def test_the_latest_is_opened(inside, monkeypatch, capsys):
    pages = []
    monkeypatch.setattr("webbrowser.open", pages.append)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.delenv("SSH_TTY", raising=False)
    assert find_run().name == "second one"
    code, streams = command(monkeypatch, capsys, "open", "secnd one")
    assert (code, streams.out) == (2, "")
    assert "error: no run at secnd one, and none of this name in runs\nhint: did you mean `second one`? " in streams.err
    for words in (("open",), ("open", "second one"), ("open", "runs/second one")):
        assert command(monkeypatch, capsys, *words)[1].out == "runs/second one/report.html\n"
    assert pages == [(inside / "runs" / "second one" / "report.html").as_uri()] * 3
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4")
    assert command(monkeypatch, capsys, "open")[1].out == "runs/second one/report.html\n"
    assert len(pages) == 3
    monkeypatch.chdir(inside / "images")
    with pytest.raises(StoreError, match="no run in runs is complete"):
        find_run()


def test_the_page_shows_every_run_of_its_folder_and_no_other(inside):
    assert not (inside / "elsewhere" / "index.html").exists()
    write_index()
    page = (inside / "runs" / "index.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/webp') == 2
    assert all(text in page for text in ("second%20one/report.html", "third", "broken", "TinyNet-dlfuzz"))
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_the_picture_is_at_the_strength_of_the_headline():
    clean = np.full((8, 8, 3), 100, np.uint8)
    gallery = {
        "seed_ids": np.array(["a"]),
        "strengths": np.array([0.25, 0.9, 4.0]),
        "0/clean": clean,
        "0/perturbation": np.full((8, 8, 3), 127, np.int8),
        "0/peaks": np.array([0.2, 0.1]),
    }
    picture = Image.open(BytesIO(base64.b64decode(thumbnail(gallery, 0.9).partition(",")[2])))
    halves = np.split(np.asarray(picture.convert("RGB")).astype(float), 2, axis=1)
    assert [half.mean() for half in halves] == pytest.approx([100, 100 + 255 * 0.9 * 0.2], abs=2)
    assert thumbnail({**gallery, "seed_ids": np.array([])}, 1.0) == ""


def test_somebody_elses_page_stays(inside, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    write_index(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    (tmp_path / "index.html").unlink()
    (tmp_path / "index.html").symlink_to(tmp_path / "target.html")
    write_index(tmp_path)
    assert not (tmp_path / "target.html").exists()


def test_runs_of_anybody_spoil_no_list(inside, monkeypatch, capsys, tmp_path):
    """Entries of another type, markup in a name, no JSON, no UTF-8, another program's file."""
    record = json.loads((inside / "runs" / "second one" / "run.json").read_text(encoding="utf-8"))
    texts = {
        "number": json.dumps({**record, "finished": 5}),
        "line\nbreak <b>": "[",
        os.fsdecode(b"caf\xe9"): "{}",
        "old": json.dumps({**record, "schema_version": 1}),
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text, encoding="utf-8")
        (tmp_path / name / "report.html").touch()
    lines = {entry.path.name: entry.headline for entry in list_runs(tmp_path)}
    assert set(lines) == set(texts)
    assert "finished must be a text, got: 5" in lines["number"]
    assert "schema_version is missing" in lines[os.fsdecode(b"caf\xe9")]
    write_index(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert 'href="line%0Abreak%20%3Cb%3E/report.html"' in page
    assert 'href="caf%E9/report.html"' in page
    code, streams = command(monkeypatch, capsys, "list", str(tmp_path))
    assert (code, len(streams.out.splitlines())) == (0, 1 + len(texts))


def test_a_name_is_that_of_one_folder():
    assert str(Launch(name="vgg").out) == "runs/vgg"
    assert Launch(name="vgg", resume=True).is_among_runs
    assert not Launch(out="runs/vgg").is_among_runs
    assert Launch(out="runs/vgg", resume=True).is_among_runs  # as a command that was stopped says how to go on
    assert not Launch(out="elsewhere/vgg", resume=True).is_among_runs
    for name in ("a/b", "..", ".hidden", "", " ", "a ", "a\nb", "x" * 256):
        with pytest.raises(UserError, match="`name` must be the name of a folder"):
            Launch(name=name)
    with pytest.raises(UserError, match="`name` must come without `out`"):
        Launch(name="a", out="b")
