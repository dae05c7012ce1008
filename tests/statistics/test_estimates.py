"""Estimates from counts and samples: closed forms, by hand, and SciPy as oracle."""

import numpy as np
import pytest
import scipy.stats

from camdrift.statistics.estimates import holm, wilcoxon_p, wilson_interval

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
