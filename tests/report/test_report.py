"""The page says what the tables say, holds everything it needs, and trusts no name."""

import base64
import hashlib
import re
import time
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from matplotlib.backends import _backend_pdf_ps
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from camdrift.figures.scope import scope_of
from camdrift.figures.study import study_figures
from camdrift.report import encoding, findings, focus, numbers
from camdrift.report.page.rendering import render
from camdrift.report.study import report_files, summary
from camdrift.statistics.ranks import ranked
from camdrift.storage.replacement import write_files
from camdrift.tables.further import FLIPS
from camdrift.tables.study import LAYERS, TABLES
from camdrift.tables.words import ADVERSARIAL, NOISE
from support.pages import plain
from support.synthetic import VGG16, Study, study

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; base-uri 'none'; "
    "form-action 'none'"
)


class Page(HTMLParser):
    """Text and structure of a page, as a browser sees them: closing tags of cells may be missing."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = False
        self.unseen = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

        self.inside |= tag == "table"
        self.unseen |= tag in ("script", "style")

    def handle_endtag(self, tag):
        self.inside &= tag != "table"
        self.unseen &= tag not in ("script", "style")

    def handle_data(self, data):
        if self.unseen:
            return
        self.text += data
        if self.inside and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] = plain(self.tables[-1][-1][-1] + data)

    def cells(self, table: int, column: int) -> list[str]:
        """A column's cells without the heading."""
        return [row[column] for row in self.tables[table][1:]]


def page(made: Study) -> Page:
    return Page(render(made.tables, made.record, {}))


@pytest.fixture(scope="module")
def vgg() -> Study:
    return study()


@pytest.fixture(scope="module")
def small() -> Study:
    return study(VGG16[:3], strengths=(0.25, 1.0), targets=("seed",), analysed=3, gallery_seeds=1)


@pytest.fixture(scope="module")
def report(small) -> dict[str, bytes]:
    """The files of a small study's report by name."""
    return dict(report_files(small.tables, small.record, small.gallery))


def layers(*rows: dict) -> dict[str, pl.DataFrame]:
    """Tables of a study whose layers table holds these rows, all adversarial examples of which fool the network."""
    common = {"target": "seed", "strength": 0.25, "n": 14, "n_pairs": 14, "n_undefined": 0, "n_noise": 14}
    filled = [{"layer": f"{row['layer_label']}{i}", "layer_index": i, **common, **row} for i, row in enumerate(rows)]
    counts = {"n": 14, "flipped": 14, "share": 1.0, "low": 0.78, "high": 1.0}
    fooled = [{"condition": ADVERSARIAL, "draw": 0, "strength": strength, **counts} for strength in (0.25, 1.0)]
    tables = {name: table.frame() for name, table in TABLES.items()} | {"flips": FLIPS.frame(fooled)}
    return tables | {"layers": ranked(LAYERS.frame(filled))}


DEEP = {"layer_label": "block5_conv3", "gain": 31.4, "gain_low": 24.2, "gain_high": 39.6}
SHALLOW = {"layer_label": "block1_conv1", "gain": 8.26, "gain_low": 6.14, "gain_high": 11.4}


def sentence(*rows: dict) -> str:
    tables = layers(*rows)
    return plain(findings.gains(tables, scope_of(tables, {})))


def test_gain_sentence_names_both_ends_with_interval_and_n():
    assert sentence(SHALLOW, DEEP | {"rank_low": 1, "rank_high": 1}) == (
        "At strength 0.25 the attack moves the map of block5_conv3 as far as noise 31 [24, 40] times as strong; the "
        "map of block1_conv1 only 8.3 [6.1, 11] times (n = 14; block5_conv3 ranks 1 [1] of 2 layers)."
    )


def test_gain_sentence_gives_a_range_of_n_and_of_ranks():
    few = {"layer_label": "b", "gain": 9.0, "rank_low": 1, "rank_high": 3}
    said = sentence(SHALLOW | {"n_pairs": 12}, DEEP | {"rank_low": 1, "rank_high": 2}, few)
    assert said.endswith("(n = 12 to 14; block5_conv3 ranks 1 [1, 2] of 3 layers).")


def test_a_rank_that_may_be_any_is_told():
    said = sentence(SHALLOW, DEEP | {"rank_low": 1, "rank_high": 2})
    assert said.endswith("(n = 14; which of 2 layers comes first cannot be told: 1 [1, 2]).")


