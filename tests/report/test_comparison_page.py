"""The page of a comparison in a browser: every control shows what the tables say, by mouse and by keys."""

import re

import pytest

from camdrift.comparison.compare import compare
from camdrift.report import numbers
from support.comparisons import random_run
from support.pages import HOSTILE, attributes, opened, plain, stops, violations

pytestmark = pytest.mark.slow

MEASURES = [("gradcam", "cosine"), ("hirescam", "cosine")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    one = random_run(folder / "one", measures=MEASURES, attack="dlfuzz")
    other = random_run(folder / "other", rng_seed=1, attack="pgd")
    return compare(one, other, out=folder / "c", n_bootstrap=50)


@pytest.fixture(scope="module")
def tab(browser, made):
    with opened(browser, made.path / "comparison.html") as tab:
        yield tab


def rows(tab, table):
    lines = tab.locator(f"#{table} tbody tr").all()
    return [[plain(text) for text in line.locator("th, td").all_text_contents()] for line in lines]


def matrix(tab):
    return [
        [plain(text) for text in line.locator("td").all_inner_texts()] for line in tab.locator("#matrix tbody tr").all()
    ]


def set_state(tab, *, strength=0, target="seed", a=0, b=1, ranked="gain"):
    tab.locator("#strength").fill(str(strength))
    tab.locator(f".segments label:has-text('{target}')").click()
    tab.locator(f"label:has(input[name=ranked][value={ranked}])").click()
    tab.locator("#side-a").select_option(str(a))
    tab.locator("#side-b").select_option(str(b))


def test_it_lists_the_sides_and_what_was_found(tab, made):
    names = made.sides["side"].to_list()
    assert names == ["dlfuzz, gradcam", "dlfuzz, hirescam", "pgd, gradcam"]
    assert tab.locator("[aria-label='The sides'] tbody th").all_inner_texts() == names
    headline, *findings = map(plain, made.summary().splitlines())
    assert plain(tab.locator("h1").inner_text()) == headline
    assert [plain(text) for text in tab.locator(".findings li").all_inner_texts()] == findings


def test_whom_the_attack_fools_has_a_line_for_every_two_runs(tab, made):
    """Both runs fool all of the same eight images."""
    ((a, b, n, both, *rest),) = rows(tab, "outcomes")
    assert (a, b, n, both) == ("dlfuzz, gradcam", "pgd, gradcam", "8", "8")
    assert rest == ["0", "0", "0", "100 %", "100 %", "0 [-33, 33]", "1.00"]
    assert made.outcomes.height == 2


@pytest.mark.parametrize("ranked", ["gain", "deviation"])
@pytest.mark.parametrize(("strength", "target"), [(0, "seed"), (1, "own")])
def test_the_matrix_says_each_tau(tab, made, strength, target, ranked):
    set_state(tab, strength=strength, target=target, ranked=ranked)
    names = made.sides["side"].to_list()
    found = matrix(tab)
    here = made.agreement.filter(target=target, strength=(0.5, 1.0)[strength], ranked_by=ranked)
    for row in here.iter_rows(named=True):
        i, j = names.index(row["side_a"]), names.index(row["side_b"])
        assert found[i][j] == found[j][i] == numbers.fraction(row["tau"], 2).replace("-", "\u2212")


def pair_rows(made, a, b, target="seed", strength=0.5):
    names = made.sides["side"].to_list()
    here = made.differences.filter(side_a=names[a], side_b=names[b], target=target, strength=strength)
    return here.sort("relative_depth").to_dicts()


def test_a_cell_chooses_the_pair(tab, made):
    set_state(tab)
    tab.locator("#matrix tbody tr").nth(0).locator("button").nth(2).click()
    assert tab.locator("#side-a").input_value() == "0"
    assert tab.locator("#side-b").input_value() == "2"
    assert tab.evaluate("document.activeElement.textContent") == matrix(tab)[0][2]
    text = plain(tab.locator("#pair-words").inner_text())
    assert text.startswith("dlfuzz, gradcam and pgd, gradcam on 8 images that have an adversarial example in both; 5")
    for shown, row in zip(rows(tab, "pair-table"), pair_rows(made, 0, 2), strict=True):
        assert shown[0] == row["layer_label_a"]
        assert shown[2] == numbers.fraction(row["deviation_a"])
        assert shown[4].startswith(numbers.fraction(row["difference"]).replace("-", "\u2212"))
        assert shown[5] == str(row["n_a"])


def test_a_turned_pair_turns_its_signs(tab):
    set_state(tab, a=0, b=2)
    straight = rows(tab, "pair-table")
    set_state(tab, a=2, b=0)
    turned = rows(tab, "pair-table")
    for one, other in zip(straight, turned, strict=True):
        assert (one[2], one[3]) == (other[3], other[2])
        first, second = (float(re.match(r"-?[\d.]+", r[4].replace("\u2212", "-")).group()) for r in (one, other))
        assert first == pytest.approx(-second)


def test_choosing_the_same_side_swaps(tab):
    set_state(tab, a=0, b=1)
    tab.locator("#side-a").select_option("1")
    assert (tab.locator("#side-a").input_value(), tab.locator("#side-b").input_value()) == ("1", "0")


def test_the_charts_hold_every_layer(tab, made):
    set_state(tab, a=0, b=2, strength=1)
    gains = made.profiles.filter(side="pgd, gradcam", target="seed", strength=1.0).sort("layer_index").to_dicts()
    tips = [plain(tip) for tip in attributes(tab.locator("#plot-profiles [data-tip*='pgd']"), "data-tip")]
    assert tips == [
        plain(
            f"{row['layer_label']} pgd, gradcam gain {numbers.times(row['gain'], row['gain_censored'])} "
            f"{numbers.times_between(row)} rank {row['rank']} [{row['rank_low']}, {row['rank_high']}], n = {row['n']}"
        )
        for row in gains
    ]
    measured = sum(row["log2_gain_ratio"] is not None for row in pair_rows(made, 0, 2, strength=1.0))
    assert tab.locator("#plot-ratio [data-tip*=ratio]").count() == measured
    assert tab.locator("#plot-difference [data-tip*=difference]").count() == 5
    assert tab.locator("#plot-ranks .rank").count() == 5


def test_an_interval_has_an_arrow_at_each_open_end(tab, made):
    set_state(tab, a=0, b=2)
    measured = [row for row in pair_rows(made, 0, 2) if row["log2_gain_ratio"] is not None]
    ends = [(row["log2_gain_ratio_low"] is None, row["log2_gain_ratio_high"] is None) for row in measured]
    assert (True, True) in ends
    assert tab.locator("#plot-ratio path").count() == sum(map(sum, ends))
    assert tab.locator("#plot-ratio line[stroke]").count() == len(measured)


def test_ranks_in_numbers(tab, made):
    set_state(tab, strength=1)
    tab.locator("summary", has_text="Ranks in numbers").click()
    here = made.profiles.filter(target="seed", strength=1.0)
    for shown in rows(tab, "rank-table"):
        its = here.filter(layer_label=shown[0])
        expected = [f"{r['rank']} [{r['rank_low']}, {r['rank_high']}]" for r in its.iter_rows(named=True)]
        assert shown[1:] == expected


def test_the_keyboard_reaches_everything_in_few_stops(tab):
    """Of three sides: nine cells are one stop, in which arrows go to the sides and up and down."""
    set_state(tab)
    assert len(stops(tab)) < 25
    cells = tab.locator("#matrix button")
    cells.nth(1).focus()
    for key, place in (("ArrowDown", 4), ("ArrowRight", 5), ("ArrowUp", 2), ("Home", 0), ("End", 8)):
        tab.keyboard.press(key)
        assert cells.nth(place).evaluate("cell => cell === document.activeElement"), key


def test_keys_do_what_the_mouse_does(tab):
    set_state(tab)
    tab.locator("#strength").focus()
    tab.keyboard.press("ArrowRight")
    assert plain(tab.locator("#strength-shown").inner_text()) == "1 \u00d7"
    cell = tab.locator("#matrix tbody tr").nth(1).locator("button").nth(2)
    cell.focus()
    tab.keyboard.press("Enter")
    assert cell.get_attribute("aria-pressed") == "true"
    tab.mouse.move(0, 0)
    tab.locator("#plot-difference [data-tip]").first.hover()
    assert "difference" in tab.locator("#tip").inner_text()


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_every_screen_and_reader(browser, made, width):
    options = {"viewport": {"width": width, "height": 800}, "bypass_csp": True}
    with opened(browser, made.path / "comparison.html", **options) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            assert violations(tab) == []


def test_without_ranks_there_is_no_empty_chart(browser, tmp_path):
    runs = (random_run(tmp_path / "a", n_seeds=3), random_run(tmp_path / "b", n_seeds=3, attack="pgd"))
    made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
    with opened(browser, made.path / "comparison.html") as tab:
        assert tab.locator("#plot-ranks").count() == 0
        assert "No layer has a rank: it takes 6 images with maps in a side." in plain(tab.locator("main").inner_text())
        assert tab.locator("#plot-profiles svg").count() == 1


def test_hostile_names_stay_text_and_other_networks_have_no_ranks(browser, tmp_path):
    runs = (
        random_run(tmp_path / "a", model=HOSTILE),
        random_run(tmp_path / "b", n_layers=3, layer_names="<b>{}</b>", model="other"),
    )
    made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
    with opened(browser, made.path / "comparison.html") as tab:
        assert tab.locator("#plot-ranks").count() == 0
        assert tab.locator("#depth-note").is_visible()
        assert "<b>0</b>" in tab.locator("#pair-table").inner_text()
