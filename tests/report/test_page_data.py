"""Numbers and pictures inside the page: every entry where the script looks for it."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from camdrift.figures.scope import scope_of
from camdrift.report.data import MOST_STEPS, QUANTILES, distinct_labels, study_data
from camdrift.report.page.assets import script_json
from camdrift.report.pictures import LARGEST_MAP, picture_data
from camdrift.tables.study import FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE
from support import synthetic
from support.pages import decoded

LABELS = ("one", "two", "three")


@pytest.fixture(scope="module")
def made():
    return synthetic.study(LABELS, strengths=(0.5, 1.0), analysed=5, gallery_seeds=4)


@pytest.fixture(scope="module")
def scope(made):
    return scope_of(made.tables, made.record)


@pytest.fixture(scope="module")
def data(made, scope):
    return study_data(made.tables, made.record, scope, [str(i) for i in made.gallery["seed_ids"]])


def test_statistics_lie_at_target_strength_layer(made, data):
    assert data["targets"] == ["seed", "own"]
    for row in made.tables["layers"].iter_rows(named=True):
        place = data["targets"].index(row["target"]), data["strengths"].index(row["strength"]), row["layer_index"]
        for name in ("gain", "n", "threshold", "difference_low"):
            assert data["stats"][name][place[0]][place[1]][place[2]] == pytest.approx(row[name], rel=1e-5)
        sign = {None: 0, "above": 1, "below": -1}[row["gain_censored"]]
        assert data["stats"]["gain_censored"][place[0]][place[1]][place[2]] == sign


def test_quantiles_are_numpys(made, data):
    table = made.tables["similarity"].filter(target="own", strength=1.0, condition=NOISE, layer_label="two")
    expected = np.quantile(table["similarity"].drop_nulls().to_numpy(), QUANTILES)
    np.testing.assert_allclose(data["spread"][NOISE][1][1][1], expected, rtol=1e-5)


def test_quartiles_of_the_focus_are_numpys(made, data):
    assert [measure["column"] for measure in data["focus"]["measures"]] == list(FOCUS_MEASURES)
    for condition in (ADVERSARIAL, NOISE):
        for place, name in enumerate(FOCUS_MEASURES):
            table = made.tables["focus"].filter(target="own", strength=1.0, condition=condition, layer_label="three")
            values = table[name].drop_nulls().to_numpy()
            *quartiles, n = data["focus"][condition][place][1][1][2]
            np.testing.assert_allclose(quartiles, np.quantile(values, [0.25, 0.5, 0.75]), rtol=1e-3)
            # One seed has lost its last map under the strongest attack.
            assert n == len(values) == (4 if condition == ADVERSARIAL else 5)


def test_a_measure_that_no_seed_has_is_null(made, scope):
    nothing = made.tables["focus"].with_columns(entropy_change=pl.lit(None, dtype=pl.Float64))
    found = study_data({**made.tables, "focus": nothing}, made.record, scope, [])["focus"]
    assert found[NOISE][2] == [[[None] * 3] * 2] * 2
    assert found[NOISE][3][0][0][0] is not None


def test_similarities_of_a_seed_and_what_is_compromised(made, data):
    for seed in data["seeds"]:
        table = made.tables["similarity"].filter(seed_id=seed["id"], target="seed", strength=1.0, draw=0)
        for condition in (ADVERSARIAL, NOISE):
            values = table.filter(condition=condition).sort("layer_index")["similarity"].to_list()
            taus = made.tables["layers"].filter(target="seed", strength=1.0).sort("layer_index")["threshold"].to_list()
            found = seed[condition]["similarity"][0][1]
            assert found == [None if v is None else pytest.approx(v, rel=1e-5) for v in values]
            below = [None if v is None else int(v < tau) for v, tau in zip(values, taus, strict=True)]
            assert seed[condition]["compromised"][0][1] == below


def test_an_undefined_similarity_is_null(made, data):
    lost = made.tables["similarity"].filter(pl.col("similarity").is_null()).row(0, named=True)
    seed = next(seed for seed in data["seeds"] if seed["id"] == lost["seed_id"])
    place = data["targets"].index(lost["target"]), data["strengths"].index(lost["strength"]), lost["layer_index"]
    assert seed[lost["condition"]]["similarity"][place[0]][place[1]][place[2]] is None
    assert seed[lost["condition"]]["compromised"][place[0]][place[1]][place[2]] is None


def test_what_the_model_said(made, data):
    seed = data["seeds"][1]
    row = made.tables["variants"].filter(seed_id=seed["id"], condition=ADVERSARIAL, strength=1.0).row(0, named=True)
    said = seed[ADVERSARIAL]["said"][1]
    assert said[:3] == [row["predicted_class"], pytest.approx(row["probability"]), int(row["is_flipped"])]
    assert data["classes"][row["predicted_class"]] == synthetic.CLASSES[row["predicted_class"]]


def test_counts_and_coverage(made, data):
    for row in made.tables["counts"].iter_rows(named=True):
        place = data["targets"].index(row["target"]), data["strengths"].index(row["strength"])
        assert data["counts"][place[0]][place[1]][row["n_compromised"]] == row["n_seeds"]
    last = made.tables["coverage"].filter(pl.col("step") == pl.col("step").max())
    assert data["coverage"]["clean"][-1] == last.filter(condition=CLEAN)["covered"].item()
    assert data["coverage"][NOISE][1][-1] == last.filter(condition=NOISE, strength=1.0)["covered"].item()


def test_a_long_coverage_curve_is_thinned_and_keeps_its_ends():
    made = synthetic.study(LABELS, strengths=(1.0,), analysed=3, resistant=MOST_STEPS + 60)
    found = study_data(made.tables, made.record, scope_of(made.tables, made.record), [])["coverage"]
    assert len(found["steps"]) == len(found["clean"]) == MOST_STEPS
    assert (found["steps"][0], found["steps"][-1]) == (1, MOST_STEPS + 63)


def test_labels_that_two_layers_share_give_way_to_names():
    assert distinct_labels(["conv", "conv", "head"], ["a.conv", "b.conv", "head"]) == ["a.conv", "b.conv", "head"]


def test_json_holds_any_name_and_ends_no_element():
    hostile = "</script><!-- <script> & \u2028\u2029 \udce9 'quotes\""
    text = str(script_json({"name": hostile, "value": 0.25, "none": None}))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"name": hostile.replace("\udce9", "?"), "value": 0.25, "none": None}


def test_every_heatmap_lies_where_its_place_says(made, scope):
    ids, pictures = picture_data(made.gallery, scope.indices)
    assert ids == [str(i) for i in made.gallery["seed_ids"]]
    assert pictures["targets"] == [str(t) for t in made.gallery["targets"]]
    for target in range(2):
        sprite = decoded(pictures["seeds"][2]["maps"][target])
        for layer, place in enumerate(pictures["places"]):
            for slot, stored in enumerate(made.gallery[f"2/map/{layer}"][target]):
                x = place.x + slot * place.step
                found = sprite[place.y : place.y + place.height, x : x + place.width]
                expected = np.asarray(Image.fromarray(stored).resize((place.width, place.height), Image.Resampling.BOX))
                assert max(found.shape) <= LARGEST_MAP
                assert np.abs(found - expected).mean() < 14


def test_places_do_not_overlap():
    made = synthetic.study(synthetic.EFFICIENTNET, strengths=(0.5, 1.0), analysed=2, gallery_seeds=1)
    _, pictures = picture_data(made.gallery, scope_of(made.tables, made.record).indices)
    taken = np.zeros((4000, 2000), dtype=int)
    for x, y, _, height, step in pictures["places"]:
        taken[y : y + height, x : x + 5 * step] += 1
    assert taken.max() == 1


def test_a_gallery_too_large_for_a_page_is_thinned_evenly(made, scope, monkeypatch):
    monkeypatch.setattr("camdrift.report.pictures.MOST_BYTES", 0)
    assert picture_data(made.gallery, scope.indices)[0] == [str(made.gallery["seed_ids"][0])]
    _, pictures = picture_data(made.gallery, scope.indices)
    one = sum(len(text) for key, text in pictures["seeds"][0].items() if isinstance(text, str))
    one += sum(map(len, pictures["seeds"][0]["maps"]))
    monkeypatch.setattr("camdrift.report.pictures.MOST_BYTES", int(2.5 * one))
    ids = [str(i) for i in made.gallery["seed_ids"]]
    assert picture_data(made.gallery, scope.indices)[0] == [ids[0], ids[-1]]


def test_no_gallery_no_pictures(scope):
    assert picture_data({}, scope.indices) == ([], {"targets": [], "places": [], "changePlaces": [], "seeds": []})
