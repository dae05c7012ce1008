"""Noise-equivalent gain and its bootstrap: values worked by hand, naive loops and SciPy as oracles."""

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import isotonic_regression

from camdrift.statistics import gain
from camdrift.statistics import layers as stats
from camdrift.statistics.bootstrap import resample_counts
from camdrift.statistics.gain import ABOVE, BELOW, Gains
from camdrift.tables.study import FLOOR, SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CENSORED_BELOW, NOISE
from support.study_tables import cells, norms, pivot, random_study

NAN = np.nan


def one(deviation, l2, noise_deviation, noise_l2):
    """Value and censoring of a single gain, from plain numbers."""
    found = lane(deviation, l2, noise_deviation, noise_l2)
    return float(found.value[0]), int(found.censored[0])


def lane(*numbers):
    """Gains of a single lane, shape (1,)."""
    return gain.noise_equivalent_gain(*(np.array([a], dtype=np.float64) for a in numbers))


class TestNoiseEquivalentGain:
    # deviation = L2^2 / 100: a straight line of slope 2 in log-log.
    NOISE_L2 = (1.0, 2.0, 4.0, 8.0)
    NOISE = (0.01, 0.04, 0.16, 0.64)

    @pytest.mark.parametrize(
        ("deviation", "expected"),
        [
            (0.16, 4 / 0.5),  # on a point
            (0.08, np.sqrt(8) / 0.5),  # between two: L2 = sqrt(100 * 0.08)
            (0.25, 5 / 0.5),
            (0.01, 1 / 0.5),  # the lowest point is measured, not censored
            (0.64, 8 / 0.5),  # and so is the highest
        ],
    )
    def test_measured_by_hand(self, deviation, expected):
        value, censored = one(deviation, 0.5, self.NOISE, self.NOISE_L2)
        assert value == pytest.approx(expected, rel=1e-12)
        assert censored == 0

    def test_beyond_the_ladder_is_a_lower_bound(self):
        assert one(0.65, 0.5, self.NOISE, self.NOISE_L2) == (16.0, ABOVE)

    def test_under_the_weakest_noise_is_an_upper_bound(self):
        assert one(0.009, 0.5, self.NOISE, self.NOISE_L2) == (2.0, BELOW)

    def test_range_that_can_be_measured(self):
        found = lane(0.1, 0.5, self.NOISE, self.NOISE_L2)
        assert (found.least, found.most) == (2.0, 16.0)

    def test_order_of_the_ladder_does_not_matter(self):
        shuffled = one(0.08, 0.5, self.NOISE[::-1], self.NOISE_L2[::-1])
        assert shuffled == one(0.08, 0.5, self.NOISE, self.NOISE_L2)

    @pytest.mark.parametrize(
        ("deviation", "expected"),
        [
            (0.25, 2.0),  # the least noise that reaches the plateau
            (0.2, 2 ** (np.log(2) / np.log(2.5))),  # between (1, 0.1) and (2, 0.25)
            (0.3, 4 * 2 ** (np.log(1.2) / np.log(1.6))),  # between (4, 0.25) and (8, 0.4)
        ],
    )
    def test_noise_that_falls_is_pooled_to_a_plateau(self, deviation, expected):
        value, censored = one(deviation, 1.0, (0.1, 0.3, 0.2, 0.4), self.NOISE_L2)
        assert value == pytest.approx(expected, rel=1e-12)
        assert censored == 0

    def test_straight_line_from_a_deviation_of_zero(self):
        assert one(0.05, 1.0, (0.0, 0.0, 0.2, 0.4), self.NOISE_L2) == (2.5, 0)

    @pytest.mark.parametrize("noise", [(0.0, 0.0, 0.2, 0.4), (0.1, 0.2, 0.3, 0.4)])
    def test_attack_that_does_not_move_the_layer(self, noise):
        assert one(0.0, 2.0, noise, self.NOISE_L2) == (0.5, BELOW)

    def test_points_without_deviation_or_l2_are_left_out(self):
        left_out = one(0.02, 0.5, (NAN, 0.01, 0.03, 0.04, 0.02), (0.5, 1.0, NAN, 2.0, 0.0))
        assert left_out == one(0.02, 0.5, (0.01, 0.04), (1.0, 2.0))
        assert one(0.9, 0.5, (0.1, 0.2, NAN), (1.0, 2.0, 4.0)) == (4.0, ABOVE)

    @pytest.mark.parametrize(
        ("deviation", "l2", "noise"),
        [(NAN, 1.0, NOISE), (0.1, NAN, NOISE), (0.1, 0.0, NOISE), (0.1, 1.0, (NAN,) * 4)],
    )
    def test_undefined(self, deviation, l2, noise):
        found = lane(deviation, l2, noise, self.NOISE_L2)
        assert np.isnan([found.value, found.least, found.most]).all()
        assert found.censored == 0

    def test_broadcasting_equals_a_loop(self):
        rng = np.random.default_rng(3)
        deviation, l2 = rng.uniform(0, 1, (5, 3, 4)), rng.uniform(0.5, 2, (5, 3, 1))
        noise = rng.uniform(0, 1, (5, 1, 4, 6))
        noise[rng.random(noise.shape) < 0.2] = NAN
        noise_l2 = rng.uniform(0.2, 9, (5, 1, 1, 6))
        found = gain.noise_equivalent_gain(deviation, l2, noise, noise_l2)
        assert {BELOW, 0, ABOVE} <= set(found.censored.ravel().tolist())
        for b, s, layer in np.ndindex(5, 3, 4):
            alone = one(deviation[b, s, layer], l2[b, s, 0], noise[b, 0, layer], noise_l2[b, 0, 0])
            assert (found.value[b, s, layer], found.censored[b, s, layer]) == alone


