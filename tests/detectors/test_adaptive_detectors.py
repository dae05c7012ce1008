"""Attacks that know a detector: bounded, counted only where they fool and pass, and stronger than those that do not."""

import numpy as np
import pytest
import torch

from camdrift.defences.median import median_of_windows
from camdrift.detectors.adaptive import SeedImages, _orthogonal, undetected_attack, undetected_sheet
from camdrift.detectors.assessment import detector_rows, seed_thresholds
from camdrift.detectors.opening import open_detectors
from camdrift.errors import UserError
from camdrift.study.judging import detectors_of
from support.detectors import drawn_images, few_classes

EPSILON = 0.1
NAMES = [f"seed {number:02d}" for number in range(20)]


@pytest.fixture(scope="module")
def net():
    return few_classes()


@pytest.fixture(scope="module")
def seeds(net):
    images = drawn_images(5, 20)
    with torch.no_grad():
        return SeedImages(images, net(images).argmax(1), NAMES)


@pytest.fixture(scope="module")
def detectors(net):
    specs = ["softmax", "mahalanobis", "dsa"]
    return detectors_of(specs, net, net.layers, drawn_images(2, 80))[0]


@pytest.fixture(scope="module")
def static(detectors, seeds):
    sheet = detectors.sheet("pgd", epsilon=EPSILON)
    sheet.add("clean", 0.0, detectors.scores(seeds.images), NAMES)
    return sheet


def plain(detectors, seeds):
    """The attack without a threshold to pass."""
    limits = torch.full((20,), torch.inf, dtype=torch.float64)
    return undetected_attack(detectors, "mahalanobis", *seeds[:2], limits, epsilon=EPSILON, steps=10)


def test_parts_at_a_right_angle():
    a, b = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert _orthogonal(a, b).flatten().tolist() == [3, 0]
    assert torch.equal(_orthogonal(a, 0 * b), a)


def test_keeps_its_bound_and_counts_what_does_both(net, detectors, seeds, static):
    limits = seed_thresholds(static, "mahalanobis")
    thresholds = torch.tensor([limits[name] for name in NAMES], dtype=torch.float64)
    attack = undetected_attack(detectors, "mahalanobis", *seeds[:2], thresholds, epsilon=EPSILON, steps=10)
    assert (attack.images - seeds.images).abs().max() <= EPSILON + 1e-6
    assert 0 <= attack.images.min() <= attack.images.max() <= 1
    with torch.no_grad():
        is_fooling = (net(attack.images).argmax(1) != seeds.classes).numpy()
    assert np.array_equal(attack.is_fooling, is_fooling)
    values = detectors.scores(attack.images)["mahalanobis"].combined
    assert np.array_equal(attack.is_passing, values <= thresholds.numpy())
    # it is no weaker than the attack that does not care for the detector, judged by the same thresholds
    others = plain(detectors, seeds)
    passing = detectors.scores(others.images)["mahalanobis"].combined <= thresholds.numpy()
    assert attack.is_undetected.sum() >= (others.is_fooling & passing).sum() > 0


def test_impossible_thresholds_are_never_passed(detectors, seeds):
    limits = torch.full((20,), -torch.inf, dtype=torch.float64)
    attack = undetected_attack(detectors, "softmax", *seeds[:2], limits, epsilon=EPSILON, steps=3)
    assert not attack.is_undetected.any()
    assert attack.is_fooling.any()


def test_rows(detectors, seeds, static):
    parts = [SeedImages(seeds.images[i : i + 8], seeds.classes[i : i + 8], NAMES[i : i + 8]) for i in range(0, 20, 8)]
    sheet = undetected_sheet(detectors, static, parts, epsilon=EPSILON, steps=5)
    rows = detector_rows([sheet])
    assert [(r["detector"], r["stage"], r["negative"], r["n_positives"]) for r in rows] == [
        (name, "adaptive", "clean", 20) for name in ("softmax", "mahalanobis")
    ]  # dsa has no gradient
    for row in rows:
        assert row["tested_on"] == "selective-pgd(eps=0.1, steps=5)"
        assert row["undetected"] == sum(sheet.undetected[row["detector"]]) / 20
        assert row["undetected_low"] <= row["undetected"] <= row["undetected_high"]
        assert row["eps"] == EPSILON


class TestSqueeze:
    def test_gradient_is_that_of_the_median_and_takes_bits_for_the_identity(self, net, seeds, monkeypatch):
        # without non-local means, so that one copy alone makes the score
        monkeypatch.setattr("camdrift.detectors.squeezing.find_spec", lambda name: None)
        detectors = open_detectors(["squeeze(bits=0, median=2)", "squeeze(bits=3, median=0)"], net, layers=net.layers)
        median, bits = detectors.by_name

        def gradient_of(name):
            pixels = seeds.images.clone().requires_grad_()
            _, scores = detectors.differentiable_score(name, pixels)
            assert np.allclose(scores.detach().numpy(), detectors.scores(seeds.images)[name].combined, atol=1e-6)
            (gradient,) = torch.autograd.grad(scores.sum(), pixels)
            return gradient

        def by_hand(change):
            pixels = seeds.images.clone().requires_grad_()
            copies = change(pixels)
            (net(pixels).softmax(1) - net(copies).softmax(1)).abs().sum().backward()
            return pixels.grad

        rounded = lambda images: images + ((images * 7).round() / 7 - images).detach()  # noqa: E731
        assert torch.allclose(gradient_of(bits), by_hand(rounded), atol=1e-6)
        assert torch.allclose(gradient_of(median), by_hand(lambda images: median_of_windows(images, 2)), atol=1e-6)
        assert gradient_of(bits).abs().amax((1, 2, 3)).min() > 0

    def test_an_attack_that_knows_it_passes_more_often(self, net, seeds):
        detectors = open_detectors(["squeeze"], net, layers=net.layers)
        (name,) = detectors.by_name
        sheet = detectors.sheet("pgd", epsilon=EPSILON)
        sheet.add("clean", 0.0, detectors.scores(seeds.images), NAMES)
        limits = seed_thresholds(sheet, name)
        thresholds = torch.tensor([limits[seed] for seed in NAMES], dtype=torch.float64)
        knowing = undetected_attack(detectors, name, *seeds[:2], thresholds, epsilon=EPSILON, steps=10)
        infinite = torch.full((20,), torch.inf, dtype=torch.float64)
        unknowing = undetected_attack(detectors, name, *seeds[:2], infinite, epsilon=EPSILON, steps=10)
        is_passing = detectors.scores(unknowing.images)[name].combined <= thresholds.numpy()
        assert knowing.is_undetected.sum() > (unknowing.is_fooling & is_passing).sum()


def test_needs_a_gradient(net, detectors, seeds):
    with pytest.raises(UserError, match=r"must have a gradient .* got: dsa"):
        undetected_attack(detectors, "dsa", *seeds[:2], torch.zeros(20), epsilon=EPSILON)
    assert open_detectors(["softmax"], net, layers=net.layers).is_differentiable("softmax")
