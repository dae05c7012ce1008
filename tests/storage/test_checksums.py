"""What is stored is checked before it is used: chunks by their own checksums, final tables by the record's."""

import hashlib
import json
import shutil

import polars as pl
import pytest

import camdrift
from camdrift.errors import StoreError
from camdrift.storage.checksums import CHECKSUMS, changed, checksums, damage
from camdrift.tables.file_names import GALLERY
from camdrift.tables.study import TABLES
from support.studies import SMALL, assert_same, listing, stop_when, study_of, tiny_classifier

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def whole(eight, tmp_path_factory, no_report):
    """The study that nobody disturbed."""
    return study_of(tiny_classifier(), eight, tmp_path_factory.mktemp("whole") / "run", **SMALL)


def flip(path, at=None):
    """Turns one bit of a file around."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 4
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        (tmp_path / "b").write_bytes(b"")
        (tmp_path / CHECKSUMS).write_text(json.dumps(checksums(tmp_path)))
        return tmp_path

    def test_published_checksum(self, folder):
        """FIPS 180-2, appendix B.1: SHA-256 of "abc"."""
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert checksums(folder)["a"] == expected
        assert changed(folder / "a", expected) is None
        assert damage(folder) is None

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda folder: (folder / "b").unlink(), "b is missing"),
            (lambda folder: (folder / "a").write_bytes(b"abd"), "a is not what was written (its SHA-256 differs)"),
            (lambda folder: (folder / "b").write_bytes(b"x"), "b is not what was written (its SHA-256 differs)"),
            (lambda folder: (folder / CHECKSUMS).unlink(), f"{CHECKSUMS} is missing"),
            (lambda folder: (folder / CHECKSUMS).write_text("{"), f"{CHECKSUMS} cannot be read"),
            (lambda folder: (folder / CHECKSUMS).write_bytes(b"\xff"), f"{CHECKSUMS} cannot be read"),
            (lambda folder: (folder / CHECKSUMS).write_text("[1]"), f"{CHECKSUMS} names no files"),
            (lambda folder: (folder / CHECKSUMS).write_text("{}"), f"{CHECKSUMS} names no files"),
            (lambda folder: shutil.rmtree(folder), f"{CHECKSUMS} is missing"),
        ],
    )
    def test_damage_is_named(self, folder, spoil, words):
        spoil(folder)
        assert damage(folder) == words

    def test_a_folder_in_the_place_of_a_file(self, folder):
        (folder / "b").unlink()
        (folder / "b").mkdir()
        assert damage(folder) == "b is no file"


class TestChunk:
    @pytest.fixture
    def broken(self, eight, tmp_path):
        """A run directory with two of three chunks."""
        with pytest.raises(KeyboardInterrupt):
            study_of(
                tiny_classifier(),
                eight,
                tmp_path / "run",
                **SMALL,
                on_progress=stop_when(lambda p: (p.stage, p.seeds_done) == ("write", 6)),
            )
        return tmp_path / "run"

    def resumed(self, eight, out):
        """The resumed study, its warnings, and how many seeds were attacked again."""
        seen = []
        study = study_of(tiny_classifier(), eight, out, **SMALL, resume=True, on_progress=seen.append)
        started = {p.seeds_done // 3 for p in seen if p.stage == "explain"}
        return study, [warning for p in seen for warning in p.warnings], started

    def test_a_sound_one_is_taken(self, eight, broken, whole):
        study, warnings, started = self.resumed(eight, broken)
        assert_same(study, whole)
        assert (warnings, started) == ([], {2})

    @pytest.mark.parametrize("name", ["similarity.parquet", "growth.parquet", GALLERY, CHECKSUMS])
    @pytest.mark.parametrize("spoil", [flip, truncate, lambda path: path.unlink()], ids=["bit", "cut", "missing"])
    def test_a_damaged_one_is_done_again_and_told(self, eight, broken, whole, name, spoil):
        spoil(broken / "chunks" / "00001" / name)
        study, warnings, started = self.resumed(eight, broken)
        assert_same(study, whole)
        assert len(warnings) == 1
        assert warnings[0].startswith(f"chunk 00001 is done again: {name} ") or name == CHECKSUMS
        assert started == {1, 2}

    def test_every_file_of_a_chunk_has_its_checksum(self, broken):
        folder = broken / "chunks" / "00000"
        stored = json.loads((folder / CHECKSUMS).read_text())
        files = {path.name: path for path in folder.iterdir() if path.name != CHECKSUMS}
        assert stored == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        assert {"seeds.parquet", "similarity.parquet", GALLERY} < stored.keys()


class TestFinished:
    @pytest.fixture
    def finished(self, whole, tmp_path):
        return shutil.copytree(whole.path, tmp_path / "run")

    def test_the_record_has_every_file(self, whole):
        files = whole.record["files"]
        assert set(files) == {GALLERY, *(f"{name}.parquet" for name in (*TABLES, "ceiling", "flips", "newly_covered"))}
        for name, entry in files.items():
            path = whole.path / name
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert entry.get("rows") == (None if name == GALLERY else pl.read_parquet(path).height)

    @pytest.mark.parametrize("name", ["layers.parquet", GALLERY])
    @pytest.mark.parametrize("spoil", [flip, truncate, lambda path: path.unlink()], ids=["bit", "cut", "missing"])
    def test_damage_is_told_with_its_cure(self, eight, whole, finished, name, spoil):
        spoil(finished / name)
        before = listing(finished)
        with pytest.raises(StoreError, match=rf"finished run in .*run is damaged: {name} is ") as caught:
            study_of(tiny_classifier(), eight, finished, **SMALL, resume=True)
        assert "--overwrite" in caught.value.hint
        assert listing(finished) == before
        assert_same(study_of(tiny_classifier(), eight, finished, **SMALL, overwrite=True), whole)

    @pytest.mark.parametrize(
        "use",
        [
            lambda run: camdrift.open(run).similarity,
            lambda run: camdrift.open(run).scan("similarity"),
            lambda run: camdrift.open(run).report(),
            lambda run: camdrift.detect(camdrift.open(run)),
            lambda run: camdrift.compare(run, run.parent / "other", out=run.parent / "compared"),
        ],
        ids=["table", "scan", "report", "detect", "compare"],
    )
    def test_a_damaged_table_is_not_used(self, finished, use):
        """One bit can end the process that reads it, or be another number."""
        shutil.copytree(finished, finished.parent / "other")
        flip(finished / "similarity.parquet")
        before = listing(finished)
        with pytest.raises(StoreError, match=r"similarity\.parquet is not what was written") as caught:
            use(finished)
        assert "put back a copy" in caught.value.hint
        assert listing(finished) == before
        flip(finished / "similarity.parquet")
        use(finished)

    def test_what_was_found_whole_is_read_once_and_again_once_it_changes(self, finished, monkeypatch):
        read = []
        digest = hashlib.file_digest
        monkeypatch.setattr(
            "camdrift.storage.checksums.file_digest", lambda *args: read.append(args[0].name) or digest(*args)
        )
        study = camdrift.open(finished)
        for _ in range(3):
            study.scan("floor")
        assert read == [str(finished / "floor.parquet")]
        flip(finished / "floor.parquet")
        with pytest.raises(StoreError, match=r"floor\.parquet is not what was written"):
            study.scan("floor")

    def test_detect_that_is_stopped_leaves_a_run_that_can_be_read(self, whole, finished, monkeypatch):
        camdrift.detect(camdrift.open(finished))
        before = listing(finished)

        def stop_at_the_second(path):
            if path.name == "roc.parquet":
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("camdrift.storage.replacement.sync", stop_at_the_second)
            with pytest.raises(KeyboardInterrupt):
                camdrift.detect(camdrift.open(finished))
        assert listing(finished) == before
        assert camdrift.verify(finished, sample=0).problems == ()

    def test_detect_does_not_vouch_for_what_it_has_not_written(self, finished):
        flip(finished / GALLERY)
        camdrift.detect(camdrift.open(finished))
        (problem,) = camdrift.verify(finished, sample=0).problems
        assert problem.startswith(f"{GALLERY} is not what was written")

    def test_detect_notes_nothing_where_nothing_was_noted(self, finished):
        record = json.loads((finished / "run.json").read_text())
        (finished / "run.json").write_text(json.dumps({**record, "files": None}))
        camdrift.detect(camdrift.open(finished))
        assert camdrift.open(finished).record["files"] is None
        assert camdrift.verify(finished, sample=0).skipped[0].startswith("checksums: ")

    def test_detect_notes_its_tables(self, eight, finished):
        camdrift.detect(camdrift.open(finished))
        files = camdrift.open(finished).record["files"]
        assert {"detection.parquet", "roc.parquet"} < files.keys()
        study_of(tiny_classifier(), eight, finished, **SMALL, resume=True)

    def test_a_record_of_before_names_none(self, eight, whole, finished):
        record = json.loads((finished / "run.json").read_text())
        del record["files"]
        (finished / "run.json").write_text(json.dumps(record))
        assert_same(study_of(tiny_classifier(), eight, finished, **SMALL, resume=True), whole)
