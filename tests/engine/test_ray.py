"""Workers that Ray starts: the same tables for any number of them, whoever dies on the way, and nothing left over."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import camdrift
from camdrift.cli import app as cli
from camdrift.storage.run_directory import RunDirectory
from support.studies import (
    ATTACK,
    SMALL,
    WITHOUT_REPORT,
    assert_same,
    environment,
    skip_report,
    study_of,
    write_factory,
)

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUICK = {**SMALL, "targets": ("seed",), "layers": ("body", "last"), "gallery": 2}

# A network that takes its process along where a file says so: any process but the one in that file. Whoever finds
# the file removes it first. Three images at once are a chunk's clean images.
MORTAL = """

import os
import signal
from pathlib import Path

ORDERS = Path(__file__).with_name("orders")


class Mortal(TinyNet):
    def forward(self, x):
        if len(x) == 3 and self.is_ordered():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

    def is_ordered(self):
        try:
            if os.getpid() == int(ORDERS.read_text()):
                return False
            ORDERS.rename(ORDERS.with_name("obeyed"))  # of two who have read it one only can
        except FileNotFoundError:
            return False
        return True


def build():
    return Mortal(1)
"""


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        yield


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_factory(tmp_path_factory.mktemp("model"), extra=MORTAL)


@pytest.fixture(scope="module")
def whole(eight, spec, tmp_path_factory):
    model = camdrift.load_model(spec, device="cpu")
    return study_of(model, eight, tmp_path_factory.mktemp("whole") / "run", **QUICK)


@pytest.fixture(scope="module")
def rays():
    """One Ray for all studies of this process."""
    from camdrift.engine.ray_cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        # As many threads as the studies that are computed here.
        patch.setenv("OMP_NUM_THREADS", "1")
        with cluster(None, 3) as ray:
            yield ray


@pytest.fixture
def orders(spec):
    path = Path(spec.partition(":")[0]).with_name("orders")
    yield lambda: path.write_text(str(os.getpid()))
    path.unlink(missing_ok=True)


@pytest.mark.usefixtures("rays")
class TestWorkers:
    def test_the_same_tables_for_any_number(self, eight, spec, whole, tmp_path):
        """Three, of a module that was wrapped here; below two and one, of models that are loaded from a spec."""
        model = camdrift.load_model(spec, device="cpu")
        model = camdrift.wrap(model.module, mean=model.mean, std=model.std, size=model.size)
        made = study_of(model, eight, tmp_path / "run", **QUICK, engine="ray", workers=3)
        assert_same(made, whole)
        assert made.record["engine"] == {"name": "ray", "address": None, "workers": 3, "threads": 1}
        assert camdrift.verify(made.path, model, sample=0).problems == ()

    def test_workers_have_the_priority_of_the_command(self, rays):
        assert rays.get(rays.remote(lambda: os.nice(0)).remote()) == os.nice(0)

    def test_a_worker_that_is_killed(self, eight, spec, whole, tmp_path, orders, capfd):
        """SIGKILL in the middle of a chunk: another does it again, and Ray's own words stay out of the terminal."""
        model, seen = camdrift.load_model(spec, device="cpu"), []
        orders()
        made = study_of(model, eight, tmp_path / "run", **QUICK, engine="ray", workers=2, on_progress=seen.append)
        assert_same(made, whole)
        texts = [text for progress in seen for text in progress.warnings]
        assert sum(text.startswith("a worker died: chunk 0000") for text in texts) == 1
        assert capfd.readouterr() == ("", "")

    def test_memory_that_runs_out_in_a_worker(self, eight, tmp_path):
        """Half as many images per pass, told in the same words as here."""
        extra = "\n\nclass Costly(TinyNet):\n    def forward(self, x):\n"
        extra += "        if len(x) == 3 and torch.is_grad_enabled():\n            raise MemoryError\n"
        extra += "        return super().forward(x)\n\n\ndef build():\n    return Costly(1)\n"
        model = camdrift.load_model(write_factory(tmp_path, extra=extra), device="cpu")
        seen, made = {"local": [], "ray": []}, {}
        for engine, told in seen.items():
            options = {**QUICK, "batch_size": 3, "engine": engine, "on_progress": told.append}
            made[engine] = study_of(model, eight, tmp_path / engine, **options)
        assert_same(made["ray"], made["local"])
        for engine, told in seen.items():
            assert made[engine].record["arguments"]["effective"]["batch_size"] == 1
            texts = [text for progress in told for text in progress.warnings]
            assert texts == ["memory ran out at 3 images per pass: going on with 1"]

    def test_a_mistake_that_a_worker_finds(self, eight, tmp_path, monkeypatch, capfd):
        """One line and its cure, as from this process: weights that are drawn when the model is built."""
        drawn = "\n\nnet = build\n\n\ndef build():\n    made = net()\n    made.head.bias.data += torch.rand(10)\n"
        spec = write_factory(tmp_path, extra=drawn + "    return made\n")
        command = ["camdrift", "run", str(eight), "--model", spec, "--out", str(tmp_path / "run"), "--engine", "ray"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        # Progress is a line every 30 s, if it takes that long.
        lines = [line for line in printed.err.splitlines() if not re.search(r"^warning: |\d+/\d+ images", line)]
        assert (ended.value.code, printed.out, len(lines)) == (2, "", 3), lines
        assert lines[0].startswith("stopped; finished chunks are kept")
        assert lines[1].startswith("error: `model` must have the same weights on every worker, got: ")
        assert lines[2].startswith("hint: are they drawn at random")


DRIVER = (
    WITHOUT_REPORT
    + """
import json, sys
arguments = json.loads(sys.argv[1])
sys.argv = ["camdrift", *arguments]
from camdrift.cli.app import main
main()
"""
)


def left_over(folder):
    """Processes of Ray whose files lie below a folder, and what is left there."""
    found = [str(path) for path in folder.glob("camdrift-*")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line and "ray" in line:
                found.append(line)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
class TestCommand:
    """Whole commands, with a Ray of their own."""

    @pytest.fixture
    def started(self, eight, spec, tmp_path_factory, tmp_path):
        places = []

        def start(*more):
            # Sockets have short paths only.
            place = Path(f"/tmp/cr{os.getpid()}{len(places)}")
            place.mkdir()
            places.append(place)
            line = ["run", str(eight), "--model", spec, "--attack", ATTACK, "--strengths", "1", "--noise-ladder", "4"]
            line += ["--chunk-size", "3", "--target", "seed", "--layers", "body,last", "--gallery", "2"]
            line += ["--out", str(tmp_path / "run"), "--engine", "ray", *more]
            process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, json.dumps(line)],
                cwd=tmp_path,
                env={**environment(), "TMPDIR": str(place)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            return process, place

        yield start
        for place in places:
            for path in sorted(place.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            place.rmdir()

    def until_stored(self, folder, process):
        while not RunDirectory(folder).chunks_done():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)

    def test_ctrl_c_ends_with_the_chunks_in_hand(self, started, spec, eight, whole, tmp_path):
        process, place = started("--workers", "1")
        self.until_stored(tmp_path / "run", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (130, ""), err
        lines = err.splitlines()
        assert "finishing the chunk in hand; once more stops at once" in lines
        assert lines[-1] == "interrupted"
        assert "--engine ray --workers 1" in lines[-2]
        assert "Traceback" not in err
        assert "ray" not in "".join(lines[:-2])
        assert left_over(place) == []
        model = camdrift.load_model(spec, device="cpu")
        assert_same(study_of(model, eight, tmp_path / "run", **QUICK, resume=True), whole)

    def test_a_driver_that_is_killed(self, started, spec, eight, whole, tmp_path):
        """Whole chunks are left, every process of Ray ends, and another engine goes on."""
        process, place = started("--workers", "1")
        self.until_stored(tmp_path / "run", process)
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 60
        while any("ray" in line for line in left_over(place) if not line.startswith(str(place))):
            assert time.monotonic() < deadline, left_over(place)
            time.sleep(0.2)
        model = camdrift.load_model(spec, device="cpu")
        assert_same(study_of(model, eight, tmp_path / "run", **QUICK, resume=True), whole)
