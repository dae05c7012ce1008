"""Two sides against each other: tau, differences, ratios of gains, each against SciPy or a value worked by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats

from camdrift.comparison.alignment import align, relative_depth
from camdrift.comparison.contrast import (
    draws,
    kendall_tau,
    log2_ratio,
    paired_difference,
    repeatability,
    tau_interval,
    unpaired_difference,
)
from camdrift.errors import UserError
from camdrift.statistics.bootstrap import resample_counts
from camdrift.statistics.gain import ABOVE, BELOW, Gains
from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, NOISE
from support.study_tables import cells, norms, plain_norms, random_study


class TestAlignment:
    def test_the_same_names_are_aligned_by_name_whatever_their_order(self):
        found = align(["a", "b", "c"], ["c", "a", "b"])
        assert (found.by, found.a.tolist(), found.b.tolist()) == ("name", [0, 1, 2], [1, 2, 0])

    def test_half_of_the_smaller_network_is_enough(self):
        found = align(["a", "b", "x", "y"], ["a", "b", "c", "d", "e"])
        assert (found.by, found.a.tolist(), found.b.tolist()) == ("name", [0, 1], [0, 1])
        assert align(["a", "x", "y", "z"], ["a", "b", "c", "d", "e"]).by == "depth"

    @pytest.mark.parametrize(("short", "long"), list(itertools.combinations_with_replacement((1, 2, 3, 7, 13, 49), 2)))
    def test_depth_takes_the_nearest_layer_once_and_in_order(self, short, long):
        a, b = ([f"{word}{i}" for i in range(n)] for word, n in (("a", short), ("b", long)))
        found = align(a, b)
        assert found.by == "depth"
        assert found.a.tolist() == list(range(short))
        assert (np.diff(found.b) > 0).all()
        gaps = np.abs(relative_depth(short)[:, None] - relative_depth(long))
        assert gaps[found.a, found.b] == pytest.approx(gaps.min(1))
        turned = align(b, a)
        assert turned.a.tolist() == found.b.tolist()
        assert turned.b.tolist() == found.a.tolist()

    def test_depth_by_hand(self):
        assert align(list("abc"), list("pqrst")).b.tolist() == [0, 2, 4]
        assert align(list("abcd"), list("pqrstu")).b.tolist() == [0, 2, 3, 5]

    def test_it_can_be_insisted_on(self):
        assert align(["a", "b"], ["a", "b"], by="depth").by == "depth"
        assert align(["a", "x", "y", "z"], list("abcde"), by="name").a.tolist() == [0]
        with pytest.raises(UserError, match="`align` name must have layers of the same name on both sides, got: none"):
            align(["a"], ["b"], by="name")
        with pytest.raises(UserError, match="`align` must be one of auto, name, depth, got: size"):
            align(["a"], ["b"], by="size")


class TestTau:
    def test_is_scipys_with_ties_and_gaps(self):
        rng = np.random.default_rng(0)
        x, y = (rng.integers(0, 6, (40, 9)).astype(float) for _ in range(2))
        x[rng.random(x.shape) < 0.1] = np.nan
        found = kendall_tau(x, y)
        for row, (one, other) in enumerate(zip(x, y, strict=True)):
            assert found[row] == pytest.approx(scipy.stats.kendalltau(one, other, nan_policy="omit").statistic)

    def test_by_hand(self):
        # Six pairs: five in the same order, one turned round.
        assert kendall_tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)

    def test_is_undefined_without_two_different_values(self):
        assert np.isnan(kendall_tau(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))
        assert np.isnan(kendall_tau(np.array([1.0]), np.array([1.0])))

    def test_interval_is_symmetric_holds_the_value_and_stays_in_range(self):
        taus = np.concatenate([[[0.5]], np.linspace(0.1, 0.4, 39)[:, None]])
        ends = tau_interval(taus)
        assert (ends.low[0], ends.high[0]) == pytest.approx((0.1, 0.9))
        assert tau_interval(np.concatenate([[[0.9]], np.full((9, 1), 0.2)])).high[0] == 1

    def test_repeatability_is_one_without_noise(self):
        median, ends = repeatability(np.tile([3.0, 1.0, 2.0], (21, 1, 1)))
        assert (median[0], ends.low[0], ends.high[0]) == (1, 1, 1)

    @pytest.mark.slow
    @pytest.mark.parametrize("shared", [0.0, 0.8])
    def test_interval_holds_the_true_tau(self, shared):
        """Layers that differ more than their means are uncertain, 12 seeds, rankings that agree in part."""
        rng, hits, n = np.random.default_rng(1), 0, 12
        counts = np.concatenate([np.ones((1, n)), resample_counts(n, 200, rng_seed=0)]) / n
        for _ in range(200):
            x, y = rng.normal(size=(2, 13))
            y = 0.8 * x + 0.6 * y
            noise = rng.normal(size=(2, n, 13))
            noise[1] = shared * noise[0] + np.sqrt(1 - shared**2) * noise[1]
            taus = kendall_tau(counts @ (x + 0.6 * noise[0]), counts @ (y + 0.6 * noise[1]))
            ends = tau_interval(taus)
            hits += ends.low - 1e-9 <= kendall_tau(x, y) <= ends.high + 1e-9
        assert 180 <= hits <= 200


class TestDifference:
    def test_paired_by_hand(self):
        # Differences 0.1, 0.3, 0.2: mean 0.2, standard deviation 0.1, t(2) = 4.3027.
        a, b = np.array([[0.1, 0.2, 0.3, np.nan]]), np.array([[0.2, 0.5, 0.5, 0.9]])
        found = paired_difference(a, b)
        half = 4.302653 * 0.1 / np.sqrt(3)
        assert found.mean[0] == pytest.approx(0.2)
        assert (found.interval.low[0], found.interval.high[0]) == pytest.approx((0.2 - half, 0.2 + half))

    def test_paired_is_scipys(self):
        a, b = np.random.default_rng(2).normal(size=(2, 11))
        expected = scipy.stats.ttest_rel(b, a).confidence_interval()
        found = paired_difference(a[None], b[None])
        assert (found.interval.low[0], found.interval.high[0]) == pytest.approx((expected.low, expected.high))

    def test_unpaired_is_welchs(self):
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=9), 3 * rng.normal(size=14)
        expected = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval()
        found = unpaired_difference(np.append(a, np.nan)[None], b[None])
        assert found.mean[0] == pytest.approx(b.mean() - a.mean())
        assert (found.interval.low[0], found.interval.high[0]) == pytest.approx((expected.low, expected.high))

    def test_unpaired_without_spread_has_no_width(self):
        found = unpaired_difference(np.full((1, 3), 0.25), np.full((1, 3), 0.5))
        assert (found.interval.low[0], found.mean[0], found.interval.high[0]) == (0.25, 0.25, 0.25)

    def test_there_is_no_interval_of_one_seed(self):
        found = paired_difference(np.array([[0.1]]), np.array([[0.3]]))
        assert found.mean[0] == pytest.approx(0.2)
        assert np.isnan(found.interval.low[0])

    @pytest.mark.slow
    @pytest.mark.parametrize("shared", [0.0, 0.9])
    def test_intervals_hold_the_truth(self, shared):
        rng = np.random.default_rng(4)
        common, noise = rng.normal(size=(1000, 12)), rng.normal(size=(2, 1000, 12))
        a, b = (shared * common + np.sqrt(1 - shared**2) * each for each in noise)
        for found in (paired_difference(a, b + 0.5), *([unpaired_difference(a, b + 0.5)] if not shared else [])):
            held = (found.interval.low <= 0.5) & (found.interval.high >= 0.5)
            assert 930 <= np.count_nonzero(held) <= 970


def gains(values, censored=None):
    """Gains of one strength and layer: observed first, then replicates."""
    value = np.array(values, float)[:, None, None]
    flags = np.zeros(value.shape, int) if censored is None else np.array(censored)[:, None, None]
    return Gains(value, flags, np.full(value.shape, 0.5), np.full(value.shape, 64.0))


class TestRatio:
    def test_by_hand(self):
        found = log2_ratio(gains([2, 2, 4]), gains([8, 16, 4]))
        assert (found.mean[0, 0], found.interval.low[0, 0], found.interval.high[0, 0]) == (2, 0, 3)

    def test_a_bound_leaves_no_ratio_but_a_bound_of_it(self):
        found = log2_ratio(gains([2, 2, 2]), gains([64, 64, 64], [ABOVE] * 3))
        assert np.isnan(found.mean[0, 0])
        assert (found.interval.low[0, 0], found.interval.high[0, 0]) == (5, np.inf)
        turned = log2_ratio(gains([64, 64, 64], [ABOVE] * 3), gains([2, 2, 2]))
        assert (turned.interval.low[0, 0], turned.interval.high[0, 0]) == (-np.inf, -5)
        both = log2_ratio(gains([0.5, 0.5], [BELOW] * 2), gains([0.5, 0.5], [BELOW] * 2))
        assert (both.interval.low[0, 0], both.interval.high[0, 0]) == (-np.inf, np.inf)

    def test_censored_replicates_open_the_interval(self):
        found = log2_ratio(gains([2] * 5), gains([8, 8, 8, 8, 64], [0, 0, 0, 0, ABOVE]))
        assert (found.mean[0, 0], found.interval.low[0, 0], found.interval.high[0, 0]) == (2, 2, np.inf)

    def test_no_gain_no_ratio(self):
        found = log2_ratio(gains([np.nan, np.nan]), gains([2, 2]))
        assert np.isnan([found.mean[0, 0], *found.interval[0][0], *found.interval[1][0]]).all()


class TestDraws:
    def test_observed_values_are_those_of_the_statistics(self):
        from camdrift.statistics.layers import layer_statistics
        from camdrift.tables.study import FLOOR

        similarity, variants = random_study()
        expected = layer_statistics(similarity, variants, FLOOR.frame(), rng_seed=5, n_bootstrap=20)
        rows = similarity.filter(target="seed")
        seeds = similarity["seed_id"].unique().sort().to_list()
        found = draws(rows, variants, seeds, [0.5, 1.0], rng_seed=5, n_bootstrap=20)
        here = expected.filter(target="seed")
        assert found.gains.value[0].ravel() == pytest.approx(here["gain"].to_numpy())
        assert 1 - found.means[0].ravel() == pytest.approx(here["adversarial_mean"].to_numpy())

    def test_replicates_draw_the_same_seeds_on_both_sides(self):
        """A side and its double: no replicate tells them apart."""
        similarity, variants = random_study()
        rows = similarity.filter(target="seed")
        seeds = [f"s{i:02d}" for i in (0, 3, 4, 7, 9)]
        one, other = (draws(rows, variants, seeds, [1.0], rng_seed=2, n_bootstrap=50) for _ in range(2))
        measured = (one.gains.censored == 0) & (other.gains.censored == 0)
        assert measured[0].any()
        assert (one.gains.value == other.gains.value)[measured].all()
        assert (kendall_tau(one.means, other.means) == 1).all()

    def test_means_are_weighted_by_the_draws(self):
        similarity = SIMILARITY.frame([*cells(ADVERSARIAL, 1.0, [0.2, None, 0.8]), *cells(NOISE, 1.0, [0.9, 0.9, 0.9])])
        found = draws(
            similarity, plain_norms(3, ladder=(1.0,)), ["s00", "s01", "s02"], [1.0], rng_seed=0, n_bootstrap=9
        )
        counts = resample_counts(3, 9, rng_seed=0)
        assert found.means[0, 0, 0] == pytest.approx(0.5)
        for row, count in zip(found.means[1:, 0, 0], counts, strict=True):
            n = count[0] + count[2]
            assert row == pytest.approx((0.8 * count[0] + 0.2 * count[2]) / n) if n else np.isnan(row)

    def test_only_the_wanted_seeds_count(self):
        similarity = SIMILARITY.frame([*cells(ADVERSARIAL, 1.0, [0.2, 0.4, 0.9]), *cells(NOISE, 1.0, [0.5] * 3)])
        variants = VARIANTS.frame([*norms(ADVERSARIAL, 1.0, [1.0] * 3), *norms(NOISE, 1.0, [1.0] * 3)])
        found = draws(similarity, variants, ["s00", "s02"], [1.0], rng_seed=0, n_bootstrap=2)
        assert found.deviation[0, 0].tolist() == pytest.approx([0.8, 0.1])
