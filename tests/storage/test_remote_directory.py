"""A run directory at a URL: the same files there as in a folder, and nothing half written counts."""

import gc
import json
import re
import sys
from pathlib import Path

import fsspec
import pytest
from polars.testing import assert_frame_equal

import camdrift
from camdrift.cli import app as cli
from camdrift.engine import dispatch
from camdrift.engine.ray_cluster import cluster
from camdrift.errors import StoreError, UserError
from camdrift.storage.remote_directory import Remote, RemoteDirectory, gather, is_url
from support.rays import FakeRay
from support.studies import ATTACK, SMALL, assert_same, skip_report, stop_when, study_of, tiny_classifier

QUICK = {**SMALL, "targets": ("seed",), "layers": ("body", "last"), "gallery": 2}


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    skip_report(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


@pytest.fixture(scope="module")
def whole(eight, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return study_of(tiny_classifier(), eight, tmp_path_factory.mktemp("whole") / "run", **QUICK)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    """A place for a run that nothing lies at yet."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return "memory://bucket/runs/one" if request.param == "memory" else f"file://{tmp_path}/far/away"


def there(url):
    """Every file below a URL by its path from there."""
    files, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root).lstrip("/"): path for path in files.find(root)}


def stopped(url, eight, **options):
    """A run that was interrupted after its first chunk."""
    with pytest.raises(KeyboardInterrupt):
        study_of(tiny_classifier(), eight, url, **QUICK, on_progress=stop_when(lambda p: p.stage == "write"), **options)


class TestRuns:
    def test_all_files_are_there(self, url, eight, whole, tmp_path):
        starts = []
        study = study_of(tiny_classifier(), eight, url, **QUICK, on_start=starts.append)
        assert_same(study, whole)
        assert (study.place, starts) == (url, [url])
        assert set(there(url)) == {p.relative_to(whole.path).as_posix() for p in whole.path.rglob("*") if p.is_file()}
        assert study.path.is_dir()
        del study
        gc.collect()
        assert list((tmp_path / "temporary").iterdir()) == []
        again = camdrift.open(url)
        assert_same(again, whole)
        assert (again.record["status"], again.place) == ("done", url)

    def test_stopped_and_resumed(self, url, eight, whole, tmp_path):
        stopped(url, eight)
        assert {"run.json", "chunks/00000/checksums.json", "chunks/00000/seeds.parquet"} <= set(there(url))
        assert list((tmp_path / "temporary").iterdir()) == []
        with pytest.raises(StoreError, match="is not complete"):
            camdrift.open(url)
        seen = []
        study = study_of(tiny_classifier(), eight, url, **QUICK, resume=True, on_progress=seen.append)
        assert_same(study, whole)
        assert min(p.seeds_done for p in seen if p.stage == "attack") >= 3
        assert not [name for name in there(url) if name.startswith("chunks")]

    def test_a_finished_run_stays_as_it_is(self, url, eight, whole):
        study_of(tiny_classifier(), eight, url, **QUICK)
        files, _ = fsspec.core.url_to_fs(url)
        before = {name: files.modified(path) for name, path in there(url).items()}
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, resume=True), whole)
        with pytest.raises(StoreError, match="limit was None, now 7") as refusal:
            study_of(tiny_classifier(), eight, url, **QUICK, resume=True, limit=7)
        assert refusal.value.hint.endswith("; a run at a URL takes no more images")
        assert {name: files.modified(path) for name, path in there(url).items()} == before

    def test_a_chunk_that_was_half_sent_does_not_count(self, url, eight, whole):
        """Its checksums are sent last."""
        stopped(url, eight)
        Remote(url).remove("chunks/00000/checksums.json")
        seen = []
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, resume=True, on_progress=seen.append), whole)
        assert min(p.seeds_done for p in seen if p.stage == "attack") < 3
        assert [text for p in seen for text in p.warnings] == []

    def test_a_damaged_chunk_is_done_again(self, url, eight, whole, tmp_path):
        stopped(url, eight)
        files, _ = fsspec.core.url_to_fs(url)
        path = there(url)["chunks/00000/similarity.parquet"]
        data = bytearray(files.cat_file(path))
        data[len(data) // 2] ^= 1
        files.pipe_file(path, bytes(data))
        seen = []
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, resume=True, on_progress=seen.append), whole)
        (told,) = [text for p in seen for text in p.warnings]
        assert told.startswith("chunk 00000 is done again: similarity.parquet is not what was written")

    def test_killed_while_the_files_are_sent_the_run_is_not_done(self, url, eight, whole, monkeypatch):
        """The record is the last of them, and the chunks are still there."""
        put = Remote.put

        def dying(self, path, name):
            if name == "variants.parquet":
                raise KeyboardInterrupt
            put(self, path, name)

        with monkeypatch.context() as patch:
            patch.setattr(Remote, "put", dying)
            with pytest.raises(KeyboardInterrupt):
                study_of(tiny_classifier(), eight, url, **QUICK)
        files, _ = fsspec.core.url_to_fs(url)
        assert json.loads(files.cat_file(there(url)["run.json"]))["status"] == "running"
        seen = []
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, resume=True, on_progress=seen.append), whole)
        assert [p for p in seen if p.stage == "attack"] == []

    def test_by_workers(self, eight, whole, tmp_path, monkeypatch):
        """They send chunks, and the study that was started fetches them in the end."""
        pytest.importorskip("ray")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            monkeypatch.setenv(name, "1")
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(dispatch, "cluster", FakeRay().cluster)
        url = f"file://{tmp_path}/far/away"
        stopped(url, eight, engine="ray", workers=2)
        assert {name for name in there(url) if name.endswith("checksums.json")} == {
            "chunks/00000/checksums.json",
            "chunks/00001/checksums.json",
        }
        made = study_of(tiny_classifier(), eight, url, **QUICK, engine="ray", workers=2, resume=True)
        assert_same(made, whole)
        assert not [name for name in there(url) if name.startswith("chunks")]


class TestFinished:
    """What is done to a finished run at a URL stays there."""

    def test_report_and_detectors(self, url, eight, monkeypatch):
        study_of(tiny_classifier(), eight, url, **QUICK)
        Remote(url).remove("report.html")
        study = camdrift.open(url)
        study.report()
        assert "report.html" in there(url)
        camdrift.detect(study)
        assert {"detection.parquet", "roc.parquet", "figures/figure_10_detection.png"} <= set(there(url))
        again = camdrift.open(url)
        assert_frame_equal(again.detection, study.detection)
        found = camdrift.verify(url, sample=0)
        assert (found.problems, found.place) == ((), url)
        assert found.lines()[-1] == f"{url}: nothing differs"

    def test_chunks_that_were_left_when_the_command_was_killed(self, url, eight, whole):
        study_of(tiny_classifier(), eight, url, **QUICK)
        Remote(url).put(Path(__file__), "chunks/00000/seeds.parquet")
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, resume=True), whole)
        assert not [name for name in there(url) if name.startswith("chunks")]

    def test_other_figures_stay_when_it_is_replaced(self, url, eight):
        study_of(tiny_classifier(), eight, url, **QUICK)
        for name in ("my_own_plot.svg", "figure_99_old.png"):
            Remote(url).put(Path(__file__), f"figures/{name}")
        study_of(tiny_classifier(), eight, url, **QUICK, overwrite=True)
        assert "figures/my_own_plot.svg" in there(url)
        assert "figures/figure_99_old.png" not in there(url)

    def test_commands(self, url, eight, tmp_path, monkeypatch, capsys):
        if url.startswith("memory"):
            study_of(tiny_classifier(), eight, url, **QUICK)
            for words, last in (
                (["verify", url, "--sample", "0"], f"{url}: nothing differs"),
                (["report", url], f"{url}/report.html"),
                (["detect", url], f"{url}/figures/figure_10_detection.png"),
            ):
                monkeypatch.setattr(sys, "argv", ["camdrift", *words])
                with pytest.raises(SystemExit) as ended:
                    cli.main()
                assert ended.value.code in (0, None)
                assert capsys.readouterr().out.splitlines()[-1] == last
        (tmp_path / "grid.toml").write_text(
            f'images = "{eight}"\nout = "{url}"\n[[models]]\nmodel = "x"\n[[attacks]]\nattack = "y"\n'
        )
        for words in (["compare", "a", "b", "--out", url], ["sweep", str(tmp_path / "grid.toml")]):
            monkeypatch.setattr(sys, "argv", ["camdrift", *words])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == 2
            assert f"`out` must be a folder, got: {url} (a URL)" in capsys.readouterr().err


class TestPlaces:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"schema_version": 0}, "{url} has schema version 0"),
            ({"model": 3}, "{url}/run.json is not what camdrift wrote: model must be an object, got: 3"),
            ({"status": "running"}, "the run in {url} is not complete"),
        ],
    )
    def test_what_is_wrong_is_told_of_the_url(self, url, eight, change, words, tmp_path):
        study_of(tiny_classifier(), eight, url, **QUICK)
        files, _ = fsspec.core.url_to_fs(url)
        path = there(url)["run.json"]
        files.pipe_file(path, json.dumps(json.loads(files.cat_file(path)) | change).encode())
        with pytest.raises(StoreError, match=re.escape(words.format(url=url))):
            camdrift.open(url)
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_deep_nesting(self, url):
        files, root = fsspec.core.url_to_fs(url)
        if url.startswith("file"):
            files.makedirs(root)
        files.pipe_file(f"{root}/run.json", b"[" * 200_000)
        with pytest.raises(StoreError, match="no run in"):
            camdrift.open(url)

    def test_a_run_is_only_replaced_where_that_was_asked_for(self, url, eight, whole):
        stopped(url, eight)
        with pytest.raises(StoreError, match=r"`out` must be new, got: \w+://.* \(there is a run in it\)"):
            study_of(tiny_classifier(), eight, url, **QUICK)
        fsspec.core.open(f"{url}/notes.txt", "wb").open().close()
        assert_same(study_of(tiny_classifier(), eight, url, **QUICK, overwrite=True), whole)
        assert "notes.txt" in there(url)
        assert not [name for name in there(url) if name.startswith("chunks")]

    def test_other_things_are_left_alone(self, url, eight, tmp_path):
        Remote(url).put(Path(__file__), "notes.txt")
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="there are other things in it"):
                study_of(tiny_classifier(), eight, url, **QUICK, overwrite=overwrite)
        assert set(there(url)) == {"notes.txt"}
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_nothing_to_resume(self, url, eight):
        with pytest.raises(StoreError, match=r"no run in \w+://.* \(run.json is missing\)"):
            study_of(tiny_classifier(), eight, url, **QUICK, resume=True)
        with pytest.raises(StoreError, match="no run in"):
            camdrift.open(url)

    def test_another_study(self, url, eight):
        stopped(url, eight)
        with pytest.raises(StoreError, match=r"same study, got: \w+://.*, where rng_seed was 0, now 1"):
            study_of(tiny_classifier(), eight, url, **QUICK, resume=True, rng_seed=1)

    def test_a_kind_that_nobody_knows(self, eight):
        with pytest.raises(UserError, match=r"URL that fsspec can write to, got: nowhere://bucket/run \(ValueError"):
            study_of(tiny_classifier(), eight, "nowhere://bucket/run", **QUICK)

    def test_a_kind_that_needs_another_package(self, monkeypatch):
        def missing(_):
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr("fsspec.core.url_to_fs", missing)
        with pytest.raises(StoreError, match="needs another package: ImportError: Install s3fs to access S3"):
            Remote("s3://bucket/run")

    def test_a_store_that_does_not_answer(self, url, eight, monkeypatch):
        def refuse(self, *_, **__):
            raise ConnectionError("no route to host")

        monkeypatch.setattr(type(fsspec.core.url_to_fs(url)[0]), "put_file", refuse)
        with pytest.raises(StoreError, match=r"cannot write to \w+://.*: ConnectionError: no route to host"):
            study_of(tiny_classifier(), eight, url, **QUICK)

    def test_chunks_that_never_come(self, url, eight, tmp_path):
        directory = RemoteDirectory(tmp_path, url)
        with pytest.raises(StoreError, match="lacks 1 chunks that workers have stored"):
            gather(directory, [3], patience=0)

    @pytest.mark.parametrize(
        ("place", "expected"),
        [("s3://b/run", True), ("memory://run", True), ("runs/x", False), ("C:\\runs", False), (Path("s3://b"), False)],
    )
    def test_what_is_a_url(self, place, expected):
        assert is_url(place) is expected


def test_the_command_line_names_the_url(url, eight, tmp_path, monkeypatch, capsys):
    from support.studies import write_factory

    monkeypatch.chdir(tmp_path)
    line = ["run", str(eight), "--model", write_factory(tmp_path), "--attack", ATTACK, "--strengths", "1", "--out", url]
    monkeypatch.setattr(sys, "argv", ["camdrift", *line, "--limit", "2", "--noise-ladder", "4"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{url}/report.html"
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on a server of S3 that runs here."""
    pytest.importorskip("s3fs")
    pytest.importorskip("ray")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
        monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        fsspec.filesystem("s3", **options).mkdir("bucket")
        yield "s3://bucket/runs/one"
    finally:
        server.stop()


@pytest.mark.filterwarnings("ignore")
def test_s3_with_two_workers(bucket, eight, whole, monkeypatch):
    """Real processes, which know the server by the variables that they were started with."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("tempfile.tempdir", None)  # sockets have short paths only
    with cluster(None, 2):
        stopped(bucket, eight, engine="ray", workers=2)
        stored = {name for name in there(bucket) if name.endswith("checksums.json")}
        # The second worker may not have been ready when the first had stored a chunk.
        assert {"chunks/00000/checksums.json"} <= stored <= {f"chunks/0000{n}/checksums.json" for n in (0, 1)}
        made = study_of(tiny_classifier(), eight, bucket, **QUICK, resume=True, engine="ray", workers=2)
        assert_same(made, whole)
        assert not [name for name in there(bucket) if name.startswith("chunks")]
        assert_same(camdrift.open(bucket), whole)
