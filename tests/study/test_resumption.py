"""Interrupted and resumed: the tables are those of the run that nobody disturbed."""

import json
import shutil
import time

import numpy as np
import pytest
import torch

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.study import finishing
from support.studies import (
    SMALL,
    assert_same,
    listing,
    stop_when,
    study_of,
    tiny_classifier,
)

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def whole(classifier, eight, tmp_path_factory, no_report):
    """The study that nobody interrupted."""
    return study_of(classifier, eight, tmp_path_factory.mktemp("whole") / "run", **SMALL)


class TestResume:
    @pytest.fixture
    def broken(self, classifier, eight, tmp_path):
        """A run directory with one of three chunks."""
        return self.interrupt(classifier, eight, tmp_path / "run", lambda p: p.seeds_done >= 3)

    def interrupt(self, classifier, images, out, condition):
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, images, out, **SMALL, on_progress=stop_when(condition))
        return out

    @pytest.mark.parametrize(
        "condition",
        [
            lambda p: True,
            lambda p: p.stage == "explain",
            lambda p: (p.stage, p.seeds_done) == ("write", 3),
            lambda p: p.stage == "attack" and p.seeds_done >= 3,
            lambda p: (p.stage, p.seeds_done) == ("write", 6),
            lambda p: (p.stage, p.seeds_done) == ("write", 8),
            lambda p: p.stage == "statistics",
            lambda p: p.stage == "report",
        ],
        ids=["at once", "chunk 1", "after 1", "chunk 2", "after 2", "after 3", "statistics", "report"],
    )
    def test_interrupted_anywhere_it_ends_the_same(self, classifier, eight, whole, tmp_path, condition):
        out = self.interrupt(classifier, eight, tmp_path / "run", condition)
        with pytest.raises(StoreError, match="is not complete"):
            camdrift.open(out)
        resumed = study_of(classifier, eight, out, **SMALL, resume=True)
        assert_same(resumed, whole)
        assert {p.name for p in out.iterdir()} == {p.name for p in whole.path.iterdir()}
        assert_same_gallery(out, whole.path)

    def test_who_stops_it_does_not_wait_for_the_gallery(self, classifier, eight, whole, tmp_path, monkeypatch):
        """It is packed beside the statistics, for minutes where it shows thousands of images."""
        taken, packed = [], finishing._gallery

        def slow(*own):
            for number, pair in enumerate([*packed(*own)]):
                time.sleep(0.02)
                taken.append(number)
                yield pair
            taken.append("all")

        with monkeypatch.context() as patch:
            patch.setattr(finishing, "_gallery", slow)
            out = self.interrupt(classifier, eight, tmp_path / "run", lambda p: p.stage == "statistics")
        assert "all" not in taken
        assert not (out / "gallery.npz").exists()
        assert_same(study_of(classifier, eight, out, **SMALL, resume=True), whole)
        assert_same_gallery(out, whole.path)

    @pytest.mark.parametrize("gallery", [0, 1, 3])
    def test_the_gallery_is_the_same_when_it_shows_some_seeds(self, classifier, eight, tmp_path, gallery):
        options = {**SMALL, "gallery": gallery}
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, eight, tmp_path / "run", **options, on_progress=stop_when(lambda p: p.seeds_done >= 6))
        for name, more in (("run", {"resume": True}), ("whole", {})):
            study_of(classifier, eight, tmp_path / name, **options, **more)
        assert_same_gallery(tmp_path / "run", tmp_path / "whole", seeds=gallery)

    def test_interrupted_again_and_again(self, classifier, eight, whole, tmp_path):
        out = self.interrupt(classifier, eight, tmp_path / "run", lambda p: p.seeds_done >= 3)
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, eight, out, **SMALL, resume=True, on_progress=stop_when(lambda p: p.seeds_done >= 6))
        assert_same(study_of(classifier, eight, out, **SMALL, resume=True), whole)

    def test_stored_chunks_are_not_computed_again(self, classifier, eight, broken):
        seen = []
        study_of(classifier, eight, broken, **SMALL, resume=True, on_progress=seen.append)
        assert min(p.seeds_done for p in seen if p.stage == "attack") >= 3
        assert max(p.seeds_done for p in seen) == 8
        assert {p.seeds_total for p in seen} == {8}

    def test_a_half_written_chunk_is_replaced(self, classifier, eight, whole, broken):
        part = broken / "chunks" / "00001.part"
        part.mkdir()
        (part / "seeds.parquet").write_bytes(b"PAR1 half")
        (part / "left over").write_text("")
        assert_same(study_of(classifier, eight, broken, **SMALL, resume=True), whole)
        assert not (broken / "chunks").exists()

    def test_killed_while_tidying_up_the_study_is_done(self, classifier, eight, whole, tmp_path, monkeypatch):
        """Half of the chunks are gone when the process dies: the tables already hold everything."""

        def die(directory):
            shutil.rmtree(directory.path / "chunks" / "00000")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("camdrift.storage.run_directory.RunDirectory.drop_chunks", die)
            with pytest.raises(KeyboardInterrupt):
                study_of(classifier, eight, tmp_path / "run", **SMALL)
        assert_same(study_of(classifier, eight, tmp_path / "run", **SMALL, resume=True), whole)
        assert not (tmp_path / "run" / "chunks").exists()

    def test_batch_size_stays(self, classifier, eight, whole, broken):
        with pytest.raises(StoreError, match="batch_size was 64, now 2"):
            study_of(classifier, eight, broken, **SMALL, resume=True, batch_size=2)
        assert_same(study_of(classifier, eight, broken, **SMALL, resume=True, batch_size=64), whole)

    def test_another_number_of_threads_is_told(self, classifier, eight, tmp_path):
        """They add up in another order, which an iterated attack amplifies; what goes on alike is not told."""
        threads, warnings = torch.get_num_threads(), {}
        for before in (threads, threads + 1):
            try:
                torch.set_num_threads(before)
                out = self.interrupt(classifier, eight, tmp_path / str(before), lambda p: p.seeds_done >= 6)
            finally:
                torch.set_num_threads(threads)
            study = study_of(classifier, eight, out, **SMALL, resume=True)
            assert study.record["engine"]["threads"] == threads
            texts = study.record["preflight"]["warnings"]
            warnings[before] = [text for text in texts if text.startswith("resumed where ")]
        assert warnings[threads] == []
        (text,) = warnings[threads + 1]
        change = f"the number of threads was {threads + 1}, now {threads} (OMP_NUM_THREADS={threads + 1} keeps it)"
        assert text.startswith(f"resumed where {change}: similarities before and after may differ")

    def test_a_finished_run_is_returned_untouched(self, classifier, eight, whole):
        before = listing(whole.path)
        again = study_of(
            classifier, eight, whole.path, **SMALL, resume=True, on_start=pytest.fail, on_progress=pytest.fail
        )
        assert_same(again, whole)
        assert listing(whole.path) == before

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"strengths": (1.0, 2.0)}, r"strengths was \[1\.0\], now \[1\.0, 2\.0\]"),
            ({"noise_ladder": ()}, r"noise_ladder was \[4\.0\], now \[\]"),
            ({"targets": ("own",)}, r"targets was \['own', 'seed'\], now \['own'\]"),
            ({"rng_seed": 3}, "rng_seed was 0, now 3"),
            ({"noise_draws": 2}, "noise_draws was 1, now 2"),
            ({"gallery": None}, "gallery was 24, now None"),
            ({"chunk_size": 4}, "chunk_size was 3, now 4"),
            ({"attack": "dlfuzz"}, "attack was .*logit.*, now dlfuzz"),
            ({"layers": ("stem",)}, r"layers was \[\], now \['stem'\]"),
            ({"limit": 5}, "limit was None, now 5"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_other_options_are_refused(self, classifier, eight, broken, changed, named):
        before = listing(broken)
        with pytest.raises(StoreError, match=named) as caught:
            study_of(classifier, eight, broken, **{**SMALL, **changed}, resume=True)
        assert "of the first command" in caught.value.hint
        assert listing(broken) == before

    @pytest.mark.parametrize(
        ("model", "named"),
        [
            (lambda: tiny_classifier(rng_seed=5), "weights was those of checksum [0-9a-f]{12}, now"),
            (lambda: tiny_classifier(spec="another"), "model was TinyNet, now another"),
            (lambda: tiny_classifier(precision="bf16"), "precision was fp32, now bf16"),
            (lambda: tiny_classifier(resize=40), "input was .*resize 32.* now .*resize 40"),
            (
                lambda: tiny_classifier(resize=0, interpolation="nearest"),
                "input was .*resize 32, interpolation bilinear.* now .*resize 0, interpolation nearest",
            ),
        ],
        ids=["weights", "spec", "precision", "input", "squeezed"],
    )
    def test_another_model_is_refused(self, eight, broken, model, named):
        with pytest.raises(StoreError, match=named):
            study_of(model(), eight, broken, **SMALL, resume=True)

    def test_squeezed_images_resume_too(self, eight, tmp_path):
        """Read without a crop, as Keras does: the images of the finished chunks are found unchanged."""
        squeezing = tiny_classifier(resize=0, interpolation="nearest")
        whole = study_of(squeezing, eight, tmp_path / "whole", **SMALL)
        broken = self.interrupt(squeezing, eight, tmp_path / "run", lambda p: p.seeds_done >= 3)
        assert_same(study_of(squeezing, eight, broken, **SMALL, resume=True), whole)

    def test_other_images_are_refused(self, classifier, eight, broken, tmp_path):
        more = shutil.copytree(eight, tmp_path / "more")
        shutil.copyfile(eight / "img_00.png", more / "new.png")
        with pytest.raises(StoreError, match=r"list of images was 8 of checksum .*, now 9 of checksum"):
            study_of(classifier, more, broken, **SMALL, resume=True)

    def test_images_that_have_changed_are_refused(self, classifier, eight, broken, tmp_path):
        same = shutil.copytree(eight, tmp_path / "same")
        shutil.copyfile(eight / "img_05.png", same / "img_01.png")
        with pytest.raises(StoreError, match=r"same images, got: 1 changed \(first: img_01\.png\)"):
            study_of(classifier, same, broken, **SMALL, resume=True)

    def test_there_must_be_a_run_to_resume(self, classifier, eight, tmp_path):
        with pytest.raises(StoreError, match=r"no run in .*nothing \(run.json is missing\)"):
            study_of(classifier, eight, tmp_path / "nothing", **SMALL, resume=True)
        assert not (tmp_path / "nothing").exists()

    def test_contradictions(self, classifier, eight, broken):
        with pytest.raises(UserError, match="got: --resume and --overwrite"):
            study_of(classifier, eight, broken, **SMALL, resume=True, overwrite=True)
        with pytest.raises(UserError, match="got: --resume without --out"):
            study_of(classifier, eight, None, **SMALL, resume=True)


def assert_same_gallery(one, other, seeds=None):
    with np.load(one / "gallery.npz") as mine, np.load(other / "gallery.npz") as theirs:
        shown = len(mine["seed_ids"])
        assert shown > 3 if seeds is None else shown == seeds
        assert mine.files == theirs.files
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files)


