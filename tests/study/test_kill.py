"""Killed at any moment and resumed, a study ends with the tables of one that nobody disturbed."""

import json
import os
import random
import select
import signal
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import camdrift
from camdrift.storage.run_directory import RunDirectory
from support.studies import (
    ATTACK,
    SMALL,
    WITHOUT_REPORT,
    assert_same,
    listing,
    process,
    skip_report,
    stop_when,
    study_of,
    write_factory,
    write_images,
)

# Little of everything but chunks, so that a kill costs little.
QUICK = {**SMALL, "targets": ("seed",), "layers": ("body", "last"), "gallery": 2}

# Torch is imported and the model loaded once; every study is a fork of this process, told by one line of JSON.
SERVER = (
    WITHOUT_REPORT
    + """
import json, os, sys
import camdrift
spec, images, settings = json.loads(sys.argv[1])
model = camdrift.load_model(spec, device="cpu")
print("ready", flush=True)
for line in sys.stdin:
    out, resume, overwrite = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            camdrift.run(model, images, out=out, resume=resume, overwrite=overwrite, **settings)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
)


class Server:
    """Starts studies, and kills them."""

    def __init__(self, process):
        self._process = process

    def study(self, out, kill_after=None):
        """Runs or resumes a study; killed after so many seconds if it lasts as long. Returns its wait status."""
        resume = (out / "run.json").is_file()
        self._process.stdin.write(json.dumps([str(out), resume, False]) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        # It stays a zombie, whose id nobody else gets, until the server has seen it end.
        if kill_after is not None and not select.select([self._process.stdout], [], [], kill_after)[0]:
            os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_factory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(eight, spec, tmp_path_factory):
    settings = {"attack": ATTACK, **QUICK}
    arguments = json.dumps([spec, str(eight), settings])
    options = {"cwd": tmp_path_factory.mktemp("server"), "text": True, "bufsize": 1}
    with process(SERVER, arguments, **options, stdin=subprocess.PIPE, stderr=None) as running:
        assert running.stdout.readline() == "ready\n"
        yield Server(running)
        running.stdin.close()


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """The study that nobody disturbed, and how many seconds one takes."""
    for name in ("warming up", "run"):
        out, start = tmp_path_factory.mktemp("whole") / name, time.perf_counter()
        assert server.study(out) == 0
        seconds = time.perf_counter() - start
    return camdrift.open(out), seconds


def killed_until_done(server, out, kills, draw):
    """Kills a study at moments that `draw` gives, at most `kills` times, and lets it end; returns how often."""
    for done in range(kills):
        status = server.study(out, kill_after=draw())
        if status == 0:
            return done
        assert os.WIFSIGNALED(status), f"ended by itself with {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert server.study(out) == 0
    return kills


def killed(server, whole, folder, kills, random_):
    """Kills studies so many times in all, and holds each against the whole one; returns the number of studies."""
    study, seconds = whole
    studies = 0
    while kills:
        out = folder / f"run {studies}"
        kills -= killed_until_done(server, out, min(12, kills), lambda: random_.uniform(0, seconds))
        check(out, study)
        studies += 1
    return studies


def check(out, whole):
    """Nothing is left of the kills, and every table and picture is that of the whole study."""
    study = camdrift.open(out)
    assert_same(study, whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.path.iterdir()}
    with np.load(out / "gallery.npz") as mine, np.load(whole.path / "gallery.npz") as theirs:
        assert mine.files == theirs.files
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files)
    assert camdrift.verify(out, sample=0).problems == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestKilled:
    def test_a_few_times(self, server, whole, tmp_path):
        killed(server, whole, tmp_path, 4, random.Random(0))

    @pytest.mark.long
    @pytest.mark.timeout(1800)
    def test_at_a_hundred_random_moments(self, server, whole, tmp_path, record_property):
        """Others each time."""
        record_property("studies", killed(server, whole, tmp_path, 100, random.Random()))


class TestOdds:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    @pytest.fixture
    def model(self, spec):
        return camdrift.load_model(spec, device="cpu")

    @pytest.mark.parametrize("jump", [-1e9, 1e9], ids=["back", "ahead"])
    def test_a_clock_that_jumps(self, model, eight, whole, tmp_path, monkeypatch, jump):
        """By thirty years, between any two looks at it: neither tables nor order depend on the time of day."""
        now, looks = time.time, []

        def jumping():
            looks.append(jump)
            return max(now() + jump * (len(looks) % 2), 1.0)

        monkeypatch.setattr("time.time", jumping)
        with pytest.raises(KeyboardInterrupt):
            study_of(model, eight, tmp_path / "run", **QUICK, on_progress=_interrupt_after_three)
        study = study_of(model, eight, tmp_path / "run", **QUICK, resume=True)
        assert_same(study, whole[0])
        assert all(seconds >= 0 for seconds in study.record["timings"].values())

    def test_a_clock_that_stands_back_at_the_start_of_time(self, model, eight, tmp_path, monkeypatch):
        """Also the clock that `run.json` is stamped with; a folder of the same name is never written into."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("camdrift.study.provenance.now", lambda: "1970-01-01T00:00:00+00:00")
        paths = [study_of(model, eight, None, limit=1, **QUICK).path for _ in range(2)]
        assert len(set(paths)) == 2

    def test_a_read_only_image_folder(self, model, eight, whole, tmp_path, monkeypatch):
        """Not a byte, name or time of change in it differs afterwards."""
        images = tmp_path / "images"
        write_images(images, 8)
        for path in (*images.iterdir(), images):
            path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
        monkeypatch.setattr("builtins.open", _reading_only(images, open))
        before = {**listing(images), "": images.stat().st_mtime_ns}
        try:
            study = study_of(model, images, tmp_path / "run", **QUICK)
            assert_same(study, whole[0], without=["path"])
            assert {**listing(images), "": images.stat().st_mtime_ns} == before
        finally:
            images.chmod(stat.S_IRWXU)

    def test_images_that_come_back(self, model, eight, whole, tmp_path):
        """Stored as unreadable, as where a disk was not there; other chunks are kept."""
        images = write_images(tmp_path / "images", 8)
        kept = (images / "img_04.png").read_bytes()
        (images / "img_04.png").write_bytes(b"")
        stop = stop_when(lambda progress: progress.seeds_done >= 6 and progress.stage == "write")
        with pytest.raises(KeyboardInterrupt):
            study_of(model, images, tmp_path / "run", **QUICK, on_progress=stop)
        assert RunDirectory.open(tmp_path / "run").chunks_done() == {0, 1}
        (images / "img_04.png").write_bytes(kept)
        seen = []
        study = study_of(model, images, tmp_path / "run", **QUICK, resume=True, on_progress=seen.append)
        assert_same(study, whole[0], without=["path"])
        told = [text for progress in seen for text in progress.warnings]
        assert "chunk 00001 is done again: img_04.png could not be read, and can be now" in told
        assert min(progress.seeds_done for progress in seen if progress.stage == "attack") == 3

    def test_a_stored_chunk_with_a_flipped_bit_is_done_again(self, model, eight, whole, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            study_of(model, eight, tmp_path / "run", **QUICK, on_progress=_interrupt_after_three)
        assert RunDirectory.open(tmp_path / "run").chunks_done() == {0}
        path = tmp_path / "run" / "chunks" / "00000" / "similarity.parquet"
        data = bytearray(path.read_bytes())
        data[random.Random(1).randrange(len(data))] ^= 1 << 3
        path.write_bytes(data)
        assert_same(study_of(model, eight, tmp_path / "run", **QUICK, resume=True), whole[0])


def _interrupt_after_three(progress):
    if progress.seeds_done >= 3:
        raise KeyboardInterrupt


def _reading_only(folder, opened):
    """`open` that refuses to write below a folder, as permission bits do to all but the superuser."""

    def guarded(file, mode="r", *arguments, **options):
        if isinstance(file, str | Path) and Path(file).is_relative_to(folder):
            assert set(mode) <= set("rb"), f"{file} opened as {mode}"
        return opened(file, mode, *arguments, **options)

    return guarded
