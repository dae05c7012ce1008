"""The report in a browser: every control shows what the tables say, by mouse and by keys, on every screen."""

import re

import numpy as np
import polars as pl
import pytest
from PIL import Image

from camdrift.figures.focus import MEASURES
from camdrift.report import numbers
from camdrift.tables.study import FOCUS_MEASURES, LAYERS
from camdrift.tables.words import ADVERSARIAL, NOISE
from support import synthetic
from support.pages import HOSTILE, attributes, descriptions, opened, pixels, plain, shown, stops, violations, written

pytestmark = pytest.mark.slow

LABELS = ("conv1", "conv2", "deep.0.conv", "deep.1.conv", "head")
STRENGTHS = (0.5, 1.0, 2.0)
# By the index of a layer, and how the table of layers prints them.
P_VALUES = {0: 0.0004, 1: 0.0123}
CHARTS = ("gain", "flips", "spread", "strengths", "compromised", "counts", "coverage", "beyond")
P_WORDS = ("< 0.001", "0.012", "1", "1", "1")


@pytest.fixture(scope="module")
def study():
    made = synthetic.study(LABELS, strengths=STRENGTHS, analysed=7, gallery_seeds=6)
    p = pl.col("layer_index").replace_strict(P_VALUES, default=1.0)
    made.tables["layers"] = made.tables["layers"].with_columns(wilcoxon_p_holm=p)
    return made


