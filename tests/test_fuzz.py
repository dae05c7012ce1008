"""Anything at all as input: either it works, or one line says what is wrong. No traceback, no hang, nothing elsewhere.

Few examples by default, always the same; many, new ones each time:

    CAMDRIFT_FUZZ=2000 python -m pytest tests/test_fuzz.py
"""

import importlib
import io
import json
import os
import shutil
import sys
import tarfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import camdrift
from camdrift.attacks.making import make_attack
from camdrift.cli import app as cli
from camdrift.comparison.grid import read_grid
from camdrift.errors import UserError
from camdrift.explanations.registry import make_explainer
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.models.exported import read_program
from camdrift.models.keras_vgg16 import read_keras_layers
from camdrift.models.weights import load_weights
from camdrift.pipeline.settings import Settings
from camdrift.report.page.rendering import render
from support.comparisons import skip_figures
from support.studies import SMALL, listing, skip_report, study_of, write_factory, write_images

MANY = int(os.environ.get("CAMDRIFT_FUZZ", "0"))
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def examples(number):
    """So many by default, and in proportion where many are wanted."""
    wanted = max(number, MANY * number // 100)
    return settings(
        max_examples=wanted, derandomize=not MANY, deadline=None, database=None, suppress_health_check=SUPPRESSED
    )


@pytest.fixture(autouse=True)
def types_as_in_use(monkeypatch):
    """Types are enforced under pytest alone; who gives a wrong one meets the messages tested here."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def refused_or_done(call, *arguments):
    """What `call` returns; None if it refuses its arguments as it should."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return call(*arguments)
    except UserError as error:
        refusal = error
    assert refusal.message
    assert "\n" not in refusal.message + refusal.hint
    return None


# Bytes of a file with some of them changed, cut off or doubled.
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "zero", "repeat"]), st.floats(0, 1), st.binary(min_size=1, max_size=9)
    ),
    min_size=1,
    max_size=6,
)


def edited(data, changes):
    for kind, where, content in changes:
        place = int(where * max(len(data) - 1, 0))
        before, after, rest = data[:place], data[place:], data[place + len(content) :]
        if kind == "flip":
            data = before + bytes(byte ^ content[0] for byte in after[:1]) + after[1:]
        else:
            new = {"cut": b"", "insert": content + after, "zero": bytes(len(content)) + rest, "repeat": after + rest}
            data = before + new[kind]
    return data


class TestWords:
    """Specs, settings, numbers."""

    spec = st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}({}={}{}".format,
            st.sampled_from(
                ["dlfuzz", "pgd", "fgsm", "foolbox:LinfPGD", "torchattacks:PGD", "art:Nothing", "deepfool"]
            ),
            st.sampled_from(["eps", "steps", "step", "scores", "walkers", "target_class", "x"]),
            st.sampled_from(
                ["1", "-1", "1/0", "8/255", "'logit'", "None", "[]", "1e999", "nan", "9**9**9", "__import__('os')"]
            ),
            st.sampled_from([")", "", "))", ",)", " )"]),
        ),
    )

    @examples(100)
    @given(spec)
    @example("dlfuzz(step=9**9**9)")
    @example("dlfuzz(" + "(" * 5000)
    def test_attacks(self, spec):
        refused_or_done(make_attack, spec)

    @examples(60)
    @given(st.one_of(st.text(max_size=30), st.builds("captum:{}".format, st.text(max_size=20))))
    def test_explanations(self, spec):
        refused_or_done(make_explainer, spec)

    @examples(60)
    @given(st.text(max_size=60))
    @example("a.py:b")
    @example("hf/../../etc/passwd")
    @example("timm/\0")
    @example("keras-vgg16@\0")
    def test_models(self, spec):
        refused_or_done(camdrift.load_model, spec)

    value = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.lists(st.one_of(st.floats(), st.text(max_size=5), st.none()), max_size=3).map(tuple),
    )  # fmt: skip

    @examples(150)
    @given(st.dictionaries(st.sampled_from(Settings.names()), value, max_size=3))
    def test_settings(self, options):
        refused_or_done(lambda: Settings(**options))