class TestIsotonicFit:
    @settings(deadline=None)
    @given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-1e3, 1e3)))
    def test_equals_scipy(self, values):
        np.testing.assert_allclose(gain.isotonic_fit(values), isotonic_regression(values).x, atol=1e-9)

    @settings(deadline=None)
    @given(hnp.arrays(np.float64, (3, 8), elements=st.floats(0, 1)))
    def test_monotone_idempotent_and_mean_preserving(self, values):
        fit = gain.isotonic_fit(values)
        assert (np.diff(fit, axis=-1) >= 0).all()
        np.testing.assert_allclose(gain.isotonic_fit(fit), fit, atol=1e-12)
        np.testing.assert_allclose(fit.mean(axis=-1), values.mean(axis=-1), atol=1e-12)

    def test_by_hand(self):
        fit = gain.isotonic_fit(np.array([[1.0, 3.0, 2.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]]))
        assert fit.tolist() == [[1.0, 2.5, 2.5, 4.0], [2.5] * 4, [1.0, 2.0, 3.0, 4.0]]

    def test_infinite_tail_pools_with_nothing(self):
        assert gain.isotonic_fit(np.array([3.0, 1.0, np.inf, np.inf])).tolist() == [2.0, 2.0, np.inf, np.inf]


class TestGainInterval:
    # 41 replicates: the percentiles are the second smallest and the second largest.
    OBSERVED = Gains(np.array([3.0]), np.array([0]), np.array([1.0]), np.array([10.0]))

    def interval(self, values, censored):
        filled = [*values, *[3.0] * (41 - len(values))]
        flags = [*censored, *[0] * (41 - len(censored))]
        bounds = np.full((41, 1), 1.0), np.full((41, 1), 10.0)
        replicates = Gains(np.array(filled)[:, None], np.array(flags)[:, None], *bounds)
        ends, codes = gain.gain_interval(self.OBSERVED, replicates)
        return tuple(float(end[0]) for end in (*ends, *codes))

    def test_measured(self):
        assert self.interval([2.0, 2.5, 4.0, 4.5], [0] * 4) == (2.5, 4.0, 0, 0)

    def test_censored_ends_are_bounds_of_the_whole_sample_and_flagged(self):
        # 9.9 is the bound of a replicate with other L2 norms; it still lies beyond the measured 9.95.
        values, censored = [0.9, 1.1, 9.9, 9.9, 9.95], [BELOW, BELOW, ABOVE, ABOVE, 0]
        assert self.interval(values, censored) == (1.0, 10.0, BELOW, ABOVE)

    def test_one_censored_replicate_does_not_reach_the_end(self):
        assert self.interval([0.9, 2.0, 9.9, 9.0], [BELOW, 0, ABOVE, 0]) == (2.0, 9.0, 0, 0)

    def test_measured_ends_stay_within_the_bounds(self):
        assert self.interval([0.8, 0.8, 12.0, 12.0], [0] * 4) == (1.0, 10.0, 0, 0)

    def test_all_replicates_beyond_the_ladder(self):
        assert self.interval([10.0] * 41, [ABOVE] * 41) == (10.0, 10.0, ABOVE, ABOVE)


