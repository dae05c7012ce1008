"""The figures of a campaign are what its tables say."""

import numpy as np
import pytest

from camdrift.figures.campaign import campaign_figures
from camdrift.figures.campaign_growth import growth_curves
from camdrift.figures.mutators import mutator_yield
from camdrift.report.encoding import figure_files
from camdrift.tables.campaign import GROWTH_TABLE
from support.campaign_tables import campaign
from support.pages import words


@pytest.fixture(scope="module")
def made():
    return campaign()


def test_curves_are_medians_and_extremes_over_trials(made):
    guided, control = growth_curves(made.tables["growth"], "seed_classes")
    # Two seeds fail; the first framework's trials find 1, 2 and 3 wrong classes of each, the control's 1.
    assert [(curve.median[-1], curve.least[-1], curve.most[-1]) for curve in (guided, control)] == [
        (4, 2, 6),
        (2, 2, 2),
    ]
    assert (guided.median[49], guided.median[50]) == (0, 4)
    assert guided.passes.tolist() == list(range(0, 201, 2))
    assert (guided.is_baseline, control.is_baseline) == (False, True)


def test_figures_draw_the_tables(made):
    figures = campaign_figures(made.tables, made.record)
    assert list(figures) == ["fuzz_failures", "fuzz_growth", "fuzz_mutators"]
    lines = {line.get_label(): line for line in figures["fuzz_failures"].axes[0].lines}
    assert {name: line.get_ydata()[-1] for name, line in lines.items()} == {"deephunter": 4, "random": 2}
    assert lines["random"].get_linestyle() == "--"
    (band,) = figures["fuzz_failures"].axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() == 6
    assert "medians over 3 trials" in words(figures["fuzz_failures"])
    assert np.isclose(figures["fuzz_growth"].axes[0].lines[0].get_ydata()[-1], 0.3)
    counts, failing = figures["fuzz_mutators"].axes
    assert [bar.get_width() for bar in counts.containers[0]] == [360, 240]
    assert [round(bar.get_width(), 6) for bar in failing.containers[0]] == [6.0, 0.0]
    assert "none valid" in words(figures["fuzz_mutators"])


def test_the_yield_is_that_of_all_trials(made):
    rows = {row["operator"]: row for row in mutator_yield(made.tables["mutators"]).to_dicts()}
    # 2 + 4 + 6 failures of the first framework, 3 times 2 of the control.
    assert rows["noise"] == {"operator": "noise", "tried": 360, "valid": 300, "kept": 6, "failures": 18, "rate": 0.06}
    assert rows["rotate"]["rate"] is None


def test_one_trial_and_no_criterion_are_said(made):
    single = campaign(trials=1)
    assert "no statement" in words(campaign_figures(single.tables, single.record)["fuzz_failures"])
    bare = {**made.tables, "growth": GROWTH_TABLE.frame(made.tables["growth"].drop("criterion").to_dicts())}
    figure = campaign_figures(bare, {**made.record, "criterion": None})["fuzz_growth"]
    assert "no criterion" in words(figure)
    names = [name for name, _ in figure_files("fuzz_growth", figure)]
    assert names == ["figures/fuzz_growth.png", "figures/fuzz_growth.pdf"]