class TestCommandLine:
    """Random words after every command; a run that gets as far as computing is stopped there."""

    words = st.one_of(
        st.sampled_from(
            ["--model", "--attack", "--strengths", "--out", "--limit", "--sample", "--layers", "--target", "--gallery",
             "--chunk-size", "--batch-size", "--noise-ladder", "--explain", "--similarity", "--resume", "--overwrite",
             "--adversarial", "--surrogate", "--weights", "--precision", "--device", "--rng-seed", "--trust", "--",
             "MODEL", "IMAGES", "RUN", "NOTHING", "dlfuzz", "pgd", "1", "0", "-1", "0.5,1", "all", "auto", "own,seed",
             "conv*", "cosine", "gradcam", "bf16", "cpu", "cuda:9", "5-per-class", "../elsewhere", ".", "/"]
        ),
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    )  # fmt: skip

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        """A folder to work in beside one that must stay as it is."""
        skip_report(monkeypatch)
        around = tmp_path / "around"
        (around / "here").mkdir(parents=True)
        (around / "elsewhere").mkdir()
        (around / "elsewhere" / "notes.txt").write_text("mine")
        known = {
            "MODEL": write_factory(around / "elsewhere"),
            "IMAGES": str(write_images(around / "elsewhere" / "photos", 2)),
            "RUN": str(around / "elsewhere" / "run"),
            "NOTHING": str(around / "nothing"),
        }
        study_of(camdrift.load_model(known["MODEL"]), known["IMAGES"], known["RUN"], **SMALL)

        def stopped(*_):
            raise UserError("as far as this goes")

        monkeypatch.setattr(importlib.import_module("camdrift.engine.local"), "fit_chunk", stopped)
        monkeypatch.chdir(around / "here")
        return around, known

    @examples(30)
    @given(
        st.sampled_from(
            ["run", "explain", "reproduce", "report", "detect", "layers", "compare", "sweep", "verify", ""]
        ),
        st.lists(words, max_size=7),
        st.booleans(),
    )
    @example("run", ["--out", "../elsewhere"], True)
    @example("run", ["--out", "../elsewhere", "--overwrite"], True)
    @example("run", ["--out", "RUN", "--resume", "IMAGES"], True)
    @example("verify", ["RUN"], False)
    def test_every_command(self, place, command, words, with_model):
        around, known = place
        filled = [known.get(word, word) for word in words]
        filled += ["--model", known["MODEL"], "--out", "out"] if with_model and command in ("run", "reproduce") else []
        before = listing(around / "elsewhere")
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["camdrift", *([command] if command else []), *filled])
            with warnings.catch_warnings(action="ignore"), pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code or 0
        assert code in ((0, 1, 2, 4) if command == "verify" else (0, 1, 2)), err.getvalue()
        assert "Traceback" not in err.getvalue()
        assert "error: unexpected: " not in err.getvalue()
        if code == 2:
            complaint = [line for line in err.getvalue().splitlines() if line.startswith(("error: ", "hint: "))]
            assert complaint[0].startswith("error: ")
            assert len(complaint) <= 2
        shutil.rmtree("out", ignore_errors=True)
        # `report`, `detect` and `--overwrite` may write into the run that they are given, and nowhere else.
        run = Path(known["RUN"])
        after = listing(around / "elsewhere")
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert all(Path(name).parts[0] == run.name for name in changed), changed


class TestFiles:
    """Files of every kind, damaged."""

    pictures = st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])

    @examples(150)
    @given(pictures, st.sampled_from(["RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"]), edits)
    def test_images(self, tmp_path, kind, mode, changes):
        stream = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        try:
            Image.fromarray(pixels).convert(mode if mode != "I;16" else "I").save(stream, kind)
        except (OSError, ValueError):  # not every format has every mode
            return
        path = tmp_path / "image"
        path.write_bytes(edited(stream.getvalue(), changes))
        read = refused_or_done(lambda: read_image(path, size=8, resize=8))
        if read is not None:
            assert read.pixels.shape == (3, 8, 8)
            assert bool(((read.pixels >= 0) & (read.pixels <= 1)).all())

    @examples(100)
    @given(edits)
    def test_shards(self, tmp_path, changes):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, data in (("a.png", b"png"), ("a.cls", b"1"), ("sub/b.jpg", b"jpg"), ("../c.png", b"up")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        path = tmp_path / "shard-000.tar"
        path.write_bytes(edited(stream.getvalue(), changes))
        selection = refused_or_done(select_images, str(path))
        for file in selection.files if selection else ():
            refused_or_done(file.read)
        assert [entry.name for entry in tmp_path.iterdir()] == ["shard-000.tar"]

    @examples(100)
    @given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
    @example(b"\0/\0")
    def test_lists_of_images(self, tmp_path, data):
        (tmp_path / "list.txt").write_bytes(data)
        refused_or_done(select_images, str(tmp_path / "list.txt"))

    @examples(60)
    @given(st.text(max_size=40))
    @example("\0")
    @example("a" * 5000)
    @example("{0..99999999999}.tar")
    @example("[")
    @example("**/" * 50)
    def test_paths_of_images(self, tmp_path, text):
        refused_or_done(select_images, str(tmp_path / "images") + text)

    @examples(120)
    @given(st.sampled_from([".safetensors", ".pt", ".pth"]), edits)
    def test_weights(self, tmp_path, suffix, changes):
        path = tmp_path / f"w{suffix}"
        state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        path.write_bytes(edited(path.read_bytes(), changes))
        refused_or_done(load_weights, torch.nn.Linear(3, 2), path)

    @examples(12)
    @given(edits)
    def test_keras_weights(self, tmp_path, monkeypatch, changes):
        """Each is tried in a process of its own first."""
        monkeypatch.setattr("camdrift.models.keras_vgg16._SECONDS", 3.0)
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "w.h5"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"block1_conv1"]
            layer = file.create_group("block1_conv1")
            layer.attrs["weight_names"] = [b"kernel", b"bias"]
            layer["kernel"], layer["bias"] = np.zeros((3, 3, 3, 4), np.float32), np.zeros(4, np.float32)
        path.write_bytes(edited(path.read_bytes(), changes))
        refused_or_done(read_keras_layers, path)

    @examples(30)
    @given(edits)
    def test_exported_programs(self, tmp_path, program, changes):
        (tmp_path / "net.pt2").write_bytes(edited(program, changes))
        refused_or_done(read_program, tmp_path / "net.pt2")

    toml = st.one_of(
        st.binary(max_size=200),
        st.builds(
            "{} = {}\n[[models]]\n{} = {}\n[[attacks]]\n{} = {}\n".format,
            *[
                st.sampled_from(["spec", "out", "images", "name", "strengths", "limit", "device", "weights", "x"]),
                st.sampled_from(
                    ['"a"', "1", "[]", '["a", 1]', "nan", "{}", "1979-05-27", "true", '"../.."', '"\\u0000"']
                ),
            ]
            * 3,
        ).map(str.encode),
    )

    @examples(150)
    @given(toml)
    @example(b"x = " + b"[" * 20_000)
    def test_sweeps(self, tmp_path, data):
        (tmp_path / "grid.toml").write_bytes(data)
        refused_or_done(read_grid, tmp_path / "grid.toml")
        assert [entry.name for entry in tmp_path.iterdir()] == ["grid.toml"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with its images and model."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        study_of(
            camdrift.load_model(write_factory(folder)), write_images(folder / "images", 4), folder / "run", **SMALL
        )
    return folder