def test_ranks_share_the_smallest_and_skip_the_undefined():
    ranks = gain.rank_by_gain(np.array([[3.0, 1.0, 3.0, NAN, 5.0], [NAN, NAN, 2.0, 2.0, 2.0]]))
    np.testing.assert_array_equal(ranks, [[2, 4, 2, NAN, 1], [NAN, NAN, 1, 1, 1]])


def test_a_tie_of_replicates_leaves_all_its_places_open():
    """Two layers at one bound in every replicate: either may come first, and neither be third."""
    replicates = np.array([[32.0, 32.0, 5.0, NAN]] * 41)
    low, high = gain.rank_interval(replicates)
    np.testing.assert_array_equal(low, [1, 1, 3, NAN])
    np.testing.assert_array_equal(high, [2, 2, 3, NAN])


def naive_gain(attack, attack_l2, noise, noise_l2):
    """Gain and its censoring from values per seed: one layer, one strength; noise by strength."""
    deviation, l2 = np.median(1 - attack), np.median(attack_l2)
    curve = isotonic_regression([np.median(1 - n) for n in noise]).x
    ladder = np.array([np.median(n) for n in noise_l2])
    if deviation < curve[0]:
        return ladder[0] / l2, -np.inf
    if deviation > curve[-1]:
        return ladder[-1] / l2, np.inf
    value = np.exp(np.interp(np.log(deviation), np.log(curve), np.log(ladder))) / l2
    return value, value