def test_gain_sentence_says_what_a_bound_is():
    ends = {"gain_low": 128.0, "gain_high": 128.0, "gain_low_censored": "above", "gain_high_censored": "above"}
    bound = {"gain": 128.0, "gain_censored": "above", **ends, "rank_low": 1, "rank_high": 1}
    tied = [{"layer_label": name, **bound} for name in ("block5_conv1", "block5_conv2", "block5_conv3")]
    assert sentence(SHALLOW, *tied) == (
        "At strength 0.25 the attack moves the maps of block5_conv1 and 2 other layers further than noise 128 times as "
        "strong, the strongest that was tried; the map of block1_conv1 only 8.3 [6.1, 11] times (n = 14; block5_conv1 "
        "ranks 1 [1, 3] of 4 layers)."
    )
    low = {"layer_label": "a", "gain": 0.25, "gain_censored": "below"}
    assert "; the map of a only < 0.25 times (n = 14" in sentence(DEEP, low)
    assert sentence(low).startswith(
        "At strength 0.25 the attack moves the map of a less far than noise 0.25 times as strong, the weakest that was "
        "tried"
    )


def test_layers_measured_on_few_images_are_not_named():
    rare = {"layer_label": "rare", "gain": 1.5, "n_pairs": 6}
    half = {"layer_label": "half", "gain": 2.0, "gain_low": None, "n_pairs": 7}
    said = sentence(DEEP, half, rare, rare | {"gain": 99.0})
    assert said.startswith(
        "At strength 0.25 the attack moves the map of block5_conv3 as far as noise 31 [24, 40] times as strong;"
    )
    assert said.endswith(
        "; the map of half only 2.0 times (n = 7 to 14; which of 2 layers comes first cannot be told: 1 [\u2013]; "
        "2 layers measured on too few images to be ranked)."
    )


def test_interval_of_a_gain_shows_which_end_is_a_bound():
    row = DEEP | {"gain_low_censored": None, "gain_high": 32.0, "gain_high_censored": "above"}
    assert "31 [24, > 32] times as strong" in sentence(SHALLOW, row)


def test_headline_is_in_plain_words_at_a_strength_that_fools(vgg):
    top = vgg.tables["layers"].filter(target="seed", strength=1.0).sort("gain")[-1]
    text = page(vgg).text
    assert "DLFuzz fools the network on 14 of 18 images; the map of the last block is moved as far as by noise " in text
    assert f"noise {top['gain'][0]:.0f} times as strong." in plain(text)
    assert "Clear: with other images it would nearly always be among the 2 moved most, of 13 layers." in plain(text)
    number = f"{top['gain'][0]:.0f}"
    caution = f"\u201c{number} times\u201d compares how far maps move, not how often the network is fooled."
    assert f"Random noise of the same size fools the network on 1 of these 14. {caution}" in text
    assert summary(vgg.tables, vgg.record)[0].endswith(f"noise {number} times as strong. {caution}")


def test_success_is_a_share_of_readable_images_with_wilson_interval(vgg):
    low, high = (100 * end for end in stats.binomtest(14, 18).proportion_ci(method="wilson"))
    survives = vgg.tables["seeds"]["survives_uint8"].drop_nulls().sum()
    said = plain(findings.success(vgg.tables, vgg.record, scope_of(vgg.tables, vgg.record)))
    assert said == (
        f"The attack (dlfuzz) changed the prediction for 14 of 18 images (78 %, 95 % interval {low:.0f} to {high:.0f} "
        f"%). {survives} of 14 still fool the network when rounded to 8 bits."
    )


def test_flips_are_told_with_intervals_and_accuracy_where_there_are_labels(vgg):
    scope = scope_of(vgg.tables, vgg.record)
    assert plain(findings.flips_sentence(vgg.tables, scope)) == (
        "At strength 1 14 of 14 (100 % [78, 100]) of the adversarial examples fool the network; noise of the same size "
        "changes the prediction for 1 of 14 (7 % [1, 31])."
    )
    assert findings.accuracy_sentence(vgg.tables, scope) == ""
    labelled = vgg.tables | {"seeds": vgg.tables["seeds"].with_columns(label="clean_class")}
    # All 18 readable images are right; under the attack the 4 that kept their prediction.
    assert plain(findings.accuracy_sentence(labelled, scope)) == (
        "Accuracy over all readable images: 100 % [82, 100] clean, 22 % [9, 45] under the attack at strength 1."
    )


def test_differences_count_layers_that_are_lower_and_significant():
    rows = [
        {"layer_label": "a", "wilcoxon_p_holm": 0.01, "difference_mean": 0.2},
        {"layer_label": "b", "wilcoxon_p_holm": 0.01, "difference_mean": -0.2},
        {"layer_label": "c", "wilcoxon_p_holm": 0.20, "difference_mean": 0.2},
        {"layer_label": "d", "wilcoxon_p_holm": None, "difference_mean": 0.2},
    ]
    tables = layers(*rows)
    assert "in 1 of 3 layers (Wilcoxon" in findings.differences_sentence(tables, scope_of(tables, {}))


