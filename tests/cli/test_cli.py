"""The command line as a person meets it: what it prints where, its exit codes, and what it leaves behind."""

import importlib
import inspect
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from torch import nn

import camdrift
from camdrift.cli.options import GROUPS, OPTIONS
from camdrift.models.input_settings import NO_CONFIGURATION
from support.studies import (
    ATTACK,
    MAIN,
    SMALL,
    WITHOUT_TORCH,
    assert_same,
    draw_only,
    listing,
    process,
    python,
    skip_report,
    study_of,
    write_factory,
    write_images,
)

QUICK = ["--attack", ATTACK, "--strengths", "1", "--noise-ladder", "4", "--chunk-size", "3"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_factory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def finished(photos, spec, tmp_path_factory):
    """A run in a process of its own whose output is piped, and the folder it ran in."""
    here = tmp_path_factory.mktemp("here")
    arguments = ["run", str(photos), "--model", spec, *QUICK, "--out", "my runs/first [1]"]
    code = f"import sys; sys.dont_write_bytecode = False\n{MAIN}"
    return python(code, *arguments, cwd=here), here


class TestStudy:
    """One run with everything, as a user's first."""

    def test_it_ends_well_and_last_says_where_the_report_lies(self, finished):
        done, here = finished
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[-1] == "my runs/first [1]/report.html"
        assert (here / lines[-1]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_stdout_has_the_findings_and_no_progress(self, finished):
        """Progress goes to stderr, a line every 30 s: on a slow machine there is one."""
        done, here = finished
        study = camdrift.open(here / "my runs/first [1]")
        assert done.stdout == f"{study.summary()}\nmy runs/first [1]/report.html\n"
        analysed = study.seeds.filter(status="analysed").height
        assert f"changed the prediction for {analysed} of 8 images" in done.stdout
        assert all(re.search(r"\d+/\d+ images", line) for line in done.stderr.splitlines()), done.stderr

    def test_nothing_else_is_written(self, finished, photos, spec):
        _, here = finished
        assert [path.name for path in here.iterdir()] == ["my runs"]
        assert [path.name for path in (here / "my runs").iterdir()] == ["first [1]"]
        factory = Path(spec.rpartition(":")[0])
        assert list(factory.parent.iterdir()) == [factory]
        assert len(list(photos.iterdir())) == 8

    def test_the_record_has_the_command_line(self, finished, photos, spec):
        _, here = finished
        record = camdrift.open(here / "my runs/first [1]").record
        assert shlex.split(record["command"])[1:5] == ["run", str(photos), "--model", spec]
        assert record["arguments"]["passed"]["images"] == str(photos)
        assert record["arguments"]["effective"]["model"] == spec

    def test_the_tables_are_those_of_the_python_call(self, finished, photos, spec, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        study = study_of(camdrift.load_model(spec), photos, tmp_path / "run", **SMALL)
        assert_same(study, camdrift.open(finished[1] / "my runs/first [1]"))

    def test_figures_and_report_are_rebuilt_to_the_byte_without_torch(self, finished):
        run = finished[1] / "my runs/first [1]"
        names = ["report.html", *(f"figures/{path.name}" for path in (run / "figures").iterdir())]
        before = {name: (run / name).read_bytes() for name in names}
        for name in names:
            (run / name).unlink()
        done = python(WITHOUT_TORCH + MAIN, "report", str(run), cwd=finished[1])
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{run}/report.html\n", "")
        assert len(before) == 25
        assert [name for name in names if (run / name).read_bytes() != before[name]] == []
        assert sorted(path.name for path in (run / "figures").iterdir()) == sorted(n[8:] for n in names[1:])


class TestMistakes:
    """Exit code 2, one line that names rule and value, one with the cure; no traceback, nothing written."""

    @pytest.fixture
    def refused(self, camdrift_command, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        def run(*arguments):
            code, out, err = camdrift_command(*arguments)
            assert (code, out) == (2, "")
            error, hint = err.splitlines()
            assert error.startswith("error: ")
            assert hint.startswith("hint: ")
            assert list(tmp_path.iterdir()) == []
            return error.removeprefix("error: "), hint.removeprefix("hint: ")

        return run

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--bogus"], "no such option: --bogus"),
            (["--strengths", "1,x"], "`strengths` must be numbers separated by commas, got: 1,x"),
            (["--strengths", "0"], "`strengths` must be positive and finite, got: 0.0"),
            (["--strengths", "nan"], "`strengths` must be positive and finite, got: nan"),
            (["--strengths", ","], "`strengths` must name at least one strength, got: none"),
            (["--noise-ladder", "8;16"], "`noise-ladder` must be numbers separated by commas, got: 8;16"),
            (["--noise-ladder", "-8"], "`noise_ladder` must be positive and finite, got: -8.0"),
            (["--sample", "5"], "`sample` must be N-per-class with N of at least 1, got: 5"),
            (["--sample", "5-per-class", "--limit", "9"], "`sample` must come without `limit`, got: 5-per-class and 9"),
            (["--limit", "0"], "`limit` must be an integer of at least 1, got: 0"),
            (["--limit", "ten"], "invalid value for '--limit'"),
            (["--rng-seed", "-1"], "`rng_seed` must be an integer of at least 0, got: -1"),
            (["--noise-draws", "0"], "`noise_draws` must be an integer of at least 1, got: 0"),
            (["--gallery", "-1"], "`gallery` must be an integer of at least 0 or all, got: -1"),
            (["--gallery", "none"], "`gallery` must be an integer of at least 0 or all, got: none"),
            (["--chunk-size", "0"], "`chunk-size` must be an integer of at least 1 or all, got: 0"),
            (["--batch-size", "-3"], "`batch-size` must be an integer of at least 1 or auto, got: -3"),
            (["--batch-size", "2.5"], "`batch-size` must be an integer of at least 1 or auto, got: 2.5"),
            (["--target", "mine"], "`target` must be one or more of own, seed, label, each once, got: mine"),
            (["--target", "own,own"], "each once, got: own, own"),
            (["--target", "label"], "`target` label must have images whose class is known"),
            (["--attack", "nonsense"], "`attack` must be one of dlfuzz, dlfuzz:paper, fgsm, pgd, mifgsm, apgd"),
            (["--attack", "pgd(stepps=1)"], "`attack` has no such setting, got: stepps"),
            (["--attack", "pgd", "--adversarial", "x"], "`adversarial` must come without `attack`, got: x and pgd"),
            (["--adversarial", "x"], "`adversarial` must be a folder of images or a .csv file, got: x (nothing is"),
            (["--surrogate-weights", "x.pt"], "`surrogate-weights` must come with `surrogate`, got: x.pt"),
            (["--attack", "dlfuzz("], "`attack` must be NAME or NAME(key=value, ...), each key once, got: dlfuzz("),
            (["--attack", "dlfuzz(colour=1)"], "`attack` has no such setting, got: colour"),
            (["--attack", "dlfuzz(step=-1)"], "`attack` setting `step` must be a number of at least 0, got: -1"),
            (["--layers", "nothing.*"], "`layers` must match layers with a map, got: nothing.* (no such layer)"),
            (["--device", "tpu"], "`device` must be one that torch can use here, got: tpu"),
            (["--device", "cuda:99"], "`device` must be one that torch can use here, got: cuda:99"),
            (["--precision", "fp8"], "`precision` must be one of fp32, tf32, bf16, got: fp8"),
            (["--weights", "none.pt"], "`weights` must be a file, got: none.pt (no such file)"),
            (["--model", "nonsense"], "`model` must be a known spec, got: nonsense"),
            (["--model", "none.py:build"], "`model` must name a Python file, got: none.py (no such file)"),
            (
                ["--resume"],
                "`resume` must come with a run directory and without `overwrite`, got: --resume without --out",
            ),
            (["--resume", "--overwrite", "--out", "x"], "got: --resume and --overwrite"),
            (["--resume", "--out", "x"], "no run in x (run.json is missing)"),
            (["photo.png"], "unexpected extra argument"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_options(self, refused, photos, spec, arguments, message, monkeypatch):
        """As in use: types are enforced under pytest alone."""
        monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
        model = [] if "--model" in arguments else ["--model", spec]
        assert message in refused("run", photos, *model, *arguments)[0]

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            ("nowhere", "no such file or folder, and no image matches it: nowhere"),
            ("none/*.jpg", "no such file or folder, and no image matches it: none/*.jpg"),
            ("", "the path of the images is empty"),
        ],
    )
    def test_images(self, refused, spec, images, message):
        assert refused("run", images, "--model", spec)[0] == message

    def test_a_folder_without_images(self, refused, spec, tmp_path_factory):
        empty = tmp_path_factory.mktemp("empty")
        error, hint = refused("run", empty, "--model", spec)
        assert error == f"no images in the folder: {empty}"
        assert ".jpg" in hint

    def test_a_factory_that_is_not_there(self, refused, photos, spec):
        error, hint = refused("run", photos, "--model", f"{spec}er")
        assert "(no `builder` in" in error
        assert "path/to/file.py:factory" in hint

    def test_a_factory_that_fails(self, refused, photos, tmp_path_factory):
        folder = tmp_path_factory.mktemp("broken")
        (folder / "broken.py").write_text("def build():\n    raise RuntimeError('two\\nlines')\n")
        error, _ = refused("run", photos, "--model", f"{folder}/broken.py:build")
        assert error.endswith("broken.py:build failed: RuntimeError: two")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["study"], "no such command 'study'"),
            (["report"], "missing argument 'RUN'"),
            (["report", "nowhere"], "no run in nowhere (run.json is missing)"),
            (["layers", "--model", "nonsense"], "`model` must be a known spec, got: nonsense"),
            (["--loud"], "no such option: --loud"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_commands(self, refused, arguments, message):
        assert refused(*arguments)[0].startswith(message)

    def test_a_run_that_is_there_is_neither_replaced_nor_mixed_up(self, camdrift_command, photos, spec, tmp_path):
        foreign = tmp_path / "holiday"
        foreign.mkdir()
        (foreign / "report.html").write_text("mine")
        before = listing(tmp_path)
        for extra in ([], ["--overwrite"], ["--resume"]):
            code, out, err = camdrift_command("run", photos, "--model", spec, "--out", foreign, *extra)
            assert (code, out) == (2, "")
            assert err.startswith("error: ")
            assert "Traceback" not in err
        assert listing(tmp_path) == before


class TestWords:
    """Options that take a number or a word."""

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], (24, 32, 0)),
            (["--gallery", "3", "--chunk-size", "5", "--batch-size", "7"], (3, 5, 7)),
            (["--gallery", "0"], (0, 32, 0)),
            (["--gallery", "all", "--chunk-size", "all", "--batch-size", "auto"], (None, 0, 0)),
        ],
        ids=["left out", "numbers", "none", "words"],
    )
    def test_what_they_mean(self, camdrift_command, spec, monkeypatch, arguments, expected):
        def note(*_, settings, **__):
            raise camdrift.UserError(repr((settings.gallery, settings.chunk_size, settings.batch_size)))

        monkeypatch.setattr(importlib.import_module("camdrift.study.run"), "run", note)
        err = camdrift_command("run", "--model", spec, *arguments)[2]
        assert err.splitlines()[0] == f"error: {expected}"


