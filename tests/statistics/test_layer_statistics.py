"""Tables to tables: values worked by hand, SciPy as oracle, and properties."""

import itertools

import numpy as np
import polars as pl
import pytest
import scipy.stats
from polars.testing import assert_frame_equal

from camdrift.statistics import layers as stats
from camdrift.statistics.estimates import holm
from camdrift.tables.study import FLOOR, LAYERS, MEASURE, SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, CENSORED_BELOW, NOISE
from support.study_tables import cells, norms, pivot, plain_norms, random_study

NAN = np.nan
NO_FLOOR = FLOOR.frame()


def statistics(rows, variants=None, **options):
    similarity = SIMILARITY.frame(rows)
    variants = plain_norms(similarity["seed_id"].n_unique()) if variants is None else variants
    options = {"rng_seed": 0, "n_bootstrap": 200} | options
    return stats.layer_statistics(similarity, variants, NO_FLOOR, **options)


def defined(row, names):
    """Which of the named columns hold a value."""
    return {name for name in names.split() if row[name] is not None}


class TestByHand:
    """One layer, four seeds, the attack at strength 1, noise at 1, 2 and 4."""

    ROWS = (
        *cells(ADVERSARIAL, 1.0, [0.5, 0.9, 0.8, 0.4]),
        *cells(NOISE, 1.0, [0.9, 0.9, 0.7, 0.8]),
        *cells(NOISE, 2.0, [0.5, 0.6, 0.4, 0.5]),
        *cells(NOISE, 4.0, [0.1, 0.2, 0.3, 0.2]),
    )

    @pytest.fixture
    def row(self):
        return statistics(self.ROWS).row(0, named=True)

    def test_one_row_per_strength_of_the_attack(self):
        table = statistics(self.ROWS)
        assert table.schema == LAYERS.schema
        assert table.select("target", "strength", "layer", "layer_label", "layer_index").rows() == [
            ("seed", 1.0, "a", "block a", 0)
        ]

    def test_describes_both_conditions(self, row):
        assert (row["n"], row["n_undefined"], row["n_noise"], row["n_noise_undefined"]) == (4, 0, 4, 0)
        assert row["adversarial_mean"] == pytest.approx(0.65)
        assert row["adversarial_median"] == pytest.approx(0.65)
        # squared deviations from 0.65: 0.0225 + 0.0625 + 0.0225 + 0.0625, over 3
        assert row["adversarial_std"] == pytest.approx(np.sqrt(0.17 / 3))
        assert row["noise_mean"] == pytest.approx(0.825)
        assert row["noise_std"] == pytest.approx(np.sqrt(0.0275 / 3))

    def test_compromised_below_the_noise_median(self, row):
        assert row["threshold"] == row["noise_median"] == pytest.approx(0.85)
        assert row["compromised_fraction"] == 0.75
        low, high = scipy.stats.binomtest(3, 4).proportion_ci(method="wilson")
        assert (row["compromised_low"], row["compromised_high"]) == (low, high)

    def test_paired_statistics(self, row):
        # differences noise - adversarial: 0.4, 0, -0.1, 0.4; wins 1, 1/2, 0, 1
        assert row["n_pairs"] == 4
        assert row["auc"] == 0.625
        assert row["difference_mean"] == pytest.approx(0.175)
        expected = scipy.stats.ttest_1samp([0.4, 0.0, -0.1, 0.4], 0).confidence_interval(0.95)
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))

    def test_gain(self, row):
        # noise deviates by 0.15, 0.5, 0.8 at L2 1, 2, 4 (medians); the attack by 0.35 at L2 1
        assert row["gain"] == pytest.approx(2 ** (np.log(0.35 / 0.15) / np.log(0.5 / 0.15)))
        assert (row["gain_censored"], row["rank"]) == (None, None)  # four images rank nothing

    def test_strengths_count_by_the_l2_they_realise(self):
        # Clipping leaves the attack 0.5 of its L2, and 1, 1.5, 1.8 of the noise's; medians over the seeds.
        attack, first = [0.4, 0.4, 0.6, 9.0], [0.2, 0.9, 1.1, 7.0]
        variants = norms(ADVERSARIAL, 1.0, attack) + norms(NOISE, 1.0, first)
        variants += norms(NOISE, 2.0, [1.5] * 4) + norms(NOISE, 4.0, [1.8] * 4)
        variants += [{**v, "seed_id": "not studied", "realised_l2": 1e6} for v in variants]
        row = statistics(self.ROWS, VARIANTS.frame(variants)).row(0, named=True)
        equivalent = 1.5 ** (np.log(0.35 / 0.15) / np.log(0.5 / 0.15))
        assert row["gain"] == pytest.approx(equivalent / 0.5)

    def test_censored_above_and_below(self):
        strong = [*cells(ADVERSARIAL, 1.0, [0.0, 0.1, 0.1, 0.0]), *self.ROWS[4:]]
        weak = [*cells(ADVERSARIAL, 1.0, [0.99, 0.98, 0.97, 0.99]), *self.ROWS[4:]]
        columns = [
            "gain",
            "gain_censored",
            "gain_low_censored",
            "gain_high_censored",
            "gain_low",
            "gain_high",
        ]
        assert statistics(strong).select(columns).row(0) == (4.0, *[CENSORED_ABOVE] * 3, 4.0, 4.0)
        assert statistics(weak).select(columns).row(0) == (1.0, *[CENSORED_BELOW] * 3, 1.0, 1.0)


