"""Variants: which there are, and norms and clipped shares worked by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from camdrift.pipeline.variants import (
    VARIANT_MEASURES,
    Variant,
    describe_perturbations,
    measure_variants,
    plan_variants,
    variant_batch,
)
from camdrift.tables.study import SEEDS
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import perturbed, rounded_to_bytes

IMAGES = hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32))
PERTURBATIONS = hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-0.5, 0.5, width=32))


def image(*values):
    """A 3 x 1 x n image from its three channels."""
    return torch.tensor(values, dtype=torch.float32)[:, None, :]


def measure_variant(seed, delta, strength):
    """The measures of one variant, which stands behind another in its batch."""
    variants = [Variant(0, NOISE, 32.0), Variant(1, ADVERSARIAL, strength)]
    batch = variant_batch(variants, torch.stack([1 - seed, seed]), torch.stack([delta + 1, delta]))
    assert torch.equal(batch.images[1], perturbed(seed, delta, strength))
    return dict(zip(VARIANT_MEASURES, measure_variants(batch)[:, 1].tolist(), strict=True))


def describe_perturbation(seed, delta, noise):
    """The description of one seed, which stands behind another."""
    return describe_perturbations([delta, seed], [noise, delta], [seed, noise])[1]


class TestPlan:
    def test_order(self):
        plan = plan_variants(2, strengths=[1.0, 4.0], noise_strengths=[1.0, 8.0, 4.0], draws=2)
        assert plan == [
            *(Variant(p, ADVERSARIAL, s) for s in (4.0, 1.0) for p in (0, 1)),
            *(Variant(p, NOISE, s, d) for s in (8.0, 4.0, 1.0) for d in (0, 1) for p in (0, 1)),
        ]

    @pytest.mark.parametrize(("seeds", "draws"), [(1, 1), (3, 1), (2, 3)])
    def test_every_variant_once(self, seeds, draws):
        strengths, ladder = (0.25, 0.5, 1.0, 2.0, 4.0), (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
        plan = plan_variants(seeds, strengths=strengths, noise_strengths=ladder, draws=draws)
        assert len(plan) == len(set(plan)) == seeds * (5 + 8 * draws)
        # Without further draws these are the thirteen variants which, with the clean image, make one seed's batch.
        for position in range(seeds):
            mine = [v for v in plan if v.position == position]
            assert {v.strength for v in mine if v.condition == ADVERSARIAL} == set(strengths)
            assert {(v.strength, v.draw) for v in mine if v.condition == NOISE} == {
                (s, d) for s in ladder for d in range(draws)
            }

    def test_no_seed_no_variant(self):
        assert plan_variants(0, strengths=[1.0], noise_strengths=[1.0], draws=1) == []


class TestMeasure:
    SEED = image([0.25, 0.5], [0.0, 1.0], [0.75, 0.125])
    DELTA = image([0.25, -0.25], [-0.125, 0.0], [0.125, -0.125])

    @pytest.mark.parametrize(
        ("strength", "realised", "clipped"),
        [
            # -0.125 in a black pixel is clipped away; 0.125 - 0.125 = 0 and 1 + 0 = 1 are on the bounds
            (1.0, [0.25, -0.25, 0, 0, 0.125, -0.125], 1 / 6),
            (0.5, [0.125, -0.125, 0, 0, 0.0625, -0.0625], 1 / 6),
            # 0.75 + 0.25 = 1 and 0.5 - 0.5 = 0 are on the bounds; 0.125 - 0.25 is under
            (2.0, [0.5, -0.5, 0, 0, 0.25, -0.125], 2 / 6),
            # 0.25 + 1, 0.5 - 1, -0.5, 0.75 + 0.5 and 0.125 - 0.5 leave the range
            (4.0, [0.75, -0.5, 0, 0, 0.25, -0.125], 5 / 6),
        ],
    )
    def test_worked_by_hand(self, strength, realised, clipped):
        found = measure_variant(self.SEED, self.DELTA, strength)
        assert found["realised_l2"] == pytest.approx(np.linalg.norm(realised), rel=1e-7)
        assert found["realised_linf"] == max(map(abs, realised))
        assert found["clipped_fraction"] == pytest.approx(clipped)

    @given(IMAGES, PERTURBATIONS, st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 32.0]))
    @examples(max_examples=50, deadline=None)
    def test_naive(self, seed, delta, strength):
        wide = seed.astype(np.float64) + strength * delta.astype(np.float64)
        change = np.clip(wide, 0, 1) - seed
        found = measure_variant(torch.from_numpy(seed), torch.from_numpy(delta), strength)
        assert found["realised_l2"] == pytest.approx(np.sqrt(np.sum(change**2)), abs=1e-5)
        assert found["realised_linf"] == pytest.approx(np.abs(change).max(), abs=1e-6)
        surely, perhaps = (np.mean((wide < e) | (wide > 1 - e)) for e in (-1e-6, 1e-6))
        assert surely <= found["clipped_fraction"] <= perhaps

    def test_norms_are_those_of_the_image_that_the_model_sees(self):
        seen = perturbed(self.SEED, self.DELTA, 4.0) - self.SEED
        assert measure_variant(self.SEED, self.DELTA, 4.0)["realised_l2"] == pytest.approx(seen.norm().item())


class TestDescribe:
    def test_worked_by_hand(self):
        seed = image([0.0, 0.5], [0.5, 0.5], [0.5, 0.0])  # L2 norm 1
        delta = image([0.1, -0.1], [0.3, 0.1], [0.1, 0.1])  # mean 0.1, variance 0.08 / 6
        noise = image([1.0, 3.0], [2.0, 2.0], [2.0, 2.0])  # mean 2, variance 2 / 6
        found = describe_perturbation(seed, delta, noise)
        assert found == pytest.approx(
            {
                "perturbation_mean": 0.1,
                "perturbation_std": np.sqrt(0.08 / 6),
                "perturbation_l2": np.sqrt(0.14),
                "perturbation_linf": 0.3,
                "relative_l2": np.sqrt(0.14),
                "noise_mean": 2.0,
                "noise_std": np.sqrt(2 / 6),
            },
            rel=1e-6,
        )
        assert set(found) <= set(SEEDS.schema.names())

    def test_largest_entry_may_be_negative(self):
        delta = image([0.1, -0.4], [0.0, 0.0], [0.0, 0.2])
        assert describe_perturbation(delta, delta, delta)["perturbation_linf"] == pytest.approx(0.4)

    def test_relative_to_the_seed(self):
        seed, delta = image([0.6, 0.0], [0.8, 0.0], [0.0, 0.0]), image([0.0, 0.3], [0.0, 0.0], [0.4, 0.0])
        assert describe_perturbation(2 * seed, delta, delta)["relative_l2"] == pytest.approx(0.25)

    def test_black_seed_has_no_relative_norm(self):
        delta = image([0.1, 0.1], [0.1, 0.1], [0.1, 0.1])
        assert describe_perturbation(torch.zeros(3, 1, 2), delta, delta)["relative_l2"] is None

    def test_float64_for_small_perturbations_of_large_images(self):
        # In float32 the mean of 150528 entries would be off by more than that.
        delta = torch.full((3, 224, 224), 0.1)
        found = describe_perturbation(torch.ones(3, 224, 224), delta, delta)
        assert found["perturbation_mean"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
        assert found["perturbation_std"] == pytest.approx(0, abs=1e-12)


class TestRounded:
    def test_to_the_nearest_of_256_values(self):
        values = torch.tensor([0.0, 1.0, 0.4 / 255, 0.6 / 255, 126.6 / 255, 254.4 / 255, 254.6 / 255])
        expected = np.array([0, 255, 0, 1, 127, 254, 255]) / 255
        np.testing.assert_allclose(rounded_to_bytes(values.expand(1, 3, 1, 7))[0, 0, 0].numpy(), expected, rtol=1e-6)

    @given(IMAGES)
    @examples(max_examples=30, deadline=None)
    def test_as_numpy_stores_it(self, pixels):
        stored = np.rint(pixels.astype(np.float32) * np.float32(255)).astype(np.uint8)
        found = rounded_to_bytes(torch.from_numpy(pixels)[None])[0].numpy()
        np.testing.assert_array_equal(found, stored.astype(np.float32) / np.float32(255))

    def test_8_bit_images_stay_as_they_are(self):
        pixels = (torch.arange(256).float() / 255).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        assert torch.equal(rounded_to_bytes(pixels), pixels)
