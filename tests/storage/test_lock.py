"""One process at a time writes into a run directory; nothing of that is left over."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from camdrift.errors import StoreError
from camdrift.storage.lock import LOCK, locked
from support.studies import SMALL, environment, skip_report, stop_when, study_of, tiny_classifier, write_images

HOLD = (
    "import sys, time; from pathlib import Path; from camdrift.storage.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
)


def open_files():
    """Number of this process's open files; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "run"`."""
    line = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


class TestLock:
    def test_a_second_process_is_refused(self, holder, tmp_path):
        with pytest.raises(StoreError, match=r"another process is writing to .*run ") as caught:
            locked(tmp_path / "run").__enter__()
        assert caught.value.hint == "wait until it has ended, or choose another --out"
        assert (tmp_path / "run" / LOCK).exists()

    def test_a_process_that_is_killed_holds_nothing(self, holder, tmp_path):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / "run" / LOCK).exists()
        with locked(tmp_path / "run"):
            pass
        assert not (tmp_path / "run" / LOCK).exists()

    def test_also_within_one_process(self, tmp_path):
        with locked(tmp_path), pytest.raises(StoreError, match="another process"), locked(tmp_path):
            pass
        with locked(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        assert list(tmp_path.iterdir()) == []

    def test_who_waited_for_a_file_that_is_gone_by_now_takes_the_new_one(self, tmp_path, monkeypatch):
        """Between opening and locking the last holder removes the file: that lock would keep nobody out."""
        flock, inodes = fcntl.flock, []

        def late(descriptor, operation):
            if not inodes:
                (tmp_path / LOCK).unlink()
            inodes.append(os.fstat(descriptor).st_ino)
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", late)
        with locked(tmp_path):
            assert len(inodes) == 2
            assert (tmp_path / LOCK).stat().st_ino == inodes[-1]

    @pytest.mark.parametrize("error", [OSError(95, "Operation not supported"), PermissionError(13, "denied")])
    def test_without_locks_it_does_without(self, tmp_path, monkeypatch, error):
        def fail(*_):
            raise error

        before = open_files()
        with monkeypatch.context() as patch:
            patch.setattr("os.open" if error.errno == 13 else "fcntl.flock", fail)
            with locked(tmp_path):
                pass
        assert open_files() == before


class TestRun:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    @pytest.fixture
    def eight(self, tmp_path):
        return write_images(tmp_path / "eight", 8)

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}], ids=str)
    def test_two_on_one_run_directory(self, eight, tmp_path, options):
        """From inside the first one, the second is refused and harms nothing."""
        classifier, out, refused = tiny_classifier(), tmp_path / "run", []

        def second(progress):
            if progress.seeds_done == 3 and not refused:
                with pytest.raises(StoreError) as caught:
                    study_of(classifier, eight, out, **SMALL, **options)
                refused.append(caught.value.message)

        study = study_of(classifier, eight, out, **SMALL, on_progress=second)
        is_new = not options
        assert ("there is a run in it" if is_new else "another process is writing to") in refused[0]
        assert study.seeds.height == 8
        assert not (out / LOCK).exists()

    def test_a_folder_that_another_one_has_just_begun_in(self, eight, holder, tmp_path):
        with pytest.raises(StoreError, match="another process is writing"):
            study_of(tiny_classifier(), eight, tmp_path / "run", **SMALL)

    def test_the_file_that_a_killed_one_leaves_is_no_content(self, eight, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / LOCK).write_text("")
        study_of(tiny_classifier(), eight, tmp_path / "run", **SMALL)
        assert not (tmp_path / "run" / LOCK).exists()

    def test_an_interrupted_run_leaves_none(self, eight, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            study_of(tiny_classifier(), eight, tmp_path / "run", **SMALL, on_progress=stop_when(lambda p: True))
        assert not (tmp_path / "run" / LOCK).exists()

    def test_somebody_elses_folder_gets_none(self, eight, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("mine")
        stamp = (tmp_path / "mine").stat().st_mtime_ns
        with pytest.raises(StoreError, match="other things in it"):
            study_of(tiny_classifier(), eight, tmp_path / "mine", **SMALL)
        assert (tmp_path / "mine").stat().st_mtime_ns == stamp
