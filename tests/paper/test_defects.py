"""The emulated defects: effective strengths, truncation and jet pictures against values worked by hand."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from camdrift.explanations.similarity import similarity
from camdrift.paper.defects import (
    Defects,
    accumulated_strengths,
    jet_direction,
    jet_picture,
    pooled_compromise,
    rungs,
    truncated,
)

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def released_loop(seed, perturbation, noise, strengths):
    """The released loop as it is written: `gen` enters as seed + P and leaves as the next round's `gen`."""
    gen, found = seed + perturbation, []
    for s in strengths:
        ori = gen - perturbation
        gen = ori + s * perturbation
        found.append((gen, ori + s * noise))
    return found


class TestStrengths:
    def test_the_published_ones_become_these(self):
        found = accumulated_strengths(STRENGTHS)
        assert [found[s].adversarial for s in STRENGTHS] == [0.25, -0.25, -0.25, 0.75, 3.75]
        assert [found[s].noise_base for s in STRENGTHS] == [0, -0.75, -1.25, -1.25, -0.25]

    @pytest.mark.parametrize("strengths", [STRENGTHS, (1.0,), (0.125, 3.0), (0.5, 0.75, 8.0)])
    def test_are_those_of_the_loop(self, strengths):
        """Sixteenths of whole numbers: every sum is exact."""
        rng = np.random.default_rng(0)
        seed, perturbation, noise = rng.integers(-8, 9, (3, 4, 4, 3)) / 16
        effective = accumulated_strengths(strengths)
        for s, (gen, noisy) in zip(strengths, released_loop(seed, perturbation, noise, strengths), strict=True):
            assert np.array_equal(gen, seed + effective[s].adversarial * perturbation)
            assert np.array_equal(noisy, seed + effective[s].noise_base * perturbation + s * noise)

    def test_norms_are_those_of_the_table(self):
        """Exact norms of both images, in units of |P|, for noise as long as P and at right angles to it."""
        effective = accumulated_strengths(STRENGTHS)
        attack = [abs(effective[s].adversarial) for s in STRENGTHS]
        noise = [np.hypot(effective[s].noise_base, s) for s in STRENGTHS]
        assert attack == [0.25, 0.25, 0.25, 0.75, 3.75]
        assert noise == pytest.approx([0.25, 0.90, 1.60, 2.36, 4.01], abs=0.005)

    def test_order_does_not_matter(self):
        assert accumulated_strengths((4, 0.25, 1)) == accumulated_strengths((0.25, 1, 4))


class TestTruncation:
    def test_cuts_off_and_clips(self):
        grey = np.array([-3.0, 0.0, 0.9, 1.0, 1.99, 254.5, 255.0, 300.0])
        assert truncated(grey / 255).tolist() == [0, 0, 0, 1, 1, 254, 255, 255]

    def test_an_image_of_8_bits_survives(self):
        stored = np.arange(256, dtype=np.uint8)
        assert np.array_equal(truncated((stored / np.float32(255)).astype(np.float32)), stored)

    @pytest.mark.parametrize(
        ("s", "projection", "cosine"),
        [(0.25, (0.67, 0.80), (0.66, 0.80)), (2.0, (0.84, 0.89), (0.79, 0.82)), (4.0, (3.65, 3.75), (0.97, 0.99))],
    )
    @pytest.mark.parametrize("make", ["gaussian", "laplace", "t3"])
    def test_small_perturbations_grow_to_a_grey_level(self, s, projection, cosine, make):
        """Section 3(a): what is stored of a P of 0.5 grey levels, without the constant shift of half a level."""
        rng = np.random.default_rng(1)
        draw = {"gaussian": rng.normal, "laplace": rng.laplace, "t3": lambda size: rng.standard_t(3, size)}[make]
        p = draw(size=200_000)
        p *= 0.5 / np.sqrt((p**2).mean())
        seed = np.full(p.shape, 128.0)
        factor = accumulated_strengths(STRENGTHS)[s].adversarial
        stored = truncated((seed + factor * p) / 255).astype(np.float64) - seed
        stored -= stored.mean()
        along = (stored @ p) / (p @ p)
        assert projection[0] - 0.02 <= along <= projection[1] + 0.02
        assert cosine[0] - 0.02 <= along * np.linalg.norm(p) / np.linalg.norm(stored) <= cosine[1] + 0.02

    def test_noise_of_the_table_is_what_is_stored(self):
        """Section 3(a): standard deviation of the stored noise images, and their cosines with P and R."""
        rng = np.random.default_rng(2)
        p, r = 0.5 * rng.normal(size=(2, 400_000))
        table = {
            0.25: (0.50, 0.00, 0.79), 0.5: (0.55, -0.70, 0.47), 1.0: (0.85, -0.73, 0.58),
            2.0: (1.21, -0.51, 0.82), 4.0: (2.01, -0.06, 0.98),
        }  # fmt: skip
        for s, expected in table.items():
            base = accumulated_strengths(STRENGTHS)[s].noise_base
            stored = truncated((128 + base * p + s * r) / 255) - 128.0
            stored -= stored.mean()
            cosines = [stored @ v / np.linalg.norm(stored) / np.linalg.norm(v) for v in (p, r)]
            assert (stored.std(), *cosines) == pytest.approx(expected, abs=0.015), s

    def test_strengths_0_5_and_1_are_the_same_image(self):
        rng = np.random.default_rng(3)
        seed, p = rng.integers(0, 256, (8, 8, 3)) / 255, rng.normal(size=(8, 8, 3)) / 100
        effective = accumulated_strengths(STRENGTHS)
        half, one = (truncated(seed + effective[s].adversarial * p) for s in (0.5, 1.0))
        assert np.array_equal(half, one)


