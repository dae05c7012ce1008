"""The page of a campaign: what the tables say and nothing else, on every screen, without a request."""

import re
from html import unescape

import numpy as np
import polars as pl
import pytest

import camdrift
from camdrift.fuzzing.names import OPERATOR_WORDS
from camdrift.fuzzing.operators import OPERATORS as ROWS
from camdrift.report.campaign import render_campaign
from camdrift.report.campaign_story import campaign_headline, campaign_sentences
from camdrift.report.mutations import chain_words, mutation_words
from camdrift.specs import write_spec
from camdrift.statistics.examples import MOST_EXAMPLES, telling_rows
from camdrift.study.campaign import open_campaign
from camdrift.tables.campaign import CLUSTERS, FAILURES_TABLE
from support.campaign_tables import campaign
from support.pages import HOSTILE, opened, plain, violations
from support.studies import tiny_classifier, write_images


@pytest.fixture(scope="module")
def made():
    return campaign()


@pytest.fixture(scope="module")
def page(made):
    return render_campaign(made.tables, made.record, made.gallery)


def write(made, folder):
    path = folder / "report.html"
    path.write_text(render_campaign(made.tables, made.record, made.gallery), encoding="utf-8")
    return path


def text_of(page):
    return plain(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))


class TestWords:
    @pytest.mark.parametrize("name", OPERATOR_WORDS)
    def test_every_operator_has_words(self, name):
        middle = {key: (low + high) / 2 for key, (low, high) in ROWS[name].ranges.items()}
        spec = write_spec(name, middle)
        assert "(" not in mutation_words(spec) != spec

    def test_directions_are_those_of_the_operators(self):
        assert plain(mutation_words("translate(right=-0.04, down=0.03)")) == "moved 4 % left and 3 % down"
        assert mutation_words("rotate(degrees=4.0)") == "turned by 4.0° counter-clockwise"
        assert plain(mutation_words("scale(factor=0.78)")) == "shrunk to 78 %"
        assert mutation_words("brightness(shift=-10/255)") == "darker by 10/255"

    def test_what_has_no_words_stays_a_spec(self):
        assert chain_words(["swirl(turns=2)", "gradient(steps=3)"]) == "swirl(turns=2), then 3 gradient steps"


def rows_of(*facts):
    """Failures with seed, operator, wrong class, is_moved, L2."""
    names = ("seed_id", "operator", "wrong_class", "is_moved", "l2")
    return FAILURES_TABLE.frame(
        [{**dict(zip(names, row, strict=True)), "image": str(n)} for n, row in enumerate(facts)]
    )


def test_examples_are_the_closest_of_seeds_then_of_mutators():
    failures = rows_of(
        ("a", "scale", 1, True, 0.0),
        ("a", "noise", 1, False, 3.0),
        ("a", "noise", 2, False, 2.0),
        ("b", "rotate", 1, True, 0.0),
        ("a", "noise", 2, False, 1.0),
    )
    assert telling_rows(failures) == [4, 3, 0, 1]
    many = rows_of(*(("a", "noise", number, False, 1.0) for number in range(40)))
    assert telling_rows(many) == list(range(MOST_EXAMPLES))
    assert telling_rows(failures.with_columns(image=pl.lit(None, pl.String))) == []


def test_it_says_what_the_tables_say(made, page):
    said = text_of(page)
    assert (
        "Which framework finds most cannot be told: deephunter 4 pairs of seed and wrong class, random 2, on 4 seed "
        "images in 200 passes (median of 3 trials)." in said
    )
    assert "intervals over trials, too narrow for so few trials." in said
    assert "class 0 75 %" in said
    assert "class 10 50 %" in said
    assert "White noise of 5.1/255. Takes hold in conv2." in said
    assert "4 [2, 6]" in said
    assert "class 0 → class 10" in said
    assert "3 failures from 2 seeds, 60 % [20, 90] of all examined" in said
    assert "from conv2 on, layer 2 of 3" in said
    assert "noise 360 300 6 18 6 %" in said
    assert "seen as" not in said
    assert page.count('<article class="card failure">') == len(telling_rows(made.tables["failures"]))


