"""Chunks are handed out one by one; lost ones again; nothing is handed out after a stop. No process is started here."""

import importlib
import importlib.util
import logging
import os
import pickle
import signal
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import camdrift
from camdrift.engine import dispatch, workplace
from camdrift.engine.actor import portable
from camdrift.engine.engine import Engine, engine_of
from camdrift.engine.interruption import Stopped
from camdrift.engine.ray_cluster import Team, _own_ray, cluster, team
from camdrift.engine.worker import ChunkProgress, Worker
from camdrift.errors import ImageError, StoreError, UserError
from camdrift.models.copies import copy_of, restore
from camdrift.storage.remote_directory import gather
from camdrift.storage.run_directory import RunDirectory
from support.comparisons import skip_page
from support.rays import FakeRay, RayError
from support.studies import (
    ATTACK,
    SMALL,
    assert_same,
    skip_report,
    study_of,
    tiny_classifier,
    write_factory,
    write_images,
)

QUICK = {**SMALL, "targets": ("seed",), "gallery": 2}


@pytest.fixture(scope="module")
def whole(eight, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return study_of(tiny_classifier(), eight, tmp_path_factory.mktemp("whole") / "run", **QUICK)


@pytest.fixture
def spec(tmp_path):
    return write_factory(tmp_path)


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Workers leave variables, threads and places of modules to the process, which is this one."""
    skip_report(monkeypatch)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(workplace, "_PATIENCE", 0.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def study(monkeypatch, eight, tmp_path):
    """A study with the workers of a `FakeRay`."""
    pytest.importorskip("ray")

    def run(fake, classifier=None, images=eight, workers=2, **options):
        monkeypatch.setattr(dispatch, "cluster", fake.cluster)
        model = tiny_classifier() if classifier is None else classifier
        options = {**QUICK, "engine": "ray", "workers": workers, **options}
        return study_of(model, images, tmp_path / "run", **options)

    return run


def is_chunk(call, index):
    return call.name == "compute" and call.arguments[0] == index


class TestChunks:
    def test_all_are_computed(self, study, whole):
        fake, seen = FakeRay(idle=5), []
        made = study(fake, on_progress=seen.append)
        assert_same(made, whole)
        assert made.record["engine"] == {"name": "ray", "address": None, "workers": 2, "threads": 1}
        assert made.record["timings"]["attack"] > 0
        assert made.record["arguments"]["effective"]["batch_size"] == 64
        assert [p.seeds_done for p in seen if p.stage == "write"] == [3, 6, 8]
        assert {p.seeds_total for p in seen} == {8}
        assert all(handle.is_dead for handle in fake.handles)

    def test_progress_in_between(self, study):
        """Workers are looked at while nothing is ready."""
        seen = []

        class Slow(FakeRay):
            def wait(self, calls, *, num_returns=1, timeout=None):
                if num_returns == 1 and calls[0].name == "compute" and not seen:
                    calls[0].handle.actor._worker.progress = ChunkProgress("explain", 2, 1)
                    seen.append(calls[0])
                    return [], calls
                return super().wait(calls, num_returns=num_returns, timeout=timeout)

        shown = []
        study(Slow(), on_progress=shown.append)
        assert ("explain", 2, 1) in [(p.stage, p.seeds_done, p.successes) for p in shown]

    def test_no_more_workers_than_chunks(self, study):
        fake = FakeRay(processors=(64,))
        study(fake, workers=None)
        assert len(fake.handles) == 3

    def test_a_worker_that_dies_is_replaced(self, study, whole):
        class Mortal(FakeRay):
            def before(self, call):
                if is_chunk(call, 1) and len(self.handles) == 2:
                    raise RayError("killed")

        fake, seen = Mortal(), []
        assert_same(study(fake, on_progress=seen.append), whole)
        assert len(fake.handles) == 3
        assert [text for p in seen for text in p.warnings] == ["a worker died: chunk 00001 is done again"]

    def test_a_chunk_that_was_stored_before_its_worker_died_is_not_done_again(self, study, whole):
        computed = []

        class Mortal(FakeRay):
            def after(self, call, said):
                if call.name == "compute":
                    computed.append(call.arguments[0])
                if is_chunk(call, 0):
                    raise RayError("killed")
                return said

        assert_same(study(Mortal()), whole)
        assert sorted(computed) == [0, 1, 2]

    def test_a_chunk_that_kills_its_workers_is_named(self, study, whole, eight, tmp_path):
        class Mortal(FakeRay):
            def before(self, call):
                if is_chunk(call, 1):
                    raise RayError("The actor died.\n\tWorker exit detail: it was killed. Some common causes include")

        fake = Mortal()
        with pytest.raises(UserError) as caught:
            study(fake)
        assert caught.value.message == (
            "3 workers died over chunk 00001 (seeds img_03.png, img_04.png, img_05.png): it was killed."
        )
        assert "--workers" in caught.value.hint
        assert all(handle.is_dead for handle in fake.handles)
        assert 1 not in RunDirectory(tmp_path / "run").chunks_done()
        assert_same(study_of(tiny_classifier(), eight, tmp_path / "run", **QUICK, resume=True), whole)

    def test_workers_that_never_get_ready(self, study):
        class Mortal(FakeRay):
            def before(self, call):
                raise RayError("creation task failed\nModuleNotFoundError: No module named 'camdrift'")

        message = r"3 workers died before they were ready \(ModuleNotFoundError: No module named 'camdrift'\)"
        with pytest.raises(UserError, match=message):
            study(Mortal())

    def test_workers_that_do_not_come_are_told(self, study, whole, monkeypatch):
        monkeypatch.setattr(dispatch, "_WAIT_SECONDS", 0.0)
        seen = []
        assert_same(study(FakeRay(idle=1), on_progress=seen.append), whole)
        told = "2 of 2 workers are not there yet; each asks for 1 CPUs, and Ray has 4 CPUs"
        assert [text for p in seen for text in p.warnings] == [told]

    def test_a_worker_that_never_comes_is_not_waited_for(self, study, whole):
        """The cluster has no room for it."""

        class Full(FakeRay):
            def wait(self, calls, *, num_returns=1, timeout=None):
                there = [call for call in calls if call.handle.number != 1]
                assert there, "nothing is left but to wait for ever"
                return there[:1], [call for call in calls if call is not there[0]]

        fake = Full()
        assert_same(study(fake), whole)
        assert all(handle.is_dead for handle in fake.handles)

    def test_asked_to_stop_it_ends_with_the_chunks_in_hand(self, study, whole, tmp_path):
        def stop(progress):
            if progress.stage == "write":
                raise KeyboardInterrupt

        fake = FakeRay()
        with pytest.raises(KeyboardInterrupt):
            study(fake, on_progress=stop)
        assert RunDirectory(tmp_path / "run").chunks_done() == {0, 1}
        assert all(handle.is_dead for handle in fake.handles)
        seen = []
        assert_same(study(FakeRay(), resume=True, workers=3, on_progress=seen.append), whole)
        assert [p.seeds_done for p in seen if p.stage == "write"] == [3, 6, 8]

    def test_stopped_at_once_the_workers_are_gone(self, study, tmp_path):
        class Interrupted(FakeRay):
            def before(self, call):
                if is_chunk(call, 1):
                    raise KeyboardInterrupt

        fake = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            study(fake)
        assert all(handle.is_dead for handle in fake.handles)

    def test_begun_here_and_ended_by_workers(self, study, whole, eight, tmp_path):
        def stop(progress):
            if progress.stage == "write":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study_of(tiny_classifier(), eight, tmp_path / "run", **QUICK, on_progress=stop)
        made = study(FakeRay(), resume=True)
        assert_same(made, whole)
        assert made.record["engine"]["name"] == "ray"

    def test_nothing_left_to_do_needs_no_worker(self, study, whole, tmp_path):
        study(FakeRay())
        fake = FakeRay()
        assert_same(study(fake, resume=True), whole)
        assert fake.handles == []


class TestKinds:
    """What workers must be told of besides the model."""

    @pytest.mark.parametrize("kind", ["surrogate", "denoised", "bf16", "stored", "labels"])
    def test_equal_to_the_local_one(self, study, eight, tmp_path, kind):
        classifier, images, options = tiny_classifier(), eight, {}
        if kind == "surrogate":
            options["surrogate"] = camdrift.load_model(write_factory(tmp_path, rng_seed=2), device="cpu")
        elif kind == "denoised":
            options["denoised"] = True
        elif kind == "bf16":
            classifier = tiny_classifier(precision="bf16")
        elif kind == "stored":
            options = {"attack": "dlfuzz", "adversarial": write_images(tmp_path / "mine", 3)}
        else:
            classifier = tiny_classifier(labels=["ant", "bee", *"cdefghij"])
            images = tmp_path / "classes"
            for name, count in (("ant", 4), ("bee", 3)):
                write_images(images / name, count)
            options["targets"] = ("seed", "label")
        local = study_of(classifier, images, tmp_path / "local", **{**QUICK, **options})
        made = study(FakeRay(), classifier, images, **options)
        assert_same(made, local)
        tables = sorted(path.name for path in local.path.glob("*.parquet"))
        assert sorted(path.name for path in made.path.glob("*.parquet")) == tables
        for name in tables:
            assert_frame_equal(pl.read_parquet(made.path / name), pl.read_parquet(local.path / name), check_exact=True)

    def test_a_reproduction(self, eight, tmp_path, monkeypatch):
        pytest.importorskip("ray")
        monkeypatch.setattr(dispatch, "cluster", FakeRay().cluster)
        options = {"attack": ATTACK, "strengths": (1.0,), "noise_ladder": (4.0,), "chunk_size": 3, "limit": 4}
        local = camdrift.reproduce(tiny_classifier(), eight, out=tmp_path / "local", **options)
        made = camdrift.reproduce(tiny_classifier(), eight, out=tmp_path / "run", **options, engine="ray", workers=2)
        assert_same(made, local)
        for name in ("emulation", "ladder", "claims", "denoised"):
            assert_frame_equal(getattr(made, name), getattr(local, name), check_exact=True)

    def test_a_sweep(self, eight, spec, tmp_path, monkeypatch):
        pytest.importorskip("ray")
        skip_page(monkeypatch)
        module = importlib.import_module("camdrift.comparison.sweep")  # the package has a function of this name
        monkeypatch.setattr(module, "compare", partial(camdrift.compare, n_bootstrap=20))
        monkeypatch.setattr(dispatch, "cluster", FakeRay().cluster)
        grid = tmp_path / "grid.toml"
        grid.write_text(
            f'images = "{eight}"\nstrengths = [1]\nnoise_ladder = [4]\nchunk_size = 3\nlimit = 4\n'
            f'[[models]]\nmodel = "{spec}"\n[[attacks]]\nattack = "{ATTACK}"\n[[attacks]]\nattack = "fgsm"\n'
        )
        done = camdrift.sweep(grid, out=tmp_path / "all", engine="ray", workers=2)
        assert done.failures == []
        assert [study.record["engine"]["workers"] for study in done.studies] == [2, 2]


class TestErrors:
    def test_of_a_model_that_comes_out_otherwise(self, study, tmp_path):
        """Weights that are drawn at random are others in every process."""
        drawn = "\nnet = build\n\n\ndef build():\n    made = net()\n    made.head.bias.data += torch.rand(10)\n"
        drawn += "    return made\n"
        spec = write_factory(tmp_path, extra=drawn)
        classifier = camdrift.load_model(spec, device="cpu")
        with pytest.raises(UserError, match=r"`model` must have the same weights on every worker, got: .*tiny\.py"):
            study(FakeRay(), classifier)

    def test_a_model_changed_after_loading_is_not_loaded_again(self, study, tmp_path):
        classifier = camdrift.load_model(write_factory(tmp_path), device="cpu")
        with torch.no_grad():
            classifier.module.head.bias += 1
        with pytest.raises(UserError, match="same weights") as caught:
            study(FakeRay(), classifier)
        assert "camdrift.wrap" in caught.value.hint

    def test_of_a_module_that_cannot_be_pickled(self, study):
        classifier = tiny_classifier()
        classifier.module.made_of = (number for number in range(3))
        with pytest.raises(UserError, match=r"which cannot be pickled \(TypeError: cannot pickle 'generator' object\)"):
            study(FakeRay(), classifier)

    def test_of_images_that_only_a_worker_cannot_read(self, study, tmp_path):
        """They would become rows of the table, and nobody would know."""
        from dataclasses import replace

        class Blind(FakeRay):
            def after(self, call, said):
                return replace(said, unreadable={"img_04.png": "cannot be opened"}) if is_chunk(call, 1) else said

        with pytest.raises(UserError, match=r"got: img_04\.png, which is read here, but not on one \(cannot be opened"):
            study(Blind())
        assert 1 not in RunDirectory(tmp_path / "run").chunks_done()

    def test_images_that_nobody_can_read_are_rows(self, study, tmp_path):
        images = write_images(tmp_path / "images", 4)
        (images / "img_01.png").write_bytes(b"no picture")
        local = study_of(tiny_classifier(), images, tmp_path / "local", **QUICK)
        assert_same(study(FakeRay(), images=images), local)

    def test_of_a_run_directory_that_a_worker_does_not_see(self, study, monkeypatch):
        monkeypatch.setattr(workplace.Workplace, "_is_there", lambda *_: False)
        with pytest.raises(StoreError, match="`out` must be a folder that every worker sees"):
            study(FakeRay())

    def test_of_a_folder_that_a_worker_lacks(self, study, monkeypatch, tmp_path):
        monkeypatch.setattr(workplace.Path, "cwd", lambda: tmp_path / "elsewhere")
        with pytest.raises(UserError, match=r"needs the folder of the command on every worker, got: none"):
            study(FakeRay())

    def test_of_no_memory(self, study, monkeypatch):
        def fail(*_):
            raise MemoryError

        monkeypatch.setattr("camdrift.pipeline.chunk.study_chunk", fail)
        with pytest.raises(UserError, match="`batch_size` 1 needs more memory than there is: MemoryError") as caught:
            study(FakeRay())
        assert "free some memory" in caught.value.hint

    def test_of_foreign_code_name_images_and_place(self, study, monkeypatch):
        def fail(*_):
            raise ZeroDivisionError("by nought")

        monkeypatch.setattr("camdrift.pipeline.chunk.study_chunk", fail)
        with pytest.raises(UserError, match=r"failed on .*: ZeroDivisionError: by nought.*test_dispatch\.py"):
            study(FakeRay())

    @pytest.mark.parametrize("error", [UserError("what", "cure"), StoreError("a", "b"), ImageError("c")])
    def test_mistakes_travel_whole(self, error):
        there = pickle.loads(pickle.dumps(portable(error)))
        assert (type(there), there.message, there.hint) == (type(error), error.message, error.hint)

    def test_an_error_that_cannot_travel_is_told_all_the_same(self):
        class LocalError(Exception):
            pass

        there = pickle.loads(pickle.dumps(portable(LocalError("here only"))))
        assert (type(there), str(there)) == (RuntimeError, "LocalError: here only")
        assert there.__notes__


class TestEngine:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "dask"}, "`engine` must be one of local, ray, got: dask"),
            ({"workers": 2}, "`workers` must come with `engine` ray, got: 2"),
            ({"address": "here:1"}, "`address` must come with `engine` ray, got: here:1"),
            ({"name": "ray", "workers": 0}, "`workers` must be an integer of at least 1, got: 0"),
            ({"name": "ray", "address": "ray://head:10001"}, "`address` must be HOST:PORT of a running Ray cluster"),
            ({"name": "ray", "address": ""}, "got: nothing"),
        ],
    )
    def test_mistakes(self, options, message):
        with pytest.raises(UserError, match=message):
            Engine(**options)

    def test_without_ray(self, monkeypatch):
        found = importlib.util.find_spec
        monkeypatch.setattr("camdrift.engine.engine.find_spec", lambda name: None if name == "ray" else found(name))
        with pytest.raises(UserError, match="needs Ray, which is not installed") as caught:
            Engine("ray")
        assert "[ray]" in caught.value.hint
        assert Engine("local").as_record() == {"name": "local", "address": None, "workers": None}

    def test_all_in_one(self):
        pytest.importorskip("ray")
        assert engine_of(Engine("ray", workers=2)) == engine_of("ray", None, 2)
        with pytest.raises(UserError, match="must come alone"):
            engine_of(Engine("ray"), None, 2)


class TestTeam:
    """Workers never span machines, and never outnumber the chunks."""

    @pytest.mark.parametrize(
        ("processors", "gpus", "workers", "chunks", "expected"),
        [
            ((2,), (0,), None, 9, (1, 2)),
            ((2,), (0,), 2, 9, (2, 1)),
            ((8,), (0,), None, 9, (4, 2)),
            ((8,), (0,), 3, 9, (3, 2)),
            ((8,), (0,), 8, 2, (2, 4)),
            ((2,), (0,), 5, 9, (5, 1)),
            ((4, 4), (0, 0), 1, 9, (1, 4)),
            ((3, 3), (0, 0), 3, 9, (3, 1)),
            ((16, 2), (0, 0), 2, 9, (2, 8)),
            ((0, 8), (0, 0), 2, 9, (2, 4)),
            ((8, 8), (2, 2), None, 9, (4, 4)),
        ],
    )
    def test_shares(self, monkeypatch, processors, gpus, workers, chunks, expected):
        monkeypatch.delenv("OMP_NUM_THREADS")
        found = team(FakeRay(processors=processors, gpus=gpus), workers, chunks, is_gpu=any(gpus))
        assert (found.workers, found.threads) == expected
        assert found.options()["num_gpus"] == int(any(gpus))

    def test_threads_that_the_user_chose(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert team(FakeRay(processors=(8,)), 1, 9, is_gpu=False) == Team(1, 3, 3, 0, "8 CPUs")


class TestOwnRay:
    def test_what_it_sets_is_gone_afterwards(self, monkeypatch):
        pytest.importorskip("ray")
        names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_worker_niceness", "TMPDIR")
        for name in names:
            monkeypatch.delenv(name, raising=False)
        with _own_ray("/somewhere"):
            assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
            assert [os.environ[name] for name in names[2:]] == ["0", "/somewhere"]
            os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
        assert not set(names) & os.environ.keys()

    def test_what_the_user_has_set_stays(self, monkeypatch):
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        monkeypatch.setenv("RAY_worker_niceness", "7")
        before = dict(os.environ)
        with _own_ray("/somewhere"):
            assert dict(os.environ) == before | {"TMPDIR": "/somewhere", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        assert dict(os.environ) == before

    def test_an_address_where_nothing_answers(self, monkeypatch):
        """Ray's own words are many; ours are one line. No handler and no level of the logs stays changed."""
        ray = pytest.importorskip("ray")

        def refuse(**_):
            signal.signal(signal.SIGTERM, lambda *_: None)
            raise ConnectionError("Failed to connect\nand many more words")

        monkeypatch.setattr(ray, "init", refuse)
        before = signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level
        with pytest.raises(UserError) as caught, cluster("nowhere:6379", 1):
            pass
        assert caught.value.message == (
            "`address` must be that of a running Ray cluster, got: nowhere:6379 (ConnectionError: Failed to connect)"
        )
        assert (signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level) == before

    def test_terminated_while_ray_starts(self, monkeypatch):
        """Ray's handler of SIGTERM ends the program; ours says how to go on."""
        ray = pytest.importorskip("ray")
        monkeypatch.setattr(ray, "init", lambda **_: sys.exit(15))
        with pytest.raises(Stopped) as caught, cluster("head:6379", 1):
            pass
        assert caught.value.exit_code == 143

    def test_a_ray_that_does_not_start(self, monkeypatch):
        """It is given a second chance, and leaves no folder behind."""
        ray, folders = pytest.importorskip("ray"), []

        def fail(**options):
            folders.append(Path(options["_temp_dir"]))
            raise RuntimeError("timed out")

        monkeypatch.setattr(ray, "init", fail)
        message = "Ray cannot be started on this machine: RuntimeError: timed out"
        with pytest.raises(UserError, match=message), cluster(None, 1):
            pass
        assert len(folders) == 2
        assert not folders[0].exists()


class TestInHand:
    def test_a_study_says_when_no_chunk_is_in_hand(self, study):
        """So that a person who asks to stop before the first, or once all workers are gone, is heeded at once."""
        stages = []

        class Dying(FakeRay):
            def before(self, call):
                if is_chunk(call, 1) and len(self.handles) == 1:
                    raise RayError("The actor died.")

        study(Dying(), workers=1, on_progress=lambda progress: stages.append(progress.stage))
        first = stages.index("start")
        assert "attack" not in stages[:first]
        assert stages[first:].index("attack") > 0
        # A warning says that it died; then nobody has a chunk until another worker is there.
        again = [i for i, stage in enumerate(stages) if stage == "start" and i > stages.index("write")]
        assert again
        assert "attack" in stages[again[-1] :]

    def test_asked_to_stop_before_that_hands_out_nothing(self, study, tmp_path):
        def stop(progress):
            if progress.stage == "start":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study(FakeRay(), on_progress=stop)
        assert RunDirectory(tmp_path / "run").chunks_done() == set()


class TestRecipe:
    def test_of_a_model_that_was_changed_after_loading(self, spec):
        """The weights are the same, and the logits or what is done to images before are not."""
        changed = camdrift.load_model(spec, device="cpu")
        changed.module.body.register_forward_hook(lambda module, images, found: 2 * found)
        with pytest.raises(UserError, match=r"`model` must be the same on every worker, got: .* with other logits"):
            restore(copy_of(changed))
        resized = camdrift.load_model(spec, device="cpu")
        resized.resize += 8
        with pytest.raises(UserError, match="with other resize on one than where"):
            restore(copy_of(resized))

    def test_loaded_again(self, tmp_path):
        classifier = camdrift.load_model(write_factory(tmp_path), device="cpu", precision="bf16")
        recipe = copy_of(classifier)
        assert recipe.module is None
        made = restore(pickle.loads(pickle.dumps(recipe)))
        assert (made.precision, made.weights_checksum()) == ("bf16", classifier.weights_checksum())

    def test_sent_whole(self):
        pytest.importorskip("ray")
        classifier = tiny_classifier(labels=[f"kind {k}" for k in range(10)], resize=40, interpolation="nearest")
        made = restore(pickle.loads(pickle.dumps(copy_of(classifier))))
        for name in ("mean", "std", "size", "resize", "interpolation", "labels", "spec", "layers", "classes"):
            assert getattr(made, name) == getattr(classifier, name)
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        assert torch.equal(made(images), classifier(images))

    def test_of_a_factory_sent_whole(self, spec, monkeypatch):
        """Changed after loading and wrapped: no process knows the name of its class."""
        pytest.importorskip("ray")
        module = camdrift.load_model(spec, device="cpu").module
        with torch.no_grad():
            module.head.bias += 1
        recipe = pickle.dumps(copy_of(camdrift.wrap(module, size=32)))
        monkeypatch.delitem(sys.modules, type(module).__module__)
        made = restore(pickle.loads(recipe))
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        assert torch.equal(made.module(images), module(images))

    def test_of_a_class_that_the_other_process_does_not_know(self):
        from dataclasses import replace

        pytest.importorskip("ray")
        recipe = replace(copy_of(tiny_classifier()), module=b"cnowhere\nNet\n.")
        with pytest.raises(UserError, match=r"cannot unpickle .ModuleNotFoundError: No module named 'nowhere'"):
            restore(recipe)


class TestStoring:
    def test_two_who_store_the_same_chunk(self, whole, tmp_path):
        """One of them was given up for lost, and is not: whoever comes last finds it stored, whole."""
        directory = RunDirectory(tmp_path)
        tables = {"seeds": whole.seeds}
        directory.write_chunk(0, tables, {})
        directory.write_chunk(0, {"seeds": whole.seeds.head(0)}, {})
        assert directory.read_chunk(0, "seeds").equals(whole.seeds)
        assert [path.name for path in (tmp_path / "chunks").iterdir()] == ["00000"]

    def test_a_chunk_that_is_not_to_be_seen(self, whole, tmp_path):
        directory = RunDirectory(tmp_path)
        directory.write_chunk(0, {"seeds": whole.seeds}, {})
        gather(directory, [0])
        with pytest.raises(StoreError, match=r"lacks 1 chunks that workers have stored \(first: 00007\)"):
            gather(directory, [0, 7], patience=0)

    def test_what_a_worker_has_left_half_written_is_removed(self, tmp_path):
        left = tmp_path / "chunks" / "00003.0a1b2c3d.part"
        left.mkdir(parents=True)
        assert RunDirectory(tmp_path).drop_damaged_chunks() == {}
        assert not left.exists()


def test_a_worker_goes_on_with_what_memory_had_room_for(eight, tmp_path, monkeypatch):
    """The next chunk does not begin with the number of images per pass that was too much for this one."""
    from camdrift.pipeline import chunk

    sizes, compute = [], chunk.study_chunk

    def narrow(plan, files, advance):
        sizes.append(plan.batch_size)
        if plan.batch_size > 2:
            raise MemoryError
        return compute(plan, files, advance)

    pytest.importorskip("ray")
    monkeypatch.setattr(chunk, "study_chunk", narrow)
    fake, tasks = FakeRay(), []
    fake.put = lambda task: tasks.append(pickle.loads(task)) or task
    monkeypatch.setattr(dispatch, "cluster", fake.cluster)
    seen = []
    made = study_of(
        tiny_classifier(),
        eight,
        tmp_path / "run",
        **QUICK,
        batch_size=4,
        engine="ray",
        workers=1,
        on_progress=seen.append,
    )
    assert sizes == [4, 2, 2, 2]
    assert made.record["arguments"]["effective"]["batch_size"] == 2
    assert [text for p in seen for text in p.warnings] == ["memory ran out at 4 images per pass: going on with 2"]
    settings = Worker(tasks[0]).task.design.settings.as_record()
    assert settings.items() <= made.record["arguments"]["passed"].items()
