"""Bootstrap over seeds: against naive loops to the last digit, and by hand."""

import numpy as np
import pytest

from camdrift.statistics import bootstrap

NAN = np.nan


class TestResampleCounts:
    def test_rows_are_resamples_of_all_seeds(self):
        counts = bootstrap.resample_counts(20, 2000, rng_seed=5)
        assert counts.shape == (2000, 20)
        assert (counts.sum(axis=1) == 20).all()
        # Drawing with replacement: mean 1 and variance 1 - 1/20 for every seed, within five standard errors.
        np.testing.assert_allclose(counts.mean(axis=0), 1, atol=5 / np.sqrt(2000))
        assert counts.var() == pytest.approx(0.95, abs=0.05)

    def test_keyed_by_rng_seed(self):
        first = bootstrap.resample_counts(20, 50, rng_seed=1)
        assert np.array_equal(first, bootstrap.resample_counts(20, 50, rng_seed=1))
        assert not np.array_equal(first, bootstrap.resample_counts(20, 50, rng_seed=2))

    @pytest.mark.parametrize("elements", [1, 70, 2**22])
    def test_blocks_of_replicates_draw_what_one_draw_does(self, monkeypatch, elements):
        monkeypatch.setattr(bootstrap, "_BLOCK_ELEMENTS", elements)
        expected = np.random.Generator(np.random.PCG64(6)).multinomial(20, np.full(20, 1 / 20), size=50)
        assert np.array_equal(bootstrap.resample_counts(20, 50, rng_seed=6), expected)

    @pytest.mark.parametrize("elements", [1, 70, 2**22])
    def test_totals_are_sums_over_what_is_drawn(self, monkeypatch, elements):
        monkeypatch.setattr(bootstrap, "_BLOCK_ELEMENTS", elements)
        counts = bootstrap.resample_counts(20, 7, rng_seed=6)
        values = np.random.default_rng(0).integers(0, 9, (20, 3)).astype(float)
        for b, found in enumerate(bootstrap.resampled_totals(values, counts)):
            np.testing.assert_array_equal(found, values[np.repeat(np.arange(20), counts[b])].sum(axis=0))

    def test_refuses_what_cannot_be_resampled(self):
        with pytest.raises(ValueError, match="`n_seeds` must be at least 1, got: 0"):
            bootstrap.resample_counts(0, 10, rng_seed=1)
        with pytest.raises(ValueError, match="`n_replicates` must not be negative, got: -1"):
            bootstrap.resample_counts(3, -1, rng_seed=1)


class TestResampledMedians:
    @pytest.mark.parametrize("n_draws", [1, 3])
    @pytest.mark.parametrize("chunk", [1, 50, 2**18])
    def test_equals_a_naive_loop_to_the_last_digit(self, monkeypatch, n_draws, chunk):
        monkeypatch.setattr(bootstrap, "_SORT_ELEMENTS", chunk)
        rng = np.random.default_rng(n_draws)
        values = rng.normal(size=(2, 3, 9, n_draws)).round(1)
        values[rng.random(values.shape) < 0.3] = NAN
        counts = bootstrap.resample_counts(9, 40, rng_seed=8)
        found = bootstrap.resampled_medians(values, counts)
        for b, i, j in np.ndindex(40, 2, 3):
            drawn = values[i, j][np.repeat(np.arange(9), counts[b])]
            drawn = drawn[~np.isnan(drawn)]
            assert found[b, i, j] == np.median(drawn)

    @pytest.mark.parametrize(("n_draws", "undefined"), [(1, 0.0), (1, 0.4), (3, 0.1)])
    def test_large_samples_equal_a_naive_loop_to_the_last_digit(self, n_draws, undefined):
        """Large enough that medians are looked for in a window; two replicates have theirs far outside."""
        n = 900
        rng = np.random.default_rng(n_draws)
        values = rng.normal(size=(3, n, n_draws))
        values[1] = values[1].round(1)
        values[rng.random(values.shape) < undefined] = NAN
        counts = bootstrap.resample_counts(n, 30, rng_seed=8)
        order = np.argsort(values[0, :, 0])
        counts[0], counts[1] = 0, 0
        counts[0, order[: n // 4]], counts[1, order[-n // 4 :]] = 4, 4
        counts[2] = 0
        found = bootstrap.resampled_medians(values, counts)
        assert bootstrap._sample(values[0, :, 0], 1).window.start > 0
        for b, i in np.ndindex(30, 3):
            drawn = values[i][np.repeat(np.arange(n), counts[b])]
            drawn = drawn[~np.isnan(drawn)]
            expected = np.median(drawn) if drawn.size else NAN
            np.testing.assert_array_equal(found[b, i], expected)

    def test_undefined_where_a_resample_holds_nothing(self):
        values = np.array([[[1.0], [NAN]], [[NAN], [NAN]]])
        found = bootstrap.resampled_medians(values, np.array([[1, 1], [0, 2], [2, 0]]))
        np.testing.assert_array_equal(found, [[1, NAN], [NAN, NAN], [1, NAN]])


class TestPercentileInterval:
    @pytest.mark.parametrize("n", [1, 2, 39, 41, 1000])
    def test_equals_numpy_order_statistics(self, n):
        values = np.random.default_rng(n).normal(size=(n, 4))
        ends = bootstrap.percentile_interval(values)
        np.testing.assert_array_equal(ends.low, np.quantile(values, 0.025, axis=0, method="lower"))
        np.testing.assert_array_equal(ends.high, np.quantile(values, 0.975, axis=0, method="higher"))

    def test_by_hand(self):
        ends = bootstrap.percentile_interval(np.arange(1000.0)[::-1, None])
        assert (ends.low, ends.high) == (24, 975)

    def test_leaves_out_undefined_replicates(self):
        values = np.concatenate([np.full((500, 1), NAN), np.arange(41.0)[:, None]])
        ends = bootstrap.percentile_interval(values)
        assert (ends.low, ends.high) == (1, 39)

    def test_nothing_defined(self):
        assert np.isnan(bootstrap.percentile_interval(np.full((9, 2), NAN))).all()
        assert np.isnan(bootstrap.percentile_interval(np.empty((0, 2)))).all()
