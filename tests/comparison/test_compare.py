"""Studies side by side: tables against values worked by hand and SciPy, names, what is refused, what is written."""

import itertools
import json

import numpy as np
import polars as pl
import pytest
import scipy.stats
from polars.testing import assert_frame_equal

import camdrift
from camdrift.comparison.compare import compare
from camdrift.comparison.sides import attack_words, sides_of
from camdrift.errors import StoreError, UserError
from camdrift.figures.profiles import gain_profiles_figure
from camdrift.figures.sides import compared_sides
from camdrift.report.contrasts import comparison_sentences
from camdrift.report.standing import comparison_headline
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.study import SIMILARITY
from camdrift.tables.words import ADVERSARIAL, ANALYSED, NO_ADVERSARIAL, NOISE
from support.comparisons import break_schema, measured, random_run, seeds_of, skip_page, write_study
from support.studies import WITHOUT_TORCH, python
from support.study_tables import cells, plain_norms

PGD = "pgd(eps=0.03137254901960784, steps=10)"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch, request):
    """Figures and page are drawn where a test asks for them."""
    if "drawn" not in request.keywords:
        skip_page(monkeypatch)


drawn = pytest.mark.drawn


def two_layers(attack, noise=(0.9, 0.8, 0.5)):
    """A study of two layers: similarities under the attack per layer, and the same noise ladder for both."""
    rows = []
    for i, (name, values) in enumerate(attack.items()):
        rows += cells(ADVERSARIAL, 1.0, values, layer=name, index=i)
        for strength, value in zip((1.0, 2.0, 4.0), noise, strict=True):
            rows += cells(NOISE, strength, [value] * len(values), layer=name, index=i)
    return SIMILARITY.frame(rows)


@pytest.fixture
def by_hand(tmp_path):
    """Two studies of three images, two layers: deviations .1 .2 .3 and .2 .2 .2 against .3 .3 .6 and .2 .2 .2."""
    one = two_layers({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8, 0.8]})
    two = two_layers({"a": [0.7, 0.7, 0.4], "b": [0.8, 0.8, 0.8]})
    norms = plain_norms(3)
    return write_study(tmp_path / "one", one, norms), write_study(tmp_path / "two", two, norms, attack="pgd")


