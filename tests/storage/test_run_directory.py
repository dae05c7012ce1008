"""The run directory: whole files or none, clear errors, and nobody else's files touched."""

import errno
import json
import subprocess
import weakref
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from camdrift.errors import StoreError
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.study import COUNTS, FLOOR, SEEDS, TABLES
from camdrift.tables.words import SCHEMA_VERSION
from support.studies import SMALL, assert_same, listing, skip_report, study_of, tiny_classifier

RECORD = {"camdrift": "0.1.0", "status": "running"}


def chunk(number):
    """The tables of one chunk."""
    return {
        "seeds": SEEDS.frame([{"seed_id": f"{number}/{i}", "status": "analysed"} for i in range(2)]),
        "floor": FLOOR.frame([{"seed_id": f"{number}/0", "similarity": 0.5}]),
    }


def arrays(number):
    return {"seed_ids": np.array([f"{number}/0"]), "0/image": np.full((3, 2, 2, 3), number, np.uint8)}


def lists(gallery):
    return {key: value.tolist() for key, value in gallery.items()}


@pytest.fixture
def run(tmp_path):
    """A run directory with a record and two chunks, the later one written first."""
    run = RunDirectory.create(tmp_path / "run")
    run.write_record(RECORD)
    for number in (10, 2):
        run.write_chunk(number, chunk(number), arrays(number))
    return run


class TestRoundTrip:
    def test_record(self, run):
        run.write_record({**RECORD, "labels": ["crème brûlée", "<b>"], "nothing": None})
        assert RunDirectory.open(run.path).read_record() == {
            "schema_version": SCHEMA_VERSION, **RECORD, "labels": ["crème brûlée", "<b>"], "nothing": None
        }  # fmt: skip

    def test_a_name_that_is_no_utf8_can_be_recorded(self, run):
        run.write_record({**RECORD, "images": b"caf\xe9/".decode("utf-8", "surrogateescape")})
        text = run.read_record()["images"]
        assert text == "caf?/"
        text.encode()

    def test_nan_does_not_get_into_the_record(self, run):
        before = listing(run.path)
        with pytest.raises(ValueError, match="JSON compliant"):
            run.write_record({**RECORD, "seconds": float("nan")})
        assert listing(run.path) == before

    def test_chunks_are_merged_in_order(self, run):
        assert run.chunks_done() == {2, 10}
        run.merge_table("seeds")
        expected = pl.concat([chunk(2)["seeds"], chunk(10)["seeds"]])
        assert_frame_equal(run.read_table("seeds"), expected)
        assert_frame_equal(pl.concat(run.chunk_tables("seeds")), expected)
        assert [lists(gallery) for gallery in run.chunk_galleries()] == [lists(arrays(2)), lists(arrays(10))]

    def test_gallery(self, run):
        with run.open_gallery() as gallery:
            assert gallery == {}
        run.write_gallery(arrays(7).items())
        with run.open_gallery() as gallery:
            assert lists(gallery) == lists(arrays(7))
            assert {key: value.dtype for key, value in gallery.items()} == {k: v.dtype for k, v in arrays(7).items()}
            assert (len(gallery), "0/image" in gallery, gallery.get("1/image")) == (2, True, None)

    def test_a_gallery_is_written_array_by_array(self, run):
        """So that no more of a large one is in memory than a single array."""
        alive = []

        def arrays_one_by_one():
            for number in range(5):
                array = np.full(1000, number)
                alive.append(weakref.ref(array))
                assert sum(ref() is not None for ref in alive) <= 2
                yield f"{number}", array

        run.write_gallery(arrays_one_by_one())
        with run.open_gallery() as gallery:
            assert [gallery[key][999] for key in gallery] == [0, 1, 2, 3, 4]

    def test_a_table_must_have_its_documented_columns(self, run):
        with pytest.raises(ValueError, match="table `counts` must have the schema"):
            run.write_table("counts", COUNTS.frame().drop("n_seeds"))
        assert not (run.path / "counts.parquet").exists()


