"""A file that camdrift writes is whole or absent, whoever looks meanwhile and whatever goes wrong."""

import os
import stat
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from camdrift.errors import StoreError
from camdrift.storage.disk import write_whole
from camdrift.storage.replacement import write_files

OLD, NEW = b"old " * 1_000_000, b"newer " * 1_000_000


def whole(folder, data):
    write_whole(folder, "table", partial(Path.write_bytes, data=data))


def files(folder, data):
    write_files(folder, [("figures/table", data)])


writers = pytest.mark.parametrize(("write", "name"), [(whole, "table"), (files, "figures/table")])


def size(path):
    """Size of a file in bytes; None where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


@contextmanager
def looking(path):
    """All sizes that a file has while the block runs, as another thread sees them."""
    sizes, has_ended = set(), threading.Event()

    def look():
        while not has_ended.is_set():
            sizes.add(size(path))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield sizes
    finally:
        has_ended.set()
        reader.join()


def left(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@writers
class TestReader:
    def test_an_open_file_stays_the_old_one_to_its_end(self, tmp_path, write, name):
        write(tmp_path, OLD)
        with (tmp_path / name).open("rb") as reader:
            data = reader.read(1000)
            write(tmp_path, NEW)
            assert data + reader.read() == OLD
        assert (tmp_path / name).read_bytes() == NEW
        assert left(tmp_path) == [tmp_path / name]

    def test_a_new_file_is_absent_or_whole(self, tmp_path, write, name):
        with looking(tmp_path / name) as sizes:
            for _ in range(5):
                write(tmp_path, NEW)
                (tmp_path / name).unlink()
        assert sizes <= {None, len(NEW)}

    def test_a_replaced_file_is_the_old_or_the_new_one(self, tmp_path, write, name):
        write(tmp_path, OLD)
        with looking(tmp_path / name) as sizes:
            for data in (NEW, OLD) * 5:
                write(tmp_path, data)
        assert sizes <= {len(OLD), len(NEW)}


@writers
def test_the_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path, monkeypatch, write, name):
    """Else a power cut could leave an empty file under the name."""
    write(tmp_path, OLD)
    synced = []

    def fsync(file):
        state = os.fstat(file)
        synced.append((stat.S_ISDIR(state.st_mode) or state.st_size, size(tmp_path / name)))

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path, NEW)
    assert synced[0] == (len(NEW), len(OLD))
    assert synced[-1] == (True, len(NEW)), "and so is its name"


@writers
@pytest.mark.parametrize(
    ("error", "message"),
    [(OSError("broken disk"), r"cannot write to .*/run: broken disk"), (KeyboardInterrupt("stop"), "stop")],
)
def test_what_goes_wrong_leaves_the_old_file_alone(tmp_path, monkeypatch, write, name, error, message):
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder, OLD)
    write_bytes = Path.write_bytes

    def fail(path, data):
        write_bytes(path, data[:1000])
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises((StoreError, KeyboardInterrupt), match=message):
        write(folder, NEW)
    assert (folder / name).read_bytes() == OLD
    assert left(folder) == [folder / name]