@pytest.mark.parametrize(("layers_of_study", "n"), [(49, 11), (3, 7), (1, 6)])
def test_a_test_that_cannot_reach_its_level_is_not_reported_as_no_effect(layers_of_study, n):
    """The least p of n images, all moved alike, is scipy's; Holm multiplies it by the number of layers."""
    least = [layers_of_study * stats.wilcoxon(np.arange(1.0, k + 1)).pvalue for k in (n - 1, n)]
    assert least[0] >= 0.05 > least[1]
    row = {"wilcoxon_p_holm": 1.0, "difference_mean": 0.1}
    for k, is_able in ((n - 1, False), (n, True)):
        tables = layers(*({"layer_label": f"l{i}", "n_pairs": k, **row} for i in range(layers_of_study)))
        said = findings.differences_sentence(tables, scope_of(tables, {}))
        assert ("in 0 of " in said) == is_able
        assert (f"it takes {n} images" in said) != is_able


def test_compromised_layers_come_with_the_caveat():
    tables = layers(SHALLOW, DEEP)
    counts = [
        {"n_compromised": k, "n_seeds": n, "target": "seed", "strength": 0.25} for k, n in ((0, 1), (1, 4), (2, 2))
    ]
    tables["counts"] = TABLES["counts"].frame(counts)
    said = findings.compromised_sentence(tables, scope_of(tables, {}))
    assert "the median adversarial example compromises 1 of 2 layers; 2 of 7 compromise all of them" in said
    assert "compromises about half of all noisy images by construction" in said
    assert "it saturates" in said


def focus_table(values: dict[tuple[str, str], list[float | None]], measure: str) -> dict[str, pl.DataFrame]:
    """Tables of a study with these values of one measure, by (condition, layer), one per seed."""
    names = sorted({layer for _, layer in values})
    rows = [
        {"seed_id": f"s{i}", "condition": condition, "strength": 1.0, "target": "own", "layer": layer}
        | {"layer_label": layer.upper(), "layer_index": names.index(layer), measure: value}
        for (condition, layer), column in values.items()
        for i, value in enumerate(column)
    ]
    common = {"target": "own", "strength": 1.0}
    made = layers(*({"layer_label": name.upper(), "layer": name} | common for name in names))
    made["flips"] = made["flips"].filter(strength=1.0)
    return made | {"focus": TABLES["focus"].frame(rows)}


def test_the_centre_that_moves_most_is_named_with_intervals_and_n():
    values = {
        (ADVERSARIAL, "a"): [0.1, 0.2, 0.2, 0.2, 0.3],
        (NOISE, "a"): [0.02, 0.02, 0.02, 0.02, None],
        (ADVERSARIAL, "b"): [0.1, 0.1, 0.1, 0.1, 0.1],
        # A median of two of five images ranks nothing.
        (ADVERSARIAL, "c"): [0.9, 0.9, None, None, None],
    }
    tables = focus_table(values, "centroid_shift")
    assert focus.focus_sentences(tables, {}, scope_of(tables, {})) == [
        "At strength 1 the centre of the map for each image's own class moves most at A: by 0.20 [0.10, 0.30] of the "
        "image's side under the attack, by 0.02 [0.02, 0.02] under noise of the same size (n = 4 to 5)."
    ]


def test_the_correlation_comes_with_the_median_of_all_layers():
    values = {
        (ADVERSARIAL, "a"): [-0.1, -0.1, -0.1],
        (ADVERSARIAL, "b"): [0.5, 0.4, 0.6],
        (ADVERSARIAL, "c"): [0.2, 0.2, 0.2],
        (NOISE, "b"): [-0.001, -0.001, -0.001],
    }
    tables = focus_table(values, "perturbation_correlation")
    assert focus.focus_sentences(tables, {}, scope_of(tables, {})) == [
        "The map's change follows the perturbation most at B: a correlation of 0.50 [0.40, 0.60] under the attack, "
        "0.00 [-0.01, 0.00] under noise (n = 3); the median of 3 layers is 0.20."
    ]


