"""Surprise adequacy: worked by hand, against SciPy and naive loops."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from camdrift.coverage.criteria import Background, NeuronBatch, NeuronLayout, criterion_of, feature_layer
from camdrift.coverage.surprise import Reference, dsa, lsa, mdsa, own_dsa, own_lsa, own_mdsa
from support.neurons import background_of, folded

CLASS0, CLASS1 = [(0.0, 0), (2, 0)], [(6.0, 0), (6, 3)]
PLANE = Reference(np.array(CLASS0 + CLASS1), np.array([0, 0, 1, 1]))
X = np.array([[3.0, 0]])
HIDDEN = NeuronLayout(("h",), (2,))


def drawn(rng_seed, images, features, classes=3):
    rng = np.random.default_rng(rng_seed)
    names = rng.integers(0, classes, images)
    return rng.normal(size=(images, features)) + names[:, None], names


class TestWorkedByHand:
    def test_f7_dsa(self):
        """The nearest of class 0 is (2, 0), the nearest other of that (6, 0): 1 / 4; from x itself it were 1 / 3."""
        assert dsa(PLANE, X, np.array([0])).tolist() == [0.25]
        assert dsa(PLANE, X, np.array([1])).tolist() == [3 / 4]

    def test_f7_lsa(self):
        line = Reference(np.array([[0.0], [1], [2]]), np.zeros(3, np.int64))
        assert lsa(line, np.array([[4.0]]), np.zeros(1, np.int64)) == pytest.approx([4.880983], abs=1e-6)

    def test_mdsa(self):
        """Variances 2 / 3 along x and 8 / 3 along y, divided by n - 1: (1, 2) lies at sqrt(3 / 2 + 3 / 2)."""
        rows = Reference(np.array([[-1.0, 0], [1, 0], [0, -2], [0, 2]]), np.zeros(4, np.int64))
        assert rows.density(0).kept == 2
        assert mdsa(rows, np.array([[1.0, 2]]), np.zeros(1, np.int64)) == pytest.approx([math.sqrt(3)])

    def test_own_surprise(self):
        """(0, 0) lies 2 from (2, 0), which lies 4 from (6, 0), and so on."""
        assert own_dsa(PLANE).tolist() == [2 / 4, 2 / 6, 3 / 5, 3 / 4]

    def test_f7_sections_leave_out_what_lies_outside(self):
        background = plane_background()
        points = torch.tensor([(2.0, 0), (3.0, 0), (100.0, 0)])
        batch = NeuronBatch(points, points, torch.tensor([[1.0, 0]] * 3))
        state, gains = folded(criterion_of("dsc(k=4)", background), batch)
        # surprises 0, 0.25 and 24.5 of U = 0.7496: sections 0, 1, none
        assert gains.tolist() == [1, 1, 0]
        assert (state.reading().covered, state.reading().total) == (2, 4)
        assert folded(criterion_of("dsa", background), batch)[0].reading().value == pytest.approx((0 + 0.25 + 24.5) / 3)


def plane_background():
    points = torch.tensor(CLASS0 + CLASS1)
    logits = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    return background_of(NeuronBatch(points, points, logits), HIDDEN, ("h",))


class TestSecondOpinions:
    def test_dsa_against_loops(self):
        (rows, names), (suite, classes) = drawn(0, 40, 3), drawn(1, 20, 3)
        reference = Reference(rows, names)
        for row, name, value in zip(suite, classes, dsa(reference, suite, classes), strict=True):
            same = [other for other, label in zip(rows, names, strict=True) if label == name]
            a = min(same, key=lambda other: math.dist(other, row))
            b = min(math.dist(a, other) for other, label in zip(rows, names, strict=True) if label != name)
            assert value == pytest.approx(math.dist(row, a) / b, rel=1e-12)

    def test_lsa_against_scipy(self):
        (rows, names), (suite, classes) = drawn(0, 90, 4), drawn(1, 20, 4)
        expected = [
            -gaussian_kde(rows[names == name].T).logpdf(row)[0] for row, name in zip(suite, classes, strict=True)
        ]
        assert lsa(Reference(rows, names), suite, classes) == pytest.approx(expected, rel=1e-9)

    def test_more_features_than_images(self):
        """Eight images of each class in twelve features: main components, two of them, and SciPy's density of those."""
        rng = np.random.default_rng(0)
        rows, suite = rng.normal(size=(8, 12)), rng.normal(size=(5, 12))
        mean = rows.mean(0)
        axes = np.linalg.svd(rows - mean)[2][:2]
        kde = gaussian_kde(((rows - mean) @ axes.T).T)
        expected = -kde.logpdf(((suite - mean) @ axes.T).T)
        reference = Reference(rows, np.zeros(8, np.int64))
        assert reference.density(0).kept == 2
        assert lsa(reference, suite, np.zeros(5, np.int64)) == pytest.approx(expected, rel=1e-9)

    def test_own_surprise_leaves_each_image_out(self):
        rows, names = drawn(2, 45, 3)
        reference = Reference(rows, names)
        others = [Reference(np.delete(rows, i, 0), np.delete(names, i)) for i in range(len(rows))]

        def alone(measure):
            parts = enumerate(others)
            return np.concatenate([measure(other, rows[i : i + 1], names[i : i + 1]) for i, other in parts])

        assert own_dsa(reference) == pytest.approx(alone(dsa), rel=1e-12)
        assert own_mdsa(reference) == pytest.approx(alone(mdsa), rel=1e-9)
        # bandwidth and covariance stay those of all
        kernels = own_lsa(reference)
        for i in range(len(rows)):
            kde = gaussian_kde(rows[names == names[i]].T)
            own = kde.logpdf(rows[i])[0]
            peak = -np.log(np.linalg.det(2 * np.pi * kde.covariance)) / 2
            n = kde.n
            assert -kernels[i] == pytest.approx(np.log((n * np.exp(own) - np.exp(peak)) / (n - 1)), rel=1e-6)