class TestUndefined:
    ROWS = (
        *cells(ADVERSARIAL, 1.0, [0.5, None, 0.7, None, 0.2]),
        *cells(NOISE, 1.0, [0.9, 0.8, None, None, 0.6]),
        *cells(NOISE, 2.0, [None, 0.5, 0.4, 0.4]),
    )

    def test_counted_and_left_out(self):
        row = statistics(self.ROWS).row(0, named=True)
        assert (row["n"], row["n_undefined"], row["n_noise"], row["n_noise_undefined"]) == (3, 2, 3, 2)
        assert row["n_pairs"] == 2
        assert row["threshold"] == 0.8
        assert row["compromised_fraction"] == 1.0
        assert row["auc"] == 1.0
        assert row["difference_mean"] == pytest.approx(0.4)
        # D_adv = 0.5; noise 0.2 at L2 1 and 0.6 at L2 2
        assert row["gain"] == pytest.approx(2 ** (np.log(0.5 / 0.2) / np.log(0.6 / 0.2)))

    def test_layer_without_any_defined_map_under_attack(self):
        rows = [*cells(ADVERSARIAL, 1.0, [None] * 6), *cells(NOISE, 1.0, [0.5, 0.6] * 3)]
        rows += [*cells(ADVERSARIAL, 1.0, [0.5, 0.4] * 3, layer="b", index=1)]
        rows += [*cells(NOISE, 1.0, [0.4, 0.5] * 3, layer="b", index=1)]
        row = statistics(rows).row(0, named=True)
        assert (row["n"], row["n_undefined"], row["n_noise"], row["n_pairs"]) == (0, 6, 6, 0)
        absent = "adversarial_mean adversarial_std compromised_fraction compromised_low auc auc_low "
        absent += "difference_mean difference_low wilcoxon_p wilcoxon_p_holm gain gain_low "
        absent += "gain_censored gain_low_censored rank rank_low rank_high"
        assert not defined(row, absent)
        assert statistics(rows)["rank"].to_list() == [None, 1]

    def test_layer_without_any_defined_map_under_noise(self):
        rows = [*cells(ADVERSARIAL, 1.0, [0.5, 0.4]), *cells(NOISE, 1.0, [None, None])]
        row = statistics(rows).row(0, named=True)
        assert (row["n"], row["adversarial_mean"]) == (2, 0.45)
        assert not defined(row, "threshold compromised_fraction compromised_high auc gain rank noise_mean")

    def test_no_nan_and_no_warning_however_little_is_defined(self):
        for n_seeds, decimals in itertools.product((1, 2, 3, 5), (0, 1, 9)):
            similarity, variants = random_study(n_seeds, undefined=0.6, rng_seed=decimals)
            similarity = similarity.with_columns(pl.col("similarity").round(decimals))  # ties, 0 and 1
            table = stats.layer_statistics(similarity, variants, NO_FLOOR, rng_seed=1, n_bootstrap=30)
            assert not table.select(pl.col(pl.Float64).is_nan().any()).row(0).count(True)
            assert (table["n"] + table["n_undefined"] == n_seeds).all()

    def test_a_single_seed_has_values_but_no_spread(self):
        rows = [*cells(ADVERSARIAL, 1.0, [0.5]), *cells(NOISE, 1.0, [0.7]), *cells(NOISE, 2.0, [0.4])]
        row = statistics(rows).row(0, named=True)
        absent = "adversarial_std noise_std difference_low difference_high auc_low auc_high gain_low "
        absent += "gain_high gain_low_censored gain_high_censored rank_low rank_high"
        assert not defined(row, absent)
        assert (row["compromised_fraction"], row["auc"], row["rank"], row["wilcoxon_p"]) == (1, 1, None, 1)
        assert row["gain"] == pytest.approx(2 ** (np.log(0.5 / 0.3) / np.log(2)))

    @pytest.mark.parametrize(
        ("rows", "n_bootstrap"),
        [
            ([*cells(ADVERSARIAL, 1.0, [0.5, None, None]), *cells(NOISE, 1.0, [0.7, 0.6, 0.7])], 200),
            ([*cells(ADVERSARIAL, 1.0, [0.5, 0.4, 0.3]), *cells(NOISE, 1.0, [0.7, None, None])], 200),
            (TestByHand.ROWS, 0),
        ],
    )
    def test_no_bootstrap_interval_from_a_single_seed_or_without_replicates(self, rows, n_bootstrap):
        row = statistics(rows, n_bootstrap=n_bootstrap).row(0, named=True)
        assert row["gain"] is not None
        assert not defined(row, "gain_low gain_high gain_low_censored rank_low auc_low auc_high")

    def test_empty_study(self):
        table = statistics([], VARIANTS.frame())
        assert_frame_equal(table, LAYERS.frame())
        assert stats.compromised_counts(SIMILARITY.frame(), table).height == 0

    def test_target_without_an_adversarial_example(self):
        assert statistics(cells(NOISE, 1.0, [0.5, 0.6])).height == 0


