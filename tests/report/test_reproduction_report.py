"""What the figures and the page of a reproduction say is what its tables say."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection

from camdrift.figures import rungs
from camdrift.figures.controls import controls_figure
from camdrift.figures.ladder import ladder_figure
from camdrift.figures.released import released_figure
from camdrift.figures.scope import scope_of
from camdrift.figures.study import study_figures
from camdrift.paper.defects import Defects
from camdrift.paper.ladder import rank_agreement
from camdrift.paper.readings import compromised_fraction, mean, read
from camdrift.report import checks, defects, story, verdicts
from camdrift.report.numbers import measured, measured_between
from camdrift.report.page.rendering import render
from camdrift.report.study import summary
from camdrift.statistics import controls
from camdrift.tables.reproduction import CLAIMS
from camdrift.tables.study import TABLES
from camdrift.tables.words import ARTEFACT, FAILS, HOLDS, UNDECIDED
from support import synthetic
from support.pages import words
from support.reproductions import LABELS, reproduction

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
LONG = tuple(f"blocks.{i // 4}.{i % 4}.conv_pwl" for i in range(30))


@pytest.fixture(scope="module")
def made():
    return reproduction()


@pytest.fixture(scope="module")
def scope(made):
    return scope_of(made.tables, made.record)


def claim(**columns):
    """One row of table claims."""
    common = {"claim": "It moves", "measure": "how far", "paper": "far", "n": 4, "verdict": HOLDS}
    return common | columns


def dots(axes):
    """Invisible labelled lines hold every number of a panel in the order of its rows: label to (x, y)."""
    return {str(line.get_label()): (line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_alpha() == 0}


OURS = ["figure_11_ladder", "figure_12_released", "figure_13_controls"]


class TestFigures:
    @pytest.mark.parametrize("labels", [LABELS, LONG, ("a$b$", "<b>c</b>")], ids=["few", "many", "hostile"])
    def test_every_figure_stays_on_its_page(self, labels):
        study = reproduction(labels, analysed=2, strengths=(0.5, 1.0, 4.0))
        drawn = study_figures(study.tables, study.record, study.gallery)
        assert list(drawn)[-4:] == [*OURS, "figure_14_flips"]
        for name in OURS:
            canvas = FigureCanvasAgg(drawn[name])
            canvas.draw()
            box = drawn[name].get_tightbbox(canvas.get_renderer())
            width, height = drawn[name].get_size_inches()
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01, name

    def test_other_studies_have_none_of_them(self):
        study = synthetic.study(LABELS)
        assert not [n for n in study_figures(study.tables, study.record, {}) if n in OURS]

    def test_without_an_adversarial_example_they_say_so(self):
        study = reproduction(analysed=0, resistant=3)
        drawn = study_figures(study.tables, study.record, {})
        for name in ("figure_11_ladder", "figure_12_released"):
            assert "Nothing to show." in words(drawn[name])
        assert "figure_13_controls" not in drawn
        html = render(study.tables, study.record, {})
        assert "The paper, claim by claim" in html
        assert 'id="rungs"' not in html

    def test_the_ladder_draws_every_number_of_the_agreement(self, made):
        figure = ladder_figure(made.tables, made.record)
        numbers = rank_agreement(made.tables["ladder"])
        *panels, names = figure.axes
        columns = numbers.columns[1:]
        for axes, pair in zip(panels, zip(columns[::2], columns[1::2], strict=True), strict=True):
            for (x, _), column in zip(dots(axes).values(), pair, strict=True):
                np.testing.assert_allclose(x[: numbers.height], numbers[column].cast(pl.Float64).to_numpy())
        said = [text.get_text() for text in names.texts]
        assert len(said) == 21 + 2
        assert said.count("colour pictures compared, not maps") == 2

    def test_each_half_of_the_ladder_starts_where_it_is_held_against(self, made):
        axes = ladder_figure(made.tables, made.record).axes[2]
        numbers = rank_agreement(made.tables["ladder"])
        dotted = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_linestyle()[0][1] is not None]
        starts = [float(line.get_segments()[0][0, 0]) for line in dotted]
        ends = [numbers.filter(defects=name)["half_one"].item() for name in ("none", "all")]
        assert starts[:2] == pytest.approx(ends)

    def test_curves_are_the_means_of_both_readings(self, made):
        figure = released_figure(made.tables, made.record)
        for place, chosen in enumerate((Defects(), Defects.all())):
            reading = read(made.tables["emulation"], chosen)
            above, below = figure.axes[2 * place : 2 * place + 2]
            lines = {str(line.get_label()): line.get_ydata() for line in above.lines}
            for row, strength in enumerate(STRENGTHS):
                expected = mean(reading.adversarial, 0)[row]
                np.testing.assert_array_equal(lines[f"strength {strength:g}"], expected)
            fractions = compromised_fraction(reading)
            np.testing.assert_array_equal(np.asarray(below.images[0].get_array()), fractions)
            said = [text.get_text() for text in below.texts]
            assert said[:5] == [f"{100 * value:.0f}\u00a0%" for value in fractions.mean(-1)]

    def test_the_distances_of_the_curves_are_written_beside_them(self, made):
        numbers = rank_agreement(made.tables["ladder"])
        for axes, name in zip(released_figure(made.tables, made.record).axes[::2], ("none", "all"), strict=True):
            row = numbers.filter(defects=name).row(0, named=True)
            expected = (
                f"distance {row['half_one']:.2f} between 0.5 and 1; {row['quarter_two_four']:.2f} between 0.25, 2"
            )
            assert any(text.get_text().startswith(expected) for text in axes.texts)

    def test_controls_are_the_tables_gains(self, made):
        panels = controls_figure(made.tables, made.record).axes
        for axes, strength in zip(panels, (0.25, 1.0), strict=True):
            lines = {str(line.get_label()): line.get_ydata() for line in axes.lines}
            white = made.tables["layers"].filter(target="seed", strength=strength).sort("layer_index")["gain"]
            np.testing.assert_array_equal(lines["attack over white noise"], white.to_numpy())
            rows = made.tables["controls"].filter(pl.col("layer").is_not_null(), strength=strength)
            null = rows.filter(control=controls.NOISE_AGAINST_NOISE)["value"]
            np.testing.assert_array_equal(lines["white noise over white noise"], null.to_numpy())
            spectrum = rows.filter(control=controls.SPECTRUM, quantity="gain of the attack over it")["value"]
            np.testing.assert_array_equal(lines["over noise of the attack's spectrum"], spectrum.to_numpy())


class TestVerdicts:
    def test_numbers_have_three_digits_and_ranks_none(self):
        assert [measured(v) for v in (None, 0.26522, -0.00797, 1e4, 279.8)] == [
            "\u2013",
            "0.265",
            "-0.00797",
            "10,000",
            "280",
        ]
        assert measured(11.0, "rank by mean deviation") == "11"
        assert measured_between(0.1, None) == ""

    def test_a_family_about_every_layer_is_folded_and_counts_once(self):
        rows = [claim(subject=s, verdict=v) for s, v in (("a", HOLDS), ("b", UNDECIDED), ("c", HOLDS))]
        (family,) = verdicts.families(CLAIMS.frame(rows), ["a", "b", "c"])
        assert family.is_folded
        assert family.summary == "in each of 3 layers: 2 hold, 1 is undecided"
        assert family.verdict == UNDECIDED
        (family,) = verdicts.families(CLAIMS.frame(rows), ["a", "b", "c", "d"])
        assert not family.is_folded
        assert family.verdict == UNDECIDED

    @pytest.mark.parametrize(
        ("of_layers", "of_all"),
        [
            ((HOLDS, HOLDS), HOLDS),
            ((HOLDS, UNDECIDED), UNDECIDED),
            ((UNDECIDED, ARTEFACT), ARTEFACT),
            ((ARTEFACT, FAILS), FAILS),
        ],
    )
    def test_one_layer_that_fails_fails_the_claim(self, of_layers, of_all):
        rows = [claim(subject=s, verdict=v) for s, v in zip("ab", of_layers, strict=True)]
        assert verdicts.families(CLAIMS.frame(rows), ["a", "b"])[0].verdict == of_all

    @pytest.mark.parametrize(
        ("ends", "said"),
        [
            ((0.3, 0.5), "from 0.3 to 0.5"),
            ((0.0, None), "from 0 on"),
            ((1e-9, 1.0), "above 0"),
            ((None, 2.0), "up to 2"),
        ],
    )
    def test_bounds_are_said(self, ends, said):
        row = claim(holds_from=ends[0], holds_to=ends[1])
        assert verdicts.families(CLAIMS.frame([row]), ["a"])[0].bounds == said

    def test_headline_counts_claims_and_says_what_limits_them(self, made, scope):
        """A claim about five strengths is one claim, and fails if it fails at one of them."""
        gravest = [FAILS, ARTEFACT, UNDECIDED, HOLDS]
        parts = made.tables["claims"].group_by("claim").agg("verdict")["verdict"]
        counts = Counter(min(part, key=gravest.index) for part in parts)
        headline = story.study_headline(made.tables, made.record, scope)
        n = made.tables["claims"]["claim"].n_unique()
        first = "Measured on 6 adversarial examples alone and with other weights than those of the paper's VGG-16: of "
        assert headline.startswith(f"{first}{n} claims of the paper that could be measured {counts[HOLDS]} hold, ")
        assert f"{counts[FAILS]} fail" in headline
        many = {**made.tables, "seeds": pl.concat([made.tables["seeds"]] * 4)}
        paper = {**made.record, "model": {**made.record["model"], "spec": "keras-vgg16@vgg16.h5"}}
        assert verdicts.reproduction_headline(many, paper, scope.labels).startswith(f"Of {n} claims of the paper")
        other = verdicts.reproduction_headline(many, paper, ["a", "b"])
        assert other.startswith("Measured on another network than the paper's VGG-16: of ")

    def test_every_claim_is_a_sentence_with_its_numbers(self, made):
        said = "\n".join(summary(made.tables, made.record))
        for row in made.tables["claims"].filter(pl.col("subject").is_null()).to_dicts():
            ends = (
                f" [{row['corrected_low']:.3g}, {row['corrected_high']:.3g}]"
                if row["corrected_low"] is not None
                else ""
            )
            assert f"{row['corrected']:.3g}{ends} by the equations" in said
            assert row["claim"][1:] in said
        assert "block4_conv1 is one of the two most susceptible layers. Rank by mean deviation: " in said
        assert "in each of 5 layers. Similarity under noise" in said

    def test_sentences_by_hand(self):
        common = {"claim": "Images deviate", "measure": "shift", "paper": "more", "n": 4}
        rows = [
            claim(**common, subject="strength 0.5", corrected=0.1, as_released=0.3, verdict=HOLDS),
            claim(**common, subject="strength 1", corrected=0.2, as_released=0.1, verdict=HOLDS),
            claim(**common, subject="strength 2", corrected=-1.0, as_released=None, verdict=FAILS),
        ]
        sentences = verdicts.claim_sentences(CLAIMS.frame(rows), ["a"])
        numbers = "Shift: 0.1 to 0.2 by the equations and 0.1 to 0.3 as released; the paper: more (n = 4)."
        assert sentences[HOLDS] == [f"Holds: images deviate, at strengths 0.5 and 1. {numbers}"]
        assert sentences[FAILS][0].startswith("Fails: images deviate, at strength 2. Shift: -1 ")
        assert "as released" not in sentences[FAILS][0]

    def test_other_studies_have_no_claims(self):
        study = synthetic.study(LABELS)
        html = render(study.tables, study.record, {})
        assert not [word for word in ("claim by claim", 'id="defects"', 'id="rungs"', "Controls<") if word in html]
        assert TABLES["controls"].frame().is_empty()


class TestDefects:
    def test_the_last_set_has_the_papers_own_thresholds(self, made):
        table = rungs.rung_rows(made.tables)
        fractions = compromised_fraction(read(made.tables["emulation"], Defects.all()))
        described = table.filter(defects=rungs.DESCRIBED)["compromised_fraction"].to_numpy()
        np.testing.assert_array_equal(described.reshape(fractions.shape), fractions)
        same = table.filter(defects="all")["mean_similarity"].to_list()
        assert table.filter(defects=rungs.DESCRIBED)["mean_similarity"].to_list() == same
        assert rungs.rung_rows({"ladder": made.tables["ladder"]}).equals(made.tables["ladder"])

    def test_every_set_has_words_and_a_place(self, made):
        names = rungs.rung_rows(made.tables)["defects"].unique().to_list()
        placed = [name for _, group in rungs.sets(names) for name in group]
        assert sorted(placed) == sorted(names)
        assert set(rungs.WORDS) == set(rungs.RUNG_MEANINGS) == set(Defects.names())
        assert len({rungs.words_of(name) for name in names}) == len(names) == 21

    def test_page_data_are_the_ladders_cells(self, made, scope):
        data = defects.rung_data(made.tables, scope)
        for row in made.tables["ladder"].iter_rows(named=True):
            place = data["names"].index(row["defects"]), scope.strengths.index(row["strength"]), row["layer_index"]
            for key, column in (("similarity", "mean_similarity"), ("compromised", "compromised_fraction")):
                assert data[key][place[0]][place[1]][place[2]] == pytest.approx(row[column], rel=1e-5)

    def test_makers_name_what_alone_makes_and_what_is_needed_for_a_finding(self, made):
        said = next(s for s in defects.makers(made.tables) if s.startswith("Strengths 0.5 and 1 are almost identical"))
        numbers = rank_agreement(made.tables["ladder"])
        alone = [n for n in Defects.names() if numbers.filter(defects=n)["half_one"].item() <= 0.05]
        needed = [n for n in Defects.names() if numbers.filter(defects=f"all but {n}")["half_one"].item() > 0.05]
        assert alone == needed == ["accumulated"]
        assert said.endswith(
            "One defect is enough: “strengths build on each other”. It is gone without “strengths build on each other”."
        )

    def test_a_rank_is_called_one(self, made):
        row = {"claim": "It is low", "subject": "block5_conv1", "measure": "rank by mean deviation", "paper": "low"}
        row |= {"as_released": 2.0, "corrected": 9.0, "holds_from": 1.0, "holds_to": 4.0, "verdict": ARTEFACT, "n": 6}
        (said,) = defects.makers(made.tables | {"claims": CLAIMS.frame([row])})
        assert said.startswith("It is low (block5_conv1): rank ")


class TestControls:
    def test_every_value_without_a_layer_is_on_the_page(self, made):
        found = checks.checks(made.tables)
        rows = made.tables["controls"].filter(pl.col("layer").is_null(), pl.col("value").is_not_null())
        assert sum(bool(value) for c in found for line in c.lines for value, _ in line.cells) == rows.height
        for row in rows.iter_rows(named=True):
            check = next(c for c in found if c.name == row["control"])
            target = f", target {row['target']}" if row["target"] else ""
            line = next(x for x in check.lines if x.quantity == f"{row['quantity']}{target}")
            cell = line.cells[check.strengths.index(f"{row['strength']:g}")]
            assert cell == (measured(row["value"]), measured_between(row["low"], row["high"]))
            assert line.expected == measured(row["expected"])

    def test_every_control_says_what_it_rules_out(self, made):
        names = set(made.tables["controls"]["control"])
        assert names == set(checks.CONTROL_MEANINGS)
        assert {c.name for c in checks.checks(made.tables) if c.meaning} == names

    def test_a_study_without_controls_has_no_section(self):
        assert checks.checks({"controls": TABLES["controls"].frame()}) == []
