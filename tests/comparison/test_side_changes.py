"""Natural changes side by side: counted on the images of both runs, the runs' own gains, told where they differ."""

import json

import polars as pl
import pytest

from camdrift.comparison.compare import compare
from camdrift.report.comparison import render_comparison
from camdrift.report.side_changes import side_change_sentences, side_changes_section
from support.comparisons import skip_page
from support.studies import SMALL, skip_report, study_of, tiny_classifier, write_images

CODE = """
def dim(image, share=0.5):
    return image * share

def pale(image):
    return (image + 0.4).clip(0, 1)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two networks under the same attack; the second has one natural change more."""
    folder = tmp_path_factory.mktemp("sides")
    (folder / "code.py").write_text(CODE)
    photos, spec = write_images(folder / "photos", 8), f"{folder}/code.py:"
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return [
            study_of(tiny_classifier(rng_seed=seed), photos, folder / str(seed), perturb=changes, **SMALL)
            for seed, changes in ((1, [f"{spec}dim"]), (4, [f"{spec}pale", f"{spec}dim"]))
        ]


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        skip_page(patch)
        return compare(*runs, out=tmp_path_factory.mktemp("c") / "c", models=["one", "two"], n_bootstrap=20)


def test_predictions_are_counted_on_the_images_of_both_runs(runs, made):
    own = [set(run.seeds.filter(status="analysed")["seed_id"]) for run in runs]
    both = own[0] & own[1]
    assert 2 <= len(both) < len(own[0] | own[1])
    assert made.perturbations["perturbation"].unique().len() == 1
    assert made.perturbations["shared"].all()
    for run, side in zip(runs, ("one", "two"), strict=True):
        is_dim = pl.col("perturbation").str.ends_with(":dim")
        images = run.perturbed.filter(is_dim, pl.col("strength") == 1, pl.col("seed_id").is_in(both)).unique(
            ["seed_id", "condition"]
        )
        for condition in ("natural", "noise"):
            row = made.perturbations.filter(side=side, condition=condition).row(0, named=True)
            flips = images.filter(condition=condition)["is_flipped"]
            assert (row["n"], row["flipped"]) == (len(both), flips.sum())
        gains = made.perturbation_layers.filter(side=side).drop("side")
        assert gains.equals(run.perturbation_layers.filter(is_dim))


def test_it_is_told_which_network_stands_it_better(made):
    (text,) = side_change_sentences(made.tables)
    assert text.startswith("Whether one or two stands dim better cannot be told: it flips ")
    assert text in made.summary()
    assert made.summary().endswith("Left out, since not all runs have it: natural change pale.")
    low, high = pl.lit(0.0), pl.lit(0.01)
    is_one = pl.col("side") == "one"
    firm = made.perturbations.with_columns(
        flipped=pl.when(is_one).then(0).otherwise("n"),
        share=pl.when(is_one).then(0.0).otherwise(1.0),
        low=pl.when(is_one).then(low).otherwise(0.99),
        high=pl.when(is_one).then(high).otherwise(1.0),
    )
    n = firm["n"][0]
    (text,) = side_change_sentences({**made.tables, "perturbations": firm})
    assert f"one stands dim better: it flips 0 of {n} predictions in one, {n} of {n} predictions in two." in text


def test_layers_differ_where_their_intervals_lie_apart(made):
    far = pl.when((pl.col("side") == "two") & (pl.col("layer") == "stem")).then(9.0)
    ends = {name: far.otherwise(1.0) for name in ("gain", "gain_low", "gain_high")}
    bounds = {f"{name}_censored": pl.lit(None, pl.String) for name in ends}
    layers = made.perturbation_layers.with_columns(**ends, **bounds)
    (text,) = side_change_sentences({**made.tables, "perturbation_layers": layers})
    assert "two: stem, 9.0" in text
    assert "Of 4 layers measured in both, 0 have a higher gain in one and 1 in two, beyond their intervals." in text
    marks = side_changes_section({**made.tables, "perturbation_layers": layers})["plots"]["each"][0]["marks"]
    heights = {(mark["kind"], mark["words"].split(":")[0]): mark["bottom"] for mark in marks}
    assert len(heights) == 8
    assert heights["b", "stem"] > heights["b", "last"] == heights["a", "stem"]


def test_the_page_has_a_section_where_networks_differ(made):
    record = json.loads((made.path / "comparison.json").read_text())
    page = render_comparison(made.tables, record, {}, made.notes)
    assert '<h2 id="changes">Natural changes</h2>' in page
    same = made.sides.with_columns(model=pl.lit("net"), weights=pl.lit("w"))
    assert side_changes_section({**made.tables, "sides": same}) is None


def test_another_function_of_the_same_name_is_no_common_change(runs, tmp_path, monkeypatch):
    skip_page(monkeypatch)
    monkeypatch.setitem(runs[0].record["perturbations"], "code", {"code.py": "0" * 64})
    made = compare(*runs, out=tmp_path / "c", n_bootstrap=5)
    assert made.perturbations.is_empty()
    assert "natural change dim, natural change pale" in made.notes[0]
    assert side_change_sentences(made.tables) == []
