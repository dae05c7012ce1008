"""Code of others that fails, ends the program, changes, or holds a secret: one line, and nothing computed is lost."""

import errno
import io
import json
import sys
from pathlib import Path

import polars as pl
import pytest

import camdrift
from camdrift.storage.run_directory import RunDirectory
from support.studies import ATTACK, assert_same, skip_report, study_of, write_factory, write_images

QUICK = ["--attack", ATTACK, "--strengths", "1", "--noise-ladder", "4", "--chunk-size", "2", "--gallery", "0"]
# Calls of the network before the first chunk is stored: fewer than this.
LATE = 36


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch, tmp_path):
    skip_report(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos", 6)


def failing(folder, statement, calls=LATE):
    """A factory of `TinyNet` whose forward runs a statement from some call on."""
    extra = f"""

_forward = TinyNet.forward
TinyNet.n = 0
def forward(self, x):
    TinyNet.n += 1
    if TinyNet.n > {calls}:
        {statement}
    return _forward(self, x)
TinyNet.forward = forward
"""
    return write_factory(folder, extra=extra)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("raise RuntimeError('rare \\x1b[31m\\u202e')", "RuntimeError: rare \\x1b[31m\\u202e"),
        ("raise KeyError('k')", "KeyError: 'k'"),
        ("assert False", "AssertionError"),
        ("raise StopIteration", "StopIteration"),
        ("raise GeneratorExit", "tried to end the program"),
        ("raise SystemExit(0)", "tried to end the program"),
        ("forward(self, x)", "RecursionError"),
        ("torch.set_default_dtype(torch.float64); x = x.double()", "RuntimeError"),
    ],
)
def test_a_model_that_fails_in_mid_run(statement, words, photos, tmp_path, camdrift_command):
    import torch

    try:
        code, out, err = camdrift_command("run", photos, "--model", failing(tmp_path, statement), *QUICK, "--out", "r")
    finally:
        torch.set_default_dtype(torch.float32)
    assert (code, out) == (2, "")
    advice, error, hint = [line for line in err.splitlines() if not line.startswith("warning")]
    assert advice.startswith("stopped; finished chunks are kept, to go on: camdrift run --resume --out r ")
    assert error.startswith("error: `model` or `attack` ")
    assert words in error
    assert "img_0" in error
    assert hint.startswith("hint: ")
    assert "\x1b" not in err
    assert "\u202e" not in err


def test_it_goes_on_once_the_model_is_mended(photos, tmp_path, camdrift_command):
    spec = failing(tmp_path, "raise ValueError('rare')")
    assert camdrift_command("run", photos, "--model", spec, *QUICK, "--out", "r")[0] == 2
    assert RunDirectory(Path("r")).chunks_done()


@pytest.mark.parametrize("command", ["explain", "layers"])
@pytest.mark.parametrize("calls", [0, 4])
def test_a_model_that_ends_the_program_elsewhere(command, calls, photos, tmp_path, camdrift_command):
    spec = failing(tmp_path, "sys = __import__('sys'); sys.exit(0)", calls)
    arguments = [photos / "img_00.png", "--out", "r"] if command == "explain" else []
    code, _, err = camdrift_command(command, *arguments, "--model", spec)
    assert code == 2
    assert "SystemExit: 0" in err


def test_an_attack_that_ends_the_program(photos, tmp_path, camdrift_command):
    attack = tmp_path / "exits.py"
    attack.write_text("import sys\n\n\ndef attack(model, images, classes):\n    sys.exit(0)\n")
    options = ["--model", write_factory(tmp_path), *QUICK, "--attack", f"{attack}:attack", "--out", "r"]
    code, _, err = camdrift_command("run", photos, *options)
    assert code == 2
    assert "img_00.png" in err
    assert "exits.py, line 5" in err