class TestDamage:
    def test_a_failed_write_leaves_the_old_file(self, run, monkeypatch):
        run.write_table("counts", COUNTS.frame([{"n_seeds": 1}]))
        before = listing(run.path)

        def fail(_, path):
            path.write_bytes(b"PAR1 half a tab")
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
        with pytest.raises(StoreError, match=r"cannot write to .*run: .*Input/output error") as caught:
            run.write_table("counts", COUNTS.frame([{"n_seeds": 2}]))
        assert caught.value.hint == "is the folder writable?"
        assert listing(run.path) == before

    def test_a_chunk_counts_only_when_it_is_whole(self, run, monkeypatch):
        def fail(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(np.lib.format, "write_array", fail)
            with pytest.raises(StoreError, match="the disk is full") as caught:
                run.write_chunk(3, chunk(3), arrays(3))
        assert "--resume" in caught.value.hint
        assert run.chunks_done() == {2, 10}
        run.write_chunk(3, chunk(3), arrays(3))
        assert run.chunks_done() == {2, 3, 10}
        assert_frame_equal(run.read_chunk(3, "seeds"), chunk(3)["seeds"])

    @pytest.mark.parametrize("bytes_", [b"", b"PAR1", b"no table at all", None], ids=["empty", "4", "text", "cut"])
    def test_a_damaged_table_is_named(self, run, bytes_):
        run.merge_table("seeds")
        path = run.path / "seeds.parquet"
        path.write_bytes(path.read_bytes()[:-30] if bytes_ is None else bytes_)
        with pytest.raises(StoreError, match=r"seeds\.parquet cannot be read: ."):
            run.read_table("seeds")

    @pytest.mark.parametrize("bytes_", [b"", b"PK\x03\x04", b"no archive", None], ids=["empty", "4", "text", "cut"])
    def test_a_damaged_gallery_is_named(self, run, bytes_):
        run.write_gallery(arrays(1).items())
        path = run.path / "gallery.npz"
        path.write_bytes(path.read_bytes()[:-40] if bytes_ is None else bytes_)
        with pytest.raises(StoreError, match=r"gallery\.npz cannot be read: ."), run.open_gallery():
            pass

    def test_an_array_that_is_damaged_is_named_when_it_is_read(self, run):
        noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
        run.write_gallery([("seed_ids", np.array(["a"])), ("0/clean", noise)])
        path = run.path / "gallery.npz"
        data = bytearray(path.read_bytes())
        data[2000:2100] = bytes(100)
        path.write_bytes(data)
        with run.open_gallery() as gallery:
            assert gallery["seed_ids"].tolist() == ["a"]
            with pytest.raises(StoreError, match=r"gallery\.npz cannot be read: ."):
                gallery["0/clean"]

    @pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\udcff"])
    def test_a_damaged_record_is_named(self, run, text):
        (run.path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(StoreError, match=r"run\.json (cannot be read|must hold an object)"):
            RunDirectory.open(run.path)

    def test_a_missing_table_says_how_to_get_it(self, run):
        with pytest.raises(StoreError, match=r"layers\.parquet is missing") as caught:
            run.read_table("layers")
        assert "--resume" in caught.value.hint

    def test_another_schema_is_refused(self, run):
        run.write_record(RECORD)
        record = json.loads((run.path / "run.json").read_text())
        (run.path / "run.json").write_text(json.dumps({**record, "schema_version": 99}))
        with pytest.raises(StoreError, match=f"has schema version 99, this camdrift reads {SCHEMA_VERSION}"):
            RunDirectory.open(run.path)

    def test_there_must_be_a_run(self, tmp_path):
        with pytest.raises(StoreError, match=r"no run in .*\(run.json is missing\)"):
            RunDirectory.open(tmp_path)


class TestOwnership:
    @pytest.fixture
    def full(self, run):
        """A run directory with everything in it, and things of somebody else's beside."""
        for table in TABLES.values():
            run.write_table(table.name, table.frame())
        run.write_gallery(arrays(1).items())
        (run.path / "figures").mkdir()
        for name in ("figure_8_gain.png", "figure_8_gain.pdf"):
            (run.path / "figures" / name).write_text("ours")
        (run.path / "report.html").write_text("ours")
        (run.path / ".run.json.part").write_text("ours, cut short")
        return run.path

    def test_overwriting_removes_all_that_is_ours(self, full):
        RunDirectory.create(full, overwrite=True)
        assert list(full.iterdir()) == []

    def test_overwriting_leaves_what_is_not(self, full):
        for name in ("notes.txt", "seeds.csv", "figures/mine.png", "figures/notes.md", "old/run.json"):
            (full / name).parent.mkdir(exist_ok=True)
            (full / name).write_text("mine")
        RunDirectory.create(full, overwrite=True)
        left = {str(p.relative_to(full)) for p in full.rglob("*") if p.is_file()}
        assert left == {"notes.txt", "seeds.csv", "figures/mine.png", "figures/notes.md", "old/run.json"}

    def test_overwriting_does_not_follow_links(self, full, tmp_path):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "figure_1.png").write_text("mine")
        for path in (full / "figures").iterdir():
            path.unlink()
        (full / "figures").rmdir()
        RunDirectory.open(full).drop_chunks()
        (full / "chunks").symlink_to(precious, target_is_directory=True)
        RunDirectory.create(full, overwrite=True)
        assert (precious / "figure_1.png").read_text() == "mine"

    def test_a_run_is_not_replaced_unasked(self, full):
        before = listing(full)
        with pytest.raises(StoreError, match=r"`out` must be new, got: .*run \(there is a run in it\)") as caught:
            RunDirectory.create(full)
        assert all(
            way in caught.value.hint for way in ("go on with --resume", "--overwrite", "another --out or --name")
        )
        assert listing(full) == before

    @pytest.mark.parametrize(
        "files",
        [
            {"holiday.jpg": "photo"},
            {"run.json": '{"scripts": {}}', "figures/figure_1.png": "mine"},
            {"run.json": "no JSON", "report.html": "mine"},
            {"seeds.parquet": "mine"},
            {"chunks/00000/x": "mine"},
        ],
        ids=["photo", "another run.json", "text", "table", "chunks"],
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_somebody_elses_folder_is_refused_and_left_alone(self, tmp_path, files, overwrite):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        before = listing(tmp_path)
        with pytest.raises(StoreError, match="a folder with other things in it") as caught:
            RunDirectory.create(tmp_path, overwrite=overwrite)
        assert caught.value.hint == "choose another --out"
        assert listing(tmp_path) == before

    def test_an_empty_folder_will_do(self, tmp_path):
        assert RunDirectory.create(tmp_path).path == tmp_path

    def test_a_file_will_not(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(StoreError, match=r"`out` must be a folder, got: .*out \(a file\)"):
            RunDirectory.create(tmp_path / "out", overwrite=True)
        with pytest.raises(StoreError, match="cannot write to"):
            RunDirectory.create(tmp_path / "out" / "run")
        assert (tmp_path / "out").read_text() == "mine"


class TestFullDisk:
    """A disk that fills up in the middle of a study."""

    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def test_finished_chunks_stay_and_the_run_goes_on(self, eight, tmp_path, monkeypatch):
        classifier, out = tiny_classifier(), tmp_path / "run"
        write, calls = pl.DataFrame.write_parquet, []

        def fill_up(table, path, **options):
            calls.append(path)
            if len(calls) == 9:  # the second table of the second chunk
                path.write_bytes(b"PAR1")
                raise OSError(errno.ENOSPC, "No space left on device")
            write(table, path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pl.DataFrame, "write_parquet", fill_up)
            with pytest.raises(StoreError, match=r"cannot write to .*run: the disk is full") as caught:
                study_of(classifier, eight, out, **SMALL)
        assert "--resume" in caught.value.hint
        assert RunDirectory.open(out).chunks_done() == {0}
        whole = study_of(classifier, eight, tmp_path / "whole", **SMALL)
        assert_same(study_of(classifier, eight, out, **SMALL, resume=True), whole)

    def test_a_real_disk(self, eight, tmp_path):
        """A file system of 144 KiB, later of 8 MiB."""
        disk, classifier = tmp_path / "disk", tiny_classifier()
        disk.mkdir()
        if mount("-t", "tmpfs", "-o", "size=144k", "tmpfs", disk):
            pytest.skip("mounting a small file system takes rights that this process lacks")
        try:
            with pytest.raises(StoreError, match="the disk is full"):
                study_of(classifier, eight, disk / "run", **SMALL)
            stored = RunDirectory.open(disk / "run").chunks_done()
            assert set() < stored < {0, 1, 2}
            assert not mount("-o", "remount,size=8m", disk)
            study = study_of(classifier, eight, disk / "run", **SMALL, resume=True)
            assert_same(study, study_of(classifier, eight, tmp_path / "whole", **SMALL))
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_no_room_for_the_report(self, eight, tmp_path, monkeypatch):
        write_bytes = Path.write_bytes

        def fail(path, data):
            if "report.html" not in path.name:
                return write_bytes(path, data)
            write_bytes(path, data[:2])
            raise OSError(errno.ENOSPC, "No space left on device")

        skip_report(monkeypatch)
        with monkeypatch.context() as full:
            full.setattr(Path, "write_bytes", fail)
            with pytest.raises(StoreError, match="the disk is full") as caught:
                study_of(tiny_classifier(), eight, tmp_path / "run", **SMALL)
        assert "--resume" in caught.value.hint
        assert not list((tmp_path / "run").glob("*report*"))
        study_of(tiny_classifier(), eight, tmp_path / "run", **SMALL, resume=True)
        assert (tmp_path / "run" / "report.html").read_text() == "stub"


def mount(*arguments):
    """Exit code of `mount`; 1 where there is no such command."""
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode
    except OSError:
        return 1