class TestTables:
    def test_differences_by_hand(self, by_hand, tmp_path):
        found = compare(*by_hand, out=tmp_path / "c", n_bootstrap=20).differences.to_dicts()
        a, b = found
        assert (a["side_a"], a["side_b"], a["layer_a"], a["layer_b"]) == ("dlfuzz", "pgd", "a", "a")
        assert (a["paired"], a["n_a"], a["n_b"], a["aligned_by"], a["relative_depth"]) == (True, 3, 3, "name", 0)
        assert (a["deviation_a"], a["deviation_b"]) == pytest.approx((0.2, 0.4))
        # Differences .2, .1, .3: mean .2, standard deviation .1; t(2) = 4.3027.
        half = 4.302653 * 0.1 / np.sqrt(3)
        assert (a["difference"], a["difference_low"]) == pytest.approx((0.2, 0.2 - half))
        assert a["difference_high"] == pytest.approx(0.2 + half)
        # Medians .2 and .3 on the noise curve (1, .1) (2, .2) (4, .5): 2 and 2 * 2 ** (log 1.5 / log 2.5).
        assert a["log2_gain_ratio"] == pytest.approx(np.log(1.5) / np.log(2.5))
        assert (b["difference"], b["difference_low"], b["log2_gain_ratio"]) == pytest.approx((0, 0, 0), abs=1e-12)

    def test_gains_and_agreement_are_those_of_the_runs(self, tmp_path):
        """The same images in both: tau of the gains that the runs hold."""
        runs = [random_run(tmp_path / name, rng_seed=i, attack=name) for i, name in enumerate(("x", "y"))]
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=30)
        for column, name in (("gain", "gain"), ("adversarial_mean", "deviation")):
            for target in ("seed", "own"):
                for strength in (0.5, 1.0):
                    rows = made.profiles.filter(target=target, strength=strength).sort("layer_index")
                    x, y = (rows.filter(side=side)[column] for side in ("x", "y"))
                    row = made.agreement.filter(target=target, strength=strength, ranked_by=name)
                    row = row.filter(pl.col("side_a") != pl.col("side_b")).row(0, named=True)
                    assert row["tau"] == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
                    assert row["tau_low"] <= row["tau"] <= row["tau_high"]
                    assert (row["n_layers"], row["n_a"], row["paired"]) == (5, 8, True)
        trend = made.trends.filter(side="x", target="seed", strength=1.0).row(0, named=True)
        gains = made.profiles.filter(side="x", target="seed", strength=1.0)["gain"]
        assert trend["tau"] == pytest.approx(scipy.stats.kendalltau(gains, range(5)).statistic)

    def test_a_side_agrees_with_itself_as_far_as_its_images_allow(self, tmp_path):
        run = random_run(tmp_path / "r", measures=[("gradcam", "cosine"), ("hirescam", "cosine")])
        made = compare(run, out=tmp_path / "c", n_bootstrap=60)
        itself = made.agreement.filter(pl.col("side_a") == pl.col("side_b"))
        assert itself.height == 2 * 2 * 2 * 2
        assert itself["tau"].min() > -1
        assert (itself["tau_low"] <= itself["tau"]).all()

    def test_only_images_that_both_have_are_paired(self, tmp_path):
        """Same name and same checksum; the third image has other content, the fourth resisted in the second run."""
        one = two_layers({"a": [0.9, 0.8, 0.7, 0.6]})
        two = two_layers({"a": [0.7, 0.7, 0.4]})
        seeds = seeds_of(two).with_columns(
            sha256=pl.when(pl.col("seed_id") == "s02").then(pl.lit("other")).otherwise("sha256")
        )
        runs = (
            write_study(tmp_path / "one", one, plain_norms(4)),
            write_study(tmp_path / "two", two, plain_norms(3), seeds=seeds, attack="pgd"),
        )
        row = compare(*runs, out=tmp_path / "c", n_bootstrap=5).differences.row(0, named=True)
        assert (row["paired"], row["n_a"], row["n_b"]) == (True, 2, 2)
        assert (row["deviation_a"], row["deviation_b"]) == pytest.approx((0.15, 0.3))

    def test_other_images_are_independent_samples(self, tmp_path):
        one, two = two_layers({"a": [0.9, 0.8, 0.7]}), two_layers({"a": [0.7, 0.7, 0.4]})
        runs = (
            write_study(tmp_path / "one", one, plain_norms(3)),
            write_study(tmp_path / "two", two, plain_norms(3), seeds=seeds_of(two, checksum="other {}"), attack="pgd"),
        )
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
        row = made.differences.row(0, named=True)
        expected = scipy.stats.ttest_ind([0.3, 0.3, 0.6], [0.1, 0.2, 0.3], equal_var=False).confidence_interval()
        assert not row["paired"]
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
        assert "The two sides share fewer than two images" in made.summary()

    def test_numbers_that_do_not_exist_have_a_reason(self, tmp_path):
        similarity = measured(two_layers({"a": [0.9, 0.8, 0.7], "b": [0.1, 0.1, 0.1], "c": [None, None, 0.8]}))
        run = write_study(
            tmp_path / "r", pl.concat([similarity, measured(similarity, metric="pearson")]), plain_norms(3)
        )
        rows = compare(run, out=tmp_path / "c", n_bootstrap=5).differences.to_dicts()
        assert [row["difference_undefined_reason"] for row in rows] == ["other_metric"] * 3
        assert [row["log2_gain_ratio_undefined_reason"] for row in rows] == [None, "censored", None]
        again = write_study(tmp_path / "r2", similarity, plain_norms(3), attack="pgd")
        one = write_study(tmp_path / "r1", similarity, plain_norms(3))
        rows = compare(one, again, out=tmp_path / "c2", n_bootstrap=5).differences.to_dicts()
        assert [row["difference_undefined_reason"] for row in rows] == [None, None, "too_few"]
        assert rows[2]["log2_gain_ratio_low"] is None

    def test_explanations_and_metrics_can_be_chosen(self, tmp_path):
        runs = []
        for name, last in (("x", 0.7), ("y", 0.6)):
            similarity = measured(two_layers({"a": [0.9, 0.8, last], "b": [0.5, 0.6, 0.4], "c": [0.3, 0.8, 0.8]}))
            other = measured(similarity, metric="pearson").with_columns(pl.col("similarity") ** 2)
            runs.append(write_study(tmp_path / name, pl.concat([similarity, other]), plain_norms(3), attack=name))
        whole = compare(*runs, out=tmp_path / "all", n_bootstrap=5)
        names = whole.sides["side"].to_list()
        assert names == ["x, cosine", "x, pearson", "y, cosine", "y, pearson"]
        pairs = whole.differences.select("side_a", "side_b").unique(maintain_order=True).rows()
        assert pairs == list(itertools.combinations(names, 2))
        part = compare(*runs, out=tmp_path / "part", similarities=["pearson"], explanations=["gradcam"], n_bootstrap=5)
        assert part.sides["side"].to_list() == ["x", "y"]
        both = whole.differences.filter(side_a="x, pearson", side_b="y, pearson")
        assert_frame_equal(part.differences.drop("side_a", "side_b"), both.drop("side_a", "side_b"))
        with pytest.raises(UserError, match="`explain` must be in one of the runs, got: hirescam") as caught:
            compare(*runs, explanations=["hirescam"])
        assert caught.value.hint == "in them: gradcam"

    def test_networks_of_other_layers_are_aligned_by_depth(self, tmp_path):
        runs = (
            random_run(tmp_path / "shallow", n_layers=3, model="one"),
            random_run(tmp_path / "deep", n_layers=5, layer_names="block.{}", model="two"),
        )
        found = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
        rows = found.differences.filter(target="seed", strength=1.0)
        assert rows["layer_a"].to_list() == ["l0", "l1", "l2"]
        assert rows["layer_b"].to_list() == ["block.0", "block.2", "block.4"]
        assert set(found.differences["aligned_by"]) == {"depth"}
        assert rows["relative_depth"].to_list() == [0, 0.5, 1]

    def test_the_tables_are_those_that_records_document_and_always_the_same(self, tmp_path):
        runs = [random_run(tmp_path / name, rng_seed=i, attack=name) for i, name in enumerate("xy")]
        one, two = (compare(*runs, out=tmp_path / out, n_bootstrap=20) for out in ("c1", "c2"))
        assert set(one.tables) == set(COMPARISON_TABLES)
        for name, table in COMPARISON_TABLES.items():
            stored = pl.read_parquet(tmp_path / "c1" / f"{name}.parquet")
            assert stored.schema == table.schema
            assert_frame_equal(stored, two.tables[name], check_exact=True)
            assert not any(stored[c].is_nan().any() for c in stored.columns if stored[c].dtype.is_float())

    def test_success_and_size_of_the_sides(self, tmp_path):
        similarity = two_layers({"a": [0.9, 0.8, 0.7]})
        runs = [
            write_study(
                tmp_path / "x", similarity, plain_norms(3), attack="x", seeds=seeds_of(similarity, resistant=1)
            ),
            write_study(tmp_path / "y", similarity, plain_norms(3), attack="y", surrogate="vgg"),
        ]
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
        row = made.sides.row(0, named=True)
        interval = scipy.stats.binomtest(3, 4).proportion_ci(method="wilson")
        assert (row["n_seeds"], row["n_attacked"], row["n_analysed"], row["success"]) == (4, 4, 3, 0.75)
        assert (row["success_low"], row["success_high"]) == pytest.approx((interval.low, interval.high))
        assert (row["linf"], row["surrogate"]) == (8 / 255, None)
        assert made.sides["surrogate"][1] == "vgg"

    def test_outcomes_are_of_the_images_that_both_runs_attacked(self, tmp_path):
        """Of three images fooled in x two are in y; of two that resist one is another file in y."""
        x, y = (two_layers({"a": values}) for values in ([0.9, 0.8, 0.7], [0.9, 0.8]))
        seeds = seeds_of(x, resistant=2), seeds_of(y, resistant=2)
        third = seeds[0].filter(pl.col("status") == ANALYSED).tail(1).with_columns(status=pl.lit(NO_ADVERSARIAL))
        other = pl.when(pl.col("seed_id") == "r1").then(pl.lit("other")).otherwise("sha256")
        runs = [
            write_study(tmp_path / "x", x, plain_norms(3), attack="x", seeds=seeds[0]),
            write_study(
                tmp_path / "y",
                y,
                plain_norms(2),
                attack="y",
                seeds=pl.concat([seeds[1], third]).with_columns(sha256=other),
            ),
        ]
        (row,) = compare(*runs, out=tmp_path / "c", n_bootstrap=5).outcomes.to_dicts()
        assert [row[name] for name in ("side_a", "side_b", "n", "both", "only_a", "only_b", "neither")] == [
            *("x", "y", 4, 2, 1, 0, 1)
        ]
        assert (row["share_a"], row["share_b"], row["difference"], row["p"]) == (0.75, 0.5, -0.25, 1.0)

    def test_sides_of_one_run_have_no_outcomes(self, tmp_path):
        run = random_run(tmp_path / "x", measures=[("gradcam", "cosine"), ("hirescam", "cosine")])
        assert compare(run, out=tmp_path / "c", n_bootstrap=5).outcomes.is_empty()


