"""The section on natural changes: true sentences, pictures of the gallery, marks in their places."""

from math import log10

import pytest

from camdrift.figures.scope import scope_of
from camdrift.report.findings import study_sentences
from camdrift.report.material import Material
from camdrift.report.perturbations import perturbation_sentences, perturbations_section
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


def test_a_study_without_has_none(material):
    without = {name: table for name, table in material.tables.items() if not name.startswith("perturb")}
    assert perturbations_section(Material(without, material.record, {}, material.scope)) == {"changes": None}
    assert perturbation_sentences(without, material.scope) == []