class TestRuns:
    """A run directory that something has changed: read, reported, compared, verified, resumed."""

    @pytest.fixture
    def copy(self, finished, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        skip_figures(monkeypatch)
        return tmp_path / "run"

    def read(self, finished, run, how):
        """Opens and reports a run, and makes one other use of it."""
        study = refused_or_done(camdrift.open, run)
        if study is not None:
            for use in (study.summary, study.report, study.__repr__):
                refused_or_done(use)
        uses = {
            "page": lambda: study and render(study._tables, study.record, {}),
            "detect": lambda: study and camdrift.detect(study),
            "compare": lambda: camdrift.compare(
                run, finished / "run", out=run.parent / "compared", overwrite=True, n_bootstrap=20
            ),
            "verify": lambda: camdrift.verify(run, camdrift.load_model(f"{finished}/tiny.py:build"), sample=1),
            "resume": lambda: study_of(
                camdrift.load_model(f"{finished}/tiny.py:build"), finished / "images", run, resume=True, **SMALL
            ),
        }
        refused_or_done(uses[how])

    uses = st.sampled_from(["page", "detect", "compare", "verify", "resume"])

    @examples(12)
    @given(st.integers(0, 99), edits, uses)
    def test_damaged_files(self, finished, copy, which, changes, how):
        shutil.copytree(finished / "run", copy, dirs_exist_ok=True)
        files = sorted(path for path in copy.iterdir() if path.is_file())
        chosen = files[which % len(files)]
        chosen.write_bytes(edited(chosen.read_bytes(), changes))
        self.read(finished, copy, how)
        shutil.rmtree(copy)

    json = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
        max_leaves=4,
    )

    @examples(30)
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=4), json, st.booleans(), uses)
    def test_records_of_another_shape(self, finished, copy, way, value, is_removed, how):
        """One value of run.json, at any depth, is another one, or missing."""
        shutil.copytree(finished / "run", copy, dirs_exist_ok=True)
        record = json.loads((copy / "run.json").read_text())
        place = record
        *steps, last = way
        for step in steps:
            inner = [
                child
                for child in (place.values() if isinstance(place, dict) else place)
                if isinstance(child, dict | list)
            ]
            if inner:
                place = inner[step % len(inner)]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if keys and is_removed:
            del place[keys[last % len(keys)]]
        elif keys:
            place[keys[last % len(keys)]] = value
        (copy / "run.json").write_text(json.dumps(record))
        self.read(finished, copy, how)
        shutil.rmtree(copy)


def test_the_edits_change_something():
    assert edited(b"abcdef", [("flip", 0.0, b"\x01")]) == b"`bcdef"
    assert edited(b"abcdef", [("cut", 0.5, b"x")]) == b"ab"
    assert edited(b"abcdef", [("insert", 1.0, b"xy"), ("zero", 0.0, b"xy")]) == b"\0\0cdexyf"