class TestDraws:
    """Two noise draws per seed: pooled for medians, averaged per seed where seeds are paired."""

    ROWS = (
        *cells(ADVERSARIAL, 1.0, [0.5, 0.6, 0.7]),
        *cells(NOISE, 1.0, [0.4, 0.7, 0.7], draw=0),
        *cells(NOISE, 1.0, [0.6, 0.9, None], draw=1),
        *cells(NOISE, 2.0, [0.2, 0.3, 0.4], draw=0),
        *cells(NOISE, 2.0, [0.3, 0.1, 0.2], draw=1),
    )

    def test_pooled_and_paired(self):
        variants = plain_norms(3).vstack(VARIANTS.frame(norms(NOISE, 1.0, [7.0] * 3, draw=1)))
        row = statistics(self.ROWS, variants).row(0, named=True)
        assert (row["n"], row["n_noise"], row["n_noise_undefined"], row["n_pairs"]) == (3, 5, 1, 3)
        assert row["threshold"] == 0.7  # of 0.4, 0.6, 0.7, 0.7, 0.9
        assert row["noise_mean"] == pytest.approx(0.66)
        # wins per seed: (0 + 1) / 2, (1 + 1) / 2, a tie
        assert row["auc"] == pytest.approx((0.5 + 1.0 + 0.5) / 3)
        # noise per seed: 0.5, 0.8, 0.7; less the attack: 0, 0.2, 0
        assert row["difference_mean"] == pytest.approx(0.2 / 3)
        assert row["wilcoxon_p"] == 1.0  # a single difference is left

    def test_l2_is_the_median_over_draws_too(self):
        common = norms(ADVERSARIAL, 1.0, [1.0] * 3) + norms(NOISE, 2.0, [8.0] * 3)
        one_draw = common + norms(NOISE, 1.0, [2.0, 3.0, 4.0])
        two_draws = one_draw + norms(NOISE, 1.0, [5.0, 6.0, 7.0], draw=1)
        low = statistics(self.ROWS, VARIANTS.frame(one_draw))["gain"][0]
        high = statistics(self.ROWS, VARIANTS.frame(two_draws))["gain"][0]
        # noise deviates by 0.3 and 0.75 (medians of five and of six), the attack by 0.4
        weight = np.log(0.4 / 0.3) / np.log(0.75 / 0.3)
        assert (low, high) == pytest.approx((3 * (8 / 3) ** weight, 4.5 * (8 / 4.5) ** weight))


