"""Run directories of somebody else's and run directories of a killed command: nothing is hurt, nothing is lost."""

import errno
import json
import os
import shutil
from contextlib import suppress

import pytest

from camdrift.errors import StoreError
from camdrift.storage.checksums import checksum
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.resumption import is_begun
from camdrift.tables.further import RUN_TABLES
from support.studies import listing


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run")


class TestHandedOver:
    """A run directory of somebody else's: no link in it is followed, and sizes are compared before anything is read."""

    @pytest.fixture
    def victim(self, tmp_path):
        """A folder and a file of the user's, as a link may find them."""
        folder = tmp_path / "victim"
        for name in ("12345/face.png", "figure_1.png", "run.json", "seeds.parquet", "0123456789abcdef.part/x"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("precious")
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory):
        run = RunDirectory.create(tmp_path_factory.mktemp("whole") / "run")
        for name in ("floor", "seeds"):
            run.write_table(name, RUN_TABLES[name].frame())
        run.write_record({"camdrift": "0", "status": "done", "files": run.files()})
        return run.path

    @pytest.fixture
    def done(self, whole, tmp_path):
        return shutil.copytree(whole, tmp_path / "run")

    @pytest.mark.parametrize(
        "name",
        [
            "gallery.npz",
            "report.html",
            "seeds.parquet",
            "roc.parquet",
            "run.json",
            "figures",
            "chunks",
            ".lock",
            ".next",
            ".ready.tmp",
            ".moving.tmp",
            ".run.json.part",
        ],
    )
    def test_links(self, done, victim, name):
        target = victim / name if (victim / name).is_file() else victim
        (done / name).unlink(missing_ok=True)
        (done / name).symlink_to(target)
        before = listing(victim)
        with suppress(StoreError):
            directory = RunDirectory.open(done)
            directory.drop_damaged_chunks()
            directory.replace_tables({"roc": RUN_TABLES["roc"].frame()}, [("figures/figure_1.png", b"drawn")])
            directory.write_report([("figures/figure_1.png", b"drawn"), ("report.html", b"page")])
        with suppress(StoreError):
            RunDirectory.create(done, overwrite=True)
        assert listing(victim) == before

    def test_a_link_is_named(self, done, victim):
        (done / "figures").symlink_to(victim)
        with pytest.raises(StoreError, match=r"figures is a link: nothing is read or written through links") as caught:
            RunDirectory.open(done)
        assert caught.value.hint == "remove it, or put what it leads to in its place"

    def test_a_chunk_that_is_a_link_is_removed_and_done_again(self, run, victim):
        (run.path / "chunks").mkdir()
        (run.path / "chunks" / "00000").symlink_to(victim)
        before = listing(victim)
        assert run.drop_damaged_chunks() == {0: "is a link"}
        assert listing(victim) == before
        assert run.chunks_done() == set()

    def test_rows_that_the_file_cannot_hold(self, done, monkeypatch):
        directory = RunDirectory.open(done)
        directory.write_table("roc", RUN_TABLES["roc"].frame([{"trained_on": "a"}] * 500))
        monkeypatch.setattr("camdrift.storage.run_contents._FEW_ROWS", 10)
        monkeypatch.setattr("camdrift.storage.run_contents._ROWS_OF_BYTE", 0)
        with pytest.raises(StoreError, match=r"roc.parquet unpacks to 500 rows, too many for [\d,]+ bytes"):
            directory.read_table("roc")

    def test_rows_are_counted_again_when_the_file_is_another(self, done, monkeypatch):
        directory = RunDirectory.open(done)
        directory.write_table("roc", RUN_TABLES["roc"].frame([{"trained_on": "a"}]))
        monkeypatch.setattr("camdrift.storage.run_contents._FEW_ROWS", 10)
        monkeypatch.setattr("camdrift.storage.run_contents._ROWS_OF_BYTE", 0)
        assert directory.read_table("roc").height == 1
        directory.write_table("roc", RUN_TABLES["roc"].frame([{"trained_on": "a"}] * 500))
        with pytest.raises(StoreError, match=r"roc.parquet unpacks to 500 rows"):
            directory.read_table("roc")

    def test_rows_that_were_not_written(self, done):
        record = json.loads((done / "run.json").read_text())
        record["files"]["roc.parquet"] = {"sha256": checksum(done / "floor.parquet"), "rows": 3}
        shutil.copy(done / "floor.parquet", done / "roc.parquet")
        (done / "run.json").write_text(json.dumps(record))
        with pytest.raises(StoreError, match=r"roc.parquet has 0 rows, 3 were written"):
            RunDirectory.open(done).read_table("roc")

    def test_a_record_that_is_too_large(self, done, monkeypatch):
        monkeypatch.setattr("camdrift.storage.run_contents.MOST_BYTES_OF_RECORD", 100)
        with pytest.raises(StoreError, match=r"run.json cannot be read: .*more than 100"):
            RunDirectory.open(done)


class TestKilled:
    def test_at_the_first_record_the_folder_is_free(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".run.json.0123456789abcdef.part").write_text("{")
        (tmp_path / "run" / ".lock").touch()
        assert not is_begun(tmp_path / "run")
        RunDirectory.create(tmp_path / "run")
        assert list((tmp_path / "run").iterdir()) in ([], [tmp_path / "run" / ".lock"])

    def test_a_run_that_is_replaced_stays_until_the_new_one_is_complete(self, run):
        run.write_record({"camdrift": "0", "status": "done", "age": "old"})
        run.write_table("floor", RUN_TABLES["floor"].frame())
        successor = RunDirectory.succeed(run.path)
        assert successor.place == run.path
        successor.write_record({"camdrift": "0", "status": "done", "age": "new"})
        assert RunDirectory.open(run.path).read_record()["age"] == "old"
        assert RunDirectory.open(run.path, is_resumed=True).read_record()["age"] == "new"
        successor.take_place()
        assert [path.name for path in run.path.iterdir()] == ["run.json"]
        assert successor.path == run.path
        assert successor.read_record()["age"] == "new"


def test_a_read_only_disk_is_one_line(run, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError, match=r"cannot write to .*run: .*Read-only file system") as caught:
        run.write_record({})
    assert caught.value.hint == "copy the folder to a disk that can be written"
