"""Flips, ranks and the headline: values worked by hand."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from camdrift.statistics.flips import flips, flips_of, flips_of_readable
from camdrift.statistics.headline import Certainty, headline_of
from camdrift.statistics.ranks import are_too_few, ranked
from camdrift.tables.further import FLIPS
from camdrift.tables.study import LAYERS, SEEDS, VARIANTS
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CENSORED_ABOVE, CLEAN, NO_ADVERSARIAL, NOISE, UNREADABLE


@pytest.fixture
def seeds():
    """Three analysed images, one with a wrong clean class and one without a label; two that kept their prediction."""
    rows = [
        {"seed_id": "a", "status": ANALYSED, "label": 1, "clean_class": 1},
        {"seed_id": "b", "status": ANALYSED, "label": 1, "clean_class": 2},
        {"seed_id": "c", "status": ANALYSED, "label": None, "clean_class": 3},
        {"seed_id": "d", "status": NO_ADVERSARIAL, "label": 4, "clean_class": 4},
        {"seed_id": "e", "status": NO_ADVERSARIAL, "label": 4, "clean_class": 5},
        {"seed_id": "f", "status": UNREADABLE},
    ]
    return SEEDS.frame(rows)


@pytest.fixture
def variants():
    answers = {
        (ADVERSARIAL, 0.5, 0): (1, 1, 3),
        (ADVERSARIAL, 1.0, 0): (2, 1, 9),
        (NOISE, 1.0, 0): (1, 2, 3),
        (NOISE, 1.0, 1): (1, 2, 9),
    }
    clean = {"a": 1, "b": 2, "c": 3}
    rows = [
        {"seed_id": seed_id, "condition": condition, "strength": strength, "draw": draw, "predicted_class": answer}
        | {"is_flipped": answer != clean[seed_id]}
        for (condition, strength, draw), answers_of_seeds in answers.items()
        for seed_id, answer in zip("abc", answers_of_seeds, strict=True)
    ]
    return VARIANTS.frame(rows)


def row_of(table, condition, strength, draw=0):
    return table.row(by_predicate=(pl.col("condition") == condition) & (pl.col("strength") == strength)
                     & (pl.col("draw") == draw), named=True)  # fmt: skip


def wilson(hits, n):
    return tuple(stats.binomtest(hits, n).proportion_ci(method="wilson"))


class TestFlips:
    def test_each_row_counts_the_analysed_images(self, variants, seeds):
        table = flips(variants, seeds)
        assert table.schema == FLIPS.schema
        assert [(*row[:5],) for row in table.iter_rows()] == [
            (ADVERSARIAL, 0.5, 0, 3, 1),
            (ADVERSARIAL, 1.0, 0, 3, 3),
            (CLEAN, 0.0, 0, 3, 0),
            (NOISE, 1.0, 0, 3, 0),
            (NOISE, 1.0, 1, 3, 1),
        ]
        row = row_of(table, ADVERSARIAL, 0.5)
        assert row["share"] == pytest.approx(1 / 3)
        assert (row["low"], row["high"]) == pytest.approx(wilson(1, 3))

    def test_accuracy_is_of_the_images_with_a_label(self, variants, seeds):
        table = flips(variants, seeds)
        # The first of two labelled images is right while clean, both at strength 0.5: a flip may mend a mistake.
        assert row_of(table, CLEAN, 0.0)["accuracy"] == 0.5
        half = row_of(table, ADVERSARIAL, 0.5)
        assert half["accuracy"] == 1
        assert (half["accuracy_low"], half["accuracy_high"]) == pytest.approx(wilson(2, 2))
        assert flips(variants, seeds.with_columns(label=pl.lit(None, pl.Int64)))["accuracy"].null_count() == 5

    def test_images_without_an_adversarial_example_keep_their_prediction(self, variants, seeds):
        table = flips_of_readable(variants, seeds)
        assert set(table["condition"]) == {ADVERSARIAL, CLEAN}
        row = row_of(table, ADVERSARIAL, 1.0)
        assert (row["n"], row["flipped"], row["share"]) == (5, 3, 0.6)
        # Of four labels: a is wrong now, b right, d right as before, e wrong as before.
        assert row["accuracy"] == 0.5
        assert row_of(table, CLEAN, 0.0)["accuracy"] == 0.5

    def test_a_run_of_before_is_counted_from_its_variants(self, variants, seeds):
        expected = flips(variants, seeds)
        assert flips_of({"variants": variants, "seeds": seeds}).equals(expected)
        assert flips_of({"flips": expected.head(1)}).height == 1

    def test_nothing_gives_an_empty_table(self, variants, seeds):
        assert flips(variants.clear(), seeds.clear()).is_empty()


def layers(*rows):
    common = {"target": "seed", "strength": 1.0, "n_pairs": 14, "adversarial_mean": 0.9}
    made = [common | {"layer": f"l{i}", "layer_label": f"l{i}", "layer_index": i} | row for i, row in enumerate(rows)]
    return LAYERS.frame(made)


def bound(low, censored=None, **rest):
    ends = {"gain_low": low, "gain_low_censored": censored, "gain_high": 32.0, "gain_high_censored": CENSORED_ABOVE}
    return {"gain": 32.0, "gain_censored": CENSORED_ABOVE, **ends, "rank_low": 1, "rank_high": 3} | rest


def gained(gain, **rest):
    return {"gain": gain, "gain_low": gain / 2, "gain_high": 2 * gain, "rank_low": 1, "rank_high": 4} | rest


class TestRanks:
    def test_ties_go_by_the_lower_end_and_then_share(self):
        table = ranked(
            layers(bound(3.4), bound(24.0), bound(32.0, CENSORED_ABOVE), gained(5.0), bound(24.0), gained(5.0))
        )
        # l5 has the gain and the lower end of l3.
        assert table["rank"].to_list() == [4, 2, 1, 5, 2, 5]

    def test_few_images_have_no_rank_and_no_interval(self):
        table = ranked(layers(gained(9.0, n_pairs=5), gained(8.0, n_pairs=6), gained(7.0, n_pairs=12)))
        assert table["rank"].to_list() == [None, 1, 2]
        assert table.row(0, named=True)["rank_high"] is None
        # Fewer than half of the best layer's images say little, too.
        assert ranked(layers(gained(9.0, n_pairs=6), gained(7.0, n_pairs=13)))["rank"].to_list() == [None, 1]
        # The best of those that have a gain: rounding may have undone that of a layer with more images.
        assert ranked(layers(gained(9.0, n_pairs=6), {"gain": None, "n_pairs": 13}))["rank"].to_list() == [1, None]
        # Five are too few beside eight, too.
        assert ranked(layers(gained(9.0, n_pairs=5), gained(7.0, n_pairs=8)))["rank"].to_list() == [None, 1]
        np.testing.assert_array_equal(are_too_few(np.array([[5, 6, 12], [6, 13, 0]])), [[1, 0, 0], [1, 0, 1]])

    def test_intervals_hold_the_rank(self):
        tied = ranked(layers(*[bound(32.0, CENSORED_ABOVE, rank_high=1)] * 3, gained(2.0)))
        assert tied["rank_high"].to_list() == [3, 3, 3, 4]
        row = ranked(layers(gained(9.0), gained(8.0, rank_low=3, rank_high=4))).row(1, named=True)
        assert (row["rank"], row["rank_low"], row["rank_high"]) == (2, 2, 4)

    def test_every_strength_and_target_has_its_own_ranks_and_old_ranks_are_replaced(self):
        here = gained(3.0, rank=7)
        table = ranked(layers(here, here | {"strength": 2.0}, here | {"target": "own"}, gained(4.0)))
        assert table["rank"].to_list() == [2, 1, 1, 1]
        assert ranked(table).equals(table)
        assert ranked(table.lazy()).collect().equals(table)


def counted(*flipped, n=10, strengths=(0.25, 0.5, 1.0)):
    rows = [
        {"condition": ADVERSARIAL, "strength": s, "draw": 0, "n": n, "flipped": k}
        for s, k in zip(strengths, flipped, strict=True)
    ]
    return FLIPS.frame(rows)


class TestHeadline:
    def test_it_is_the_lowest_strength_at_which_half_still_fool(self):
        at = layers(gained(3.0))
        assert headline_of(at, counted(4, 5, 10), (0.25, 0.5, 1.0)).strength == 0.5
        found = headline_of(at, counted(1, 2, 4), (0.25, 0.5, 1.0))
        assert (found.strength, found.fooling, found.n, found.is_fooling) == (1.0, 4, 10, False)
        assert headline_of(at, FLIPS.frame(), (0.5, 2.0)).strength == 0.5
        assert headline_of(at, FLIPS.frame(), ()).strength == 1.0

    @pytest.mark.parametrize(
        ("interval", "word"),
        [
            ((1, 1), Certainty.CLEAR),
            ((1, 4), Certainty.LIKELY),
            ((1, 5), Certainty.UNCERTAIN),
            ((1, 12), Certainty.UNKNOWN),
        ],
    )
    def test_its_certainty_is_the_rank_interval_of_the_first_layer(self, interval, word):
        first = gained(30.0, rank_low=interval[0], rank_high=interval[1])
        table = ranked(layers(first, *(gained(float(g)) for g in range(1, 12))))
        found = headline_of(table, counted(10, strengths=(1.0,)), (1.0,))
        assert (found.layer, found.certainty, found.n_ranked) == ("l0", word, 12)

    def test_ties_share_the_first_place(self):
        table = ranked(layers(gained(5.0), bound(32.0, CENSORED_ABOVE), bound(32.0, CENSORED_ABOVE)))
        found = headline_of(table, counted(10, strengths=(1.0,)), (1.0,))
        assert [row["layer"] for row in found.tops] == ["l1", "l2"]
        assert [row["layer"] for row in found.rest] == ["l0"]
        # Nothing tells layers apart that all lie beyond the same noise.
        equal = ranked(layers(*[bound(32.0, CENSORED_ABOVE, rank_high=1)] * 4))
        assert headline_of(equal, counted(10, strengths=(1.0,)), (1.0,)).certainty == Certainty.UNKNOWN

    def test_without_ranks_the_layer_that_moved_most_is_shown_and_so_named(self):
        few = ranked(layers(gained(5.0, n_pairs=3), gained(9.0, n_pairs=2, adversarial_mean=0.95)))
        found = headline_of(few, counted(3, n=3, strengths=(1.0,)), (1.0,))
        assert (found.layer, found.certainty, found.n_ranked) == ("l1", Certainty.TOO_FEW, 0)
        # Of one image the gain rests on one curve: the map that moves furthest.
        assert headline_of(few, counted(1, n=1, strengths=(1.0,)), (1.0,)).layer == "l0"
        nothing = headline_of(layers({"gain": None, "n_pairs": 0}), counted(3, n=3, strengths=(1.0,)), (1.0,))
        assert (nothing.layer, nothing.certainty) == (None, Certainty.NOTHING)
        alone = headline_of(ranked(layers(gained(5.0))), counted(10, strengths=(1.0,)), (1.0,))
        assert alone.certainty == Certainty.ONLY
