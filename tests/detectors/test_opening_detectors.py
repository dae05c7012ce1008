"""Detectors of a network: every one scores, alone as in a batch, along a gradient where it has one; bad input."""

import numpy as np
import pytest
import torch

from camdrift.detectors import from_pytorch_ood, passes
from camdrift.detectors.making import profile_layers
from camdrift.detectors.maps import differences_of_maps
from camdrift.detectors.opening import check_profile_images, open_detectors
from camdrift.detectors.registry import DETECTORS
from camdrift.errors import UserError
from camdrift.explanations.attribution import attribute
from camdrift.study.judging import detectors_of
from support.detectors import drawn_images, few_classes

OWN = [name for name, row in DETECTORS.items() if not row.is_library and name != "lid"] + ["lid(k=5)"]
LIBRARY = ["knn(k=9)", "vim", "pytorch-ood:SHE", "pytorch-ood:KLMatching", "pytorch-ood:GEN", "pytorch-ood:Mahalanobis"]
SMOOTH = ["softmax", "margin", "entropy", "energy", "maxlogit", "mahalanobis", "rmd"]


@pytest.fixture(scope="module")
def net():
    return few_classes()


@pytest.fixture(scope="module")
def profile(net):
    """A profile with features of both layers."""
    return detectors_of(["mahalanobis"], net, net.layers, drawn_images(2, 80))[1].profile


@pytest.fixture(scope="module")
def detectors(net, profile):
    return open_detectors([*OWN, "noisecam-like(change=True)"], net, layers=net.layers, profile=profile)


@pytest.fixture(scope="module")
def images():
    return drawn_images(3, 5)


@pytest.fixture(scope="module")
def scores(detectors, images):
    return detectors.scores(images)


def test_every_detector_scores_alone_as_in_a_batch(detectors, images, scores):
    assert list(scores) == [*OWN, "noisecam-like(change=True)"]
    parts = [detectors.scores(part) for part in images.split([1, 3, 1])]
    for name, values in scores.items():
        assert values.layers.shape == (5, len(detectors.columns(name)))
        assert np.isfinite(values.combined).all(), name
        assert np.array_equal(np.concatenate([part[name].combined for part in parts]), values.combined), name
        assert np.array_equal(np.concatenate([part[name].layers for part in parts]), values.layers), name


def test_library_detectors_score_alone_as_in_a_batch(net, profile, images):
    pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
    detectors = open_detectors(LIBRARY, net, layers=net.layers, profile=profile)
    whole, parts = detectors.scores(images), [detectors.scores(part) for part in images.split(2)]
    for name, values in whole.items():
        assert np.isfinite(values.combined).all(), name
        assert np.array_equal(np.concatenate([part[name].combined for part in parts]), values.combined), name


def test_pytorch_ood_ranks_as_we_do(net, profile):
    pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
    layer = net.layers[-1]
    specs = [f"mahalanobis(layer='{layer}', shrinkage=0)", "pytorch-ood:Mahalanobis"]
    ours, theirs = open_detectors(specs, net, layers=net.layers, profile=profile).scores(drawn_images(4, 12)).values()
    # 1 / n of half the squared distance, with a ridge of 1e-6
    assert ours.layers[:, 0] == pytest.approx(80 * theirs.layers[:, 0], rel=1e-2)
    assert np.array_equal(ours.combined.argsort(), theirs.combined.argsort())


