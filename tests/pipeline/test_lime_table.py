"""The table `lime` of a study: rows, the seed's class, exact ones, floors, and what is told before."""

import numpy as np
import polars as pl
import pytest

from camdrift.explanations.lime import lime_similarity
from camdrift.pipeline.lime import lime_passes
from camdrift.tables.further import LIME_TABLE
from support.studies import SMALL, study_of, tiny_classifier, write_images

DESIGN = "lime(grid=4, samples=60)"
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def place(tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("lime")
    photos = write_images(folder / "photos", 6)
    options = {**SMALL, "gallery": 0, "lime": True, "lime_design": DESIGN}
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


def test_its_cost_is_told_before(place):
    _, _, study = place
    assert lime_passes(DESIGN) == 240
    (line,) = [text for text in study.record["preflight"]["warnings"] if "LIME" in text]
    assert line == "LIME shows the model 240 images a seed, beside the 4 of the study itself"
