"""Perturbations on each other's models: parts that add up, and the same as showing the images by hand."""

from functools import partial

import numpy as np
import polars as pl
import pytest

import camdrift
from camdrift.comparison.crossing import cross
from camdrift.errors import UserError
from camdrift.pipeline.chunk import noisy_seeds
from camdrift.pipeline.seeds import in_hand
from camdrift.report.crossed import crossed_sentences
from camdrift.study.recomputation import recomputation
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tensors import perturbed
from support.comparisons import skip_page
from support.studies import SMALL, skip_report, study_of, tiny_classifier, write_images

OPTIONS = {**SMALL, "strengths": (0.5, 1.0), "gallery": None}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two networks of other weights, and a study of each on the same images, with all pictures kept."""
    folder = tmp_path_factory.mktemp("crossing")
    write_images(folder / "photos", 8)
    classifiers = [tiny_classifier(rng_seed) for rng_seed in (1, 2)]
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        studies = [study_of(c, folder / "photos", folder / f"run{n}", **OPTIONS) for n, c in enumerate(classifiers)]
    return folder, classifiers, studies


@pytest.fixture(scope="module")
def table(place):
    _, classifiers, studies = place
    return cross(*studies, classifiers=classifiers)


def test_parts_add_up(table):
    assert table.schema == COMPARISON_TABLES["crossed"].schema
    assert set(table["quantity"]) == {"deviation", "flipped"}
    total = table["maps"] + table["attack"]
    assert (total - table["difference"]).abs().max() < 1e-12
    assert (table["value_bb"] - table["value_aa"] - table["difference"]).abs().max() < 1e-12
    assert table["maps"].abs().max() > 0.01  # the networks differ
    assert table["attack"].abs().max() > 0.01
    assert ((table["difference_low"] <= table["difference"]) & (table["difference"] <= table["difference_high"])).all()


def test_the_difference_is_that_of_the_comparison(place, table, tmp_path, monkeypatch):
    _, _, studies = place
    skip_page(monkeypatch)
    made = camdrift.compare(*studies, out=tmp_path / "c", n_bootstrap=20)
    assert made.crossed.is_empty()
    both = made.differences.join(
        table.filter(quantity="deviation"), left_on=["target", "strength", "layer_a"],
        right_on=["target", "strength", "layer"], suffix="_crossed",
    )  # fmt: skip
    assert both.height == made.differences.height
    same = both.filter(pl.col("n") == pl.col("n_a"))
    assert same.height
    for name in ("difference", "difference_low", "difference_high"):
        assert np.allclose(same[name], same[f"{name}_crossed"], atol=1e-9, equal_nan=True), name


def attacked_again(study, classifier):
    """The analysed seeds of a run by name."""
    computation = recomputation(study.record, classifier, None, {}, trust=False)
    parts = [noisy_seeds(computation.plan, chunk, lambda *_: None, print) for chunk in computation.chunks]
    return {seed.seed_id: seed for part in parts for seed in in_hand(part)}


def test_cells_by_hand(place, table):
    """The second network's maps of an image with the first one's perturbation, made by `attribute` and `similarity`."""
    _, classifiers, studies = place
    layer, side = classifiers[1].layers[0], (classifiers[1].size,) * 2
    values, flips = [], []
    seeds = [attacked_again(study, c) for study, c in zip(studies, classifiers, strict=True)]
    names = [name for name in seeds[0] if name in seeds[1]]
    for name in names:
        pixels, delta = seeds[0][name].pixels, seeds[0][name].perturbation
        attribute = partial(camdrift.attribute, classifiers[1], layers=[layer])
        clean = classifiers[1](pixels[None]).argmax(1)
        image = perturbed(pixels, delta, 1.0)[None]
        maps = [attribute(each, target=clean)[layer] for each in (pixels[None], image)]
        values.append(1 - float(camdrift.similarity(*maps, size=side)))
        flips.append(float(classifiers[1](image).argmax(1) != clean))
    row = table.filter(quantity="deviation", target="seed", strength=1.0, layer=layer).row(0, named=True)
    assert row["n"] == len(names)
    assert row["value_ba"] == pytest.approx(np.mean(values), abs=1e-5)
    row = table.filter(quantity="flipped", strength=1.0).row(0, named=True)
    assert (row["value_ba"], row["value_aa"], row["value_bb"]) == (pytest.approx(np.mean(flips)), 1, 1)


def test_its_sentences(place, table):
    """Means over layers in words, with the shares that the other's perturbations fool."""
    (text,) = crossed_sentences({"crossed": table}, "seed", 1.0)
    layers = table.filter(quantity="deviation", target="seed", strength=1.0)
    flips = table.filter(quantity="flipped", strength=1.0).row(0, named=True)
    assert f"the deviation changes by {layers['difference'].mean():.3f} on average over 4 layers" in text
    assert f"{layers['maps'].mean():.3f} with the maps" in text
    assert f"n = {flips['n']}." in text
    assert crossed_sentences({"crossed": table.clear()}, "seed", 1.0) == []


def test_a_run_against_itself_has_no_parts(place, tmp_path, monkeypatch):
    """The same network twice: every cell is the same."""
    folder, classifiers, studies = place
    skip_report(monkeypatch)
    again = study_of(classifiers[0], folder / "photos", tmp_path / "again", **OPTIONS)
    rows = cross(studies[0], again, classifiers=[classifiers[0]] * 2)
    assert rows.select("difference", "maps", "attack").to_numpy() == pytest.approx(0, abs=1e-6)


def test_what_cannot_cross(place):
    _, classifiers, studies = place
    with pytest.raises(UserError, match="this is another study: weights"):
        cross(*studies, classifiers=classifiers[::-1])
