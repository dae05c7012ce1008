"""Images held against their own denoised copies: the filter, the rows, and that no clean image takes part."""

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from scipy.ndimage import median_filter

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.explanations.attribution import attribute
from camdrift.explanations.similarity import LayerSimilarities
from camdrift.images.pixels import read_image
from camdrift.pipeline.denoised import Denoised, _reasons, median_filtered
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch
from camdrift.study.run import RunKind, run_study
from camdrift.tables.further import DENOISED
from camdrift.tables.reproduction import EMULATION
from support.studies import ATTACK, SIZE, naive_similarity, study_of, write_images

OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (4.0,), "noise_draws": 2, "chunk_size": 3, "gallery": 0}
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def study(classifier, photos, tmp_path_factory, no_report):
    return study_of(classifier, photos, tmp_path_factory.mktemp("runs") / "run", denoised=True, **OPTIONS)


class TestFilter:
    def test_is_the_median_of_nine_pixels(self):
        image = torch.rand((2, 3, 5, 6), generator=torch.Generator().manual_seed(0))
        padded = np.pad(image.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="symmetric")
        found = median_filtered(image)
        for place in np.ndindex(2, 3, 5, 6):
            n, channel, y, x = place
            assert found[place].item() == np.median(padded[n, channel, y : y + 3, x : x + 3])

    def test_removes_a_lone_pixel_and_keeps_a_flat_image(self):
        image = torch.full((1, 3, 8, 8), 0.25)
        spiked = image.clone()
        spiked[0, 1, 4, 4] = 1
        assert torch.equal(median_filtered(spiked), image)
        assert spiked[0, 1, 4, 4] == 1


class TestRows:
    def test_one_per_image_and_layer(self, study):
        analysed = study.seeds.filter(pl.col("status") == "analysed")["seed_id"].to_list()
        assert len(analysed) > 4
        assert study.denoised.schema == DENOISED.schema
        kinds = study.denoised.select("condition", "strength", "draw").unique(maintain_order=True).rows()
        assert kinds == [
            ("clean", 0.0, 0), ("adversarial", 0.5, 0), ("adversarial", 1.0, 0),
            ("noise", 0.5, 0), ("noise", 0.5, 1), ("noise", 1.0, 0), ("noise", 1.0, 1),
        ]  # fmt: skip
        assert study.denoised.height == len(analysed) * len(kinds) * 4
        assert study.denoised["seed_id"].unique(maintain_order=True).to_list() == analysed
        layers = study.similarity.select("layer", "layer_label", "layer_index").unique().sort("layer_index")
        assert_frame_equal(study.denoised.select(layers.columns).unique().sort("layer_index"), layers)

    def test_are_those_of_a_naive_recomputation(self, study, classifier, photos, tmp_path):
        """Every image by itself: filter channel by channel, two maps for the image's class, cosine at full size."""
        found = {}

        class Spy:
            table = "emulation"

            def __call__(self, plan, seeds, advance):
                found.update({seed.file.seed_id: seed for seed in seeds})
                return EMULATION.frame()

        options = Settings(attack=ATTACK, **OPTIONS)
        run_study(classifier, photos, options, Launch(tmp_path / "spied"), kind=RunKind("s", (Spy(),)))
        checked = 0
        for seed_id, seed in sorted(found.items())[:3]:
            pixels = read_image(photos / seed_id, size=SIZE, resize=SIZE).pixels
            rows = study.denoised.filter(pl.col("seed_id") == seed_id)
            for (condition, strength, draw), part in rows.group_by("condition", "strength", "draw"):
                delta = {"clean": 0 * pixels, "adversarial": seed.perturbation}.get(condition)
                delta = seed.noise[draw] if delta is None else delta
                image = (pixels + strength * delta).clamp(0, 1)
                copy = np.stack([median_filter(channel, size=3) for channel in image.numpy()])
                own = int(classifier(image[None]).argmax())
                maps = [attribute(classifier, each[None], own) for each in (image, torch.as_tensor(copy))]
                for layer, value in part.select("layer", "similarity").iter_rows():
                    expected = naive_similarity(*(m[layer] for m in maps))
                    value = np.nan if value is None else value
                    assert value == pytest.approx(expected, abs=1e-5, nan_ok=True), (seed_id, condition, layer)
                    checked += 1
        assert checked == 3 * 7 * 4

    def test_undefined_ones_have_a_reason(self, study):
        undefined = study.denoised.filter(pl.col("similarity").is_null())
        assert undefined.height > 0
        assert set(undefined["undefined_reason"]) <= {"zero_map_image", "zero_map_denoised"}
        assert study.denoised.drop_nulls("similarity")["undefined_reason"].null_count() == (
            study.denoised.height - undefined.height
        )

    def test_reasons_name_the_side(self):
        """The copy stands where a study has the seed."""
        flags = [np.array([row]) for row in ([1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 0, 1])]
        flags = [flag.astype(bool) for flag in flags]
        found = _reasons(LayerSimilarities(np.array([[np.nan, np.nan, np.nan, np.nan, 0.5]]), *flags))
        assert found.tolist() == [
            ["zero_map_denoised", "zero_map_image", "zero_map_image", "non_finite_map", None],
        ]  # fmt: skip

    @pytest.mark.parametrize("batch_size", [1, 5])
    def test_batch_size_changes_nothing(self, study, classifier, photos, tmp_path, batch_size):
        again = study_of(classifier, photos, tmp_path / "run", denoised=True, batch_size=batch_size, **OPTIONS)
        assert_frame_equal(study.denoised, again.denoised, abs_tol=1e-5)

    def test_nothing_else_changes(self, study, classifier, photos, tmp_path):
        plain = study_of(classifier, photos, tmp_path / "run", **OPTIONS)
        assert not (plain.path / "denoised.parquet").exists()
        for name in ("seeds", "variants", "similarity", "layers"):
            assert_frame_equal(getattr(plain, name), getattr(study, name))

    def test_without_an_adversarial_example_there_are_none(self, classifier, photos, tmp_path):
        options = {**OPTIONS, "attack": "dlfuzz(step=0.0)"}
        assert study_of(classifier, photos, tmp_path / "run", denoised=True, **options).denoised.is_empty()


