"""Coverage and failures over suites: unions worked out naively, a planted effect, and what pure chance says."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, spearmanr

from camdrift.statistics.meaning import guidance_rows, with_holm
from camdrift.statistics.naturalness import evenness, evenness_null, frechet, frechet_of_moments, kid
from camdrift.statistics.placement import placements
from camdrift.statistics.suites import (
    RATE,
    UNIQUE_FAILURES,
    CoverageSets,
    SuiteDesign,
    SuitePool,
    associations,
    outcome_values,
    permutation_p,
    rank_correlation,
)
from camdrift.tables.meaning import MIXED, WITHIN

STRATA, SEEDS, DRAWS, NEURONS = 8, 6, 2, 40


def pool_of(failures=None):
    cells = np.arange(STRATA * SEEDS * DRAWS).reshape(STRATA, SEEDS, DRAWS)
    return SuitePool(cells, np.full(cells.size, -1) if failures is None else np.asarray(failures))


def slots_of(rng, spread):
    """Slots of neurons with ten sections each, which spread as much as each image says; the last stands for none."""
    values = 5 + spread[:, None] * rng.normal(size=(len(spread), NEURONS))
    is_inside = (values >= 0) & (values < 10)
    return np.where(is_inside, np.arange(NEURONS) * 10 + np.clip(values, 0, 9).astype(int), NEURONS * 10)


def test_unions_are_those_of_sets():
    rng = np.random.default_rng(0)
    slots = slots_of(rng, rng.uniform(0.2, 4, STRATA * SEEDS * DRAWS))
    suites = rng.integers(len(slots), size=(50, 7))  # some images come twice
    naive = [len(set(slots[row].ravel()) - {NEURONS * 10}) for row in suites]
    sets = CoverageSets(slots, NEURONS * 10)
    assert sets.covered(suites).tolist() == naive
    thin = sets.thinned(200).covered(suites)
    assert np.corrcoef(thin, naive)[0, 1] > 0.8
    assert thin.mean() == pytest.approx(np.mean(naive), rel=0.15)
    nothing = CoverageSets(np.full((3, 4), 9), 9)
    assert nothing.thinned().covered(np.array([[0, 1]])).tolist() == [0]


def test_suites_have_one_composition():
    pool, rng = pool_of(), np.random.default_rng(1)
    suites = pool.suites(WITHIN, 200, rng)
    strata, seeds = pool.strata[suites], suites // DRAWS % SEEDS
    assert (np.sort(strata, axis=1) == np.arange(STRATA)).all()
    shares = np.stack([np.bincount(row, minlength=SEEDS) for row in seeds])
    assert shares.min() >= STRATA // SEEDS
    assert shares.max() <= -(-STRATA // SEEDS)
    assert len(np.unique(suites)) == suites.max() + 1
    mixed = pool.strata[pool.suites(MIXED, 200, rng)]
    assert np.std((mixed == 0).sum(1)) > 1  # shares of a stratum differ from suite to suite
    # counts of a suite deviate by about 1.3, so that sums over 200 do by 19: four of those
    assert np.bincount(mixed.ravel()) == pytest.approx(np.full(STRATA, 200), abs=76)


def test_outcomes_and_ranks():
    failures = np.array([-1, 4, 4, 7])
    values = outcome_values(failures, np.array([[0, 0, 0], [0, 1, 2], [1, 3, 2]]))
    assert values[RATE].tolist() == pytest.approx([0, 2 / 3, 1])
    assert values[UNIQUE_FAILURES].tolist() == [0, 1, 2]
    rng = np.random.default_rng(2)
    one, other = rng.integers(5, size=(2, 30)).astype(float)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert np.isnan(rank_correlation(one, np.ones(30)))
    assert permutation_p(1.0, np.zeros(99)) == 2 / 100
    assert permutation_p(0.0, np.zeros(99)) == 1
    assert np.isnan(permutation_p(np.nan, np.zeros(9)))


def test_permutations_stay_in_their_strata():
    failures = np.where(np.arange(STRATA * SEEDS * DRAWS) < 3 * SEEDS * DRAWS, np.arange(STRATA * SEEDS * DRAWS), -1)
    pool = pool_of(failures)
    for row in pool.permuted(5, np.random.default_rng(3)):
        for cells in pool.cells:
            assert sorted(row[cells.ravel()]) == sorted(failures[cells.ravel()])
        assert (row != failures).any()


def simulated(number, *, is_planted):
    """A pool in which strength drives spread and failure; planted: what covers more fails."""
    rng = np.random.default_rng([number, is_planted])
    pool = pool_of()
    strength = pool.strata / STRATA
    own = rng.uniform(0, 1, len(strength))
    slots = slots_of(rng, 0.3 + 2 * strength + own)
    chance = own if is_planted else rng.uniform(size=len(strength))
    is_failure = chance > 1 - 0.2 - 0.6 * strength
    pool = pool_of(np.where(is_failure, np.arange(len(strength)), -1))
    return pool, {"planted": CoverageSets(slots, NEURONS * 10)}


def test_a_planted_effect_is_told():
    for each in associations(*simulated(0, is_planted=True), SuiteDesign(300, 199, 60), rng_seed=0):
        assert each.estimate > 0.2
        if each.kind == WITHIN:
            assert each.p_value == 2 / 200
            assert each.interval[0] > 0


def test_chance_is_rejected_at_its_nominal_rate():
    """200 pools where strength drives both, and nothing else: raw correlations are high, and none is beyond strata."""
    rows = [
        each
        for number in range(200)
        for each in associations(*simulated(number, is_planted=False), SuiteDesign(60, 39, 0), rng_seed=number)
    ]
    assert len(rows) == 800
    for kind in (WITHIN, MIXED):
        for outcome in (RATE, UNIQUE_FAILURES):
            part = [each for each in rows if (each.kind, each.outcome) == (kind, outcome)]
            rejections = sum(each.p_value <= 0.05 for each in part)
            # 99.9 % of binomials with n 200 and p 0.05 lie within
            assert binom.ppf(0.0005, 200, 0.05) <= rejections <= binom.ppf(0.9995, 200, 0.05), (kind, outcome)
    raw = np.mean([each.estimate for each in rows if (each.kind, each.outcome) == (MIXED, RATE)])
    within = np.mean([each.estimate for each in rows if (each.kind, each.outcome) == (WITHIN, RATE)])
    assert raw > 0.2
    assert abs(within) < 0.05


def test_distances_of_features_by_hand():
    """F13."""
    assert frechet_of_moments(np.array([1.0, 0]), np.diag([1.0, 4]), np.diag([4.0, 4])) == pytest.approx(2)
    assert kid(np.array([[0.0, 0], [2, 0]]), np.array([[0.0, 2], [2, 2]])) == pytest.approx(13)
    corners = np.array([[1.0, 2], [1, -2], [-1, 2], [-1, -2]])
    assert frechet(corners, 2 * corners) == pytest.approx(4 / 3 + 16 / 3)  # tr (s - 2s)^2 of variances 4/3, 16/3
    with pytest.raises(ValueError, match="must have more images than features, got: 2, 2"):
        frechet(np.eye(2), np.eye(2))


def test_evenness_by_hand():
    """F12."""
    assert evenness(np.array([6, 3, 1])) == pytest.approx(0.817345, abs=1e-6)
    assert evenness(np.array([0, 4, 0])) == 0
    assert evenness(np.array([2, 2])) == pytest.approx(1)
    assert np.isnan(evenness(np.zeros(3, int)))
    null = evenness_null(np.ones(1000, int), 5, 50, np.random.default_rng(0))
    assert null.max() <= np.log(5) / np.log(1000) + 1e-12  # five predictions cannot be even over a thousand classes


def test_guidance_is_held_against_each_control():
    finds = {"deephunter(mutants=5)": [3, 5, 7], "random": [1, 5, 6], "dlfuzz": [9, 9, 9], "gini": [4]}
    growth = pl.DataFrame(
        {"framework": name, "trial": trial, "mark": mark, "seed_classes": mark // 100 * value}
        for name, values in finds.items()
        for trial, value in enumerate(values)
        for mark in (0, 100)
    )
    rows = {row["setting"]: row for row in with_holm(guidance_rows(growth, "nc", rng_seed=0))}
    against = rows["deephunter against random"]
    assert against["estimate"] == pytest.approx(5.5 / 9)  # F11
    assert (against["p_holm"], against["n"]) == (against["p_value"], 3)
    # of three trials the first may be drawn thrice: 3 against 1, 5, 6 is 1/3 of a pair; the last against the first is 1
    assert 0 <= against["low"] <= 1 / 3
    assert against["high"] == 1
    assert rows["deephunter against gini"]["undefined_reason"] == "one trial: no statement about differences"
    assert rows["deephunter against margin"]["undefined_reason"] == "the control margin is missing"
    assert "not one of guidance alone" in rows["dlfuzz against the controls"]["undefined_reason"]
    without = guidance_rows(growth.filter(framework="random"), "nc", rng_seed=0)
    assert all(row["undefined_reason"].startswith("no trial of deephunter") for row in without)


def test_images_of_one_seed_are_no_independent_pairs():
    rng = np.random.default_rng(5)
    one = rng.normal(size=(40, 3))
    seeds = np.arange(40)
    same = kid(one, one, (seeds, seeds))
    assert same == pytest.approx(0, abs=1e-12)
    assert kid(one, one) < -0.05


def test_gains_in_the_layer_of_the_onset():
    rng = np.random.default_rng(4)
    onsets = rng.integers(4, size=80)
    chance = rng.normal(size=(80, 6))
    *layers, whole = placements(chance + 2 * np.eye(6)[onsets], onsets, 199, rng)
    assert [each.layer for each in layers] == [0, 1, 2, 3]
    assert [each.n for each in (*layers, whole)] == [*np.bincount(onsets), 80]
    assert all(each.p_value == 0.01 and each.estimate > 0.4 for each in (*layers, whole))
    assert whole.estimate == pytest.approx(np.mean([each.estimate for each in layers]))
    assert layers[0].estimate == pytest.approx(np.corrcoef((chance + 2 * np.eye(6)[onsets])[:, 0], onsets == 0)[0, 1])
    assert whole.null[1] < 0.2
    p_values = [placements(rng.normal(size=(30, 5)), rng.integers(3, size=30), 39, rng)[-1].p_value for _ in range(200)]
    rejections = np.count_nonzero(np.array(p_values) <= 0.05)
    assert binom.ppf(0.0005, 200, 0.05) <= rejections <= binom.ppf(0.9995, 200, 0.05)
    flat = placements(np.ones((9, 2)), np.repeat([0, 1, 1], 3), 9, rng)
    assert all(np.isnan(each.estimate) for each in flat)
