"""The sentences of a comparison where images are few, gains are bounds, or studies share no images."""

import polars as pl
import pytest

from camdrift.comparison.compare import compare
from camdrift.figures.agreement import agreement_figure
from camdrift.figures.contrasts import differences_figure
from camdrift.figures.profiles import gain_profiles_figure
from camdrift.figures.ranks import ranks_figure
from camdrift.figures.sides import compared_sides
from camdrift.report.contrasts import agreement_sentence, cautions, depth, ratios, stability, tops
from support.comparisons import random_run, seeds_of, skip_page, write_study
from support.study_tables import random_study


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    skip_page(monkeypatch)


def apart(tmp_path, n_seeds, **options):
    """A study of so many images and another of eight other ones."""
    similarity, variants = random_study(n_seeds, 5)
    return (
        write_study(tmp_path / "x", similarity, variants, attack="x", seeds=seeds_of(similarity, **options)),
        random_run(tmp_path / "y", attack="y", seeds=seeds_of(random_study(8)[0], checksum="other {}")),
    )


def with_ratio(tables, value, low, high):
    """The tables, where one layer's gains have this ratio, those of one more have none, and the others are alike."""
    rows = tables["differences"].with_row_index()
    names = ("log2_gain_ratio", "log2_gain_ratio_low", "log2_gain_ratio_high")
    first = pl.col("layer_a") == "l0"
    columns = [
        pl.when(first).then(pl.lit(told, pl.Float64)).when(pl.col("layer_a") == "l1").then(None).otherwise(plain)
        for told, plain in zip((value, low, high), (0.1, -1.0, 1.0), strict=True)
    ]
    made = [column.alias(name) for column, name in zip(columns, names, strict=True)]
    return {**tables, "differences": rows.with_columns(made).drop("index")}


class TestOneImage:
    def test_leaves_no_interval(self, tmp_path):
        """Every bootstrap replicate of one image is that image: their agreement says nothing."""
        made = compare(*apart(tmp_path, 1), out=tmp_path / "c", n_bootstrap=20)
        pair = made.agreement.filter(side_a="x", side_b="y", ranked_by="gain", target="seed")
        assert (pair["n_a"].unique().item(), pair["n_b"].unique().item()) == (1, 8)
        assert pair["tau"].null_count() == 0
        assert pair["tau_low"].null_count() == pair["tau_high"].null_count() == pair.height
        itself = made.agreement.filter(side_a="x", side_b="x")
        assert itself["tau"].null_count() == itself["tau_low"].null_count() == itself.height
        assert set(itself["undefined_reason"]) == {"too_few"}
        assert made.agreement.filter(side_a="y", side_b="y")["tau_low"].null_count() == 0
        trends = made.trends.filter(side="x")
        assert trends["tau"].null_count() == 0
        assert trends["tau_low"].null_count() == trends.height

    def test_proves_no_agreement(self, tmp_path):
        tables = compare(*apart(tmp_path, 1), out=tmp_path / "c", n_bootstrap=20).tables
        assert "neither agree nor disagree" in agreement_sentence(tables, compared_sides(tables))
        assert "no clear trend in x (" in depth(tables, compared_sides(tables)) or "and x (" in depth(
            tables, compared_sides(tables)
        )


class TestPairsWithoutTau:
    def test_are_counted(self, tmp_path):
        """The layers of the third side are all alike."""
        runs = [random_run(tmp_path / name, attack=name, rng_seed=i) for i, name in enumerate("xy")]
        similarity, variants = random_study(8, 5)
        first = similarity.filter(layer="l0").drop("layer", "layer_label", "layer_index")
        layers = similarity.select("layer", "layer_label", "layer_index").unique(maintain_order=True)
        alike = first.join(layers, how="cross").select(similarity.columns)
        runs.append(write_study(tmp_path / "z", alike, variants, attack="z"))
        tables = compare(*runs, out=tmp_path / "c", n_bootstrap=20).tables
        text = agreement_sentence(tables, compared_sides(tables))
        assert text.startswith("x and y ")
        assert text.endswith(" 2 of 3 pairs have no tau: all layers of a side are tied, or too few.")


