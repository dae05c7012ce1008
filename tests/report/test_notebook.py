"""A study in a notebook: the words of the report's first screen in small, and the whole page in a frame."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from camdrift.figures.scope import scope_of
from camdrift.report import story
from camdrift.report.notebook import framed, notebook_html
from camdrift.report.page.rendering import render
from support import synthetic
from support.pages import HOSTILE, plain


class Page(HTMLParser):
    """Text, rows of tables and pictures of a page."""

    def __init__(self, html):
        super().__init__()
        self.text, self.rows, self.pictures = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_data(self, data):
        self.text += data
        if self.lasttag == "td" and data.strip():
            self.rows[-1][-1] += plain(data)


@pytest.fixture(scope="module")
def made():
    return synthetic.study()


def html_of(made):
    return notebook_html(made.tables, made.record, made.gallery)


def test_it_has_the_words_of_the_first_screen(made):
    page, scope = Page(html_of(made)), scope_of(made.tables, made.record)
    text = plain(page.text)
    assurance = story.assurance(made.tables, scope)
    words = (
        f"{story.study_headline(made.tables, made.record, scope)}.",
        story.contrast(made.tables, scope),
        f"{assurance.word}: {assurance.reason}.",
        f"Where {assurance.layer} looks:",
    )
    assert [plain(part) for part in words if plain(part) not in text] == []


def test_its_table_says_bounds_as_bounds(made):
    scope = scope_of(made.tables, made.record)
    at = (pl.col("target") == scope.headline.target) & (pl.col("strength") == scope.headline.strength)
    bound = at & (pl.col("layer") == scope.headline.layer)
    layers = made.tables["layers"].with_columns(
        gain=pl.when(bound).then(128.0).otherwise("gain"),
        gain_high=pl.when(bound).then(128.0).otherwise("gain_high"),
        **{
            name: pl.when(bound).then(pl.lit("above")).otherwise(name)
            for name in ("gain_censored", "gain_high_censored")
        },
    )
    rows = [row for row in Page(html_of(replace(made, tables=made.tables | {"layers": layers}))).rows if row]
    ranks = layers.filter(at).sort("rank").head(5)
    assert [row[0] for row in rows] == ranks["layer_label"].to_list()
    assert rows[0][1] == "> 128"
    assert rows[0][2].endswith(", > 128]")
    assert rows[0][3].startswith("1 [")


def test_names_are_escaped(made):
    record = {**made.record, "model": {**made.record["model"], "spec": HOSTILE, "labels": [HOSTILE] * 7}}
    preflight = {"warnings": [HOSTILE]}
    html = html_of(replace(made, record={**record, "preflight": preflight}))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 5


def test_the_worst_photos_take_less_than_300_kb(made):
    rng = np.random.default_rng(0)
    shapes = {"clean": np.uint8, "perturbation": np.int8, "noise": np.int8}
    noisy = {
        key: rng.integers(0, 256, (168, 168, 3)).astype(shapes[key.partition("/")[2]])
        if key.partition("/")[2] in shapes
        else value
        for key, value in made.gallery.items()
    }
    size = len(html_of(replace(made, gallery=noisy)))
    assert 100_000 < size < 300_000


@pytest.mark.parametrize(
    ("options", "images", "rows"),
    [
        ({"analysed": 0, "gallery_seeds": 0}, 0, 0),
        ({"analysed": 1, "resistant": 0, "unreadable": 0, "gallery_seeds": 1}, 6, 0),
        ({"analysed": 3, "gallery_seeds": 2}, 6, 0),  # too few to rank layers
        ({"gallery_seeds": 0}, 0, 5),
    ],
)
def test_what_a_study_lacks_is_left_out(options, images, rows):
    made = synthetic.study(("first", "second", "third", "fourth", "fifth", "sixth"), **options)
    page = Page(html_of(made))
    assert (len(page.pictures), len([row for row in page.rows if row])) == (images, rows)
    assert story.study_headline(made.tables, made.record, scope_of(made.tables, made.record)) in page.text


def test_the_page_works_in_a_frame(made, browser):
    """Its links stay within it, its views follow, nothing of the notebook around is in its reach.

    And its first screen says of its photos what the small one says.
    """
    small = Page(html_of(made))
    assert [picture["alt"].partition(" ")[0] for picture in small.pictures] == ["the"] * 3 + ["where"] * 3
    page = framed(render(made.tables, made.record, made.gallery), 700)
    context = browser.new_context()
    context.add_init_script("window.requestIdleCallback = () => {}")  # charts grow while the reader is on the way
    tab = context.new_page()
    troubles = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.set_content(f'<meta charset="utf-8"><p id="around">notebook</p>{page}')
    frame = tab.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for()
    names = [f"{part}-{kind}" for part in ("said", "map-said") for kind in ("clean", "adversarial", "noise")]
    words = [plain(frame.locator(f"#first-{name}").inner_text()) for name in names]
    assert [part for part in words if part not in plain(small.text)] == []
    inside = tab.frames[1]
    assert inside.evaluate("[innerHeight, origin]") == [700, "null"]
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(frame.locator("#layers")).not_to_be_in_viewport()
    frame.locator("nav.contents a[href='#layers']").click()
    expect(frame.locator("#layers")).to_be_in_viewport()
    frame.locator("#strip > *").nth(2).click()
    frame.locator("#first-layer", has_text=synthetic.VGG16[2]).wait_for()
    assert frame.locator("#copy-link").is_hidden()
    assert len(tab.frames) == 2
    context.close()
    assert troubles == []
