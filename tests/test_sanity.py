"""What must come out on real networks and photographs, whatever else does."""

import polars as pl
import pytest
import torch

import camdrift
from camdrift.explanations.similarity import compare_layers
from camdrift.images.pixels import read_image
from camdrift.images.sources import default_photographs, find_images, limit_images
from camdrift.pipeline.noise import matched_noise
from camdrift.tensors import perturbed
from support.studies import skip_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lite0():
    return camdrift.load_model("efficientnet-lite0")


def study_of(classifier, images, tmp_path_factory, **options):
    out = tmp_path_factory.mktemp("sanity") / "run"
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return camdrift.run(classifier, images, out=out, strengths=(1,), noise_ladder=(), noise_draws=2, **options)


@pytest.fixture(scope="module")
def lite0_study(lite0, tmp_path_factory):
    return study_of(lite0, None, tmp_path_factory, limit=16)


@pytest.fixture(scope="module")
def vgg16(vgg16_imagenette):
    """At 112 px, where a pass costs a quarter: it knows 37 of 40 photographs, and 39 at 224 px."""
    full = camdrift.load_model(vgg16_imagenette)
    return camdrift.wrap(full.module, mean=full.mean, std=full.std, size=112)


@pytest.fixture(scope="module")
def vgg16_study(vgg16, imagenette, tmp_path_factory):
    attack = "dlfuzz(scores='logit', iterations=6)"
    return study_of(vgg16, imagenette, tmp_path_factory, limit=8, attack=attack)


@pytest.mark.parametrize("name", ["lite0_study", "vgg16_study"])
class TestStudy:
    def test_adversarial_images_are_flipped_and_noise_flips_next_to_nothing(self, name, request):
        variants = request.getfixturevalue(name).variants
        flipped = {key[0]: group["is_flipped"] for key, group in variants.group_by("condition")}
        assert len(flipped["adversarial"]) >= 6
        assert flipped["adversarial"].all()
        assert flipped["noise"].mean() <= 0.05

    def test_noise_drawn_twice_is_compromised_about_half_the_time(self, name, request):
        noise = request.getfixturevalue(name).similarity.filter(pl.col("condition") == "noise")
        first = noise.filter(pl.col("draw") == 0).group_by("target", "layer").agg(tau=pl.col("similarity").median())
        second = noise.filter(pl.col("draw") == 1).drop_nulls("similarity").join(first, on=["target", "layer"])
        assert 0.3 < (second["similarity"] < second["tau"]).mean() < 0.7

    def test_the_attack_is_compromised_far_more_often(self, name, request):
        layers = request.getfixturevalue(name).layers.filter(pl.col("n") >= 5)
        assert layers["compromised_fraction"].mean() > 0.9


def assert_strength_0_moves_nothing(classifier, files):
    read = [
        read_image(
            f.path, size=classifier.size, resize=classifier.resize, interpolation=classifier.interpolation
        ).pixels
        for f in files
    ]
    noise = [matched_noise(p - 0.5, rng_seed=0, seed_id=f.seed_id) for p, f in zip(read, files, strict=True)]
    clean = camdrift.attribute(classifier, torch.stack(read))
    unmoved = torch.stack([perturbed(p, eta, 0.0) for p, eta in zip(read, noise, strict=True)])
    found = compare_layers(clean, camdrift.attribute(classifier, unmoved), (classifier.size, classifier.size))
    defined = ~found.seed_is_zero
    assert defined.mean() > 0.8
    assert found.similarity[defined] == pytest.approx(1.0, abs=1e-9)


def test_strength_0_moves_nothing_on_efficientnet_lite0(lite0):
    assert_strength_0_moves_nothing(lite0, default_photographs()[:3])


def test_strength_0_moves_nothing_on_vgg16(vgg16, imagenette):
    assert_strength_0_moves_nothing(vgg16, limit_images(find_images(imagenette), 2))