class TestNames:
    def names(self, *runs, models=None):
        return [side.name for side in sides_of([camdrift.open(run) for run in runs], models)]

    def test_are_made_of_what_differs(self, tmp_path):
        plain = random_run(tmp_path / "a", model="one", attack="dlfuzz")
        other = random_run(tmp_path / "b", model="two", attack="dlfuzz")
        both = random_run(tmp_path / "c", model="one", measures=[("gradcam", "cosine"), ("hirescam", "cosine")])
        assert self.names(plain, other) == ["one", "two"]
        assert self.names(both) == ["gradcam", "hirescam"]
        assert self.names(other, both) == ["two, gradcam", "one, gradcam", "one, hirescam"]
        assert self.names(plain, other, models=["first", None]) == ["first", "two"]

    def test_take_the_folder_where_nothing_else_differs(self, tmp_path):
        runs = [random_run(tmp_path / name) for name in ("a", "b")]
        assert self.names(*runs) == ["a", "b"]
        same = [random_run(tmp_path / name / "run") for name in ("p", "q")]
        assert len(set(self.names(*same))) == 2

    def test_say_where_the_attack_was_made(self, tmp_path):
        runs = [random_run(tmp_path / "a"), random_run(tmp_path / "b", surrogate="vgg16")]
        assert self.names(*runs) == ["white-box", "from vgg16"]

    def test_attacks_are_short(self):
        assert attack_words([PGD, "dlfuzz(step=1)"]) == ["pgd", "dlfuzz"]
        assert attack_words([PGD, PGD.replace("10", "20")]) == ["pgd(steps=10)", "pgd(steps=20)"]
        assert attack_words(["pgd(eps=0.5)", "pgd(eps="]) == ["pgd(eps=0.5)", "pgd(eps="]
        assert attack_words([PGD, PGD]) == ["pgd", "pgd"]


