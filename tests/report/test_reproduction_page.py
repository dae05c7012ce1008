"""The page of a reproduction in a browser: verdicts, the choice of defects, controls, for every reader."""

import polars as pl
import pytest

from camdrift.figures import rungs
from camdrift.report import numbers, verdicts
from support.pages import HOSTILE, attributes, descriptions, opened, plain, shown, stops, violations, written
from support.reproductions import LABELS, reproduction

pytestmark = pytest.mark.slow

CHARTS = ("equations", "rung", "equations-compromised", "rung-compromised")


@pytest.fixture(scope="module")
def study():
    return reproduction()


@pytest.fixture(scope="module")
def path(study, tmp_path_factory):
    return written(study, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def tab(browser, path):
    with opened(browser, path) as tab:
        yield tab


def similarities(study, name):
    """What the lines of a set of defects say, in the order they are drawn."""
    rows = study.tables["ladder"].filter(defects=name).sort("strength", "layer_index")
    return [
        f"{row['layer_label']} strength {row['strength']:g}: {numbers.fraction(row['mean_similarity'])}"
        for row in rows.iter_rows(named=True)
    ]


def fractions(study, name):
    rows = rungs.rung_rows(study.tables).filter(defects=name).sort("strength", "layer_index")
    return [
        f"{row['layer_label']} strength {row['strength']:g}: compromised "
        f"{plain(numbers.percent(row['compromised_fraction']))}"
        for row in rows.iter_rows(named=True)
    ]


def test_it_opens_with_the_released_code_beside_the_equations(tab, study):
    assert tab.locator("#rung").input_value() == "all"
    for chart, name in (("equations", "none"), ("rung", "all")):
        assert sorted(descriptions(tab, chart, ".mark-symbol path")) == sorted(similarities(study, name))
    assert descriptions(tab, "equations-compromised", ".mark-rect path[aria-label]") == fractions(study, "none")


@pytest.mark.parametrize("name", ["accumulated", "all but jet", rungs.DESCRIBED])
def test_the_choice_of_defects_changes_what_is_drawn(tab, study, name):
    tab.locator("#rung").select_option(name)
    table = "all" if name == rungs.DESCRIBED else name
    assert sorted(descriptions(tab, "rung", ".mark-symbol path")) == sorted(similarities(study, table))
    assert descriptions(tab, "rung-compromised", ".mark-rect path[aria-label]") == fractions(study, name)
    assert tab.locator("#chart-rung .shown").inner_text() == rungs.words_of(name)
    assert tab.locator("#chart-equations .shown").inner_text() == "the equations"
    assert tab.locator("#rung-meaning").inner_text() == rungs.RUNG_MEANINGS.get(name, "")
    current = tab.locator("#rung-table tr[aria-current]")
    assert attributes(current, "data-rung") == [name]


def test_the_rows_of_the_table_choose_too_and_hold_the_agreement(tab, study):
    row = tab.locator("#rung-table tr[data-rung='wrong_base']")
    row.locator("button").click()
    assert tab.locator("#rung").input_value() == "wrong_base"
    found = rungs.rung_numbers(study.tables).filter(defects="wrong_base").row(0)
    assert [plain(text) for text in row.locator("td").all_inner_texts()] == [numbers.measured(v) for v in found[1:]]
    assert tab.locator("#rung-table tr[data-rung]").count() == 21


def test_the_keyboard_reaches_everything_in_few_stops(tab):
    """The 21 sets of defects are one stop."""
    places = stops(tab)
    assert len(places) < 25
    assert {"rung", "strip", "strength", "order", "table-filter"} <= set(places)
    rows = tab.locator("#rung-table button")
    rows.nth(3).focus()
    tab.keyboard.press("ArrowDown")
    assert rows.nth(4).evaluate("row => row === document.activeElement")


def test_rows_of_compromised_layers_carry_their_mean(tab, study):
    tab.locator("#rung").select_option("noise_for_attack")
    table = study.tables["ladder"].filter(defects="noise_for_attack").sort("strength")
    means = table.group_by("strength", maintain_order=True).agg(pl.col("compromised_fraction").mean())
    expected = [f"{s:g}: {plain(numbers.percent(v))}" for s, v in means.iter_rows()]
    axis = [plain(text) for text in shown(tab, "rung-compromised").locator(".role-axis-label text").all_text_contents()]
    assert [text for text in axis if text in expected] == expected


def test_verdicts_are_those_of_the_table(tab, study):
    folded = [family for family in verdicts.families(study.tables["claims"], LABELS) if family.is_folded]
    plain_rows = [r for f in verdicts.families(study.tables["claims"], LABELS) if not f.is_folded for r in f.rows]
    rows = tab.locator(".claims > tbody > tr:not(.claim):not(.folded)").all()
    assert len(rows) == len(plain_rows)
    for row, claim in zip(rows, plain_rows, strict=True):
        said = [plain(text) for text in row.locator("th, td").all_inner_texts()]
        sign = verdicts.MARKS[claim.verdict]
        numbers_ = [claim.paper, claim.released, plain(f"{claim.corrected} {claim.interval}"), str(claim.n)]
        assert said == [claim.subject or "overall", f"{sign} {claim.verdict}", *numbers_]
    details = tab.locator(".claims .folded details")
    assert details.count() == len(folded) == 1
    assert plain(details.locator("summary").inner_text()).endswith(folded[0].summary)
    assert not details.locator("table").is_visible()
    details.locator("summary").click()
    assert details.locator("tbody tr").count() == len(LABELS)


def test_what_decides_a_claim_stands_below_it(tab, study):
    said = [plain(text) for text in tab.locator(".claims .measure").all_inner_texts()]
    families = verdicts.families(study.tables["claims"], LABELS)
    assert said == [f"{family.measure}; holds {family.bounds}" for family in families]


def test_controls_are_on_the_page(tab, study):
    section = tab.locator("section[aria-labelledby=checks]")
    assert section.locator("h3").count() == study.tables["controls"]["control"].n_unique()
    assert "Noise against noise" in section.inner_text()


def test_names_stay_text(browser, tmp_path):
    made = reproduction((HOSTILE, "block4_conv1", "block5_conv1"), strengths=(0.5, 1.0), analysed=3)
    evil = "<img src=x onerror=alert(1)>"
    made.tables["claims"] = made.tables["claims"].with_columns(paper=pl.lit(evil), measure=pl.lit(evil))
    made.tables["controls"] = made.tables["controls"].with_columns(quantity=pl.lit(evil), control=pl.lit(evil))
    with opened(browser, written(made, tmp_path)) as tab:
        assert tab.locator(".claims td[data-label=paper]").first.inner_text() == evil
        assert evil in tab.locator("section[aria-labelledby=checks]").inner_text()
        assert "<script>alert('x')</scrip" in shown(tab, "rung").text_content()
        assert tab.locator("img[onerror]").count() == 0


def assert_readable(tab, width):
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    for chart in CHARTS:
        shown(tab, chart)
    tab.locator(".claims .folded details").evaluate("details => { details.open = true; }")
    for scheme in ("dark", "light"):
        tab.emulate_media(color_scheme=scheme)
        assert [row for row in violations(tab) if row[1] in ("serious", "critical")] == []


def test_readable_on_a_screen_and_by_every_reader(tab):
    assert_readable(tab, 1200)


def test_readable_on_a_telephone_and_by_every_reader(browser, path):
    with opened(browser, path, viewport={"width": 360, "height": 800}) as tab:
        assert_readable(tab, 360)


def test_on_paper_claims_and_curves_are_there(tab):
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.chart')].every((chart) => chart.dataset.drawn === 'yes')"
    )
    tab.emulate_media(media="print")
    assert not tab.locator("#rung").is_visible()
    assert tab.locator("#chart-rung svg").is_visible()
    assert tab.locator(".claims").is_visible()
    assert tab.pdf().startswith(b"%PDF")
    tab.emulate_media(media="screen")
