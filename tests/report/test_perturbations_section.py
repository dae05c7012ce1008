"""The section on natural changes: true sentences, pictures of the gallery, marks in their places."""

from math import log10

import numpy as np
import pytest

from camdrift.figures.scope import scope_of
from camdrift.report.explorer import explorer_section
from camdrift.report.findings import study_sentences
from camdrift.report.material import Material
from camdrift.report.perturbations import perturbation_sentences, perturbations_section
from support.pages import decoded, opened, plain, written
from support.studies import SMALL, study_of, tiny_classifier, write_images

CODE = "def dim(image, share=0.5):\n    return image * share\n"
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def material(tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("section")
    (folder / "code.py").write_text(CODE)
    options = {**SMALL, "gallery": None, "perturb": f"{folder}/code.py:dim(share=0.5)"}
    study = study_of(tiny_classifier(), write_images(folder / "photos", 8), folder / "run", **options)
    with study.open_gallery() as gallery:
        tables = study._tables
        yield Material(tables, study.record, dict(gallery.items()), scope_of(tables, study.record))


def test_its_sentence_is_true(material):
    tables, scope = material.tables, material.scope
    (text,) = perturbation_sentences(tables, scope)
    flips, noise = (
        tables["perturbations"].filter(condition=condition, strength=1.0).row(0, named=True)
        for condition in ("natural", "noise")
    )
    assert text.startswith("dim(share=0.5) flips ")
    assert f"flips {flips['flipped']} of {flips['n']} predictions" in text
    assert f"noise of its size flips {noise['flipped']}." in text
    layer = scope.headline.layer
    own = tables["perturbation_layers"].filter(layer=layer, strength=1.0).row(0, named=True)
    label = scope.labels[scope.layers.index(layer)]
    assert f"It moves the map of {label} " in text
    assert own["gain_censored"] is not None or f"as far as noise of {own['gain']:.2g}"[:20] in text
    assert text in study_sentences(tables, material.record, scope)


def test_its_values(material):
    values = perturbations_section(material)["changes"]
    titles = [picture["title"] for picture in values["photos"][0]["pictures"]]
    assert titles[:2] == ["clean", "attacked"]
    assert titles[2] == "dim(share=0.5)"
    assert all(picture["map"].startswith("data:image/webp") for picture in values["photos"][0]["pictures"])
    assert values["lines"][0]["name"] == "the attack"
    assert len(values["photos"]) + len(values["further"]) <= 6
    (plot,) = values["plots"]["each"]
    gains = material.tables["perturbation_layers"].filter(strength=1.0)["gain"].drop_nulls().to_list()
    heights = [mark["bottom"] for mark in plot["marks"] if mark["kind"] == "change"]
    assert len(heights) == len(gains)
    ticks = {tick["words"]: tick["bottom"] for tick in values["plots"]["ticks"]}
    per_decade = {tick: (height - ticks["1"]) / log10(float(tick)) for tick, height in ticks.items() if tick != "1"}
    if per_decade:
        slope = next(iter(per_decade.values()))
        assert heights == pytest.approx([ticks["1"] + slope * log10(gain) for gain in gains], abs=0.1)
    assert {mark["left"] for mark in plot["marks"]} <= {12.5, 37.5, 62.5, 87.5}


def test_the_explorer_has_the_maps_of_every_layer(material):
    values = explorer_section(material)
    words = {"names": ["dim(share=0.5)"], "strength": "1", "class_words": "the seed's class"}
    assert values["changed"] == words
    images = material.tables["perturbed"].filter(condition="natural", strength=1.0)
    ids = [str(name) for name in material.gallery["seed_ids"]]
    for place, (name, (change,)) in enumerate(zip(ids, values["study"]["changes"], strict=True)):
        rows = images.filter(seed_id=name).sort("layer_index")
        found = [np.nan if value is None else value for value in change["similarity"]]
        assert found == pytest.approx(rows["similarity"].fill_null(np.nan).to_list(), abs=1e-3, nan_ok=True)
        assert change["flipped"] == rows["is_flipped"][0]
        ((picture, sprite),) = values["pictures"]["seeds"][place]["changes"]
        assert decoded(picture).shape == material.gallery[f"{place}/change/0"].shape[:2]
        for layer, strip in enumerate(values["pictures"]["changePlaces"]):
            tile = decoded(sprite)[strip.y : strip.y + strip.height, strip.x : strip.x + strip.width]
            assert abs(tile - material.gallery[f"{place}/change/0/map/{layer}"]).mean() < 14


@pytest.mark.slow
def test_the_explorer_follows_the_chosen_layer_and_image(material, browser, tmp_path):
    changes = explorer_section(material)["study"]["changes"]
    with opened(browser, written(material, tmp_path)) as tab:
        stage = tab.locator("#stage")
        for seed, layer in ((0, 0), (1, 0), (1, 2)):
            tab.locator(f"#seed-{seed}").click()
            for key in ["ArrowLeft"] * 4 + ["ArrowRight"] * layer:
                stage.press(key)
            value = changes[seed][0]["similarity"][layer]
            words = "\u2013" if value is None else "> 0.99" if value > 0.995 else f"{value:.2f}"
            tab.wait_for_function(
                "words => document.querySelector('#changed').innerText.replace(/\\s+/g, ' ').includes(words)",
                arg=f"similarity {words}",
            )
            assert changes[seed][0]["said"] in plain(tab.locator("#changed").inner_text())


def test_a_study_without_has_none(material):
    without = {name: table for name, table in material.tables.items() if not name.startswith("perturb")}
    assert perturbations_section(Material(without, material.record, {}, material.scope)) == {"changes": None}
    assert perturbation_sentences(without, material.scope) == []
    gallery = {key: value for key, value in material.gallery.items() if "/change/" not in key}
    values = explorer_section(Material(without, material.record, gallery, material.scope))
    assert (values["changed"], values["study"]["changes"]) == (None, [])