class TestOption:
    def test_store_round_trip(self, study):
        assert camdrift.open(study.path).denoised.equals(study.denoised)
        assert study.record["arguments"]["effective"]["denoised"] is True
        assert study.record["timings"]["denoised"] > 0

    def test_decides_what_may_be_resumed(self, study, classifier, photos):
        with pytest.raises(StoreError, match="denoised was True, now False"):
            study_of(classifier, photos, study.path, resume=True, **OPTIONS)
        again = study_of(classifier, photos, study.path, resume=True, denoised=True, **OPTIONS)
        assert again.denoised.equals(study.denoised)

    def test_goes_on_after_an_interruption(self, study, classifier, photos, tmp_path):
        def stop(progress):
            if progress.seeds_done >= 4:
                raise KeyboardInterrupt

        options = {**OPTIONS, "denoised": True}
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, photos, tmp_path / "run", on_progress=stop, **options)
        resumed = study_of(classifier, photos, tmp_path / "run", resume=True, **options)
        assert_frame_equal(resumed.denoised, study.denoised, abs_tol=1e-6)

    def test_records_of_before_are_those_of_studies_without(self):
        record = Settings().as_record()
        del record["denoised"]
        assert Settings().differences(record) == []
        assert Settings(denoised=True).differences(record) == ["denoised was False, now True"]

    @pytest.mark.parametrize("value", [1, "yes", None])
    def test_is_true_or_false(self, value, monkeypatch):
        monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
        with pytest.raises(UserError) as caught:
            Settings(denoised=value)
        assert caught.value.message == f"`denoised` must be True or False, got: {value}"

    def test_is_an_extra_table(self):
        assert Denoised().table == DENOISED.name
