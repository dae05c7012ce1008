"""Similarity of maps: against interpolation and SciPy's cosine, its properties, and where it is undefined."""

import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance

from camdrift.explanations.similarity import compare_layers, similarity, unrelated_pairs
from camdrift.tables.words import NON_FINITE_MAP, ZERO_MAP_SEED, ZERO_MAP_VARIANT
from support.maps import random_maps


def oracle(a, b, size):
    def enlarged(maps):
        full = F.interpolate(maps.double()[:, None], size=size, mode="bilinear", align_corners=False)
        return full.flatten(1).numpy()

    return [1 - distance.cosine(u, v) for u, v in zip(enlarged(a), enlarged(b), strict=True)]


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))
# An input is at least as large as its maps; anything smaller may step over the only pixel that is not zero.
sizes = st.tuples(st.integers(6, 20), st.integers(6, 20))
entries = st.floats(0, 1e6, width=32).map(lambda x: 0.0 if x < 1e-6 else x)


@st.composite
def pairs(draw):
    """Two maps, neither of them all zero, of one shape, shape (1, h, w) each."""
    shape = (1, *draw(shapes))
    maps = hnp.arrays(np.float32, shape, elements=entries).filter(lambda map_: map_.any())
    return torch.from_numpy(draw(maps)), torch.from_numpy(draw(maps))


class TestSimilarity:
    @pytest.mark.parametrize(
        ("shape", "size"),
        [
            ((7, 7), (224, 224)),
            ((14, 14), (224, 224)),
            ((9, 13), (64, 48)),
            ((1, 5), (8, 8)),
            ((8, 8), (8, 8)),
            ((8, 16), (8, 8)),
            ((30, 31), (16, 9)),
            ((35, 35), (64, 64)),
        ],
    )
    def test_against_interpolation_and_scipy(self, shape, size):
        a, b = random_maps((5, *shape)), random_maps((5, *shape), rng_seed=1)
        b[0] = a[0] + 0.1 * b[0]
        assert similarity(a, b, size).tolist() == pytest.approx(oracle(a, b, size), abs=1e-12)

    def test_by_hand_without_interpolation(self):
        a, b = torch.tensor([[[3.0, 0.0], [4.0, 0.0]]]), torch.tensor([[[0.0, 2.0], [2.0, 1.0]]])
        # 4 * 2 / (5 * 3)
        assert similarity(a, b, (2, 2)).item() == pytest.approx(8 / 15, rel=1e-15)

    def test_by_hand_with_interpolation(self):
        """One axis of two values u, v becomes (u, 3u/4 + v/4, u/4 + 3v/4, v) at twice the length."""
        a, b = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
        # (1, 3/4, 1/4, 0) and its mirror image: 2 * 3/16 over 1 + 9/16 + 1/16
        assert similarity(a, b, (1, 4)).item() == pytest.approx((6 / 16) / (26 / 16), rel=1e-15)

    def test_interpolation_is_part_of_it(self):
        a, b = torch.eye(2)[None], torch.eye(2).flip(0)[None]
        assert similarity(a, b, (2, 2)).item() == 0
        assert similarity(a, b, (8, 8)).item() > 0.3

    def test_each_pair_by_itself(self):
        a, b = random_maps((6, 5, 5)), random_maps((6, 5, 5), rng_seed=1)
        alone = [similarity(a[i : i + 1], b[i : i + 1], (32, 32)).item() for i in range(6)]
        assert similarity(a, b, (32, 32)).tolist() == pytest.approx(alone, abs=1e-15)

    def test_default_size_is_that_of_imagenet(self):
        a, b = random_maps((2, 7, 7)), random_maps((2, 7, 7), rng_seed=1)
        assert similarity(a, b).tolist() == similarity(a, b, (224, 224)).tolist()

    def test_different_shapes_are_refused(self):
        message = r"`a` and `b` must have the same shape, got: \(1, 2, 3\) and \(1, 3, 2\)"
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(similarity)(torch.ones(1, 2, 3), torch.ones(1, 3, 2))  # without the shape checker
        with pytest.raises(ValueError, match=r"`a` must be maps of shape \(batch, h, w\), got: \(2, 3\)"):
            inspect.unwrap(similarity)(torch.ones(2, 3), torch.ones(2, 3))

    def test_maps_are_left_alone(self):
        a, b = random_maps((2, 4, 4)), random_maps((2, 4, 4), rng_seed=1)
        kept = a.clone(), b.clone()
        similarity(a, b)
        assert torch.equal(a, kept[0])
        assert torch.equal(b, kept[1])


