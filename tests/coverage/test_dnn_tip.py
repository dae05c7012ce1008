"""dnn-tip 0.1.1 as a second opinion: equal away from the bounds, and where it differs at them."""

from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from dnn_tip.neuron_coverage import KMNC, NBC, SNAC, TKNC
from dnn_tip.surprise import DSA, LSA, MDSA, MultiModalSA
from scipy.stats import gaussian_kde

from camdrift.coverage.criteria import NeuronLayout, criterion_of
from camdrift.coverage.patterns import strongest
from camdrift.coverage.surprise import Reference, dsa, lsa, mdsa
from support.neurons import ORDINARY, SUITE, TOY, background_of, batch_of, folded, toy

# From SciPy 1.10 on it has SciPy's density in place of its own.
pytestmark = pytest.mark.filterwarnings("ignore:The version of scipy:UserWarning")
LAYOUT = NeuronLayout(("a", "b"), (20, 9))


def drawn_layers(rng_seed, images, *, wild=1.0):
    """Outputs without ties, none of them on a bound."""
    rng = np.random.default_rng(rng_seed)
    return [(rng.normal(size=(images, size)) * wild).astype(np.float32) for size in LAYOUT.sizes]


def bounds(layers):
    return [layer.min(0) for layer in layers], [layer.max(0) for layer in layers], [layer.std(0) for layer in layers]


def covered(spec, layers, profile, layout=LAYOUT):
    """What camdrift says of a suite of layers, against a profile of layers."""
    background = background_of(batch_of(*map(torch.from_numpy, profile)), layout)
    criterion = criterion_of(spec, background)
    state, _ = folded(criterion, batch_of(*map(torch.from_numpy, layers)))
    return state.reading()


@pytest.fixture(scope="module")
def profile():
    return drawn_layers(0, 80)


@pytest.fixture(scope="module")
def suite():
    return drawn_layers(1, 40, wild=1.3)


class TestAwayFromTheBounds:
    @pytest.mark.parametrize("k", [4, 10, 100])
    def test_sections(self, profile, suite, k):
        low, high, _ = bounds(profile)
        profiles = KMNC(low, high, k)(suite)[1]
        assert covered(f"kmnc(k={k})", suite, profile).covered == profiles.any(0).sum()

    @pytest.mark.parametrize("sigma", [0, 0.5])
    def test_corners(self, profile, suite, sigma):
        low, high, deviation = bounds(profile)
        assert (
            covered(f"nbc(sigma={sigma})", suite, profile).value
            == NBC(low, high, deviation, sigma)(suite)[1].any(0).mean()
        )
        assert (
            covered(f"snac(sigma={sigma})", suite, profile).value
            == SNAC(high, deviation, sigma)(suite)[1].any(0).mean()
        )

    @pytest.mark.parametrize("k", [1, 3])
    def test_strongest(self, profile, suite, k):
        assert covered(f"tknc(k={k})", suite, profile).value == TKNC(k)(suite)[1].any(0).mean()

    def test_densities(self):
        rng = np.random.default_rng(0)
        rows, suite = rng.normal(size=(90, 4)), rng.normal(size=(20, 4))
        names, classes = rng.integers(0, 3, 90), rng.integers(0, 3, 20)
        with redirect_stdout(None):
            theirs = MultiModalSA.build_by_class(rows, names, lambda members, _: LSA(members))
        assert lsa(Reference(rows, names), suite, classes) == pytest.approx(theirs(suite, classes), rel=1e-9)

    def test_distances(self):
        rng = np.random.default_rng(0)
        rows, suite = rng.normal(size=(50, 6)), rng.normal(size=(20, 6))
        names, classes = rng.integers(0, 3, 50), rng.integers(0, 3, 20)
        assert dsa(Reference(rows, names), suite, classes) == pytest.approx(DSA(rows, names)(suite, classes), rel=1e-6)
        # it squares the distance, and divides the covariance by n
        one = np.zeros(50, np.int64)
        squares = mdsa(Reference(rows, one), suite, np.zeros(20, np.int64)) ** 2
        assert squares * 50 / 49 == pytest.approx(MDSA(rows)(suite), rel=1e-9)


TOY_LAYERS = [[batch.raw[:, :3].numpy(), batch.raw[:, 3:].numpy()] for batch in (toy(ORDINARY), toy(SUITE))]


class TestOnTheBounds:
    """The toy network's outputs lie on bounds, and tie."""

    def test_sections(self):
        """It leaves out the highest value of the profile, which two of the suite's outputs have."""
        profile, suite = TOY_LAYERS
        low, high, _ = bounds(profile)
        assert KMNC(low, high, 4)(suite)[1].any(0).sum() == 7
        assert covered("kmnc(k=4)", suite, profile, TOY).covered == 9

    def test_corners(self):
        """It counts a value on the bound, so that the profile scores against itself."""
        profile, suite = TOY_LAYERS
        low, high, deviation = bounds(profile)
        assert NBC(low, high, deviation, 0)(suite)[1].any(0).mean() == 0.7
        assert SNAC(high, deviation, 0)(suite)[1].any(0).mean() == 0.8
        assert SNAC(high, deviation, 0)(profile)[1].any(0).mean() == 1
        assert covered("nbc", suite, profile, TOY).value == 0.4
        assert covered("snac", suite, profile, TOY).value == 0.6
        assert covered("snac", profile, profile, TOY).value == 0

    def test_ties(self):
        """It gives a tie to the last of the layer, camdrift to the first."""
        layer = np.array([[1.0, 1.0, 0.0]], np.float32)
        assert TKNC(1)([layer])[1][0].tolist() == [False, True, False]
        assert strongest(torch.from_numpy(layer), NeuronLayout(("h",), (3,)), 1).tolist() == [[True, False, False]]

    def test_far_away(self):
        """Its density is 0 there, and the surprise infinite; camdrift computes with logarithms."""
        rows, far = np.random.default_rng(0).normal(size=(90, 4)), np.full((1, 4), 60.0)
        with pytest.warns(RuntimeWarning, match="divide by zero"), redirect_stdout(None):
            assert LSA(rows)(far, None) == np.inf
        surprise = lsa(Reference(rows, np.zeros(90, np.int64)), far, np.zeros(1, np.int64))
        assert surprise == pytest.approx(-gaussian_kde(rows.T).logpdf(far.T), rel=1e-9)