class TestRefusals:
    def test_one_side(self, tmp_path):
        run = random_run(tmp_path / "a")
        with pytest.raises(UserError, match=r"`runs` must have two sides or more to compare, got: 1 in .*a"):
            compare(run)
        with pytest.raises(UserError, match="`runs` must be one or more runs, got: none"):
            compare()

    def test_the_same_run_twice(self, tmp_path):
        run = random_run(tmp_path / "a")
        with pytest.raises(UserError, match=r"`runs` must be different runs, got twice: .*a"):
            compare(run, tmp_path / "." / "a")

    def test_an_unfinished_run_and_another_schema(self, tmp_path):
        runs = random_run(tmp_path / "a"), random_run(tmp_path / "b", status="running")
        with pytest.raises(StoreError, match=r"the run in .*b is not complete"):
            compare(*runs)
        break_schema(runs[0])
        with pytest.raises(StoreError, match="schema version"):
            compare(*runs)

    def test_a_run_without_analysed_images(self, tmp_path):
        empty = write_study(tmp_path / "b", SIMILARITY.frame(), plain_norms(0))
        with pytest.raises(UserError, match=r"`runs` must have analysed images each, got: none in .*b"):
            compare(random_run(tmp_path / "a"), empty)

    def test_no_common_strength(self, tmp_path):
        one = two_layers({"a": [0.9, 0.8]})
        other = one.with_columns(pl.col("strength") * 2)
        runs = (
            write_study(tmp_path / "a", one, plain_norms(2)),
            write_study(tmp_path / "b", other, plain_norms(2, (2.0,), (2.0, 4.0, 8.0))),
        )
        with pytest.raises(UserError, match=r"`runs` must have a strength in common, got: a: 1\.0; b: 2\.0"):
            compare(*runs)

    def test_a_target_that_not_all_have(self, tmp_path):
        one, other = random_run(tmp_path / "a"), two_layers({"l0": [0.9, 0.8], "l1": [0.9, 0.7]})
        runs = one, write_study(tmp_path / "b", other, plain_norms(2))
        with pytest.raises(UserError, match="`target` must be in all runs, got: own"):
            compare(*runs, targets=["own"])
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=2)
        assert made.notes == ("Left out, since not all runs have it: target own, strength 0.5.",)
        assert set(made.profiles["target"]) == {"seed"}
        assert set(made.differences["strength"]) == {1.0}

    def test_folders_with_other_things(self, tmp_path):
        runs = [random_run(tmp_path / name) for name in "ab"]
        with pytest.raises(StoreError, match="`out` must be new or the folder of a comparison"):
            compare(*runs, out=runs[0], overwrite=True)
        compare(*runs, out=tmp_path / "c", n_bootstrap=2)
        with pytest.raises(StoreError, match=r"`out` must be new, got: .*c \(there is a comparison in it\)"):
            compare(*runs, out=tmp_path / "c")
        (tmp_path / "c" / "notes.txt").write_text("mine")
        compare(*runs, out=tmp_path / "c", overwrite=True, n_bootstrap=2)
        assert (tmp_path / "c" / "notes.txt").read_text() == "mine"

    def test_an_unknown_way_to_align(self, tmp_path):
        with pytest.raises(UserError, match="`align` must be one of auto, name, depth, got: size"):
            compare(random_run(tmp_path / "a"), random_run(tmp_path / "b"), align="size")