class TestIdentity:
    """A run goes on with the code that it was begun with."""

    @pytest.fixture
    def begun(self, photos, tmp_path, camdrift_command, monkeypatch):
        """A study of a factory and an attack with a module beside each, stopped after its first chunk."""
        (tmp_path / "beside.py").write_text("STEP = 0.1\n")
        attack = tmp_path / "my_attack.py"
        attack.write_text(
            "def attack(model, images, classes):\n    import beside\n\n    return (images + beside.STEP).clamp(0, 1)\n"
        )
        spec = write_factory(tmp_path, extra="\n# the same\n")
        options = ["run", photos, "--model", spec, *QUICK, "--attack", f"{attack}:attack", "--out", "r"]
        write = RunDirectory.write_chunk

        def stop(directory, index, *content):
            if index == 1:
                raise KeyboardInterrupt
            write(directory, index, *content)

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "write_chunk", stop)
            assert camdrift_command(*options)[0] == 130
        assert RunDirectory(Path("r")).chunks_done() == {0}
        return [*options, "--resume"]

    @pytest.mark.parametrize(
        ("file", "part"), [("tiny.py", "model"), ("my_attack.py", "attack"), ("beside.py", "attack")]
    )
    def test_edited_code_is_refused(self, file, part, begun, tmp_path, camdrift_command):
        path = tmp_path / file
        path.write_text(path.read_text() + "\nOTHER = 1\n")
        code, _, err = camdrift_command(*begun)
        assert code == 2
        assert f"the code of the {part} was another: {file} changed" in err

    def test_another_batch_size_is_refused(self, begun, camdrift_command):
        code, _, err = camdrift_command(*begun, "--batch-size", "1")
        assert (code, "batch_size was 64, now 1" in err) == (2, True)

    def test_unchanged_and_old_records_go_on(self, begun, camdrift_command):
        record = json.loads(Path("r/run.json").read_text())
        for part in ("model", "attack"):
            assert record[part].pop("code")
        Path("r/run.json").write_text(json.dumps(record))
        assert camdrift_command(*begun)[0] == 0

    def test_timings_add_up(self, begun, camdrift_command):
        chunk = RunDirectory(Path("r")).read_chunk(0, "timings")
        first = dict(chunk.iter_rows())
        assert camdrift_command(*begun)[0] == 0
        timings = json.loads(Path("r/run.json").read_text())["timings"]
        assert timings["attack"] > first["attack"] > 0
        assert timings["total"] > first["total"]
        assert "preflight" in timings


def test_images_that_go_away_in_mid_run(photos, tmp_path, camdrift_command, monkeypatch):
    spec = write_factory(tmp_path)
    options = ["run", photos, "--model", spec, *QUICK, "--out", "r"]
    write = RunDirectory.write_chunk

    def move(directory, index, *content):
        write(directory, index, *content)
        if index == 0:
            photos.rename("away")

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_chunk", move)
        code, _, err = camdrift_command(*options)
    assert code == 2
    assert "4 of 6 that could not be read in mid-run (first: img_02.png: cannot be opened" in err
    assert json.loads(Path("r/run.json").read_text())["status"] == "running"
    Path("away").rename(photos)
    assert camdrift_command(*options, "--resume")[0] == 0
    whole = study_of(camdrift.load_model(spec), photos, "whole", strengths=(1.0,), noise_ladder=(4.0,), chunk_size=2,
                     gallery=0)  # fmt: skip
    assert_same(camdrift.open("r"), whole)


def test_an_image_that_never_was_one_is_a_row(photos, tmp_path, camdrift_command):
    (photos / "img_03.png").write_text("no image")
    assert camdrift_command("run", photos, "--model", write_factory(tmp_path), *QUICK, "--out", "r")[0] == 0
    assert pl.read_parquet("r/seeds.parquet")["status"].to_list().count("unreadable") == 1


def test_no_secret_and_no_home_in_a_record(photos, tmp_path, camdrift_command, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my_attack.py").write_text(
        "def attack(model, images, classes, api_key):\n    assert api_key == 'S3CRET'\n    return images * 0.5\n"
    )
    spec = f"{tmp_path}/my_attack.py:attack(api_key='S3CRET')"
    options = ["--model", write_factory(tmp_path), *QUICK, "--attack", spec, "--out", "r"]
    assert camdrift_command("run", photos, *options)[0] == 0
    text = Path("r/run.json").read_text()
    assert "S3CRET" not in text
    assert str(tmp_path) not in text
    assert camdrift.open("r").seeds["path"][0] == "~/photos/img_00.png"
    assert camdrift_command("run", photos, *options, "--resume")[0] == 0
    code, out, _ = camdrift_command("verify", "r", "--trust")
    assert (code, "a setting that is a secret is needed" in out) == (4, True)


def test_files_below_the_home_are_verified(photos, tmp_path, camdrift_command, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert camdrift_command("run", photos, "--model", write_factory(tmp_path), *QUICK, "--out", "r")[0] == 0
    assert str(tmp_path) not in Path("r/run.json").read_text()
    code, out, _ = camdrift_command("verify", "r", "--trust", "--sample", "2")
    assert (code, "equal within" in out) == (0, True)


def test_a_full_disk_under_standard_output(photos, tmp_path, camdrift_command, monkeypatch):
    spec = write_factory(tmp_path)

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        code, _, err = camdrift_command("run", photos, "--model", spec, *QUICK, "--out", "r")
    assert code == 2
    assert "error: standard output could not be written: No space left on device" in err
    assert json.loads(Path("r/run.json").read_text())["status"] == "done"


def test_a_closed_standard_output(photos, tmp_path, camdrift_command, monkeypatch):
    """`camdrift run >&-`, and a command that prints a table: Python has None in its place."""
    spec = write_factory(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert camdrift_command("run", photos, "--model", spec, *QUICK, "--out", "r")[0] == 0
        assert camdrift_command("list", ".")[0] == 0
