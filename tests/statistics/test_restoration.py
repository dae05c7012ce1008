"""Restoration by hand, with intervals that hold what they should; the depth of return; shares and checks."""

import numpy as np
import polars as pl
import pytest

from camdrift.statistics.defences import AttackWords, Trait, defence_rows, sanity, worst_case
from camdrift.statistics.residual import noise_ruler
from camdrift.statistics.restoration import depth_of_return, restoration, restored
from camdrift.statistics.smoothing import certificate
from camdrift.tables.defences import DEFENDED_IMAGES, NOTHING_MOVED, PURIFIED_MAPS

NAMES = ("attacked", "purified", "clean_purified", "noise", "noise_purified")


def maps(columns, *, returned=None, defence="bits(depth=3)"):
    """Table `purified_maps` from arrays (layers, seeds)."""
    layers, seeds = np.shape(columns["attacked"])
    rows = []
    for layer in range(layers):
        for seed in range(seeds):
            values = {name: float(columns[name][layer][seed]) for name in NAMES if name in columns}
            rows.append(
                {
                    "defence": defence,
                    "strength": 1.0,
                    "seed_id": f"s{seed:02d}",
                    "layer": f"l{layer}",
                    "layer_label": f"L{layer}",
                    "layer_index": layer,
                    "returned": True if returned is None else bool(returned[seed]),
                    **values,
                }
            )
    return PURIFIED_MAPS.frame(rows)


def filled(attacked, purified, clean=0.05, noise=0.2, noise_purified=0.1):
    shape = np.shape(attacked)
    return {
        "attacked": attacked,
        "purified": purified,
        "clean_purified": np.full(shape, clean),
        "noise": np.full(shape, noise),
        "noise_purified": np.full(shape, noise_purified),
    }


def test_by_hand():
    """a 0.4, 0.2, 0.5 and 0, which is left out; p 0.1, 0.3, 0.5: 1 - 0.3 / 0.4 (D6)."""
    table = restoration(maps(filled([[0.4, 0.2, 0.5, 0.0]], [[0.1, 0.3, 0.5, 0.2]])), rng_seed=0)
    row = table.filter(pl.col("returned").is_null()).row(0, named=True)
    assert (row["restoration"], row["n"]) == (pytest.approx(0.25), 3)
    assert row["ceiling"] == pytest.approx(1 - 0.05 / 0.4)
    assert row["restoration_noise"] == pytest.approx(0.5)
    assert row["low"] <= row["restoration"] <= row["high"]
    assert restored(np.array([0.1, np.nan]), np.array([0.4, np.nan])) == pytest.approx(0.75)


def test_the_identity_restores_nothing_and_the_clean_image_everything():
    rng = np.random.default_rng(0)
    attacked = rng.uniform(0.1, 0.9, (5, 9))
    same = restoration(maps(filled(attacked, attacked)), rng_seed=0).filter(pl.col("returned").is_null())
    assert same.select("restoration", "low", "high").unique().rows() == [(0.0, 0.0, 0.0)]
    home = restoration(maps(filled(attacked, 0 * attacked)), rng_seed=0).filter(pl.col("returned").is_null())
    assert home.select("restoration", "low", "high").unique().rows() == [(1.0, 1.0, 1.0)]
    assert depth_of_return(home) == "L0"
    assert depth_of_return(same) is None


def test_a_layer_that_nothing_moves_has_a_reason():
    row = restoration(maps(filled([[0.0, 0.0]], [[0.0, 0.1]])), rng_seed=0).row(0, named=True)
    assert (row["restoration"], row["n"], row["undefined_reason"]) == (None, 0, NOTHING_MOVED)