class TestLostChunks:
    """A chunk that is gone before it is merged: cleaners of old files, a second process where there are no locks."""

    def lose(self, out, times, seen):
        """A progress callback that removes the first chunk when the last one is stored."""

        def on_progress(progress):
            seen.extend(progress.warnings)
            if progress.stage == "write" and progress.seeds_done == 8 and times:
                times.pop()
                shutil.rmtree(out / "chunks" / "00000")

        return on_progress

    def test_is_computed_again_and_told(self, classifier, eight, whole, tmp_path):
        out, seen = tmp_path / "run", []
        study = study_of(classifier, eight, out, **SMALL, on_progress=self.lose(out, [1], seen))
        assert_same(study, whole)
        assert "chunk 00000 is done again: it is gone" in seen

    def test_again_and_again_stops_the_run(self, classifier, eight, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(StoreError, match=r"chunk 00000 of .*run is lost again each time .*: it is gone") as caught:
            study_of(classifier, eight, out, **SMALL, on_progress=self.lose(out, [1] * 9, []))
        assert "--resume" in caught.value.hint
        assert json.loads((out / "run.json").read_text())["status"] == "running"


class TestReplaced:
    """`--overwrite` that is stopped: the old run is whole, and the new one goes on."""

    def test_old_until_the_new_one_is_complete(self, classifier, eight, whole, tmp_path):
        out = shutil.copytree(whole.path, tmp_path / "run")
        other = {**SMALL, "rng_seed": 1}
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, eight, out, **other, overwrite=True, on_progress=stop_when(lambda p: p.seeds_done > 3))
        assert_same(camdrift.open(out), whole)
        study = study_of(classifier, eight, out, **other, resume=True)
        assert study.path == out
        assert study.record["arguments"]["effective"]["rng_seed"] == 1
        assert_same(camdrift.open(out), study)
        assert {path.name for path in out.iterdir()} == {path.name for path in whole.path.iterdir()}