class TestPromises:
    def test_row_order_changes_nothing(self):
        similarity, variants = random_study(15, n_draws=2, undefined=0.1)
        pair = {"other_seed_id": "t", "target": "own", "layer": "l1"}
        floor = FLOOR.frame([{**pair, "seed_id": f"s{i}", "similarity": 0.1 + 0.037 * i} for i in range(15)])
        tables = (similarity, variants, floor)
        first = stats.layer_statistics(*tables, rng_seed=3, n_bootstrap=50)
        shuffled = [t.sample(fraction=1, shuffle=True, seed=11) for t in tables]
        again = stats.layer_statistics(*shuffled, rng_seed=3, n_bootstrap=50)
        assert_frame_equal(first, again, check_exact=True)
        counts = stats.compromised_counts(similarity, first)
        assert_frame_equal(counts, stats.compromised_counts(shuffled[0], first.reverse()))

    def test_sorted_by_target_strength_and_layer(self):
        similarity, variants = random_study(4)
        label = similarity.filter(target="own").with_columns(target=pl.lit("label"))
        similarity = pl.concat([label, similarity.reverse()])
        table = stats.layer_statistics(similarity, variants, NO_FLOOR, rng_seed=0, n_bootstrap=5)
        expected = list(itertools.product(("own", "seed", "label"), (0.5, 1.0), (0, 1, 2)))
        assert table.select("target", "strength", "layer_index").rows() == expected

    def test_targets_share_their_resamples(self):
        similarity, variants = random_study(9)
        own = similarity.filter(target="own")
        both = pl.concat([own, own.with_columns(target=pl.lit("seed"))])
        table = stats.layer_statistics(both, variants, NO_FLOOR, rng_seed=0, n_bootstrap=50)
        first, second = (table.filter(target=t).drop("target") for t in ("own", "seed"))
        assert_frame_equal(first, second, check_exact=True)

    def test_target_of_some_seeds_only(self):
        similarity, variants = random_study(9)
        label = similarity.filter(pl.col("seed_id") < "s04", target="own").with_columns(target=pl.lit("label"))
        both = pl.concat([similarity, label])
        table = stats.layer_statistics(both, variants, NO_FLOOR, rng_seed=0, n_bootstrap=9).filter(target="label")
        assert set(table.select("n", "n_undefined", "n_noise", "n_pairs").rows()) == {(4, 0, 4, 4)}
        assert table["gain_low"].null_count() == 0

    def test_rng_seed_moves_only_the_bootstrap(self):
        study = random_study(9)
        first, second = (stats.layer_statistics(*study, NO_FLOOR, rng_seed=r, n_bootstrap=50) for r in (0, 1))
        moved = {c for c in first.columns if not first[c].equals(second[c])}
        assert {"gain_low", "gain_high"} <= moved
        intervals = {f"{c}_{end}" for c in ("gain", "auc", "rank") for end in ("low", "high")}
        assert moved <= intervals | {"gain_low_censored", "gain_high_censored"}

    def test_two_rows_for_one_cell_are_refused(self):
        rows = [*TestByHand.ROWS, TestByHand.ROWS[0]]
        with pytest.raises(ValueError, match="must have one row per cell, got: 5 rows in 4 cells"):
            statistics(rows)


def test_floor_is_the_mean_over_defined_pairs_at_every_strength():
    similarity, variants = random_study(4, 2)
    values = {("own", "l0"): [0.2, 0.4, None], ("own", "l1"): [None] * 3, ("seed", "l0"): [0.5, 0.5, 0.8]}
    names = ("seed_id", "other_seed_id", "target", "layer", "similarity")
    rows = [
        dict(zip(names, (f"s{i}", "t", *where, value), strict=True))
        for where, three in values.items()
        for i, value in enumerate(three)
    ]
    table = stats.layer_statistics(similarity, variants, FLOOR.frame(rows), rng_seed=0, n_bootstrap=5)
    expected = dict.fromkeys([("own", "l1"), ("seed", "l1")], (None, 0))
    expected |= {("own", "l0"): (pytest.approx(0.3), 2), ("seed", "l0"): (pytest.approx(0.6), 3)}
    for row in table.rows(named=True):
        assert (row["floor"], row["n_floor"]) == expected[row["target"], row["layer"]]


def test_layers_rank_by_gain_with_shared_ties():
    attack = {"a": 0.7, "b": 0.05, "c": 0.01, "d": None, "e": 0.6}
    rows = []
    for index, (layer, value) in enumerate(attack.items()):
        where = {"layer": layer, "index": index}
        rows += cells(ADVERSARIAL, 1.0, [value] * 6, **where) + cells(NOISE, 1.0, [0.9] * 6, **where)
        rows += cells(NOISE, 4.0, [0.5] * 6, **where)
    table = statistics(rows)
    assert table["gain_censored"].to_list() == [None, CENSORED_ABOVE, CENSORED_ABOVE, None, None]
    assert table["rank"].to_list() == [4, 1, 1, None, 3]
    assert table["rank_low"].to_list() == [4, 1, 1, None, 3]
    # Which of the two beyond the ladder comes first no replicate can tell.
    assert table["rank_high"].to_list() == [4, 2, 2, None, 3]