def test_layers_are_joined_by_the_mean_of_their_z_scores(detectors, scores):
    mean, deviation = detectors.by_name["mahalanobis"].scale
    layers = scores["mahalanobis"].layers
    assert scores["mahalanobis"].combined == pytest.approx(((layers - mean) / deviation).mean(1))
    assert scores["denoised"].combined == pytest.approx(scores["denoised"].layers.mean(1))


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_the_score(detectors, images, scores, name):
    """A small step along the gradient raises the score by the gradient's squared length times the step."""
    assert detectors.is_differentiable(name)
    pixels = images[:1].clone().requires_grad_()
    _, score = detectors.differentiable_score(name, pixels)
    assert score.item() == pytest.approx(scores[name].combined[0], abs=1e-4)
    (gradient,) = torch.autograd.grad(score.sum(), pixels)
    step = 1e-3 / float(gradient.norm())
    ends = [detectors.scores(images[:1] + side * step * gradient)[name].combined[0] for side in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(float((gradient**2).sum()), rel=0.05)


def test_detectors_without_gradient_say_so(detectors, images):
    assert not detectors.is_differentiable("dsa")
    with pytest.raises(UserError, match=r"must have a gradient .* got: dsa .*softmax"):
        detectors.differentiable_score("dsa", images)


def test_noisecam_like_by_hand(net, images, scores):
    """The length of |LayerCAM / |LayerCAM| - Grad-CAM / |Grad-CAM||, by the public maps."""
    one, two = (attribute(net, images, explanation=name) for name in ("layercam", "gradcam"))
    for column, layer in enumerate(net.layers):
        for place in range(5):
            a, b = (maps[layer][place].double() for maps in (one, two))
            value = (a / a.norm() - b / b.norm()).norm().item()
            assert scores["noisecam-like"].layers[place, column] == pytest.approx(value, abs=1e-5)


def test_one_pass_serves_all(net, profile, images, monkeypatch):
    """Detectors that read logits, features and maps share one pass of each image."""
    calls = []
    monkeypatch.setattr(
        type(net), "__call__", lambda self, batch: calls.append(len(batch)) or self._forward(batch).float()
    )
    specs = ["softmax", "mahalanobis", "dsa", "lid(k=5)", "noisecam-like"]
    detectors = open_detectors(specs, net, layers=net.layers, profile=profile)
    detectors.scores(images)
    assert calls == [1] * 5


class TestBadInput:
    def test_an_image_of_the_run_in_the_profile(self, profile):
        class Stored:
            checksums = ("a" * 64, "b" * 64)

        with pytest.raises(UserError, match=r"`profile` must hold no seed image of the run, got: 1 image that"):
            check_profile_images(Stored(), {"b" * 64, "c" * 64})
        check_profile_images(profile, {"b" * 64})

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("mahalonobis", "did you mean `mahalanobis`"),
            ("lid(neighbours=3)", "lid has no setting `neighbours`.*it has k=20"),
            ("lid(k='many')", "`k` of lid must be a whole number"),
            ("mahalanobis(shrinkage=2)", "must be a number from 0 to 1, got: 2"),
            ("mahalanobis(layer='features.9')", "must be a layer with neurons, got: features.9"),
            ("lid(k=90)", "must be below the number of reference images"),
            ("squeeze(bits=0, median=0)", "squeeze must have a squeezer"),
        ],
    )
    def test_specs(self, net, profile, spec, message, monkeypatch):
        monkeypatch.setattr("camdrift.detectors.squeezing.find_spec", lambda name: None)
        with pytest.raises(UserError, match=message):
            open_detectors([spec], net, layers=net.layers, profile=profile)

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("pytorch-ood:OpenMax", "depends on the others of the batch"),
            ("pytorch-ood:Mahalanobi", "did you mean `mahalanobis`"),
            ("pytorch-ood:KNN(n=3, width=2)", "KNN"),
            ("pytorch-ood:SHE(width=2)", "SHE has no setting `width`"),
            ("knn(k=500)", "failed on 80 images of the profile: ValueError"),
        ],
    )
    def test_specs_of_the_library(self, net, profile, spec, message):
        pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
        with pytest.raises(UserError, match=message):
            open_detectors([spec], net, layers=net.layers, profile=profile)

    def test_no_profile(self, net):
        with pytest.raises(UserError, match=r"mahalanobis needs a profile.*--profile FOLDER"):
            open_detectors(["softmax", "mahalanobis"], net, layers=net.layers)
        assert profile_layers(["softmax", "squeeze", "denoised"], net, net.layers) == ()
        with pytest.raises(UserError, match="10 images or more"):
            detectors_of(["mahalanobis"], net, net.layers, drawn_images(0, 9))

    def test_no_library(self, net, profile, monkeypatch):
        def missing(name):
            raise ImportError("No module named 'pytorch_ood'")

        monkeypatch.setattr(from_pytorch_ood, "import_module", missing)
        with pytest.raises(UserError, match=r'needs pytorch-ood.*pip install "camdrift\[detectors\]"'):
            open_detectors(["knn"], net, layers=net.layers, profile=profile)

    def test_few_images_of_a_class_are_told(self, net, profile):
        few = min(np.unique(profile.classes, return_counts=True)[1])
        detectors = open_detectors(["i-defender"], net, layers=net.layers, profile=profile)
        assert bool(detectors.remarks) == (few < 10)


def test_maps_that_nobody_reads_are_not_made_and_change_no_score(net, images):
    alone = open_detectors(["denoised"], net, layers=net.layers)
    beside = open_detectors(["denoised", "noisecam-like"], net, layers=net.layers)
    assert (alone.explanations, beside.explanations) == (("gradcam",), ("gradcam", "layercam"))
    one, other = (detectors.scores(images)["denoised"] for detectors in (alone, beside))
    assert np.array_equal(one.layers, other.layers, equal_nan=True)
    assert np.isfinite(one.combined).any()


@pytest.mark.parametrize("spec", ["softmax", "squeeze", "denoised"])
def test_neurons_that_nobody_reads_are_not_observed_and_change_no_score(net, profile, images, spec, monkeypatch):
    beside = open_detectors([spec, "mahalanobis"], net, layers=net.layers, profile=profile)
    one = beside.scores(images)[spec]
    alone = open_detectors([spec], net, layers=net.layers)
    monkeypatch.setattr(passes.NeuronObserver, "record", lambda self, logits: pytest.fail("neurons were observed"))
    other = alone.scores(images)[spec]
    assert np.array_equal(one.layers, other.layers, equal_nan=True)
    assert np.isfinite(one.combined).any()


def test_images_without_a_map_have_no_score(net):
    dark = torch.zeros((1, 3, 16, 16))
    batch = passes.ImageBatch(net, dark, net.layers, explanations=("gradcam", "layercam"))
    zero = {name: {layer: torch.zeros_like(maps) for layer, maps in of.items()} for name, of in batch.maps.items()}
    assert all(part.isnan().all() for part in differences_of_maps(zero, net.layers).values())
