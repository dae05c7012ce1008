"""`camdrift explain`: one image, what became of it, and every layer."""

from functools import partial

import polars as pl
import pytest
from PIL import Image

import camdrift
from camdrift.figures.heatmaps import layer_grid_figure
from camdrift.figures.scope import scope_of
from camdrift.figures.study import study_figures
from camdrift.report.study import summary
from support import synthetic
from support.studies import ATTACK, draw_only, skip_report, write_factory, write_images

QUICK = ["--attack", ATTACK, "--strengths", "0.5,1"]


@pytest.fixture
def explain(camdrift_command, monkeypatch):
    """Runs the command in this process, with the grid for its one figure: exit code, stdout, stderr."""
    draw_only(monkeypatch, "layer_grid")
    return partial(camdrift_command, "explain")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_factory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fooled(photos, spec, tmp_path_factory):
    """An image that the attack fools, and the numbers it shares with a study of all."""
    out, options = tmp_path_factory.mktemp("all") / "run", {"strengths": (0.5, 1.0), "chunk_size": 1}
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        study = camdrift.run(camdrift.load_model(spec), photos, out=out, attack=ATTACK, **options)
    return study.seeds.filter(status="analysed")["seed_id"][0], study


def test_one_image_becomes_a_report_and_a_grid(explain, photos, spec, fooled, tmp_path):
    name, all_images = fooled
    code, out, _ = explain(photos / name, "--model", spec, *QUICK, "--out", tmp_path / "run")
    assert code == 0
    grid, report = out.splitlines()[-2:]
    assert (grid, report) == (f"{tmp_path}/run/figures/layer_grid.png", f"{tmp_path}/run/report.html")
    with Image.open(grid) as picture:
        assert picture.width > 1000
    study = camdrift.open(tmp_path / "run")
    assert out.startswith(f"{study.summary()}\n")
    ours, theirs = study.similarity, all_images.similarity.filter(seed_id=name)
    assert ours.drop("seed_id").equals(theirs.drop("seed_id"))


def test_an_image_that_withstands_is_told_as_such(explain, photos, spec, tmp_path):
    weak = f"{ATTACK[:-1]}, iterations=1)" if "iterations" not in ATTACK else ATTACK
    code, out, _ = explain(
        photos / sorted(p.name for p in photos.iterdir())[0],
        "--model",
        spec,
        "--attack",
        weak.replace("step=1/255", "step=1e-9"),
        "--out",
        tmp_path / "run",
    )
    assert code == 0
    assert "kept the model's prediction throughout the attack" in out
    assert out.splitlines()[-1] == f"{tmp_path}/run/report.html"
    assert "layer_grid" not in out


@pytest.mark.parametrize("image", ["folder", "missing.jpg"])
def test_what_is_no_image_is_one_clear_line(explain, spec, tmp_path, image):
    (tmp_path / "folder").mkdir()
    code, out, err = explain(tmp_path / image, "--model", spec, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.splitlines()[-2].startswith("error: ")
    assert image in err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def one():
    return synthetic.study(("first", "second", "third"), analysed=1, resistant=0, unreadable=0, gallery_seeds=1)


def test_the_findings_of_one_image_name_what_moved_and_claim_no_more(one):
    said = " ".join(summary(one.tables, one.record)).replace("\u00a0", " ")
    seed = one.tables["seeds"].row(0, named=True)
    before, after = (synthetic.CLASSES[seed[f"{when}_class"]] for when in ("clean", "adversarial"))
    assert f"turns {before} (0.90) into {after} (0.40) with a perturbation of at most 7.6/255 per pixel" in said
    at = {"target": "seed", "strength": 1.0, "draw": 0}
    table = one.tables["similarity"].filter(**at)
    attacked = table.filter(condition="adversarial").sort("similarity")
    noisy = {row["layer_label"]: row["similarity"] for row in table.filter(condition="noise").to_dicts()}
    first = attacked.row(0, named=True)
    words = f"{first['layer_label']} ({first['similarity']:.2f}, under noise {noisy[first['layer_label']]:.2f})"
    assert f"the least similar maps are those of {words}" in said
    assert "interval" not in said
    assert "times as strong" not in said


def test_the_grid_shows_every_layer_and_its_similarity():
    made = synthetic.study(synthetic.EFFICIENTNET, analysed=3, gallery_seeds=3)
    seed_id = str(made.gallery["seed_ids"][0])
    figure = layer_grid_figure(made.tables, made.record, made.gallery)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [texts.count(label) for label in synthetic.EFFICIENTNET] == [1] * len(synthetic.EFFICIENTNET)
    scope = scope_of(made.tables, made.record)
    at = {"seed_id": seed_id, "strength": scope.reference, "target": scope.headline.target, "draw": 0}
    values = made.tables["similarity"].filter(pl.col("similarity") < 0.995, **at)["similarity"]
    for value in values:
        assert f"{value:.2f}" in texts


def test_only_a_study_of_one_image_has_a_grid(one):
    assert "layer_grid" in study_figures(one.tables, one.record, one.gallery)
    many = synthetic.study(("first", "second"), analysed=2, gallery_seeds=2)
    assert "layer_grid" not in study_figures(many.tables, many.record, many.gallery)
    assert "layer_grid" not in study_figures(one.tables, one.record, {})
