"""The first screen: a photo, where the network looks, and one sentence; the address; what can be sent and saved."""

import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from camdrift.figures.scope import scope_of
from camdrift.report.story import caution, contrast, study_headline
from camdrift.report.telling import most_telling
from camdrift.tables.words import ADVERSARIAL, NOISE
from support import synthetic
from support.pages import attributes, descriptions, opened, pixels, plain, shown, written

pytestmark = pytest.mark.slow

LABELS = ("conv1", "conv2", "deep.0.conv", "deep.1.conv", "head")


@pytest.fixture(scope="module")
def study():
    made = synthetic.study(LABELS, strengths=(0.5, 1.0, 2.0), analysed=7, gallery_seeds=6)
    made.tables["seeds"] = made.tables["seeds"].with_columns(label="clean_class")
    return made


@pytest.fixture(scope="module")
def path(study, tmp_path_factory):
    return written(study, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def tab(browser, path):
    with opened(browser, path) as tab:
        yield tab


def below_the_fold(tab, height, names):
    """The elements that end below the first screen, or are not there."""
    boxes = {name: tab.locator(name).bounding_box() for name in names}
    return {name: box for name, box in boxes.items() if box is None or box["y"] + box["height"] > height}


def test_the_first_screen_holds_pictures_sentence_and_network(browser, study, path):
    conditions = ("clean", ADVERSARIAL, NOISE)
    wide = ["h1", ".assurance", "#strip", "#stages", *(f"#first-{c}" for c in conditions)]
    wide += [*(f"#first-map-{c}" for c in conditions), *(f"#first-said-{c}" for c in conditions)]
    narrow = [name for name in wide if NOISE not in name]
    for width, height, names in ((1280, 800, wide), (390, 844, narrow)):
        with opened(browser, path, viewport={"width": width, "height": height}) as tab:
            assert below_the_fold(tab, height, names) == {}
            strip, stages = (tab.locator(name).bounding_box() for name in ("#strip", "#stages"))
            assert (strip["x"], strip["width"]) == pytest.approx((stages["x"], stages["width"]), abs=1)
            assert tab.locator("h1").inner_text() == f"{headline(study)}."
            assert not tab.locator("#findings .findings").is_visible()
            tab.locator("#findings > summary").click()
            assert tab.locator("#findings .findings").is_visible()


def test_a_tap_on_the_number_says_what_it_compares(browser, study, path):
    scope = scope_of(study.tables, study.record)
    words = caution(study.tables, scope)
    assert words.startswith("\u201c")
    assert plain(study_headline(study.tables, study.record, scope)).count(words[1 : words.index("\u201d")]) == 1
    with opened(browser, path, viewport={"width": 390, "height": 844}) as tab:
        assert not tab.locator(".reading").is_visible()
        tab.locator("h1 .term").click()
        box = tab.locator("#term-times")
        assert words in plain(box.inner_text())
        assert contrast(study.tables, scope) in plain(box.inner_text())
        place = box.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 390
        tab.keyboard.press("Escape")
        assert not box.is_visible()


def headline(study):
    return study_headline(study.tables, study.record, scope_of(study.tables, study.record))


def test_the_photo_is_the_one_that_shows_the_headline_best(tab, study):
    scope = scope_of(study.tables, study.record)
    ids = [str(i) for i in study.gallery["seed_ids"]]
    chosen = ids[most_telling(study.tables, scope, ids)]
    at = {"strength": scope.reference, "target": "seed", "layer": scope.headline.layer, "draw": 0}
    rows = study.tables["similarity"].filter(**at).pivot("condition", index="seed_id", values="similarity")
    noisy = study.tables["variants"].filter(pl.col("is_flipped"), condition=NOISE, strength=scope.reference)["seed_id"]
    worth = rows.filter(pl.col("seed_id").is_in(ids), ~pl.col("seed_id").is_in(noisy.to_list()))
    assert chosen == worth.sort(pl.col(NOISE) - pl.col(ADVERSARIAL))["seed_id"][-1]
    assert tab.locator("#seed-id").text_content() == chosen
    seed = study.tables["seeds"].row(by_predicate=pl.col("seed_id") == chosen, named=True)
    assert tab.locator("#first-said-clean").inner_text().startswith(synthetic.CLASSES[seed["clean_class"]])
    assert tab.locator("#first-said-adversarial").inner_text().startswith(synthetic.CLASSES[seed["adversarial_class"]])
    values = {c: 1 - rows.filter(seed_id=chosen)[c][0] for c in (ADVERSARIAL, NOISE)}
    for condition, value in values.items():
        words = plain(tab.locator(f"#first-map-said-{condition}").inner_text())
        assert float(words.removeprefix("map moved by ").removesuffix(" %")) == pytest.approx(100 * value, abs=0.51)


def test_a_picture_below_the_whole_strength_says_so(browser, path):
    with opened(browser, path) as tab:
        shares = []
        for place in range(3):
            tab.locator("#strength").fill(str(place))
            shares.append([plain(tab.locator(f"#first-at-{c}").text_content()).strip() for c in (ADVERSARIAL, NOISE)])
        assert shares == [["0.5 \u00d7"] * 2, ["", ""], ["2 \u00d7"] * 2]


def test_heat_shows_as_much_as_it_is_large(tab):
    """Where a map is cold the photo stays as it is."""
    tab.wait_for_selector("#first[data-drawn]")
    clean, over = (pixels(tab, name).astype(np.int64) for name in ("first-clean", "first-map-clean"))
    moved = np.abs(clean - over).sum(axis=2)
    tab.locator("#over-image").uncheck()
    tab.wait_for_timeout(100)
    heat = pixels(tab, "map-clean").sum(axis=2)
    tab.locator("#over-image").check()
    assert moved[heat <= np.quantile(heat, 0.2)].mean() < 12 < moved[heat >= np.quantile(heat, 0.95)].mean() / 4


def test_the_address_holds_the_view_and_brings_it_back(browser, tab, path):
    tab.locator("#cell-1").click()
    tab.locator("#strength").fill("2")
    tab.locator("label:has(input[name=condition][value=noise])").click()
    tab.locator("#seed-3").click()
    address = tab.evaluate("() => location.hash")
    assert address.startswith("#layer=conv2&image=photos%2F")
    assert "&strength=2&target=seed&condition=noise&measure=gain" in address
    assert "Shown below: conv2, strength 2, class seed." in tab.locator("#shown-words").inner_text()
    where = {name: tab.locator(f"#{name}").text_content() for name in ("layer-name", "seed-id", "strength-shown")}
    context = browser.new_context()
    other = context.new_page()
    other.goto(path.as_uri() + address)
    other.wait_for_selector("html[data-ready]")
    assert {name: other.locator(f"#{name}").text_content() for name in where} == where
    other.evaluate("() => { location.hash = '#layer=head&strength=0.5&image=nobody'; }")
    other.wait_for_function("() => document.getElementById('layer-name').textContent === 'head'")
    assert plain(other.locator("#strength-shown").text_content()) == "0.5 \u00d7"
    # An address of another study, or of a section, changes nothing.
    other.evaluate("() => { location.hash = '#layer=elsewhere&strength=77&target=x'; location.hash = '#terms'; }")
    assert other.locator("#layer-name").text_content() == "head"
    context.close()
    tab.locator("#back").click()
    assert not tab.locator("#shown-words").is_visible()


def test_a_view_is_copied_and_saved(tab):
    tab.locator("#copy-link").click()
    tab.wait_for_function("() => document.getElementById('action-said').textContent.startsWith('Cop')")
    with tab.expect_download() as waiting:
        tab.locator("#save-view").click()
    picture = Image.open(io.BytesIO(waiting.value.path().read_bytes()))
    assert picture.size == (1200, 1070)
    assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_words_explain_themselves_where_they_stand(tab):
    words = tab.locator("#layer-facts .term")
    names = set(attributes(words, "data-term"))
    assert {"gain", "rank", "floor", "ceiling", "auc", "undefined"} <= names
    for word in words.all()[:3]:
        word.click()
        box = tab.locator(f"#term-{word.get_attribute('data-term')}")
        assert box.is_visible()
        place, at = box.bounding_box(), word.bounding_box()
        assert abs(place["x"] - at["x"]) < 400
        assert min(abs(place["y"] - at["y"] - at["height"]), abs(place["y"] + place["height"] - at["y"])) < 12
        tab.keyboard.press("Escape")
        assert not box.is_visible()
    tab.locator("summary", has_text="How to read this").click()
    assert "how many times stronger noise must be" in tab.locator(".folds").inner_text()


def test_images_are_filtered_by_success_confidence_and_class(tab, study):
    rows = {row["seed_id"]: row for row in study.tables["seeds"].to_dicts()}
    ids = [str(i) for i in study.gallery["seed_ids"]]

    def listed(words):
        tab.locator("#filter").select_option(label=words)
        return set(attributes(tab.locator(".seed"), "title"))

    # The attack of the made study fools at 1 and above.
    tab.locator("#strength").fill("0")
    assert listed("fooled at this strength") == set()
    assert listed("not fooled at this strength") == set(ids)
    tab.locator("#strength").fill("1")
    assert listed("fooled at this strength") == set(ids)
    assert listed("sure when clean (90 % or more)") == {i for i in ids if rows[i]["clean_probability"] >= 0.9}
    first = rows[ids[0]]["clean_class"]
    assert listed(synthetic.CLASSES[first]) == {i for i in ids if rows[i]["clean_class"] == first}
    assert listed("all images") == set(ids)
    assert plain(tab.locator("#seed-count").inner_text()) == "6 of 6 images"


def test_flips_are_drawn_as_the_table_counts_them(tab, study):
    marks = descriptions(tab, "flips", ".mark-symbol path")
    for row in study.tables["flips"].filter(pl.col("condition") != "clean", draw=0).to_dicts():
        name = "noise" if row["condition"] == NOISE else "attack"
        said = f"{name}, strength {row['strength']:g} {row['flipped']} of {row['n']} predictions changed"
        assert any(mark.startswith(said) for mark in marks), said
    assert "of 7 under the attack" in tab.locator("#chart-flips .shown").inner_text()
    assert "over all readable images the attack changes 7 of 11" in tab.locator("#flips-words").inner_text().lower()


def test_one_image_has_no_statistics(browser, tmp_path):
    made = synthetic.study(LABELS, strengths=(0.5, 1.0), analysed=1, resistant=0, unreadable=0, gallery_seeds=1)
    with opened(browser, written(made, tmp_path), viewport={"width": 1280, "height": 800}) as tab:
        assert below_the_fold(tab, 800, ["h1", "#first-noise", "#first-map-noise", "#strip"]) == {}
        text = tab.locator("body").inner_text()
        for statistic in ("AUC", "Compromised", "Sort by", "found, 1 readable", "95 % interval", "Rank by gain"):
            assert statistic not in text, statistic
        assert (
            "DLFuzz makes the network see \u201ctabby cat\u201d in place of \u201ctench\u201d; the map of the last "
            in text
        )
        shown(tab, "strengths")
        assert tab.locator("#chart-gain").count() == 0


def test_two_hundred_layers_can_be_told_apart(browser, tmp_path):
    labels = tuple(f"layer{stage}.{block}.conv{i}" for stage in range(1, 5) for block in range(25) for i in (1, 2))
    made = synthetic.study(labels, strengths=(1.0,), targets=("seed",), analysed=6, gallery_seeds=1)
    with opened(browser, written(made, tmp_path), viewport={"width": 1280, "height": 800}) as tab:
        assert tab.locator("#strip .cell").count() == 200
        stages = tab.locator("#stages span").all()
        assert [stage.inner_text() for stage in stages] == ["layer1", "layer2", "layer3", "layer4"]
        first = tab.locator("#cell-50").bounding_box()["x"]
        assert stages[1].bounding_box()["x"] == pytest.approx(first, abs=2)
        axis = shown(tab, "gain").locator(".role-axis-label text").all_text_contents()
        assert {"layer1", "layer2", "layer3", "layer4"} <= set(axis)
        assert json.dumps(axis).count("layer") == 4
