"""Dose and response: medians worked by hand, and curves from which the gain can be read."""

import numpy as np
import polars as pl
import pytest

from camdrift.statistics.dose import dose_response
from camdrift.statistics.layers import layer_statistics
from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, NOISE
from support import synthetic


def tables(similarities, doses):
    """One layer, one target; {(condition, strength): one value per seed}."""
    keys = [(c, s, seed) for c, s in similarities for seed in range(len(similarities[c, s]))]
    rows = [{"condition": c, "strength": s, "seed_id": str(seed), "draw": 0} for c, s, seed in keys]
    similarity = [
        row
        | {"target": "own", "layer": "a", "layer_label": "a", "layer_index": 0, "similarity": similarities[c, s][seed]}
        for row, (c, s, seed) in zip(rows, keys, strict=True)
    ]
    variants = [row | {"realised_l2": doses[c, s][seed]} for row, (c, s, seed) in zip(rows, keys, strict=True)]
    return SIMILARITY.frame(similarity), VARIANTS.frame(variants)


def test_medians_by_hand_and_a_monotone_fit():
    similarity = {
        (ADVERSARIAL, 1.0): [0.5, 0.7, None],
        (NOISE, 1.0): [0.9, 0.8, 0.6],
        (NOISE, 2.0): [0.9, 0.9, 0.85],
        (NOISE, 4.0): [0.5, 0.4, 0.3],
    }
    doses = {(ADVERSARIAL, 1.0): [1, 3, 2], (NOISE, 1.0): [1, 2, 3], (NOISE, 2.0): [4, 4, 4], (NOISE, 4.0): [9, 7, 8]}
    found = dose_response(*tables(similarity, doses))
    assert found["condition"].to_list() == [ADVERSARIAL, NOISE, NOISE, NOISE]
    assert found["n"].to_list() == [2, 3, 3, 3]
    assert found["l2"].to_list() == [2, 2, 4, 8]
    assert found["deviation"].to_list() == pytest.approx([0.4, 0.2, 0.1, 0.6])
    assert found["fitted"].to_list() == [None, pytest.approx(0.15), pytest.approx(0.15), pytest.approx(0.6)]


def test_the_gain_of_the_layers_table_lies_on_the_curve():
    made = synthetic.study(synthetic.VGG16[:4], analysed=9)
    similarity, variants, floor = (made.tables[name] for name in ("similarity", "variants", "floor"))
    statistics = layer_statistics(similarity, variants, floor, rng_seed=0, n_bootstrap=0)
    curves = dose_response(similarity, variants)
    checked = 0
    for row in statistics.filter(pl.col("gain_censored").is_null()).iter_rows(named=True):
        at = {"target": row["target"], "layer": row["layer"]}
        attack = curves.filter(**at, condition=ADVERSARIAL, strength=row["strength"]).row(0, named=True)
        noise = curves.filter(**at, condition=NOISE)
        logs = np.interp(np.log(attack["l2"] * row["gain"]), np.log(noise["l2"]), np.log(noise["fitted"]))
        assert np.exp(logs) == pytest.approx(attack["deviation"], rel=1e-9)
        checked += 1
    assert checked > 20


def test_nothing_comes_of_nothing():
    assert dose_response(SIMILARITY.frame(), VARIANTS.frame()).height == 0


def test_seeds_without_similarities_do_not_count_in_the_dose():
    similarity, variants = tables({(NOISE, 1.0): [0.9]}, {(NOISE, 1.0): [2.0]})
    stranger = VARIANTS.frame([{"seed_id": "z", "condition": NOISE, "strength": 1.0, "draw": 0, "realised_l2": 100.0}])
    assert dose_response(similarity, pl.concat([variants, stranger]))["l2"].to_list() == [2.0]