def test_a_layer_of_few_images_moves_no_rank_interval():
    """Its gain is the highest in every replicate, and yet the layer of seven images comes first."""
    rows = []
    for index, (layer, n, value) in enumerate((("few", 5, 0.52), ("enough", 7, 0.6), ("most", 7, 0.7))):
        where = {"layer": layer, "index": index}
        for condition, strength, similarity in ((ADVERSARIAL, 1.0, value), (NOISE, 1.0, 0.9), (NOISE, 4.0, 0.5)):
            rows += cells(condition, strength, [similarity] * n + [None] * (7 - n), **where)
    table = statistics(rows)
    assert table["gain"].arg_max() == 0
    assert table.select("rank", "rank_low", "rank_high").rows() == [(None, None, None), (1, 1, 1), (2, 2, 2)]


class TestCompromisedCounts:
    ROWS = (
        # thresholds: 0.5 at layer a, 0.6 at layer b
        *cells(ADVERSARIAL, 1.0, [0.1, 0.5, 0.4, None, None]),
        *cells(ADVERSARIAL, 1.0, [0.2, 0.7, None, 0.3, None], layer="b", index=1),
        *cells(NOISE, 1.0, [0.5] * 5),
        *cells(NOISE, 1.0, [0.6] * 5, layer="b", index=1),
    )

    def test_by_hand(self):
        table = statistics(self.ROWS)
        assert table["compromised_fraction"].to_list() == [2 / 3, 2 / 3]
        counts = stats.compromised_counts(SIMILARITY.frame(self.ROWS), table)
        # s00 both; s01 none (0.5 is not below 0.5); s02 and s03 one, the other undefined; s04 nothing defined
        assert counts.drop(MEASURE).rows() == [("seed", 1.0, 0, 2), ("seed", 1.0, 1, 2), ("seed", 1.0, 2, 1)]

    def test_rows_for_zero_counts_and_for_every_target_and_strength(self):
        similarity, variants = random_study(6)
        table = stats.layer_statistics(similarity, variants, NO_FLOOR, rng_seed=0, n_bootstrap=5)
        counts = stats.compromised_counts(similarity, table)
        expected = list(itertools.product(("own", "seed"), (0.5, 1.0), range(4)))
        assert counts.select("target", "strength", "n_compromised").rows() == expected
        assert (counts["n_seeds"] == 0).any()
        assert counts.group_by("target", "strength").agg(pl.col("n_seeds").sum())["n_seeds"].to_list() == [6] * 4
        share = (counts["n_seeds"] * counts["n_compromised"]).sum() / 6
        assert share == pytest.approx(table["compromised_fraction"].sum())

    def test_layer_without_threshold_never_counts(self):
        rows = [*self.ROWS[:10], *cells(NOISE, 1.0, [None] * 5), *self.ROWS[15:]]
        counts = stats.compromised_counts(SIMILARITY.frame(rows), statistics(rows))
        assert counts["n_seeds"].to_list() == [3, 2, 0]


class TestIntervalsAndTests:
    def test_holm_runs_over_the_layers_of_one_target_and_strength(self):
        similarity, variants = random_study(12)
        table = stats.layer_statistics(similarity, variants, NO_FLOOR, rng_seed=0, n_bootstrap=5)
        for _, part in table.group_by("target", "strength"):
            p = part["wilcoxon_p"].to_numpy()
            np.testing.assert_array_equal(part["wilcoxon_p_holm"], holm(p))
            assert part["wilcoxon_p_holm"].min() == pytest.approx(min(1, 3 * p.min()))

    def test_difference_interval_equals_scipy(self):
        similarity, variants = random_study(12, undefined=0.2, rng_seed=6)
        table = stats.layer_statistics(similarity, variants, NO_FLOOR, rng_seed=0, n_bootstrap=5)
        for row in table.rows(named=True):
            where = {"target": row["target"], "layer": row["layer"], "strength": row["strength"]}
            attack, noise = (pivot(similarity, "similarity", condition=c, **where)[0] for c in (ADVERSARIAL, NOISE))
            result = scipy.stats.ttest_1samp(noise - attack, 0, nan_policy="omit").confidence_interval()
            assert (row["difference_low"], row["difference_high"]) == pytest.approx((result.low, result.high))
