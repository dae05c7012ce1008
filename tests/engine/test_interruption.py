"""Ctrl-C and SIGTERM: the chunk in hand is finished and written, and the last line says how to go on."""

import importlib
import os
import re
import shlex
import signal
import threading
from pathlib import Path

import pytest

import camdrift
from camdrift.engine.interruption import Interruption, Stopped, interruptible, resuming
from camdrift.storage.run_directory import RunDirectory
from support.studies import ATTACK, assert_same, skip_report, study_of, tiny_classifier, write_factory, write_images

QUICK = ["--attack", ATTACK, "--strengths", "1", "--noise-ladder", "4", "--chunk-size", "3"]


class TestInterruption:
    def test_before_the_first_chunk_it_stops_at_once(self):
        with pytest.raises(Stopped):
            Interruption().ask(signal.SIGINT)

    def test_while_workers_start_there_is_none_in_hand(self):
        asked = Interruption()
        asked.at("preflight")
        asked.at("start")
        with pytest.raises(Stopped):
            asked.ask(signal.SIGINT)
        asked = Interruption()
        for stage in ("preflight", "start", "attack"):
            asked.at(stage)
        asked.ask(signal.SIGINT)
        with pytest.raises(Stopped):
            asked.at("start")  # the worker has died, and no other has a chunk

    @pytest.mark.parametrize("prefix", ["", "2/4 "])
    def test_a_chunk_in_hand_is_finished(self, prefix):
        asked = Interruption()
        asked.at(f"{prefix}preflight")
        asked.ask(signal.SIGTERM)
        for stage in ("attack", "explain", "examine"):
            asked.at(prefix + stage)
        with pytest.raises(Stopped) as caught:
            asked.at(f"{prefix}write")
        assert caught.value.exit_code == 143

    def test_the_second_time_it_stops_at_once(self):
        asked = Interruption()
        asked.at("preflight")
        asked.ask(signal.SIGTERM)
        with pytest.raises(Stopped) as caught:
            asked.ask(signal.SIGINT)
        assert caught.value.exit_code == 130

    @pytest.mark.parametrize("stage", ["statistics", "report"])
    def test_after_the_last_chunk_there_is_none_in_hand(self, stage):
        asked = Interruption()
        asked.at("preflight")
        asked.at("write")
        asked.at(stage)
        with pytest.raises(Stopped):
            asked.ask(signal.SIGINT)

    def test_asked_while_the_chunks_are_merged(self):
        asked = Interruption()
        asked.at("preflight")
        asked.at("write")
        asked.ask(signal.SIGINT)
        with pytest.raises(Stopped):
            asked.at("statistics")

    def test_handlers_are_those_of_before_in_the_end(self):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with interruptible():
            assert signal.getsignal(signal.SIGINT) != before[0]
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def test_what_is_ignored_stays_ignored(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with interruptible():
                os.kill(os.getpid(), signal.SIGINT)
                assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    def test_in_another_thread_nothing_changes(self):
        seen = []

        def enter():
            with interruptible():
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run"], "camdrift run --resume --out 'a b'"),
        (["run", "x", "--out", "y", "--limit", "3"], "camdrift run --resume --out 'a b' x --limit 3"),
        (["run", "--out=y", "--overwrite", "x y"], "camdrift run --resume --out 'a b' 'x y'"),
        (["reproduce", "--resume", "--out", "y"], "camdrift reproduce --resume --out 'a b'"),
        (["run", "--", "--overwrite"], "camdrift run --resume --out 'a b' -- --overwrite"),
        (["run", "--out"], "camdrift run --resume --out 'a b'"),
    ],
)
def test_command_that_goes_on(arguments, command):
    assert resuming(arguments, Path("a b")) == command