class TestWords:
    def test_say_who_agrees_with_numbers(self, tmp_path):
        runs = [random_run(tmp_path / name, rng_seed=i, attack=name) for i, name in enumerate("xy")]
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=30)
        text = made.summary()
        assert "at strength 0.5, explaining the seed's class" in text
        row = made.agreement.filter(side_a="x", side_b="y", target="seed", strength=0.5, ranked_by="gain").row(
            0, named=True
        )
        assert f"tau {row['tau']:.2f} [" in text
        assert "(n = 8 images, 5 layers)" in text
        assert "Repeated on other images, a side would agree with itself at about " in text
        assert "Highest gain: x: layer" in text
        assert text.startswith(f"{comparison_headline(made.tables)}.\n")
        assert "\nx and y " in text

    def test_say_nothing_that_the_tables_do_not_hold(self, by_hand, tmp_path):
        """The first study's layers are tied: it ranks none."""
        made = compare(*by_hand, out=tmp_path / "c", n_bootstrap=20)
        assert "No two sides rank their layers." in made.summary()
        assert set(made.agreement.filter(side_b="pgd", side_a="dlfuzz", ranked_by="gain")["undefined_reason"]) == {
            "constant_ranking"
        }
        assert "tau nan" not in made.summary()

    def test_warn_of_survivors_and_sizes(self, tmp_path):
        similarity = two_layers({"a": [0.9] * 9 + [0.7]})
        few = seeds_of(similarity, resistant=40, relative_l2=0.03)
        runs = (
            write_study(tmp_path / "x", similarity, plain_norms(10), attack="x"),
            write_study(tmp_path / "y", similarity, plain_norms(10), attack="y", seeds=few),
        )
        text = " ".join(comparison_sentences(compare(*runs, out=tmp_path / "c", n_bootstrap=5).tables)).replace(
            "\u00a0", " "
        )
        assert "different rates (x: 100 %, y: 20 % of the images)" in text
        assert "the perturbations of y are 3.0 times as large as those of x" in text

    def test_a_median_of_two_images_is_no_highest_gain(self, tmp_path):
        few = [0.55, *[None] * 5]
        runs = [
            write_study(tmp_path / name, two_layers({"few": few, "all": [last] * 6}), plain_norms(6), attack=name)
            for name, last in (("x", 0.7), ("y", 0.6))
        ]
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
        assert made.profiles.filter(layer="few")["gain"].null_count() == 0
        assert made.profiles.filter(layer="few")["rank"].to_list() == [None, None]
        assert "Highest gain: x: block all, gain" in made.summary()
        assert "; y: block all, gain" in made.summary()

    def test_name_layers_whose_ranks_differ(self, tmp_path):
        steps = np.linspace(0.9, 0.55, 4)
        up = two_layers({f"l{i}": [v - 0.001 * k for k in range(6)] for i, v in enumerate(steps)})
        down = two_layers({f"l{i}": [v - 0.001 * k for k in range(6)] for i, v in enumerate(steps[::-1])})
        runs = (
            write_study(tmp_path / "x", up, plain_norms(6), attack="x"),
            write_study(tmp_path / "y", down, plain_norms(6), attack="y"),
        )
        text = compare(*runs, out=tmp_path / "c", n_bootstrap=20).summary()
        assert "For 0 of 4 layers the rank intervals of both sides overlap" in text
        assert "differs most: 1 in y, 4 in x" in text
        assert "x and y rank their layers in opposite order: tau -1.00 [-1.00, -1.00]" in text
        assert "grows with depth in x (1.00 [1.00, 1.00]); it falls with depth in y (-1.00 [-1.00, -1.00])" in text


