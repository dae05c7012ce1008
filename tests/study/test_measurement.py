"""`camdrift coverage` and `camdrift.measure_coverage`: from folders to tables, profiles that are stored, mistakes."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

import camdrift
from camdrift.coverage.base import observe_batch
from camdrift.coverage.criteria import make_criterion
from camdrift.coverage.profile import profile_from
from camdrift.errors import StoreError, UserError
from camdrift.images.pixels import read_image
from camdrift.tables.criteria import CRITERIA_LAYERS, CRITERIA_TABLE, EVERY_CRITERION
from support.studies import picture, tiny_classifier, write_images


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    """A folder of 21 images."""
    return write_images(tmp_path_factory.mktemp("ordinary"), 21)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder of nine images, the first two of which are among the 21."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(9):
        picture(number if number < 2 else 100 + number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def measurement(classifier, ordinary, others, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    return camdrift.measure_coverage(classifier, others, profile=ordinary, out=out)


def values(measurement):
    return dict(measurement.criteria.select("criterion", "value").iter_rows())


class TestMeasurement:
    def test_tables(self, measurement):
        for name, table in (("criteria", CRITERIA_TABLE), ("criteria_layers", CRITERIA_LAYERS)):
            rows = pl.read_parquet(measurement.path / f"{name}.parquet")
            assert rows.schema == table.schema
            assert len(rows)
        assert measurement.criteria.height == len(EVERY_CRITERION)
        assert measurement.criteria["n_images"].unique().to_list() == [9]
        layers = measurement.layers.filter(pl.col("criterion") == "kmnc(k=1000)")
        whole = measurement.criteria.filter(pl.col("criterion") == "kmnc(k=1000)")
        assert layers["layer"].to_list() == [group.name for group in tiny_classifier().neuron_groups]
        for name in ("covered", "total"):
            assert layers[name].sum() == whole[name].item()

    def test_values_are_those_of_one_criterion_alone(self, classifier, others, measurement):
        images = torch.stack([read_image(path, **classifier.geometry).pixels for path in sorted(others.iterdir())])
        batch = observe_batch(classifier, images)
        for spec in ("nc", "kmnc", "nbc", "tknp", "nlc", "dsa"):
            state = make_criterion(spec, classifier, measurement.profile).start()
            state.fold(batch, np.ones(9, np.bool_))
            assert (
                values(measurement)[make_criterion(spec, classifier, measurement.profile).name] == state.reading().value
            )

    def test_what_a_person_must_know(self, measurement):
        size, shared = measurement.remarks
        assert size == "the profile has 21 images: NBC and SNAC fall as it grows, so use 1,000 or more"
        assert shared.startswith("2 of 9 images are in the profile too")
        record = json.loads((measurement.path / "coverage.json").read_text())
        assert (record["kind"], record["images"]["n"], record["profile"]["n"]) == ("coverage", 9, 21)
        assert record["remarks"] == [size, shared]
        assert record["model"]["weights_sha256"] == record["profile"]["weights"]

    def test_a_profile_is_stored_and_taken_again(self, classifier, ordinary, others, measurement):
        stages = []
        again = camdrift.measure_coverage(
            classifier, others, profile=ordinary, out=measurement.path, on_images=lambda stage, *_: stages.append(stage)
        )
        assert set(stages) == {"images"}
        assert again.criteria.equals(measurement.criteria)
        assert again.remarks[0] == f"the profile in {measurement.path} is taken again"
        by_file = camdrift.measure_coverage(classifier, others, profile=measurement.path / "profile.npz")
        by_value = camdrift.measure_coverage(classifier, others, profile=measurement.profile)
        assert by_file.criteria.equals(by_value.criteria)
        assert by_file.criteria.equals(measurement.criteria)
        assert by_file.path is None
        with np.load(measurement.path / "profile.npz", allow_pickle=False) as arrays:
            assert profile_from(arrays).images == 21

    def test_a_profile_of_other_images_or_weights_is_made_anew(self, classifier, ordinary, others, tmp_path):
        stages = []
        note = lambda stage, *_: stages.append(stage)  # noqa: E731
        folder = tmp_path / "ordinary"
        shutil.copytree(ordinary, folder)
        measure = lambda model: camdrift.measure_coverage(  # noqa: E731
            model, others, criteria=["nbc"], profile=folder, out=tmp_path / "out", on_images=note
        )
        first = measure(classifier)
        picture(50).save(next(folder.iterdir()))
        second = measure(classifier)
        measure(tiny_classifier(2))
        assert stages.count("profile") == 9
        assert first.profile.origin["images"] != second.profile.origin["images"]
        with pytest.raises(UserError, match=r"must be of this model, got: .*profile.npz, of another weights"):
            camdrift.measure_coverage(classifier, others, criteria="nbc", profile=tmp_path / "out" / "profile.npz")
        with pytest.raises(UserError, match="must hold features of logits, got: in memory without"):
            camdrift.measure_coverage(classifier, others, criteria="cc", profile=first.profile)

    @pytest.mark.parametrize("batch_size", [1, 5, 21])
    def test_the_profile_itself_scores_nothing_whatever_the_batch(self, classifier, ordinary, measurement, batch_size):
        own = camdrift.measure_coverage(
            classifier, ordinary, criteria="nbc,snac,kmnc(k=10)", profile=measurement.profile, batch_size=batch_size
        )
        assert [values(own)[name] for name in ("nbc", "snac")] == [0, 0]
        assert values(own)["kmnc(k=10)"] > 0.5

    def test_precision_changes_nothing(self, others, measurement):
        rounded = tiny_classifier(precision="bf16")
        again = camdrift.measure_coverage(rounded, others, profile=measurement.profile)
        assert again.criteria.equals(measurement.criteria)
        assert rounded.precision == "bf16"

    def test_a_tensor(self, classifier, others, measurement):
        images = torch.stack([read_image(path, **classifier.geometry).pixels for path in sorted(others.iterdir())])
        again = camdrift.measure_coverage(classifier, images, profile=measurement.profile)
        assert again.criteria.equals(measurement.criteria)
        assert again.record["images"] == {"source": "9 images in memory", "n": 9, "sha256": None}

    def test_files_that_cannot_be_read_are_told(self, classifier, others, tmp_path):
        shutil.copytree(others, tmp_path / "images")
        (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
        measurement = camdrift.measure_coverage(classifier, tmp_path / "images", criteria="nc")
        assert measurement.criteria["n_images"].item() == 9
        (remark,) = measurement.remarks
        assert remark.startswith("1 file left out, which cannot be read: broken.png (")
        with pytest.raises(UserError, match=r"no image of .* can be read: broken.png"):
            camdrift.measure_coverage(classifier, tmp_path / "images" / "broken.png", criteria="nc")


class TestMistakes:
    @pytest.mark.parametrize(
        ("criteria", "words"),
        [
            ("kmmc", "got: kmmc .*did you mean `kmnc`"),
            ("kmnc", "`kmnc` needs a profile"),
            ((), "must name one or more, got: none"),
        ],
    )
    def test_criteria(self, classifier, others, criteria, words):
        with pytest.raises(UserError, match=words):
            camdrift.measure_coverage(classifier, others, criteria=criteria)

    def test_a_setting_is_refused_before_the_profile_is_made(self, classifier, others, ordinary):
        with pytest.raises(UserError, match="`k` of criterion `kmnc` must be 1 or more"):
            camdrift.measure_coverage(
                classifier, others, criteria="kmnc(k=0)", profile=ordinary, on_images=lambda *_: pytest.fail("too late")
            )

    def test_without_a_profile_all_is_what_needs_none(self, classifier, others):
        rows = camdrift.measure_coverage(classifier, others).criteria
        defined = rows.filter(pl.col("value").is_not_null())["criterion"].to_list()
        assert defined == ["nc(threshold=0.25)", "tknc(k=1)", "tknp(k=1)", "nlc"]
        assert rows.filter(pl.col("value").is_null())["undefined_reason"].unique().to_list() == ["no profile"]

    def test_folders(self, classifier, others, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        with pytest.raises(StoreError, match="must be new or the folder of a measurement"):
            camdrift.measure_coverage(classifier, others, criteria="nc", out=tmp_path / "mine")
        with pytest.raises(UserError, match="must be a folder of this machine, got: s3://bucket/run"):
            camdrift.measure_coverage(classifier, others, criteria="nc", out="s3://bucket/run")

    def test_a_file_that_is_no_profile(self, classifier, others, tmp_path):
        np.savez(tmp_path / "other.npz", low=np.zeros(3))
        with pytest.raises(StoreError, match="no profile: 'images' is missing or wrong"):
            camdrift.measure_coverage(classifier, others, criteria="nbc", profile=tmp_path / "other.npz")
        (tmp_path / "bad.npz").write_bytes(b"bad")
        with pytest.raises(StoreError, match="cannot be read"):
            camdrift.measure_coverage(classifier, others, criteria="nbc", profile=tmp_path / "bad.npz")

    @pytest.mark.parametrize("shape", [(0, 3, 32, 32), (3, 32, 32)])
    def test_tensors(self, classifier, shape):
        with pytest.raises(UserError, match=r"must be \(images, 3, height, width\), one or more, got: "):
            camdrift.measure_coverage(classifier, torch.zeros(shape), criteria="nc")
        with pytest.raises(UserError, match="must be a camdrift classifier"):
            camdrift.measure_coverage(torch.nn.Identity(), torch.zeros(shape), criteria="nc")
