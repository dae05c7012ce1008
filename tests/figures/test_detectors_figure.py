"""The figure of detectors: a mark for each task at the table's AUC, and words where there is none."""

import matplotlib.pyplot as plt
import pytest

from camdrift.detectors.assessment import detector_rows
from camdrift.figures.detectors import detectors_figure
from camdrift.tables.detection import DETECTORS_TABLE
from support import synthetic
from support.score_sheets import sheet_of


@pytest.fixture(scope="module")
def made():
    return synthetic.study(("one", "two"), strengths=(1.0, 2.0), analysed=6, gallery_seeds=1)


def test_marks_stand_at_the_aucs(made):
    rows = DETECTORS_TABLE.frame(detector_rows([sheet_of("pgd", 0, seeds=12)]))
    figure = detectors_figure({**made.tables, "detectors": rows}, made.record)
    (axes,) = figure.axes
    marks = {round(float(line.get_xdata()[0]), 9) for line in axes.lines if len(line.get_xdata()) == 1}
    at_one = rows.filter((rows["strength"] == 1.0) & (rows["setting"] == "unsupervised"))
    assert marks == {round(auc, 9) for auc in at_one["auc"].to_list()}
    assert len(at_one) == 6
    assert [label.get_text() for label in axes.get_yticklabels()] == ["made", "single"]
    plt.close(figure)


def test_nothing_to_draw_says_so(made):
    figure = detectors_figure({**made.tables, "detectors": DETECTORS_TABLE.frame()}, made.record)
    assert "No image has a score." in "".join(text.get_text() for text in figure.findobj(plt.Text))
    plt.close(figure)