@drawn
class TestFigures:
    def test_two_sides(self, by_hand, tmp_path):
        made = compare(*by_hand, out=tmp_path / "c", n_bootstrap=10)
        names = {"comparison_1_gain", "comparison_2_agreement", "comparison_3_ranks", "comparison_4_differences"}
        assert {path.stem for path in (tmp_path / "c" / "figures").glob("*.png")} == names
        assert {path.stem for path in (tmp_path / "c" / "figures").glob("*.pdf")} == names
        page = (tmp_path / "c" / "comparison.html").read_text()
        assert made.sides["side"][0] in page
        # No report was made beside these runs.
        assert "report.html" not in page

    @pytest.mark.slow
    def test_many_sides_and_other_networks(self, tmp_path):
        measures = [(explanation, "cosine") for explanation in ("gradcam", "hirescam", "layercam")]
        runs = [
            random_run(tmp_path / "a", measures=measures, model="one"),
            random_run(tmp_path / "b", n_layers=3, layer_names="block.{}", measures=measures, model="two"),
        ]
        made = compare(*runs, out=tmp_path / "c", n_bootstrap=10)
        names = {"comparison_1_gain", "comparison_2_agreement", "comparison_4_differences"}
        assert {path.stem for path in (tmp_path / "c" / "figures").glob("*.png")} == names
        assert len(gain_profiles_figure(made.tables).axes) == 6
        assert compared_sides(made.tables).layers == ()

    def test_links_lead_to_the_reports_of_the_runs(self, by_hand, tmp_path):
        (by_hand[0] / "report.html").write_text("report")
        compare(*by_hand, out=tmp_path / "deep" / "c d", n_bootstrap=5)
        page = (tmp_path / "deep" / "c d" / "comparison.html").read_text()
        assert 'href="../../one/report.html"' in page
        assert page.count("report.html") == 1


@drawn
def test_it_works_without_torch(by_hand, tmp_path):
    code = WITHOUT_TORCH + "import camdrift\nmade = camdrift.compare('one', 'two', out='c', n_bootstrap=5)\nprint(made)"
    done = python(code, cwd=tmp_path)
    assert done.stdout == "Comparison(dlfuzz, pgd; c)\n", done.stderr
    assert (tmp_path / "c" / "comparison.html").is_file()


class TestCommand:
    @drawn
    def test_prints_what_was_found_and_the_page_last(self, by_hand, monkeypatch, camdrift_command, tmp_path):
        monkeypatch.chdir(tmp_path)
        code, out, _ = camdrift_command("compare", "one", "two", "--target", "seed")
        assert code == 0
        page = tmp_path / out.splitlines()[-1]
        assert page.parent.parent.name == "runs"
        assert page.parent.name.startswith("compare-")
        assert page.is_file()
        record = json.loads((page.parent / "comparison.json").read_text())
        assert (record["kind"], record["runs"], record["strengths"]) == ("comparison", ["one", "two"], [1.0])

    def test_says_what_is_wrong(self, by_hand, camdrift_command, tmp_path):
        code, out, err = camdrift_command("compare", by_hand[0])
        assert (code, out) == (2, "")
        assert err.splitlines()[0].startswith("error: `runs` must have two sides or more")
        assert err.splitlines()[1].startswith("hint: name several runs")
        code, _, err = camdrift_command("compare", tmp_path / "nothing", by_hand[0])
        assert code == 2
        assert "no run in" in err
