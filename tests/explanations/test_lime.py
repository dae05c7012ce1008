"""LIME: the regression by hand and against scikit-learn, segments, masked images, similarity."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

import camdrift
from camdrift.errors import UserError
from camdrift.explanations.lime import draw_masks, lime_masks, lime_similarity, masked_values, segments_of
from camdrift.explanations.lime_design import LimeDesign, parse_lime

FOUR = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)


class TestRegression:
    def test_values_by_hand(self):
        """D10: cosine distances 0, 1 - 1/sqrt 2 twice, and 1."""
        design = lime_masks(FOUR, alpha=1.0)
        assert design.weights == pytest.approx([1, 0.503440, 0.503440, 0.000335], abs=1e-6)
        values = np.array([0.9, 0.7, 0.3, 0.1])
        assert design.coefficients(values) == pytest.approx([0.147287, 0.013344], abs=1e-6)
        # Without a penalty the effects of 0.6 and 0.2 come out.
        assert lime_masks(FOUR, alpha=1e-9).coefficients(values) == pytest.approx([0.6, 0.2], abs=1e-5)

    @pytest.mark.parametrize("alpha", [1e-3, 1.0, 50.0])
    def test_as_scikit_learn_solves_it(self, alpha):
        rng = np.random.default_rng(0)
        masks, values = draw_masks(9, 60, rng), rng.normal(size=(3, 60))
        design = lime_masks(masks, alpha=alpha)
        for row, coefficients in zip(values, design.coefficients(values), strict=True):
            ridge = Ridge(alpha=alpha).fit(masks.astype(float), row, sample_weight=design.weights)
            assert coefficients == pytest.approx(ridge.coef_, abs=1e-10)

    def test_masks_begin_with_all_on(self):
        masks = draw_masks(16, 400, np.random.default_rng(1))
        assert masks[0].all()
        assert masks[1:].mean() == pytest.approx(0.5, abs=0.03)


class TestImages:
    def test_squares(self):
        segments = segments_of(torch.zeros(3, 6, 6), LimeDesign(grid=2))
        assert segments.tolist() == [[0, 0, 0, 1, 1, 1]] * 3 + [[2, 2, 2, 3, 3, 3]] * 3
        uneven = segments_of(torch.zeros(3, 7, 7), LimeDesign(grid=3)).flatten().bincount().tolist()
        assert (len(uneven), sum(uneven)) == (9, 49)

    def test_a_segment_that_is_off_has_its_mean_colour(self):
        """A network that returns one pixel per plane tells what it was shown."""

        class Probe(nn.Module):
            def forward(self, x):
                return torch.stack([x[:, 0, 0, 0], x[:, 2, 3, 3]], 1)

        image = torch.rand((3, 4, 4), generator=torch.Generator().manual_seed(0))
        segments = segments_of(image, LimeDesign(grid=2))
        masks = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]], bool)
        values = [
            masked_values(
                camdrift.wrap(Probe(), size=4), image, segments, masks, lambda logits, k=k: logits[:, k], batch_size=2
            )
            for k in range(2)
        ]
        first, last = image[0, :2, :2].mean().item(), image[2, 2:, 2:].mean().item()
        assert values[0] == pytest.approx([image[0, 0, 0].item(), first, image[0, 0, 0].item()])
        assert values[1] == pytest.approx([image[2, 3, 3].item(), image[2, 3, 3].item(), last])

    def test_it_recovers_what_a_linear_network_does(self):
        """Logit = sum of w per square times the square's mean, which masks of a painted checker take away."""
        image = torch.zeros(3, 4, 4)
        image[:, ::2, ::2] = 1.0  # one pixel of every square of four: painting moves it to its mean of 1/4
        effects = torch.tensor([4.0, -2.0, 1.0, 0.5])

        class Network(nn.Module):
            def forward(self, x):
                peaks = x[:, 0, ::2, ::2].flatten(1)
                return torch.stack([peaks @ effects, 0 * peaks[:, 0]], 1)

        design = LimeDesign(grid=2)
        masks = lime_masks(draw_masks(4, 64, np.random.default_rng(0)), alpha=1e-9)
        classifier, segments = camdrift.wrap(Network(), size=4), segments_of(image, design)
        values = masked_values(classifier, image, segments, masks.masks, lambda logits: logits[:, 0], batch_size=16)
        assert masks.coefficients(values) == pytest.approx((0.75 * effects).tolist(), abs=1e-5)


class TestSimilarity:
    def test_by_hand_and_of_equal_maps(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            one, areas = rng.normal(size=64) * 10 ** rng.uniform(-6, 6), rng.uniform(1, 900, 64)
            assert lime_similarity(one, one.copy(), areas) == 1
        assert lime_similarity(np.array([1.0, 0]), np.array([1.0, 1]), np.array([1.0, 3])) == pytest.approx(0.5)
        assert lime_similarity(np.array([1.0, -1]), np.array([-1.0, 1]), np.ones(2)) == -1
        assert np.isnan(lime_similarity(np.zeros(2), np.ones(2), np.ones(2)))


class TestDesigns:
    def test_as_released(self):
        design = parse_lime("lime:paper")
        assert (design.segments, design.samples, design.target) == ("quickshift", 1000, "probability")
        assert design.alpha * design.samples == 1
        assert parse_lime("lime(grid=4, samples=50)") == LimeDesign(grid=4, samples=50)

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("lim", "`lime` must be lime or lime:paper, got: lim"),
            ("lime(grid=1)", "`grid` of `lime` must be an integer from 2 to 32, got: 1"),
            ("lime(sample=5)", "`lime` must have settings among segments, grid, samples, "),
            ("lime(segments='slic')", "`segments` of `lime` must be grid or quickshift, got: slic"),
        ],
    )
    def test_what_is_wrong(self, spec, words):
        with pytest.raises(UserError) as failure:
            camdrift.run(None, lime=True, lime_design=spec)
        assert failure.value.message.startswith(words)
