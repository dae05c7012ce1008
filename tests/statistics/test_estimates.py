"""Estimates from counts and samples: closed forms, by hand, and SciPy as oracle."""

import numpy as np
import pytest
import scipy.stats

from camdrift.statistics.estimates import holm, paired_shares, wilcoxon_p, wilson_interval

NAN = np.nan


def test_wilson_equals_the_closed_form():
    k, n = np.array([[0, 3, 20], [7, 5, 0]]), np.array([[20, 7, 20], [7, 9, 0]])
    low, high = wilson_interval(k, n)
    z = scipy.stats.norm.ppf(0.975)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (k + z**2 / 2) / (n + z**2)
        half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    np.testing.assert_allclose(low.ravel()[:-1], (centre - half).ravel()[:-1], atol=1e-12)
    np.testing.assert_allclose(high.ravel()[:-1], (centre + half).ravel()[:-1], atol=1e-12)
    assert np.isnan([low[1, 2], high[1, 2]]).all()


def test_holm_by_hand():
    # sorted: 0.005 x 4 = 0.02, 0.01 x 3 = 0.03, 0.03 x 2 = 0.06, 0.04 x 1 raised to 0.06
    found = holm(np.array([[0.01, 0.04, NAN, 0.03, 0.005], [0.7, 0.8, NAN, NAN, NAN], [NAN] * 5]))
    expected = [[0.03, 0.06, NAN, 0.06, 0.02], [1.0, 1.0, NAN, NAN, NAN], [NAN] * 5]
    np.testing.assert_allclose(found, expected)


def test_wilcoxon_by_hand():
    # all of five on one side: 2 of the 32 sign patterns are as extreme; zeros and NaN drop out
    rows = [
        [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, NAN],
        [0.0] * 7,
        [NAN] * 7,
        [0.5, *[NAN] * 6],
        [0.5] * 3 + [0.0] * 4,
    ]
    np.testing.assert_allclose(wilcoxon_p(np.array(rows)), [2 / 32, NAN, NAN, 1, 2 / 8])


@pytest.mark.parametrize("n", [8, 40, 120])
def test_wilcoxon_equals_scipy(n):
    differences = np.random.default_rng(n).normal(0.2, 1, (2, 3, n))
    found = wilcoxon_p(differences)
    np.testing.assert_array_equal(found, scipy.stats.wilcoxon(differences, axis=-1).pvalue)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Wilson: 19 of 20 [.763866, .991119], 4 of 20 [.080658, .416017]; 4 * 1 < 20 / 2, so no correlation.
        # sqrt(.119342^2 + .041119^2) = .126227, sqrt(.216017^2 + .186134^2) = .285150.
        ((4, 15, 0, 1), (-0.75, -0.876227, -0.464850, 2 / 2**15)),
        # 10 of 20 [.299298, .700702], 8 of 20 [.218811, .613414]; correlation (2 * 4 - 8 * 6) / sqrt(10 * 10 * 8 * 12).
        ((2, 8, 6, 4), (-0.1, -0.420629, 0.247563, 0.790527)),
        # 9 of 20 [.258198, .657914] twice; correlation (8 * 10 - 1 * 1 - 20 / 2) / (9 * 11) = .69697.
        ((8, 1, 1, 10), (0.0, -0.156295, 0.156295, 1.0)),
        # None fooled: 0 of 5 [0, .434482].
        ((0, 0, 0, 5), (0.0, -0.434482, 0.434482, 1.0)),
    ],
)
def test_paired_shares_by_hand(counts, expected):
    assert paired_shares(*counts) == pytest.approx(expected, abs=5e-6)


def test_the_interval_of_paired_shares_holds_the_true_difference():
    """Shares .6 and .4 of 40 images, half of which both attacks fool or neither: 95 % of 2000 samples, or nearly."""
    samples = np.random.default_rng(0).multinomial(40, [0.25, 0.35, 0.15, 0.25], size=2000)
    ends = [paired_shares(*counts) for counts in np.unique(samples, axis=0).tolist()]
    weights = np.unique(samples, axis=0, return_counts=True)[1]
    held = [change.low <= -0.2 <= change.high for change in ends]
    assert 0.93 < np.average(held, weights=weights) < 0.98