class TestMoreSidesThanAreShown:
    @pytest.fixture
    def tables(self, tmp_path, monkeypatch):
        monkeypatch.setattr("camdrift.figures.sides.MOST_SHOWN", 2)
        runs = [random_run(tmp_path / name, attack=name, rng_seed=i) for i, name in enumerate("xyz")]
        return compare(*runs, out=tmp_path / "c", n_bootstrap=20).tables

    def test_words_are_about_all(self, tables):
        sides = compared_sides(tables)
        assert (sides.names, sides.total) == (("x", "y"), 3)
        assert all(f"{side} (" in depth(tables, sides) for side in "xyz")
        assert tops(tables, sides).endswith("; 1 other side in the table.")
        rows = tables["profiles"].filter(target="seed", strength=sides.reference, layer="l0")
        ends = [rows.filter(side=side).select("rank_low", "rank_high").row(0) for side in "xyz"]
        # The third side, which is not shown, makes the difference for this layer.
        far = pl.when((pl.col("side") == "z") & (pl.col("layer") == "l0")).then(99)
        moved = tables["profiles"].with_columns(
            far.otherwise("rank_low").alias("rank_low"), far.otherwise("rank_high").alias("rank_high")
        )
        assert max(high for _, high in ends) < 99
        assert "the rank of layer0 differs most" in stability({**tables, "profiles": moved}, sides)

    @pytest.mark.parametrize(
        ("figure", "said"),
        [
            (gain_profiles_figure, "The first 2 of 3 sides."),
            (agreement_figure, "The first 2 of 3 sides."),
            (ranks_figure, "The first 2 of 3 sides."),
            (differences_figure, "The first 1 of 2 other sides."),
        ],
    )
    def test_figures_say_so(self, tables, figure, said):
        assert said in " ".join(text.get_text() for text in figure(tables).texts)


class TestRatios:
    @pytest.fixture
    def tables(self, tmp_path):
        runs = [random_run(tmp_path / name, attack=name) for name in "xy"]
        return compare(*runs, out=tmp_path / "c", n_bootstrap=5).tables

    @pytest.mark.parametrize(
        ("ratio", "expected"),
        [
            ((2.0, 1.0, 3.0), "between y and x at layer0: 4.0 [2.0, 8.0] times as high in y"),
            ((2.0, 1.0, None), "between y and x at layer0: 4.0 [2.0, open] times as high in y"),
            ((-2.0, -3.0, -1.0), "between x and y at layer0: 4.0 [2.0, 8.0] times as high in x"),
            ((-2.0, None, -1.0), "between x and y at layer0: 4.0 [2.0, open] times as high in x"),
        ],
    )
    def test_an_open_end_does_not_hide_a_difference(self, tables, ratio, expected):
        tables = with_ratio(tables, *ratio)
        text = ratios(tables, compared_sides(tables))
        assert expected in text
        assert "of this pair's 4 measured layers 1 differ" in text

    def test_no_difference(self, tables):
        tables = with_ratio(tables, 2.0, None, 3.0)
        assert ratios(tables, compared_sides(tables)).startswith("No layer's measured gain differs")


class TestCautions:
    @pytest.mark.parametrize(("n_seeds", "is_few"), [(1, True), (4, True), (5, False)])
    def test_few_images(self, tmp_path, n_seeds, is_few):
        tables = compare(*apart(tmp_path, n_seeds), out=tmp_path / "c", n_bootstrap=5).tables
        text = "The two sides rest on fewer than 5 images: their bootstrap intervals are too narrow."
        assert (text in cautions(tables, compared_sides(tables))) == is_few

    def test_studies_without_common_images_rest_on_none_that_both_fool(self, tmp_path):
        tables = compare(*apart(tmp_path, 8, resistant=60), out=tmp_path / "c", n_bootstrap=5).tables
        first, second = tables["sides"].to_dicts()
        assert first["success_high"] < second["success_low"]
        text = " ".join(cautions(tables, compared_sides(tables)))
        assert "The two sides share fewer than two images" in text
        assert "that both fool" not in text