class TestUndefined:
    def test_too_few_images_of_a_class(self):
        rows, names = np.array([[0.0], [1], [2], [5], [6]]), np.array([0, 0, 0, 1, 1])
        reference, suite = Reference(rows, names), np.array([[1.0], [5.5], [9]])
        for measure in (lsa, mdsa):
            assert np.isnan(measure(reference, suite, np.array([0, 1, 2]))).tolist() == [False, True, True]
        assert np.isnan(dsa(reference, suite, np.array([0, 1, 2]))).tolist() == [False, False, True]

    def test_a_single_class_has_no_other(self):
        reference = Reference(np.array([[0.0], [1]]), np.zeros(2, np.int64))
        assert np.isnan(dsa(reference, np.array([[3.0]]), np.zeros(1, np.int64))).all()

    def test_features_that_are_all_alike(self):
        reference = Reference(np.ones((9, 2)), np.zeros(9, np.int64))
        assert np.isnan(lsa(reference, np.ones((1, 2)), np.zeros(1, np.int64))).all()

    @pytest.mark.parametrize("name", ["ls", "mds"])
    def test_the_reason_is_told(self, name):
        background = plane_background()
        points = torch.tensor([(2.0, 0)])
        batch = NeuronBatch(points, points, torch.tensor([[1.0, 0]]))
        reading = folded(criterion_of(f"{name}a", background), batch)[0].reading()
        assert (reading.value, reading.covered, reading.total) == (None, 0, 1)
        assert reading.undefined_reason == "the profile has too few images of each class"
        reading = folded(criterion_of(f"{name}c", background), batch)[0].reading()
        assert (reading.value, reading.total) == (None, 0)
        assert reading.undefined_reason == "no class of the profile has enough images"

    def test_images_without_a_value_are_counted_apart(self):
        points = torch.tensor(CLASS0 + CLASS1)
        batch = NeuronBatch(points, points, torch.tensor([[1.0, 0, 0]] * 3 + [[0, 0, 1]]))
        reading = folded(criterion_of("dsa", plane_background()), batch)[0].reading()
        assert (reading.covered, reading.total) == (3, 4)


def test_features_are_those_before_the_logits():
    layout = NeuronLayout(("conv", "pool", "fc", "softmax"), (4, 4, 6, 3))
    assert feature_layer("dsa", layout, "") == "fc"
    assert feature_layer("dsa", layout, "pool") == "pool"
    assert Background(layout).profile is None