def jet_similarity(a, b, size):
    """The released code's similarity of two maps."""
    return float(jet_direction(a, size) @ jet_direction(b, size))


class TestJet:
    def test_disjoint_blobs_are_similar_by_their_background(self):
        """11 of 100 cells each: background (0, 0, 255), blobs (255, 0, 0), so that cosine is (100 - 22) / 100."""
        a, b = np.zeros((2, 10, 10))
        a[:1], a[1, 0] = 1, 1
        b[5:6], b[6, 0] = 1, 1
        assert jet_similarity(a, b, (10, 10)) == pytest.approx(0.78, abs=1e-6)
        assert similarity(torch.tensor(a)[None], torch.tensor(b)[None], size=(10, 10)).item() == 0

    def test_disjoint_blobs_of_a_deep_layer(self):
        """14 x 14 cells enlarged to 224: still far from the 0 that the maps have."""
        a, b = np.zeros((2, 14, 14))
        a[1:6, 1:6], b[8:13, 8:13] = 1, 1
        assert jet_similarity(a, b, (224, 224)) == pytest.approx(0.77, abs=0.01)
        assert similarity(torch.tensor(a)[None], torch.tensor(b)[None]).item() == 0

    def test_jet_is_not_monotone(self):
        """Half the heat is the brightest colour: its similarity to the peak's is not 1, as a map's would be."""
        assert jet_similarity(np.ones((4, 4)), np.full((4, 4), 0.5), (4, 4)) == pytest.approx(1)  # scaled to its peak
        ramp = np.linspace(0, 1, 16).reshape(4, 4)
        assert jet_similarity(ramp, ramp, (16, 16)) == pytest.approx(1)
        assert jet_similarity(ramp, ramp**2, (16, 16)) < 0.9

    def test_a_zero_map_is_a_blue_picture(self):
        blank = jet_picture(np.zeros((3, 3)), (6, 6))
        assert (blank == [0, 0, 255]).all()
        ramp = np.linspace(0, 1, 9).reshape(3, 3)
        assert 0.2 < jet_similarity(np.zeros((3, 3)), ramp, (6, 6)) < 0.95  # counted as if it were a map

    def test_the_picture_is_made_step_by_step(self):
        """The released steps, spelled out with Keras's conversion to an image."""

        def to_image(x):
            x = x.astype("float32")
            x = x - x.min()
            if x.max() != 0:
                x = x / x.max()
            return Image.fromarray((x * 255).astype("uint8"))

        heat = np.random.default_rng(4).random((7, 7))
        heat = heat / heat.max()
        jet = mpl.colormaps["jet"](np.arange(256))[:, :3]
        coloured = to_image(jet[np.uint8(255 * heat)]).resize((28, 21))
        expected = np.asarray(to_image(np.asarray(coloured).astype("float32") * 0.4))
        found = jet_picture(heat, (21, 28))
        assert found.shape == (21, 28, 3)
        assert np.array_equal(found, expected)


class TestThreshold:
    def test_is_one_for_all_layers(self):
        """Noisy layer means 0.9, 0.8, 0.4 have mean 0.7: two of the adversarial ones lie below it."""
        noise = np.array([[0.9, 0.8, 0.4]])
        assert pooled_compromise(np.array([[0.75, 0.6, 0.1]]), noise).tolist() == [[0, 1, 1]]

    def test_undefined_stays_undefined(self):
        found = pooled_compromise(np.array([np.nan, 0.1]), np.array([0.5, np.nan]))
        assert np.isnan(found[0])
        assert found[1] == 1


class TestSwitches:
    def test_are_off(self):
        assert not any(getattr(Defects(), name) for name in Defects.names())
        assert Defects().name == "none"

    def test_rungs_name_every_set_once(self):
        names = [defects.name for defects in rungs()]
        assert len(set(names)) == len(names) == 2 * len(Defects.names()) + 2
        assert (names[0], names[-1]) == ("none", "all")
        assert {"jet", "all but jet"} <= set(names)

    def test_are_explained_one_by_one(self):
        assert all(f"    {name}: (" in Defects.__doc__ for name in Defects.names())