def test_the_headline_ranks_only_what_the_test_tells_apart():
    made = campaign(trials=8)
    assert made.tables["pairs"].filter(count="seed_classes")["p_holm"].item() < 0.05
    words = campaign_headline(made.tables, made.record)
    assert words.startswith("deephunter finds most: ")
    assert words.endswith(" of seed and wrong class on 4 seed images in 200 passes (median of 8 trials)")
    alone = campaign(frameworks=("deephunter",), trials=1)
    words = campaign_headline(alone.tables, alone.record)
    assert words == "deephunter finds 2 pairs of seed and wrong class on 4 seed images in 200 passes"
    none = alone.tables["frameworks"].with_columns(median=0.0)
    words = campaign_headline({**alone.tables, "frameworks": none}, alone.record)
    assert words == "deephunter finds no failure on 4 seed images in 200 passes"


def test_one_moved_picture_is_told_of_in_the_singular(made):
    failures = made.tables["failures"].head(1).with_columns(is_moved=True)
    lines = campaign_sentences({**made.tables, "failures": failures}, made.record)
    assert (
        "1 of 1 failure has a moved picture (rotated, scaled, ...), which keeps its label by convention only" in lines
    )


def test_one_trial_makes_no_statement():
    single = campaign(trials=1)
    said = text_of(render_campaign(single.tables, single.record, single.gallery))
    assert "no statement about differences between frameworks" in said
    assert "A12" not in said
    assert "95 %" not in said


def test_it_does_without_failures_clusters_pictures_and_criterion(made):
    nothing = {**made.tables, "failures": FAILURES_TABLE.frame(), "clusters": CLUSTERS.frame()}
    said = text_of(render_campaign(nothing, {**made.record, "criterion": None}, {}))
    assert "No failure was found." in said
    assert "Where failures take hold" not in said
    assert "No pictures are stored" in text_of(render_campaign(made.tables, made.record, {}))


def test_it_asks_for_nothing_and_keeps_names_as_text(made, page):
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:image/|#)[\w/.:]+", page) == []
    assert "<script" not in page
    evil = campaign(seed_name=HOSTILE + "{}", label=HOSTILE + "{}")
    assert "<script" not in render_campaign(evil.tables, evil.record, evil.gallery)


def test_twenty_seeds_of_noise_stay_below_three_megabytes():
    large = campaign(seeds=40)
    rng = np.random.default_rng(0)
    shape = (224, 224, 3)
    for row in large.gallery["rows"]:
        large.gallery[f"{row}/steps"] = np.stack([rng.normal(128, 30, shape).clip(0, 255).astype(np.uint8)] * 2)
        large.gallery[f"{row}/difference"] = rng.normal(128, 60, shape).clip(0, 255).astype(np.uint8)
    assert len(render_campaign(large.tables, large.record, large.gallery)) < 3e6


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_it_fits_every_screen_and_reader(browser, made, tmp_path, width, height):
    options = {"viewport": {"width": width, "height": height}, "bypass_csp": True}
    with opened(browser, write(made, tmp_path), **options) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        first = tab.locator(".failure").first.bounding_box()
        assert first["y"] + first["height"] < height
        for summary in tab.locator("summary").all():
            summary.click()
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            assert violations(tab) == []


def test_a_campaign_writes_its_page_and_makes_it_again(tmp_path, monkeypatch):
    images, out = write_images(tmp_path / "images", 2), tmp_path / "out"
    run = camdrift.fuzz(tiny_classifier(), images, frameworks=["deephunter"], budget="30-passes", out=out)
    first = {name: (out / name).read_bytes() for name in ("report.html", "figures/fuzz_failures.png", "gallery.npz")}
    assert plain(run.headline()) in text_of(first["report.html"].decode())
    (out / "report.html").unlink()
    monkeypatch.setattr("camdrift.report.campaign.campaign_figures", lambda *_: {})  # drawn once already
    assert open_campaign(out).report() == out / "report.html"
    assert {name: (out / name).read_bytes() for name in first} == first
    with np.load(out / "gallery.npz") as gallery:
        row = int(gallery["rows"][0])
        failure = run.failures.row(row, named=True)
        image = np.load(out / failure["image"])
        assert np.array_equal(gallery[f"{row}/steps"][-1], (255 * np.moveaxis(image, 0, 2)).round().astype(np.uint8))
        assert len(gallery[f"{row}/steps"]) == len(gallery[f"{row}/entries"]) + 1