class TestAgain:
    """--overwrite and --resume on what is there."""

    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def test_overwrite_starts_again_only_when_asked(self, camdrift_command, photos, spec, tmp_path):
        line = ["run", photos, "--model", spec, *QUICK, "--out", tmp_path / "run"]
        assert camdrift_command(*line)[0] == 0
        first = camdrift.open(tmp_path / "run")
        assert first.seeds.height == 8
        (tmp_path / "run" / "notes.txt").write_text("mine")
        code, _, err = camdrift_command(*line, "--limit", 3)
        assert code == 2
        assert "there is a run in it" in err
        # A mistake elsewhere on the line must not cost the old run.
        assert camdrift_command(*line, "--overwrite", "--layers", "nothing")[0] == 2
        assert camdrift.open(tmp_path / "run").seeds.height == 8
        assert camdrift_command(*line, "--limit", 3, "--overwrite")[0] == 0
        assert camdrift.open(tmp_path / "run").seeds.height == 3
        assert (tmp_path / "run" / "notes.txt").read_text() == "mine"

    def test_resume_of_a_finished_run_repeats_its_summary(self, camdrift_command, photos, spec, tmp_path):
        line = ["run", photos, "--model", spec, *QUICK, "--limit", 3, "--out", tmp_path / "run"]
        first = camdrift_command(*line)
        before = listing(tmp_path)
        assert camdrift_command(*line, "--resume") == first
        assert listing(tmp_path) == before
        code, _, err = camdrift_command(*line, "--resume", "--strengths", "1,2")
        assert code == 2
        assert "strengths was [1.0], now [1.0, 2.0]" in err

    @pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_stopped_run_says_how_to_go_on_and_that_works(
        self, number, expected, camdrift_command, spec, tmp_path, monkeypatch
    ):
        """A real signal, sent when the first chunk has been stored."""
        draw_only(monkeypatch)
        photos = write_images(tmp_path / "photos", 16)
        line = ["run", str(photos), "--model", spec, *QUICK, "--chunk-size", "2", "--out", "a run"]
        with process(MAIN, *line, cwd=tmp_path, text=True) as running:
            while not (tmp_path / "a run" / "chunks" / "00000").exists():
                assert running.poll() is None, running.stderr.read()
                time.sleep(0.01)
            running.send_signal(number)
            out, err = running.communicate(timeout=60)
        assert (running.returncode, out) == (expected, "")
        assert "Traceback" not in err
        again = shlex.split(re.search(r"stopped; finished chunks are kept, to go on: camdrift (.*)", err)[1])
        assert again == ["run", "--resume", "--out", "a run", *line[1:-2]]
        assert err.splitlines()[-1] == {130: "interrupted", 143: "terminated"}[expected]
        # What was in hand is stored: nothing half-done is left.
        stored = {path.name for path in (tmp_path / "a run" / "chunks").iterdir()}
        assert stored == {f"{i:05d}" for i in range(len(stored))}
        monkeypatch.chdir(tmp_path)
        with pytest.raises(camdrift.StoreError, match="is not complete"):
            camdrift.open("a run")
        code, out, _ = camdrift_command(*again)
        assert (code, out.splitlines()[-1]) == (0, "a run/report.html")
        whole = study_of(camdrift.load_model(spec), photos, tmp_path / "whole", **{**SMALL, "chunk_size": 2})
        assert_same(camdrift.open("a run"), whole)

    def test_interrupted_before_anything_is_written(self, camdrift_command, photos, spec, tmp_path, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("camdrift.models.loading.load_model", interrupt)
        code, out, err = camdrift_command("run", photos, "--model", spec)
        assert (code, out, err.strip()) == (130, "", "interrupted")
        assert list(tmp_path.iterdir()) == []


class VGG(nn.Module):
    """Two blocks in VGG's order."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
            nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1),
        )  # fmt: skip
        self.classifier = nn.Linear(6, 5)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


LEFT_OUT = "1x1 output: a map of one value cannot move"


class TestLayers:
    def test_names_labels_types_shapes_taps_and_what_is_left_out(self, camdrift_command, tmp_path):
        head, tail = "from torch import nn\n\nSIZE = 16\n\n\n", "\n\ndef build():\n    return VGG()\n"
        (tmp_path / "net.py").write_text(head + inspect.getsource(VGG) + tail)
        code, out, err = camdrift_command("layers", "--model", f"{tmp_path}/net.py:build")
        assert (code, err) == (0, "")
        rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.strip()]
        assert rows == [
            ["name", "label", "type", "shape", "tapped behind", "left out because"],
            ["features.0", "block1_conv1", "Conv2d", "4x16x16", "conv2d > relu"],
            ["features.2", "block1_conv2", "Conv2d", "4x16x16", "conv2d > batch_norm > relu"],
            ["features.6", "block2_conv1", "Conv2d", "6x8x8", "conv2d > relu"],
            ["features.9", "block2_conv2", "Conv2d", "6x1x1", "conv2d, then flatten", LEFT_OUT],
            # channels of four convolutions and two pools, and five softmax units
            ["3 of 4 convolutions are studied; 35 neurons"],
            [f"input: short side to 16, centre 16x16 (bilinear), {NO_CONFIGURATION}"],
        ]  # fmt: skip

    def test_without_labels_and_notes_there_are_no_such_columns(self, camdrift_command, spec):
        lines = camdrift_command("layers", "--model", spec)[1].splitlines()
        assert lines[0].split() == ["name", "type", "shape", "tapped", "behind"]
        assert [line.split()[0] for line in lines[1:5]] == ["stem", "side", "body", "last"]

    def test_blocks_and_a_selection(self, camdrift_command, tmp_path):
        code = "import torchvision\n\nSIZE, MEAN = 64, (0.5, 0.5, 0.5)\n\n\ndef build():\n"
        (tmp_path / "net.py").write_text(f"{code}    return torchvision.models.resnet18(num_classes=5)\n")
        spec = f"{tmp_path}/net.py:build"
        lines = camdrift_command("layers", "--model", spec)[1].splitlines()
        block = next(line for line in lines if line.startswith("layer3.0 "))
        why = "by default convolutions are studied: --layers block"
        assert re.split(r"\s{2,}", block) == [
            "layer3.0", "block", "BasicBlock", "256x4x4", "output of BasicBlock", why
        ]  # fmt: skip
        assert lines[-2].startswith("20 of 20 convolutions are studied; ")
        assert lines[-1].endswith("mean 0.5, 0.5, 0.5, std 1, 1, 1; MEAN, SIZE of net.py")
        lines = camdrift_command("layers", "--model", spec, "--layers", "stage,conv1")[1].splitlines()
        assert [line.split()[0] for line in lines[1:-3]] == ["conv1", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]
        assert lines[-2].startswith("5 of 28 layers are studied; ")


class TestPipes:
    def test_a_reader_that_has_gone_sees_no_traceback(self, spec, tmp_path):
        with process(MAIN, "layers", "--model", spec, cwd=tmp_path) as running:
            running.stdout.close()
            assert running.stderr.read() == b""


class TestHelp:
    def test_without_a_command(self, camdrift_command):
        code, out, err = camdrift_command()
        assert (code, err) == (0, "")
        assert all(f"  {command} " in out for command in ("run", "report", "detect", "layers", "list", "check"))
        assert "..." not in out.partition("Commands:")[2]
        assert max(map(len, out.splitlines())) <= 80
        assert camdrift_command("-h") == (code, out, err)

    def test_every_option_of_the_contract_is_explained(self, camdrift_command):
        code, out, _ = camdrift_command("run", "--help")
        assert code == 0
        options = set(re.findall(r"^\s+--([a-z-]+)", out, re.MULTILINE)) - {"help"}
        assert options == {
            "model", "weights", "attack", "strengths", "target", "layers", "out", "limit", "sample", "rng-seed",
            "noise-draws", "noise-ladder", "gallery", "chunk-size", "batch-size", "device", "precision", "resume",
            "overwrite", "denoised", "adversarial", "surrogate", "surrogate-weights", "explain", "similarity",
            "engine", "address", "workers", "name", "open", "json", "head", "lime", "lime-design", "perturb",
        }  # fmt: skip
        assert "[IMAGES]" in out
        assert re.findall(r"^(\S.*):$", out, re.MULTILINE) == [
            "Arguments", *(group for group in GROUPS if group != "How it is fuzzed"), "Options"
        ]  # fmt: skip
        assert out.endswith("--name first --resume --limit 40\n")

    def test_a_shell_completes(self, camdrift_command, monkeypatch):
        for name, value in {
            "_CAMDRIFT_COMPLETE": "complete_bash",
            "COMP_WORDS": "camdrift ru",
            "COMP_CWORD": "1",
        }.items():
            monkeypatch.setenv(name, value)
        assert camdrift_command("ru") == (0, "run\n", "")

    def test_every_option_is_in_one_group(self):
        flags = [flag for group in GROUPS.values() for flag in group]
        assert sorted(flags) == sorted({row.flag for row in OPTIONS})

    def test_version(self, camdrift_command):
        assert camdrift_command("--version") == (0, f"camdrift {camdrift.__version__}\n", "")

    def test_help_comes_without_torch(self, tmp_path):
        done = python(WITHOUT_TORCH + MAIN, "run", "--help", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