class TestProperties:
    @given(pairs(), sizes)
    @settings(max_examples=60, deadline=None)
    def test_self_symmetry_and_range(self, pair, size):
        a, b = pair
        assert similarity(a, a, size).item() == 1
        assert similarity(a, b, size).item() == pytest.approx(similarity(b, a, size).item(), rel=1e-13)
        assert 0 <= similarity(a, b, size).item() <= 1

    @given(pairs(), sizes, st.sampled_from([1e-30, 1e-12, 1e12, 3.7]))
    @settings(max_examples=60, deadline=None)
    def test_scale_is_ignored(self, pair, size, factor):
        a, b = pair
        scaled = (a.double() * factor).float()
        if scaled.double().div(factor).sub(a).abs().max() > 1e-6 * a.max():
            scaled = a * 2**-20  # parts of the map would underflow; a power of two loses nothing
        assert similarity(scaled, b, size).item() == pytest.approx(similarity(a, b, size).item(), abs=1e-5)

    def test_tiny_maps_keep_their_direction(self):
        """Squares of raw early maps underflow in float32, and of the tiniest in float64."""
        a, b = random_maps((3, 6, 6)), random_maps((3, 6, 6), rng_seed=1)
        expected = similarity(a, b).tolist()
        assert similarity(a * 1e-30, b).tolist() == pytest.approx(expected, abs=1e-6)
        assert similarity((a.double() * 1e-200), b.double() * 1e-200).tolist() == pytest.approx(expected)

    @given(st.integers(0, 5), st.integers(0, 5), sizes)
    @settings(max_examples=40, deadline=None)
    def test_a_single_pixel_is_like_itself_only(self, one, other, size):
        maps = torch.eye(6).view(6, 2, 3)
        found = similarity(maps[one][None], maps[other][None], (2, 3)).item()
        assert found == float(one == other)


class TestUndefined:
    def test_zero_maps(self):
        a = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), torch.zeros(3, 3), torch.ones(3, 3)])
        b = torch.stack([torch.ones(3, 3), torch.zeros(3, 3), torch.zeros(3, 3), torch.ones(3, 3)])
        found = similarity(a, b, (9, 9)).tolist()
        assert [math.isnan(value) for value in found] == [True, True, True, False]
        assert found[3] == 1


class TestCompareLayers:
    LAYERS = (("a", (8, 8)), ("b", (4, 4)), ("c", (8, 8)), ("d", (3, 5)), ("e", (4, 4)))

    def maps(self, rng_seed):
        return {
            name: random_maps((4, *shape), rng_seed=10 * rng_seed + number)
            for number, (name, shape) in enumerate(self.LAYERS)
        }

    def test_equals_similarity_layer_by_layer(self):
        seeds, variants = self.maps(0), self.maps(1)
        found = compare_layers(seeds, variants, (16, 16))
        expected = [similarity(seeds[name], variants[name], (16, 16)).tolist() for name, _ in self.LAYERS]
        np.testing.assert_allclose(found.similarity, expected, rtol=1e-12)
        assert (found.reasons() == None).all()  # noqa: E711 - entry by entry

    def test_a_layer_is_the_same_as_itself_exactly(self):
        assert (compare_layers(self.maps(0), self.maps(0), (16, 16)).similarity == 1).all()

    def test_reasons(self):
        seeds, variants = self.maps(0), self.maps(1)
        seeds["b"][1], variants["b"][2], seeds["e"][3], variants["e"][3] = 0, 0, 0, 0
        seeds["c"][0, 2, 2], variants["a"][1, 2, 2] = torch.nan, torch.inf
        found = compare_layers(seeds, variants, (16, 16))
        expected = np.full((5, 4), None, dtype=object)
        expected[1, 1], expected[1, 2], expected[4, 3] = ZERO_MAP_SEED, ZERO_MAP_VARIANT, ZERO_MAP_SEED
        expected[2, 0], expected[0, 1] = NON_FINITE_MAP, NON_FINITE_MAP
        assert found.reasons().tolist() == expected.tolist()
        assert np.isnan(found.similarity).tolist() == (expected != None).tolist()  # noqa: E711 - entry by entry


class TestUnrelatedPairs:
    @given(st.integers(2, 200))
    def test_a_permutation_without_fixed_points(self, count):
        pairs = unrelated_pairs(count)
        assert [seed for seed, _ in pairs] == list(range(count))
        assert sorted(other for _, other in pairs) == list(range(count))
        assert all(seed != other for seed, other in pairs)

    def test_neighbours_are_not_paired(self):
        assert min(abs(seed - other) for seed, other in unrelated_pairs(32)) == 16

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few_for_a_pair(self, count):
        assert unrelated_pairs(count) == []