class TestAgainstNaiveLoop:
    """Every bootstrap column from resamples written out in float64."""

    N_LAYERS = 3

    @pytest.fixture
    def study(self):
        return random_study(12, self.N_LAYERS, rng_seed=4)

    @pytest.fixture
    def table(self, study):
        return stats.layer_statistics(*study, FLOOR.frame(), rng_seed=9, n_bootstrap=300)

    @pytest.mark.parametrize(("target", "strength_index"), [("own", 0), ("own", 1), ("seed", 1)])
    def test_gains_and_ranks(self, study, table, target, strength_index):
        similarity, variants = study
        attack_l2 = pivot(variants, "realised_l2", condition=ADVERSARIAL)[strength_index]
        noise_l2 = pivot(variants, "realised_l2", condition=NOISE)
        drawn = [np.repeat(np.arange(12), c) for c in resample_counts(12, 300, rng_seed=9)]
        values = np.empty((301, self.N_LAYERS, 2))
        for layer in range(self.N_LAYERS):
            where = {"target": target, "layer": f"l{layer}"}
            attack = pivot(similarity, "similarity", condition=ADVERSARIAL, **where)[strength_index]
            noise = pivot(similarity, "similarity", condition=NOISE, **where)
            for b, seeds in enumerate([np.arange(12), *drawn]):
                values[b, layer] = naive_gain(attack[seeds], attack_l2[seeds], noise[:, seeds], noise_l2[:, seeds])
        least, most = (np.median(noise_l2[k]) / np.median(attack_l2) for k in (0, -1))
        rows = table.filter(target=target, strength=(0.5, 1.0)[strength_index]).rows(named=True)
        ranks = scipy.stats.rankdata(-values[..., 0], method="min", axis=1)
        inside = np.where(np.isinf(values[..., 1]), values[..., 1], np.clip(values[..., 1], least, most))
        for layer, row in enumerate(rows):
            ends = [np.sort(inside[1:, layer])[i] for i in (7, 292)]
            assert row["gain"] == pytest.approx(values[0, layer, 0])
            assert (row["gain_low"], row["gain_high"]) == pytest.approx(tuple(np.clip(ends, least, most)))
            expected = [{np.inf: CENSORED_ABOVE, -np.inf: CENSORED_BELOW}.get(end) for end in ends]
            assert [row["gain_low_censored"], row["gain_high_censored"]] == expected
            assert row["rank"] == ranks[0, layer]
            assert [row["rank_low"], row["rank_high"]] == [np.sort(ranks[1:, layer])[i] for i in (7, 292)]

    def test_study_holds_measured_and_censored_ends(self, table):
        assert {None, CENSORED_ABOVE} <= set(table["gain_high_censored"])
        assert {None, CENSORED_BELOW} <= set(table["gain_low_censored"])

    def test_auc(self, study, table):
        similarity, _ = study
        drawn = [np.repeat(np.arange(12), c) for c in resample_counts(12, 300, rng_seed=9)]
        for row in table.rows(named=True):
            where = {"target": row["target"], "layer": row["layer"], "strength": row["strength"]}
            attack, noise = (pivot(similarity, "similarity", condition=c, **where)[0] for c in (ADVERSARIAL, NOISE))
            shares = np.sort([np.mean(attack[seeds] < noise[seeds]) for seeds in drawn])
            assert (row["auc_low"], row["auc_high"]) == pytest.approx((shares[7], shares[292]))


class TestNoiseAgainstNoise:
    """A second draw of the noise in the place of the attack: nothing may stand out."""

    N_SEEDS, LAYERS = 150, 12

    @pytest.fixture
    def study(self):
        rng = np.random.default_rng(21)
        size, rows, variants = rng.lognormal(0, 0.3, self.N_SEEDS), [], []
        for condition, strengths in ((ADVERSARIAL, (1.0, 2.0)), (NOISE, (0.5, 1.0, 2.0, 4.0))):
            for strength in strengths:
                variants += norms(condition, strength, (strength * size).tolist())
                for layer in range(self.LAYERS):
                    noise = rng.lognormal(0, 0.6, self.N_SEEDS)
                    values = np.exp(-0.05 * (1 + layer) * strength * size * noise).tolist()
                    rows += cells(condition, strength, values, layer=f"l{layer:02d}", index=layer)
        return SIMILARITY.frame(rows), VARIANTS.frame(variants)

    def test_half_is_compromised_and_the_gain_is_one(self, study):
        table = stats.layer_statistics(*study, FLOOR.frame(), rng_seed=2)
        assert table["compromised_fraction"].mean() == pytest.approx(0.5, abs=0.03)
        assert table["auc"].mean() == pytest.approx(0.5, abs=0.03)
        assert table["gain"].to_numpy() == pytest.approx(1, abs=0.3)
        # 24 intervals at 95 %: more than four misses has a probability below 1 %
        for low, high, truth in (("gain_low", "gain_high", 1.0), ("auc_low", "auc_high", 0.5)):
            assert table.select(pl.lit(truth).is_between(low, high).sum()).item() >= 20
        assert table["wilcoxon_p_holm"].min() > 0.05
