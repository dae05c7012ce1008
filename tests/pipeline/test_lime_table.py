"""The table `lime` of a study: rows, the seed's class, exact ones, floors, and what is told before."""

import numpy as np
import polars as pl
import pytest

from camdrift.explanations.lime import lime_similarity
from camdrift.pipeline.lime import lime_passes
from camdrift.report.lime import lime_sentence
from camdrift.tables.further import LIME_TABLE
from support.studies import SMALL, study_of, tiny_classifier, write_images

DESIGN = "lime(grid=4, samples=60)"
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def place(tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("lime")
    photos = write_images(folder / "photos", 6)
    options = {**SMALL, "gallery": None, "lime": True, "lime_design": DESIGN}
    return photos, options, study_of(tiny_classifier(), photos, folder / "run", **options)


def test_rows(place):
    _, _, study = place
    table, names = study.lime, study.seeds.filter(status="analysed")["seed_id"].to_list()
    assert table.schema == LIME_TABLE.schema
    assert len(names) >= 2
    assert table.select("seed_id", "condition", "strength").rows() == [
        (name, *kind) for name in names for kind in (("clean", 0.0), ("adversarial", 1.0), ("noise", 1.0))
    ]
    clean = table.filter(condition="clean")
    assert (clean["similarity"] == 1).all()  # exactly
    assert clean["is_resolved"].null_count() == clean.height
    others = table.filter(pl.col("condition") != "clean")
    assert (others["is_resolved"] == (others["similarity"] < others["floor_similarity"])).all()
    assert (table["floor_similarity"] < 1).all()
    areas = np.full(16, 64.0)
    for _, rows in table.group_by("seed_id"):
        maps = {row["condition"]: np.array(row["coefficients"]) for row in rows.to_dicts()}
        for row in rows.to_dicts():
            again = lime_similarity(maps["clean"], maps[row["condition"]], areas)
            assert row["similarity"] == pytest.approx(again, abs=1e-12)


def test_other_chunks_and_batches_change_nothing(place, tmp_path):
    photos, options, study = place
    other = study_of(tiny_classifier(), photos, tmp_path / "r", **{**options, "chunk_size": 0, "batch_size": 5})
    both = study.lime.join(other.lime, on=["seed_id", "condition"])
    assert both.height == study.lime.height
    assert np.allclose(both["similarity"], both["similarity_right"], atol=1e-4)


def test_its_sentence(place):
    """Medians over the seeds, and `not resolved` where half of the images or fewer exceed the floor."""
    _, _, study = place
    text = lime_sentence({"lime": study.lime}, study.record)
    attack = study.lime.filter(condition="adversarial")
    assert f"moves by {1 - attack['similarity'].median():.3f} " in text
    assert f"by {1 - attack['floor_similarity'].median():.3f} " in text
    is_resolved = 2 * attack["is_resolved"].sum() > attack.height
    assert ("not resolved with 60 samples" in text) != is_resolved
    for value in (True, False):
        table = study.lime.with_columns(is_resolved=pl.lit(value))
        assert ("not resolved with 60 samples" in lime_sentence({"lime": table}, study.record)) != value
    assert lime_sentence({}, study.record) == ""


def test_its_picture(place):
    """Three photos and three maps a seed, and a scale; the maps are the coefficients, square by square."""
    _, _, study = place
    figure = study.plot("lime")
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    n_seeds = min(3, study.lime["seed_id"].n_unique())
    assert len(pictures) == 6 * n_seeds + 1
    first = study.lime.filter(seed_id=next(iter(study.gallery)), condition="clean")["coefficients"][0].to_numpy()
    assert np.array_equal(pictures[1].get_array().ravel(), first)


def test_its_cost_is_told_before(place):
    _, _, study = place
    assert lime_passes(DESIGN) == 240
    (line,) = [text for text in study.record["preflight"]["warnings"] if "LIME" in text]
    assert line == "LIME shows the model 240 images a seed, beside the 4 of the study itself"
