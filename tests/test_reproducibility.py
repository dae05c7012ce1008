"""The same study again: with another batch size, order, limit, layers, labels; in another place."""

import importlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from polars.testing import assert_frame_equal

import camdrift
from camdrift.errors import UserError
from camdrift.images.pixels import read_image
from camdrift.tensors import perturbed
from support.attacks import perturbations
from support.studies import (
    ATTACK,
    SIZE,
    SMALL,
    assert_close,
    assert_same,
    listing,
    naive_similarity,
    study_of,
    tiny_classifier,
    write_images,
)

OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (8.0,), "noise_draws": 2, "chunk_size": 5}
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 9)


@pytest.fixture(scope="module")
def study(classifier, photos, tmp_path_factory, no_report):
    return study_of(classifier, photos, tmp_path_factory.mktemp("study") / "run", **OPTIONS)


class TestReproducibility:
    """Results depend on images, model, options and the chunk: on nothing else."""

    def again(self, classifier, source, out, **changed):
        return study_of(classifier, source, out, **{**OPTIONS, **changed})

    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    def test_batch_size_changes_rounding_only(self, study, classifier, photos, tmp_path, batch_size):
        assert_close(self.again(classifier, photos, tmp_path / "run", batch_size=batch_size), study)

    def test_the_same_run_gives_the_same_tables(self, study, classifier, photos, tmp_path):
        assert_same(self.again(classifier, photos, tmp_path / "run"), study)

    def test_another_rng_seed_draws_other_noise(self, study, classifier, photos, tmp_path):
        other = self.again(classifier, photos, tmp_path / "run", rng_seed=1)
        clean = ["seed_id", "sha256", "clean_class", "clean_probability"]
        assert_frame_equal(other.seeds.select(clean), study.seeds.select(clean))
        both = other.seeds.join(study.seeds, on="seed_id").drop_nulls(["noise_mean", "noise_mean_right"])
        assert both.height > 4
        assert (both["noise_mean"] != both["noise_mean_right"]).all()
        key = ["seed_id", "condition", "strength", "draw", "target", "layer"]
        rows = other.similarity.join(study.similarity, on=key).filter(condition="noise").drop_nulls("similarity")
        assert (rows["similarity"] != rows["similarity_right"]).mean() > 0.9

    def test_the_order_of_files_does_not_matter(self, study, classifier, photos, tmp_path):
        """Copies made backwards, and paths given one by one, backwards."""
        copies = tmp_path / "copies"
        copies.mkdir()
        for path in sorted(photos.iterdir(), reverse=True):
            shutil.copyfile(path, copies / path.name)
        for number, source in enumerate((copies, sorted(photos.iterdir(), reverse=True))):
            assert_same(self.again(classifier, source, tmp_path / f"run{number}"), study, without=["path"])

    def test_further_draws_of_noise_add_rows_and_change_none(self, classifier, photos, tmp_path):
        """Coverage, too, counts the first draw alone; at this strength every draw covers other neurons."""
        strong = {"strengths": (1.0, 64.0), "limit": 2}
        one, three = (self.again(classifier, photos, tmp_path / str(n), noise_draws=n, **strong) for n in (1, 3))
        for name in ("seeds", "coverage", "floor"):
            assert_frame_equal(getattr(one, name), getattr(three, name))
        for name in ("variants", "similarity"):
            assert_frame_equal(getattr(one, name), getattr(three, name).filter(draw=0), rel_tol=1e-4)
        assert_frame_equal(one.focus, three.focus, rel_tol=1e-4, abs_tol=1e-6)
        assert set(three.variants.filter(condition="noise")["draw"]) == {0, 1, 2}

    def test_limit_spreads_over_the_list(self, classifier, photos, tmp_path):
        found = self.again(classifier, photos, tmp_path / "run", limit=4)
        assert found.seeds["seed_id"].to_list() == [f"img_{i:02d}.png" for i in (0, 4, 2, 6)]

    def test_layers_can_be_chosen(self, study, classifier, photos, tmp_path):
        found = self.again(classifier, photos, tmp_path / "run", layers="*st*")
        assert found.layers["layer"].unique().sort().to_list() == ["last", "stem"]
        key = ["seed_id", "condition", "strength", "draw", "target", "layer"]
        both = found.similarity.join(study.similarity, on=key)
        assert both.height == found.similarity.height
        assert_series_close(both["similarity"], both["similarity_right"])

    def test_the_models_own_state_is_left_as_it_was(self, photos, tmp_path):
        model = tiny_classifier()
        model.module.train()
        before = {name: value.clone() for name, value in model.module.state_dict().items()}
        self.again(model, photos, tmp_path / "run", limit=3)
        assert model.module.training
        assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