def test_one_image_has_no_interval_and_none_has_no_sentence():
    tables = focus_table({(ADVERSARIAL, "a"): [0.31], (NOISE, "a"): [None]}, "centroid_shift")
    (said,) = focus.focus_sentences(tables, {}, scope_of(tables, {}))
    assert said.endswith(
        "moves most at A: by 0.31 of the image's side under the attack, by \u2013 under noise of the "
        "same size (n = 0 to 1)."
    )
    nothing = focus_table({(ADVERSARIAL, "a"): [None]}, "centroid_shift")
    assert focus.focus_sentences(nothing, {}, scope_of(nothing, {})) == []


def test_the_page_tells_where_the_focus_goes(vgg):
    said = focus.focus_sentences(vgg.tables, vgg.record, scope_of(vgg.tables, vgg.record))
    assert len(said) == 2
    shift = vgg.tables["focus"].filter(target="seed", strength=1.0, condition=ADVERSARIAL)
    medians = shift.group_by("layer_label").agg(pl.col("centroid_shift").median()).sort("centroid_shift")
    top, value = medians.row(-1)
    assert said[0].startswith(f"At strength 1 the centre of the map moves most at {top}: by {value:.2f} [")
    text = plain(page(vgg).text)
    assert all(sentence in text for sentence in said)
    assert "the interval does not allow for that choice" in text


def test_undefined_similarities_are_counted_with_reason_and_layer(vgg):
    text = plain(page(vgg).text)
    # One seed and two targets at strength 4, the last layer.
    assert "2 of 1,820 adversarial similarities are undefined (zero_map_variant 2)." in text
    assert "0 of 2,912 noise similarities are undefined." in text
    assert "Most of them are in block5_conv3 (2)." in text


def test_images_left_out_are_listed_with_reasons_and_long_lists_cut():
    made = study(VGG16[:2], strengths=(1.0,), analysed=2, resistant=1, unreadable=73)
    found = page(made)
    assert "Unreadable: 73" in found.text
    assert "And 23 more in seeds.parquet." in plain(found.text)
    lists = [table for table in found.tables if table[0] == ["Image", "Reason"]]
    assert [len(table) - 1 for table in lists] == [1, 50]
    assert " | ".join(lists[1][1]) == "photos/003.jpg | not an image: unknown format"


def test_names_cannot_become_markup(small):
    evil = "<script>alert(1)</script>"
    image = '"><img src=http://x.example/y onerror=alert(1)>.jpg'
    tables = dict(small.tables)
    tables["layers"] = tables["layers"].with_columns(layer_label=pl.lit(evil))
    tables["seeds"] = tables["seeds"].with_columns(
        seed_id=pl.lit(image), reason=pl.lit(evil), status=pl.lit("unreadable")
    )
    record = small.record | {"command": evil, "model": {"spec": evil}, "versions": {evil: evil}}
    html = render(tables, record, {})
    found = Page(html)
    assert "<script>alert" not in html
    assert not [attrs for _, attrs in found.tags if "onerror" in attrs]
    assert "img" not in [tag for tag, _ in found.tags]
    assert evil in found.text
    assert image in found.text