def test_leverage_left_by_hand():
    """Noise of strength s has length 2 s and moves the map by s / 10, the attack of length 2 moves it by 0.4: gain 4.

    Behind the purifier it is moved by 0.1: noise of length 2 does that, so 1 is left. A map that is back leaves less
    than the ladder's first step, 0.5.
    """
    seeds, ladder = ["s00", "s01", "s02"], (0.5, 1.0, 2.0, 4.0, 8.0)
    common = {"explanation": "grad_cam", "metric": "cosine", "target": "seed", "layer_label": "L", "draw": 0}
    similarity, variants = [], []
    for seed in seeds:
        for condition, strengths in (("adversarial", (1.0,)), ("noise", ladder)):
            for strength in strengths:
                key = {"seed_id": seed, "condition": condition, "strength": strength}
                variants.append({**key, "draw": 0, "realised_l2": 2 * strength})
                for layer in range(2):
                    moved = 0.4 if condition == "adversarial" else strength / 10
                    names = {"layer": f"l{layer}", "layer_index": layer, "similarity": 1 - moved}
                    similarity.append({**key, **common, **names})
    layers = {"target": ["seed"], "strength": [1.0], "layer": ["l1"], "gain_undefined_reason": [None]}
    runs = pl.DataFrame(similarity), pl.DataFrame(variants), seeds
    whole = pl.DataFrame(layers, schema_overrides={"gain_undefined_reason": pl.String})
    ruler = noise_ruler(*runs, whole)
    table = restoration(maps(filled(np.full((2, 3), 0.4), [[0.1] * 3, [0.0] * 3])), ruler, rng_seed=0)
    first, second = table.filter(pl.col("returned").is_null()).iter_rows(named=True)
    values = ("gain", "residual_gain", "residual_gain_low", "residual_gain_high")
    assert [first[name] for name in values] == pytest.approx([4, 1, 1, 1])
    assert first["gain_censored"] is first["residual_gain_censored"] is None
    assert (second["residual_gain"], second["residual_gain_censored"]) == (pytest.approx(0.5), "below")
    assert noise_ruler(runs[0].filter(target="own"), *runs[1:], whole) is None
    blurred = noise_ruler(*runs, whole.with_columns(gain_undefined_reason=pl.lit("rounding")))
    rows = restoration(maps(filled(np.full((2, 3), 0.4), [[0.1] * 3, [0.0] * 3])), blurred, rng_seed=0)
    assert rows.filter(pl.col("returned").is_null())["gain"].to_list() == [pytest.approx(4), None]


def test_one_image_has_no_interval():
    table = restoration(maps(filled([[0.4]], [[0.1]])), rng_seed=0)
    assert table.select("restoration", "low", "high", "n").row(0) == (pytest.approx(0.75), None, None, 1)
    assert depth_of_return(table.filter(pl.col("returned").is_null())) is None


def test_images_that_return_stand_apart():
    columns = filled([[0.4, 0.4, 0.4, 0.4]], [[0.1, 0.1, 0.3, 0.3]])
    table = restoration(maps(columns, returned=[1, 1, 0, 0]), rng_seed=0)
    values = dict(table.select("returned", "restoration").iter_rows())
    assert values == {None: pytest.approx(0.5), True: pytest.approx(0.75), False: pytest.approx(0.25)}


def test_noise_against_noise_is_restored_nowhere():
    """Where purified and attacked maps lie as far by chance, at most a few of 100 intervals leave out 0."""
    rng, misses = np.random.default_rng(3), 0
    for number in range(100):
        attacked, purified = rng.uniform(0.2, 0.6, (2, 1, 24))
        row = restoration(maps(filled(attacked, purified)), rng_seed=number, n_bootstrap=300).row(0, named=True)
        misses += not row["low"] <= 0 <= row["high"]
    assert misses <= 11  # of a binomial of 100 and 0.05 in 99 % of repeats


def test_depth_is_the_first_layer_that_stays_back():
    rows = pl.DataFrame(
        {
            "layer_index": [0, 1, 2, 3, 4],
            "layer_label": ["a", "b", "c", "d", "e"],
            "restoration": [0.9, 0.2, 0.8, None, 0.9],
            "low": [0.8, 0.1, 0.6, None, 0.7],
        }
    )
    assert depth_of_return(rows) == "c"
    assert depth_of_return(rows.with_columns(low=pl.lit(0.5))) is None