@pytest.fixture(scope="module")
def path(study, tmp_path_factory):
    return written(study, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def tab(browser, path):
    with opened(browser, path) as tab:
        yield tab


def row_of(study, layer, *, target="seed", strength=1.0):
    found = study.tables["layers"].filter(layer_label=LABELS[layer], target=target, strength=strength)
    return found.row(0, named=True)


def gain_text(row):
    return plain(f"{numbers.times(row['gain'], row['gain_censored'])} {numbers.times_between(row)}")


def set_state(tab, *, strength=1.0, condition="adversarial", target="seed", measure="gain", layer=0):
    """Bring the page to a state through its own controls."""
    tab.locator("#strength").fill(str(STRENGTHS.index(strength)))
    tab.locator(f"label:has(input[name=condition][value={condition}])").click()
    tab.locator(f".segments label:has-text('{target}')").click()
    tab.locator("#measure").select_option(measure)
    tab.locator(f"#cell-{layer}").click()


def cells(tab):
    return [plain(words) for words in attributes(tab.locator("#strip .cell"), "aria-label")]


@pytest.mark.parametrize("target", ["seed", "own"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_strip_says_each_layers_gain(tab, study, strength, target):
    set_state(tab, strength=strength, target=target)
    rows = [row_of(study, layer, target=target, strength=strength) for layer in range(len(LABELS))]
    expected = [f"{name}: noise-equivalent gain {gain_text(row)}" for name, row in zip(LABELS, rows, strict=True)]
    assert cells(tab) == expected
    bounds = {None: "", "above": "\u25b2", "below": "\u25bc"}
    assert tab.locator("#strip .cell").all_inner_texts() == [bounds[row["gain_censored"]] for row in rows]


def test_the_strip_says_deviation_of_the_condition_and_excess(tab, study):
    rows = [row_of(study, layer) for layer in range(len(LABELS))]
    for condition, words in ((ADVERSARIAL, "the attack"), (NOISE, "noise")):
        set_state(tab, condition=condition, measure="deviation")
        for said, row in zip(cells(tab), rows, strict=True):
            deviation = 1 - row[f"{condition}_mean"]
            assert said == f"{row['layer_label']}: mean deviation under {words} {numbers.fraction(deviation)}"
    set_state(tab, measure="excess")
    assert cells(tab)[0].startswith(
        f"conv1: excess deviation, attack over noise {numbers.fraction(rows[0]['difference_mean'])} ["
    )


def test_colours_keep_their_meaning_while_the_strength_changes(tab, study):
    head = study.tables["layers"].filter(pl.col("gain_censored").is_null(), target="seed", layer_label="head")
    gains = head.sort("strength")["gain"]
    shades = []
    for strength in STRENGTHS[: len(gains)]:
        set_state(tab, strength=strength)
        colour = tab.locator("#cell-4").evaluate("cell => getComputedStyle(cell).backgroundColor")
        shades.append(sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")))
    # viridis grows lighter with the gain
    assert np.argsort(shades).tolist() == np.argsort(gains.to_numpy()).tolist()


def test_the_chosen_layer_is_described(tab, study):
    set_state(tab, layer=3, strength=0.5)
    row = row_of(study, 3, strength=0.5)
    assert tab.locator("#layer-name").inner_text() == "deep.1.conv"
    facts = plain(tab.locator("#layer-facts").inner_text())
    assert f"Gain {gain_text(row)}" in facts
    assert f"Mean similarity, attack {numbers.fraction(row['adversarial_mean'])}" in facts
    assert f"Threshold {numbers.fraction(row['threshold'])} Floor {numbers.fraction(row['floor'])}" in facts
    assert f"Rank by gain {row['rank']} [{row['rank_low']}, {row['rank_high']}]" in facts


def test_the_gain_figure_shows_the_tables_gains(tab, study):
    for strength in (1.0, 2.0):
        set_state(tab, strength=strength)
        rows = [row_of(study, layer, strength=strength) for layer in range(len(LABELS))]
        expected = [f"{r['layer_label']} gain {gain_text(r)} rank {r['rank']}, n = {r['n_pairs']}" for r in rows]
        assert descriptions(tab, "gain", ".mark-symbol path") == expected


def test_the_dose_figure_reads_the_gain_off_the_curves(tab, study):
    set_state(tab, layer=1, strength=0.5)
    figure = shown(tab, "dose")
    assert (
        plain(figure.locator(".mark-text.role-mark text").text_content())
        == f"\u00d7 {numbers.times(row_of(study, 1, strength=0.5)['gain'])}"
    )
    similarity = study.tables["similarity"].filter(layer_label=LABELS[1], target="seed", condition=ADVERSARIAL)
    median = 1 - similarity.filter(strength=0.5)["similarity"].median()
    attack = descriptions(tab, "dose", ".layer_5_marks path")
    assert [said.split(",")[0] for said in attack] == ["attack"] * len(STRENGTHS)
    first = attack[0].split("deviation ")[1]
    assert float(first) == pytest.approx(median, rel=1e-4)


def test_distributions_follow_condition_and_strength(tab, study):
    for condition, strength in ((ADVERSARIAL, 1.0), (NOISE, 2.0)):
        set_state(tab, condition=condition, strength=strength)
        said = descriptions(tab, "spread", ".layer_2_marks path")
        table = study.tables["similarity"].filter(target="seed", condition=condition, strength=strength)
        for name, text in zip(LABELS, said, strict=True):
            values = table.filter(layer_label=name)["similarity"].drop_nulls()
            q = [numbers.fraction(values.quantile(share, "linear")) for share in (0.5, 0.25, 0.75)]
            assert text == f"{name} median {q[0]}, middle half {q[1]} to {q[2]}, n = {len(values)}"


def test_compromised_layers_and_counts_are_the_tables(tab, study):
    set_state(tab, strength=2.0)
    rows = [row_of(study, layer, strength=2.0) for layer in range(len(LABELS))]
    expected = [
        f"{r['layer_label']} compromised {plain(numbers.percent(r['compromised_fraction']))} of {r['n']}" for r in rows
    ]
    assert descriptions(tab, "compromised", ".mark-symbol path") == expected
    counts = study.tables["counts"].filter(target="seed", strength=2.0, n_compromised=len(LABELS))["n_seeds"].item()
    bars = tab.locator("#chart-counts .mark-rect path")
    shown(tab, "counts")
    assert bars.count() == len(LABELS) + 1
    assert f"{counts} compromise 5 of 5 layers" in " ".join(attributes(bars, "aria-label"))


def focus_rows(study, measure, *, target="seed", strength=1.0):
    """What the marks of the focus say, from the table itself: noise, then the attack over it."""
    table = study.tables["focus"].filter(target=target, strength=strength)
    said = []
    for condition, name in ((NOISE, "noise"), (ADVERSARIAL, "attack")):
        for layer in LABELS:
            values = table.filter(condition=condition, layer_label=layer)[measure].drop_nulls()
            q = [f"{values.quantile(share, 'linear'):.3f}" for share in (0.5, 0.25, 0.75)]
            said.append((f"{layer} {name}", [float(v) for v in q], len(values)))
    return said


def focus_marks(tab):
    """The same, as the page says it."""
    pattern = re.compile(r"(.*): median (.*), middle half (.*) to (.*), n = (\d+)")
    found = [pattern.fullmatch(text).groups() for text in descriptions(tab, "focus", ".mark-symbol path")]
    return [(name, [float(v.replace("\u2212", "-")) for v in q], int(n)) for name, *q, n in found]


def assert_same_focus(found, expected):
    assert [(name, n) for name, _, n in found] == [(name, n) for name, _, n in expected]
    np.testing.assert_allclose([q for _, q, _ in found], [q for _, q, _ in expected], atol=1.01e-3)


@pytest.mark.parametrize("place", range(len(FOCUS_MEASURES)))
def test_the_selector_changes_which_measure_of_the_focus_is_drawn(tab, study, place):
    set_state(tab, strength=1.0)
    tab.locator("#focus-measure").select_option(str(place))
    assert_same_focus(focus_marks(tab), focus_rows(study, FOCUS_MEASURES[place]))
    assert MEASURES[place].meaning in tab.locator("#focus-words").inner_text()
    assert f"{MEASURES[place].name}, strength 1, target seed" in tab.locator("#chart-focus .shown").inner_text()
    # The marks lie where the values say: higher values higher up.
    boxes = [mark.bounding_box() for mark in tab.locator("#chart-focus .mark-symbol path").all()]
    heights = np.array([box["y"] + box["height"] / 2 for box in boxes])
    medians = np.array([q[0] for _, q, _ in focus_rows(study, FOCUS_MEASURES[place])])
    assert np.corrcoef(medians, -heights)[0, 1] > 0.98


def test_the_focus_follows_strength_and_target_and_a_click_chooses_the_layer(tab, study):
    tab.locator("#focus-measure").select_option("0")
    for strength, target in ((0.5, "own"), (2.0, "seed")):
        set_state(tab, strength=strength, target=target)
        assert_same_focus(focus_marks(tab), focus_rows(study, "centroid_shift", strength=strength, target=target))
    tab.locator("#chart-focus .mark-symbol path").nth(2).click(force=True)
    assert tab.locator("#layer-name").inner_text() == LABELS[2]


def test_a_layer_that_most_images_lack_is_drawn_open_and_one_that_all_lack_is_a_gap(browser, study, tmp_path):
    few = pl.col("seed_id") == study.tables["seeds"]["seed_id"][0]
    lost = (pl.col("layer_index") == 1) | ((pl.col("layer_index") == 3) & ~few)
    emptied = [pl.when(~lost).then(pl.col(name)).alias(name) for name in FOCUS_MEASURES]
    tables = {**study.tables, "focus": study.tables["focus"].with_columns(emptied)}
    with opened(browser, written(synthetic.Study(tables, study.record, {}), tmp_path)) as tab:
        assert [name for name, _, _ in focus_marks(tab)] == [
            f"{layer} {name}" for name in ("noise", "attack") for layer in (LABELS[0], *LABELS[2:])
        ]
        fills = attributes(tab.locator("#chart-focus .mark-symbol path"), "fill")
        assert [fill == "var(--paper)" for fill in fills] == [False, False, True, False] * 2


def test_coverage_follows_the_strength(tab, study):
    shown(tab, "coverage")
    set_state(tab, strength=2.0)
    assert "strength 2" in tab.locator("#chart-coverage .shown").inner_text()
    data = tab.evaluate("() => JSON.parse(document.getElementById('study').textContent).coverage")
    last = study.tables["coverage"].filter(pl.col("step") == pl.col("step").max())
    for condition in (ADVERSARIAL, NOISE):
        for strength, curve in zip(STRENGTHS, data[condition], strict=True):
            assert curve[-1] == last.filter(condition=condition, strength=strength)["covered"].item()
    assert data["clean"][-1] == last.filter(condition="clean")["covered"].item()


def test_a_click_in_a_figure_chooses_the_layer(tab):
    set_state(tab, layer=0)
    shown(tab, "gain")
    point = tab.locator("#chart-gain .mark-symbol path").nth(3)
    point.hover(force=True)
    tip = tab.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert plain(tip.inner_text()) == plain(point.get_attribute("aria-label"))
    point.click(force=True)
    assert tab.locator("#layer-name").inner_text() == "deep.1.conv"
    assert tab.locator("#cell-3").get_attribute("aria-selected") == "true"


def drawn(tab, seed, strength, target, layer):
    tab.wait_for_selector(f"#stage[data-drawn='{seed} {strength} {target} {layer}']")


def test_the_images_are_rebuilt_at_every_strength(tab, study):
    gallery = study.gallery
    tab.locator("#seed-2").click()
    for number, strength in enumerate(STRENGTHS):
        set_state(tab, strength=strength)
        drawn(tab, 2, number, 0, 0)
        clean = gallery["2/clean"] / 255
        for slot, name in enumerate(("perturbation", "noise")):
            delta = gallery[f"2/{name}"] / 127 * gallery["2/peaks"][slot]
            expected = 255 * np.clip(clean + strength * delta, 0, 1)
            found = pixels(tab, f"image-{('adversarial', 'noise')[slot]}")
            assert np.abs(found - expected).mean() < 4  # lossy pictures
        assert np.abs(pixels(tab, "image-clean") - 255 * clean).mean() < 3


def test_the_heatmaps_are_those_of_layer_target_and_strength(tab, study):
    gallery = study.gallery
    tab.locator("#seed-1").click()
    tab.locator("#over-image").uncheck()
    for layer, target, strength in ((0, "seed", 0.5), (4, "own", 2.0), (2, "seed", 1.0)):
        set_state(tab, layer=layer, target=target, strength=strength)
        number = STRENGTHS.index(strength)
        drawn(tab, 1, number, ["seed", "own"].index(target), layer)
        stored = gallery[f"1/map/{layer}"][list(gallery["targets"]).index(target)]
        slots = {"clean": 0, "adversarial": 1 + number, "noise": 1 + len(STRENGTHS) + number}
        for condition, slot in slots.items():
            picture = Image.fromarray(stored[slot]).resize((224, 224), Image.Resampling.BILINEAR)
            found = pixels(tab, f"map-{condition}").sum(axis=2)
            assert np.corrcoef(np.asarray(picture).ravel(), found.ravel())[0, 1] > 0.9


def test_similarities_and_compromised_layers_of_an_image(tab, study):
    ids = [str(i) for i in study.gallery["seed_ids"]]
    tab.locator("#seed-3").click()
    set_state(tab, strength=1.0, layer=1)
    keys = {"seed_id": ids[3], "target": "seed", "strength": 1.0, "draw": 0}
    table = study.tables["similarity"].filter(**keys).sort("layer_index")
    tiles = tab.locator(".tile").all()
    for layer, tile in enumerate(tiles):
        tau = row_of(study, layer)["threshold"]
        for condition in (ADVERSARIAL, NOISE):
            value = table.filter(condition=condition)["similarity"][layer]
            sign = "\u25c6" if value < tau else "\u25cb"
            said = f"{condition} similarity {sign} {numbers.fraction(value, 2)}"
            said += ", compromised" if value < tau else ""
            assert plain(tile.locator(f".{condition}").text_content()) == plain(said)
        value = table.filter(condition=ADVERSARIAL)["similarity"][layer]
        assert ("compromised" in tile.get_attribute("class")) == (value < tau)
    tiles[4].click()
    assert tab.locator("#layer-name").inner_text() == "head"


def test_what_the_model_says_of_each_image(tab, study):
    ids = [str(i) for i in study.gallery["seed_ids"]]
    tab.locator("#seed-0").click()
    for number, strength in enumerate(STRENGTHS):
        set_state(tab, strength=strength)
        drawn(tab, 0, number, 0, 0)
        varied = study.tables["variants"].filter(seed_id=ids[0], strength=strength, draw=0)
        for condition in (ADVERSARIAL, NOISE):
            row = varied.filter(condition=condition).row(0, named=True)
            flipped = ", flipped" if row["is_flipped"] else ""
            expected = f"{synthetic.CLASSES[row['predicted_class']]} {numbers.fraction(row['probability'], 2)}{flipped}"
            assert plain(tab.locator(f"#said-{condition}").inner_text()) == expected


def listed(tab):
    return [int(name.removeprefix("seed-")) for name in attributes(tab.locator(".seed"), "id")]


def test_images_are_sorted_by_what_the_tables_say(tab, study):
    ids = [str(i) for i in study.gallery["seed_ids"]]
    set_state(tab, strength=2.0, layer=2)
    attacked = study.tables["similarity"].filter(target="seed", condition=ADVERSARIAL, strength=2.0)
    at = attacked.filter(layer_label=LABELS[2])
    similar = [at.filter(seed_id=i)["similarity"].item() for i in ids]
    tab.locator("#order").select_option("deviation")
    assert listed(tab) == sorted(range(len(ids)), key=lambda i: similar[i])
    joined = attacked.join(
        study.tables["layers"].select("target", "strength", "layer", "threshold"), on=["target", "strength", "layer"]
    )
    hits = [joined.filter(seed_id=i).select((pl.col("similarity") < pl.col("threshold")).sum()).item() for i in ids]
    tab.locator("#order").select_option("compromised")
    assert listed(tab) == sorted(range(len(ids)), key=lambda i: -hits[i])
    assert plain(tab.locator(".seed-note").first.inner_text()) == f"{max(hits)} of 5 layers"
    tab.locator("#order").select_option("stored")
    assert listed(tab) == list(range(len(ids)))


def test_the_explorer_by_keyboard(tab):
    set_state(tab, layer=2)
    tab.locator("#seed-0").click()
    tab.locator("#stage").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#layer-name").inner_text() == "deep.1.conv"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert tab.locator("#seed-2").get_attribute("aria-selected") == "true"
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowLeft")
    drawn(tab, 1, 1, 0, 2)
    tab.locator("#seeds").focus()
    tab.keyboard.press("End")
    assert tab.locator("#seed-5").get_attribute("aria-selected") == "true"
    tab.locator("#strip").focus()
    tab.keyboard.press("Home")
    assert tab.locator("#layer-name").inner_text() == "conv1"
    assert tab.locator("#strip").get_attribute("aria-activedescendant") == "cell-0"


def test_the_keyboard_reaches_everything_in_few_stops(tab):
    set_state(tab)
    places = stops(tab)
    assert len(places) < 25
    assert {"strength", "condition", "target", "measure", "strip", "filter", "order", "seeds", "stage"} <= set(places)
    assert {"over-image", "focus-measure", "table-filter", "Network", "Strength"} <= set(places)
    # Arrows go on inside a group: from a word to the buttons beside it, layers of the grid, words with their meanings.
    tab.locator(".controls [data-term=strength]").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("() => document.activeElement.id") == "copy-link"
    tab.locator("#table-rows button").last.focus()
    tab.keyboard.press("Home")
    assert tab.evaluate("() => document.activeElement.id") == "table-save"
    tab.locator(".tile[tabindex='0']").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.locator("#layer-name").inner_text() == LABELS[1]
    tab.locator("#layer-facts .term[tabindex='0']").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#term-gain").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#term-gain").is_visible()


def table_rows(tab):
    return [
        [plain(text) for text in row.locator("th, td").all_inner_texts()] for row in tab.locator("#table-rows tr").all()
    ]


def test_the_table_holds_sorts_and_filters_the_statistics(tab, study):
    set_state(tab, strength=0.5, target="own")
    rows = [row_of(study, layer, target="own", strength=0.5) for layer in range(len(LABELS))]
    found = table_rows(tab)
    assert [row[0] for row in found] == list(LABELS)
    for cells_, row in zip(found, rows, strict=True):
        assert cells_[1] == f"{row['rank']} [{row['rank_low']}, {row['rank_high']}]"
        assert cells_[2] == gain_text(row)
        assert cells_[3:6] == [
            numbers.fraction(row["adversarial_mean"]),
            numbers.fraction(row["noise_mean"]),
            numbers.fraction(row["floor"])[:4],
        ]
        assert cells_[10] == str(row["n"])
    tab.locator("#table-head button", has_text="Gain").click()
    assert tuple(row[7] for row in found) == P_WORDS
    by_gain = [r["layer_label"] for r in sorted(rows, key=lambda r: -r["gain"])]
    assert [row[0] for row in table_rows(tab)] == by_gain
    assert tab.locator("#table-head th").nth(2).get_attribute("aria-sort") == "descending"
    tab.locator("#table-head button", has_text="Gain").click()
    assert [row[0] for row in table_rows(tab)] == by_gain[::-1]
    tab.locator("#table-filter").fill("DEEP")
    assert {row[0] for row in table_rows(tab)} == {"deep.0.conv", "deep.1.conv"}
    assert "2 of 5 layers at strength 0.5, target own" in tab.locator("#table-count").inner_text()
    tab.locator("#table-filter").fill("")
    tab.locator("#table-head button", has_text="Layer").click()


def test_the_saved_table_is_the_whole_layers_table(tab, study):
    with tab.expect_download() as waiting:
        tab.locator("#table-save").click()
    saved = pl.read_csv(waiting.value.path(), schema=LAYERS.schema)
    keys = ["target", "strength", "layer_index"]
    left, right = saved.sort(keys), study.tables["layers"].sort(keys)
    assert left.columns == right.columns
    for name in left.columns:
        if left[name].dtype.is_float():
            np.testing.assert_allclose(left[name].to_numpy(), right[name].to_numpy(), rtol=1e-5)
        else:
            assert left[name].to_list() == right[name].to_list()


def test_names_stay_text(browser, tmp_path):
    made = synthetic.study((HOSTILE, "plain"), strengths=(1.0,), analysed=3, gallery_seeds=3)
    for name, column in (("seeds", "seed_id"), ("variants", "seed_id"), ("similarity", "seed_id")):
        table = made.tables[name]
        made.tables[name] = table.with_columns(pl.col(column).str.replace("photos/000.jpg", HOSTILE, literal=True))
    made.gallery["seed_ids"] = np.array(
        [HOSTILE if i == "photos/000.jpg" else i for i in made.gallery["seed_ids"].tolist()]
    )
    made.record["model"]["labels"] = [HOSTILE, *synthetic.CLASSES[1:]]
    with opened(browser, written(made, tmp_path)) as tab:
        tab.locator("#cell-0").click()
        assert tab.locator("#layer-name").text_content() == HOSTILE
        place = made.gallery["seed_ids"].tolist().index(HOSTILE)
        tab.locator(f"#seed-{place}").click()
        assert tab.locator("#seed-id").text_content() == HOSTILE
        shown(tab, "gain")
        assert "<script>alert('x')</scrip" in tab.locator("#chart-gain svg").text_content()
        tab.locator("#chart-gain .mark-symbol path").first.hover(force=True)
        tip = tab.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        assert HOSTILE in tip.text_content()
        assert tab.evaluate("() => document.querySelectorAll('script').length") == 4


def test_without_pictures_everything_else_works(browser, study, tmp_path):
    bare = synthetic.Study(study.tables, study.record, {})
    with opened(browser, written(bare, tmp_path)) as tab:
        assert "No pictures were stored" in tab.locator("section:has(#images)").inner_text()
        shown(tab, "spread")
        assert len(table_rows(tab)) == len(LABELS)


def assert_readable(tab, width, *schemes):
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    for chart in ("dose", "focus", *CHARTS):
        shown(tab, chart)
    for scheme in schemes:
        tab.emulate_media(color_scheme=scheme)
        paper = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
        assert violations(tab) == []


def test_readable_on_a_screen_and_by_every_reader(tab):
    assert_readable(tab, 1200, "dark", "light")


def test_readable_on_a_telephone_and_by_every_reader(browser, path):
    """Opened in the dark, as its charts then are drawn."""
    options = {"viewport": {"width": 360, "height": 800}, "color_scheme": "dark"}
    with opened(browser, path, **options) as tab:
        assert_readable(tab, 360, "dark")


def test_on_paper_the_pictures_are_on_page_one_and_the_controls_gone(browser, path):
    with opened(browser, path) as tab:
        tab.wait_for_function(
            "() => [...document.querySelectorAll('.chart')].every((chart) => chart.dataset.drawn === 'yes')"
        )
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": 690, "height": 1000})  # A4 within its margins
        assert not tab.locator(".controls").is_visible()
        assert not tab.locator("#table-save").is_visible()
        for place in ("first-adversarial", "first-map-noise", "strip"):
            box = tab.locator(f"#{place}").bounding_box()
            assert box["y"] + box["height"] < 1000, place
        assert tab.locator("#chart-gain svg").is_visible()
        assert "strength 1, target seed" in tab.locator("#chart-gain .shown").inner_text()
        assert tab.pdf().startswith(b"%PDF")