def test_page_is_self_contained_and_runs_its_own_scripts_only(report):
    html = report["report.html"].decode()
    found = Page(html)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    policies = [a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a]
    assert policies == [POLICY.format(scripts=allowed)]
    assert len(scripts) == 2
    assert [a["type"] for t, a in found.tags if t == "script" and "type" in a] == ["application/json"] * 2
    assert not [a for t, a in found.tags if t in ("link", "iframe", "object") or "src" in a]
    links = {a["href"] for t, a in found.tags if t == "a"}
    assert all(link.startswith(("https://arxiv.org/abs/", "#")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= {a["id"] for _, a in found.tags if "id" in a}
    assert not re.search(r"@import|url\(", html.partition("</style>")[0])
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_figure_comes_twice_and_the_page_last(report, small):
    names = study_figures(small.tables, small.record, small.gallery)
    assert list(report) == [*(f"figures/{n}.{e}" for n in names for e in ("png", "pdf")), "report.html"]


def test_same_tables_give_the_same_bytes(report, small):
    time.sleep(1.1)  # so that no file can hide a date
    again = dict(report_files(small.tables, small.record, small.gallery))
    assert len(report) == 25
    assert [name for name in report if report[name] != again[name]] == []


def test_a_report_that_fails_leaves_the_old_one(small, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def fail(*_: object) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr("camdrift.report.study.figures_of", lambda *_: [])
    monkeypatch.setattr("camdrift.report.study.render", fail)
    with pytest.raises(RuntimeError, match="no page"):
        write_files(tmp_path, report_files(small.tables, small.record, small.gallery))
    assert (tmp_path / "report.html").read_text() == "old"
    assert list(tmp_path.rglob(".*")) == []


def test_without_an_adversarial_example_the_page_says_why():
    made = study(VGG16, analysed=0, resistant=4, unreadable=1)
    found = page(made)
    text = plain(found.text)
    assert "DLFuzz fools the network on none of 4 images." in text
    assert "Of 5 images, 4 kept the model's prediction throughout the attack, 1 could not be read." in text
    high = 100 * stats.binomtest(0, 4).proportion_ci(method="wilson").high
    assert f"0 of 4 images (0 %, 95 % interval 0 to {high:.0f} %)" in text
    assert "All layers in numbers" not in text
    assert [table[0] for table in found.tables] == [["Image", "Reason"]] * 2


def test_a_study_of_nothing_has_a_page():
    made = study(VGG16[:1], analysed=0, resistant=0, unreadable=0)
    assert "The study has no images." in page(made).text


def test_record_is_shown_without_what_it_lacks(small):
    text = plain(page(small).text)
    assert "camdrift run photos/ --model torchvision/vgg16" in text
    assert "ab" * 32 in text
    assert "attack 6 min 52 s" in text
    assert "noise ladder 8, 16, 32" in text
    assert "limit" not in text  # null in the record
    effective = {"layers": [f"layer{i}" for i in range(30)], "strengths": [1.0]}
    bare = render(small.tables, {"arguments": {"effective": effective}}, {})
    assert "layer0, layer1, layer2, … (30 in all)" in bare


def test_palette_keeps_frequent_colours_and_takes_the_nearest_for_others():
    generator = np.random.default_rng(0)
    rare = generator.integers(0, 256, (400, 3), dtype=np.uint8)
    frequent = generator.integers(0, 256, (200, 3), dtype=np.uint8)
    pixels = np.concatenate([np.repeat(frequent, 5, axis=0), rare])[:, None]
    image = Image.fromarray(pixels).convert("RGBA")
    drawn = encoding._with_palette(image, image.getcolors(1 << 13))
    buffer = BytesIO()
    drawn.save(buffer, "PNG")
    with Image.open(buffer) as stored:
        got = np.asarray(stored.convert("RGB"))[:, 0].astype(int)
        palette = np.unique(got, axis=0)
    np.testing.assert_array_equal(got[:1000], pixels[:1000, 0])
    distance = np.square(rare[:, None].astype(int) - palette).sum(-1)
    np.testing.assert_array_equal(np.square(got[1000:] - rare).sum(-1), distance.min(1))


def test_figures_of_the_usual_signs_share_one_font_and_the_order_of_figures_changes_no_byte():
    def pdf(text):
        figure = Figure()
        figure.text(0.1, 0.5, text)
        return encoding._pdf(figure)

    encoding._font.cache_clear()
    original = _backend_pdf_ps.get_glyphs_subset, _backend_pdf_ps.font_as_file
    first = [pdf(text) for text in ("conv1 [2, 3]", "Häuser 3 \u00d7 4", "gain > 128")]
    # Two fonts are cut: one of the usual signs, one with the ä.
    assert encoding._font.cache_info().misses == 2
    assert (_backend_pdf_ps.get_glyphs_subset, _backend_pdf_ps.font_as_file) == original
    encoding._font.cache_clear()
    assert [pdf(text) for text in ("gain > 128", "Häuser 3 \u00d7 4", "conv1 [2, 3]")] == first[::-1]


def test_a_font_is_written_once_and_embedded_as_matplotlib_writes_it(monkeypatch):
    def pdf():
        figure = Figure()
        figure.text(0.1, 0.5, "gain > 128")
        return encoding._pdf(figure)

    again = pdf()
    monkeypatch.setattr(encoding, "_font_bytes", lambda font: encoding._as_file(font).getvalue())
    assert pdf() == again


@pytest.mark.parametrize(("hits", "n"), [(0, 4), (4, 4), (1, 14), (14, 18), (480, 1000)])
def test_wilson_is_scipys(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert numbers.wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (9.94, "9.9"),
        (9.96, "10"),
        (99.6, "100"),
        (0.996, "1.0"),
        (0.0613, "0.061"),
        (1234.0, "1,234"),
        (None, "\u2013"),
    ],
)
def test_gains_have_two_digits(value, shown):
    assert numbers.times(value) == shown


def test_intervals_are_rounded_outwards():
    assert numbers.between(0.501, 0.899) == "[0.50, 0.90]"
    assert numbers.between(0.57, 0.29) == "[0.57, 0.29]"  # no digit lost to binary fractions
    assert numbers.between(-0.0011, 0.0011, 3) == "[-0.002, 0.002]"
    assert numbers.percent_between(0.0, 1.0) == "[0, 100]"