def images(defence, stage, correct, *, strength=0.0, attack=None, fault=None):
    return [
        {
            "defence": defence,
            "stage": stage,
            "attack": attack,
            "strength": strength,
            "seed_id": f"s{i}",
            "predicted_class": 1,
            "is_correct": value,
            "fault": fault if value is None else None,
            "seconds": 0.5,
        }
        for i, value in enumerate(correct)
    ]


TRAITS = {"bits": Trait("bpda", is_random=False, is_iterative=False, eot=None)}


def evaluation(adaptive=(True, False, None, True)):
    rows = images("none", "clean", [True] * 4) + images("none", "static", [False] * 4, strength=1.0, attack="pgd")
    rows += images("none", "noise", [True] * 4, strength=1.0)
    rows += images("bits", "clean", [True, True, False, True])
    rows += images("bits", "static", [True, True, True, False], strength=1.0, attack="pgd")
    rows += images("bits", "static", [True, True, True, True], strength=0.5, attack="pgd")
    rows += images("bits", "noise", [True, False, False, False], strength=1.0)
    rows += images("bits", "adaptive", adaptive, strength=1.0, attack="pgd", fault="the gradient is zero")
    return DEFENDED_IMAGES.frame(rows)


def test_adaptive_is_the_worst_case_of_each_image():
    """Wrong are the second (adaptive), the third (clean) and the fourth (static): one of four stays."""
    table = evaluation()
    rows = defence_rows(table, TRAITS, {"pgd": AttackWords(8 / 255, "linf", 40, None)}, rng_seed=3)
    adaptive = rows.filter(stage="adaptive").row(0, named=True)
    assert (adaptive["correct"], adaptive["n"], adaptive["steps"], adaptive["eps"]) == (1, 4, 40, 8 / 255)
    static = rows.filter(defence="bits", stage="static", strength=1.0)
    assert adaptive["share"] <= static["share"][0]
    assert worst_case(table.filter(defence="bits")).sort("seed_id")["is_correct"].to_list() == [
        True,
        False,
        False,
        False,
    ]


def test_intervals_are_wilsons():
    rows = defence_rows(
        DEFENDED_IMAGES.frame(images("bits", "clean", [True] * 12 + [False] * 48)), TRAITS, {}, rng_seed=0
    )
    assert (rows["low"][0], rows["high"][0]) == (pytest.approx(0.118285, abs=1e-6), pytest.approx(0.317818, abs=1e-6))


def test_checks_that_fail_are_named():
    table = evaluation()
    rows = defence_rows(table, TRAITS, {}, rng_seed=0)
    outcomes = {row["check"]: row["passed"] for row in sanity(table, rows, TRAITS).filter(defence="bits").to_dicts()}
    assert outcomes == {
        "fewer predictions stay as the attack grows stronger": True,
        "noise of the same size does not beat the attack": False,
        "an attack that knows the defence beats one that does not": True,
        "the attack has a gradient on every image": False,
        "the defence has a gradient": False,
        "the defence is deterministic": True,
        "the defence does not optimise in steps": True,
    }
    bare = sanity(table, rows, TRAITS).filter(defence="none")
    assert bare.filter(check="the attack fools the network without a defence")["passed"].to_list() == [True]


class TestCertificates:
    """Randomised smoothing by hand (D7)."""

    def test_by_hand(self):
        result = certificate(990, 1000, 0.25, 0.001)
        assert (result.p_low, result.radius) == (pytest.approx(0.976036, abs=1e-6), pytest.approx(0.494502, abs=1e-6))
        assert certificate(100, 100, 0.25, 0.001).radius == pytest.approx(0.375119, abs=1e-6)
        assert certificate(50, 100, 0.25, 0.001).radius is None
        assert certificate(0, 100, 0.25, 0.001) == (0.0, None)

    def test_the_bound_is_wrong_as_rarely_as_it_says(self):
        """Of 4,000 draws at p = 0.7 the bound at 5 % lies above p in about 5 %."""
        hits = np.random.default_rng(0).binomial(200, 0.7, 4000)
        bounds = {k: certificate(int(k), 200, 1.0, 0.05).p_low for k in set(hits.tolist())}
        assert 0.03 < np.mean([bounds[k] > 0.7 for k in hits.tolist()]) <= 0.06