class TestLabels:
    def test_folders_that_are_classes_give_the_true_class(self, photos, tmp_path):
        names = [f"class {number}" for number in range(10)]
        model = tiny_classifier(labels=names)
        for number, path in enumerate(sorted(photos.iterdir())):
            folder = tmp_path / "sorted" / f"class_{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)
        options = {"targets": ("label", "own"), "strengths": (1.0,), "noise_ladder": ()}
        found = study_of(model, tmp_path / "sorted", tmp_path / "run", **options)
        labels = dict(found.seeds.select("seed_id", "label").iter_rows())
        assert labels == {name: int(name[6]) for name in labels}
        name = found.seeds.filter(status="analysed")["seed_id"][0]
        path = tmp_path / "sorted" / name
        image = read_image(path, size=SIZE, resize=SIZE).pixels
        delta = perturbation_of(model, image, found, name)
        maps = [camdrift.attribute(model, x[None], labels[name]) for x in (image, perturbed(image, delta))]
        rows = found.similarity.filter(seed_id=name, condition="adversarial", target="label")
        assert rows.height == len(model.layers)
        for layer, value in rows.select("layer", "similarity").drop_nulls().iter_rows():
            assert value == pytest.approx(naive_similarity(maps[0][layer], maps[1][layer]), abs=2e-4)

    def test_label_needs_labels(self, classifier, photos, tmp_path):
        with pytest.raises(UserError, match="`target` label must have images whose class is known"):
            study_of(classifier, photos, tmp_path / "run", targets=("label",))
        assert not (tmp_path / "run").exists()


def perturbation_of(model, image, found, name):
    """The perturbation of one seed of a study in one chunk."""
    names = found.seeds["seed_id"].to_list()
    paths = found.seeds["path"].to_list()
    images = [read_image(Path(path), size=SIZE, resize=SIZE).pixels for path in paths]
    return perturbations(ATTACK, model, dict(zip(names, images, strict=True)))[name]


class TestWhere:
    def test_the_images_and_the_working_directory_are_left_alone(self, classifier, photos, tmp_path, monkeypatch):
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        before = listing(photos)
        study_of(classifier, photos, tmp_path / "elsewhere" / "deep" / "run", limit=3)
        assert listing(photos) == before
        assert list(here.iterdir()) == []
        assert {p.name for p in tmp_path.iterdir()} == {"here", "elsewhere"}

    def test_by_default_every_run_gets_its_own_folder_under_runs(self, classifier, photos, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = {"attack": ATTACK, "limit": 2, "strengths": (1.0,), "noise_ladder": ()}
        paths = [camdrift.run(classifier, photos, **options).path for _ in range(2)]
        assert paths[0] != paths[1]
        assert [path.parent.as_posix() for path in paths] == ["runs", "runs"]
        assert all(path.name.startswith("TinyNet-dlfuzz-") for path in paths)

    @pytest.mark.parametrize("name", ["plain", "a [1], b%20*?", "<b>", "ünïcode 象"])
    def test_any_name_will_do_for_a_run(self, classifier, photos, tmp_path, name):
        out = tmp_path / name
        study_of(classifier, photos, out, limit=3, **SMALL)
        assert camdrift.open(out).seeds.height == 3

    def test_the_function_stays_reachable_when_its_module_is_imported(self):
        module = importlib.import_module("camdrift.study.run")
        assert camdrift.run is module.run
        assert callable(vars(camdrift)["run"])

    def test_a_study_describes_itself(self, classifier, photos, tmp_path):
        found = study_of(classifier, photos, tmp_path / "run", limit=3, **SMALL)
        assert re.search(r"Study\(TinyNet, dlfuzz\(.*\): \d of 3 seed images analysed, \d layers; .*run\)", repr(found))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"strength": 1}, "no such option: strength"),
            (
                {"targets": ("own", "mine")},
                "`target` must be one or more of own, seed, label, each once, got: own, mine",
            ),
            ({"targets": "mine"}, "got: mine"),
            ({"attack": "nonsense"}, "`attack` must be one of dlfuzz, dlfuzz:paper, fgsm, .*, got: nonsense"),
            ({"layers": "features.*"}, r"`layers` must match layers with a map, got: features.\* \(no such layer\)"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_bad_options_are_named_with_their_value(self, classifier, photos, tmp_path, options, message):
        with pytest.raises(UserError, match=message):
            camdrift.run(classifier, photos, out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_a_bare_module_is_no_classifier(self, classifier, photos, tmp_path):
        with pytest.raises(UserError, match="must be a camdrift classifier, got: TinyNet") as caught:
            camdrift.run(classifier.module, photos, out=tmp_path / "run")
        assert "camdrift.wrap" in caught.value.hint


def assert_series_close(one, other):
    assert one.is_null().to_list() == other.is_null().to_list()
    assert one.drop_nulls().to_numpy() == pytest.approx(other.drop_nulls().to_numpy(), abs=1e-5)