class TestCommand:
    """In this process, signals and all; sent while a chunk is being computed."""

    @pytest.fixture(autouse=True)
    def _here(self, monkeypatch, tmp_path):
        skip_report(monkeypatch)
        monkeypatch.chdir(tmp_path)

    @pytest.fixture
    def eight(self, tmp_path):
        return write_images(tmp_path / "eight", 8)

    @pytest.fixture
    def spec(self, tmp_path):
        return write_factory(tmp_path)

    @pytest.fixture
    def signalling(self, monkeypatch):
        """Sends signals at the beginning of the second chunk."""
        module = importlib.import_module("camdrift.pipeline.chunk")
        compute = module.study_chunk

        def signal_in_second(*signals):
            calls = []

            def study_chunk(*arguments):
                calls.append(arguments)
                if len(calls) == 2:
                    for number in signals:
                        os.kill(os.getpid(), number)
                return compute(*arguments)

            monkeypatch.setattr(module, "study_chunk", study_chunk)

        return signal_in_second

    def check(self, ended, code, word, command, path):
        """Exit code, last line, and that the advice names the command and the run directory."""
        found, out, err = ended
        assert (found, out) == (code, "")
        assert "Traceback" not in err
        assert err.splitlines()[-1] == word
        advice = re.search(r"are kept, to go on: camdrift (.*)", err)
        again = shlex.split(advice[1])
        assert again[:4] == [command, "--resume", "--out", str(path)]
        return again

    @pytest.mark.parametrize(
        ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
    )
    def test_the_chunk_in_hand_is_finished(
        self, camdrift_command, signalling, eight, spec, tmp_path, number, code, word
    ):
        """A run whose folder nobody named."""
        signalling(number)
        ended = camdrift_command("run", eight, "--model", spec, *QUICK)
        (path,) = Path("runs").iterdir()
        again = self.check(ended, code, word, "run", path)
        assert "finishing the chunk in hand; once more stops at once\n" in ended[2]
        assert RunDirectory.open(path).chunks_done() == {0, 1}
        assert camdrift_command(*again)[0] == 0
        options = {"strengths": (1.0,), "noise_ladder": (4.0,), "chunk_size": 3}
        assert_same(camdrift.open(path), study_of(camdrift.load_model(spec), eight, tmp_path / "whole", **options))

    def test_the_second_signal_stops_at_once(self, camdrift_command, signalling, eight, spec):
        signalling(signal.SIGINT, signal.SIGTERM)
        ended = camdrift_command("run", eight, "--model", spec, *QUICK, "--out", "here", "--overwrite")
        again = self.check(ended, 143, "terminated", "run", "here")
        assert "--overwrite" not in again
        assert RunDirectory.open(Path("here")).chunks_done() == {0}

    def test_a_reproduction(self, camdrift_command, signalling, eight, spec):
        signalling(signal.SIGTERM)
        ended = camdrift_command("reproduce", eight, "--model", spec, *QUICK, "--out", "here")
        self.check(ended, 143, "terminated", "reproduce", "here")
        assert RunDirectory.open(Path("here")).chunks_done() == {0, 1}

    def test_a_sweep(self, camdrift_command, signalling, eight, spec):
        Path("grid.toml").write_text(
            f'images = "{eight}"\nout = "all"\nstrengths = [1]\nnoise_ladder = [4]\nchunk_size = 3\n'
            f'[[models]]\nmodel = "{spec}"\n[[attacks]]\nattack = "{ATTACK}"\n'
        )
        signalling(signal.SIGTERM)
        code, out, err = camdrift_command("sweep", "grid.toml")
        assert (code, out) == (143, "")
        assert err.splitlines()[-2:] == [
            "stopped; finished runs and chunks are kept, to go on: camdrift sweep grid.toml",
            "terminated",
        ]
        (record,) = Path("all").rglob("run.json")
        assert RunDirectory.open(record.parent).chunks_done() == {0, 1}
        assert camdrift_command("sweep", "grid.toml")[0] == 0

    def test_a_program_keeps_its_own_handlers(self, eight, tmp_path):
        """`camdrift.study.run` installs none: Ctrl-C is Python's KeyboardInterrupt, at once."""
        seen = []
        study_of(
            tiny_classifier(),
            eight,
            tmp_path / "run",
            limit=1,
            strengths=(1.0,),
            on_progress=lambda _: seen.append(signal.getsignal(signal.SIGINT)),
        )
        assert set(seen) == {signal.getsignal(signal.SIGINT)} == {signal.default_int_handler}
