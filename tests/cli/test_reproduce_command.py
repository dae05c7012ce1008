"""`camdrift reproduce` on a tiny network: what it prints, and the report it leaves."""

import io
import sys
from contextlib import redirect_stdout

import pytest

from camdrift.cli import app as cli
from camdrift.report import verdicts
from camdrift.study.study import open_study
from support.studies import draw_only, write_factory, write_images

pytestmark = pytest.mark.slow

# Those of a reproduction alone.
FIGURES = {"figure_11_ladder", "figure_12_released", "figure_13_controls"}
ATTACK = "dlfuzz:paper(scores='logit', step=1/255)"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Exit code and output of a finished reproduction, and its run directory."""
    here = tmp_path_factory.mktemp("here")
    photos, spec = write_images(here / "photos", 6), write_factory(here)
    arguments = ["reproduce", str(photos), "--model", spec, "--attack", ATTACK, "--out", "first", "--gallery", "1"]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, *FIGURES)
        patch.chdir(here)
        patch.setattr(sys, "argv", ["camdrift", *arguments])
        with redirect_stdout(out), pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code or 0, out.getvalue(), here / "first"


def test_it_prints_every_claim_on_a_line_and_last_where_the_report_lies(finished):
    code, out, directory = finished
    assert code == 0
    lines = out.splitlines()
    assert lines[-1] == "first/report.html"
    study = open_study(directory)
    heads, rows = study.claims_in_words()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["verdict", "claim"])
    printed = lines[start + 1 : start + 1 + len(rows)]
    assert heads == verdicts.HEADS
    for line, row in zip(printed, rows, strict=True):
        assert line.split() == " ".join(row).split()
    assert study.summary().splitlines() == lines[: len(study.summary().splitlines())]


def test_claims_about_every_layer_are_one_line(finished):
    directory = finished[-1]
    study = open_study(directory)
    _, rows = study.claims_in_words()
    n = study.layers["layer"].n_unique()
    (line,) = [row for row in rows if f"in each of {n} layers" in row[1]]
    found = study.claims.filter(measure=line[-1])
    low, high = found["corrected"].min(), found["corrected"].max()
    assert line[4] == f"{low:.3g} to {high:.3g}"
    assert len(rows) == study.claims.height - n + 1


def test_its_report_has_the_claims_and_its_figures(finished):
    directory = finished[-1]
    html = (directory / "report.html").read_text(encoding="utf-8")
    assert "The paper, claim by claim" in html
    assert {path.stem for path in (directory / "figures").iterdir()} == FIGURES
