"""Controls from the tables of a study: made-up tables whose answers are known."""

import numpy as np
import polars as pl
import pytest

from camdrift.statistics import controls
from camdrift.statistics.controls import study_controls
from camdrift.tables.study import CONTROLS, FLOOR, LAYERS, SIMILARITY, VARIANTS

SEEDS, STRENGTHS = [f"{i:02d}" for i in range(8)], (0.5, 2.0)


def deviation(condition, target, strength, seed):
    """Noise moves half as far as the attack; the own class adds 0.1 under the attack at strength 2."""
    base = 0.05 * strength + 0.002 * seed
    if condition == "noise":
        return base / 2
    return base + (0.1 if target == "own" and strength == 2 else 0)


def tables(draws=1, of=deviation):
    similarity, variants = [], []
    for i, seed_id in enumerate(SEEDS):
        for condition in ("adversarial", "noise"):
            for strength in STRENGTHS:
                for draw in range(draws if condition == "noise" else 1):
                    key = {"seed_id": seed_id, "condition": condition, "strength": strength, "draw": draw}
                    is_flipped = condition == "adversarial" and strength == 2 and i < 6
                    variants.append(
                        {**key, "is_flipped": is_flipped, "realised_l2": strength * (0.9 if strength == 2 else 1)}
                    )
                    for target in ("own", "seed"):
                        for index in range(2):
                            value = 1 - of(condition, target, strength, i) * (1 + index)
                            similarity.append(
                                {
                                    **key,
                                    "target": target,
                                    "layer": f"l{index}",
                                    "layer_label": f"l{index}",
                                    "layer_index": index,
                                    "similarity": value,
                                }
                            )
    floor = [
        {"seed_id": "00", "other_seed_id": "01", "target": t, "layer": f"l{i}", "similarity": 0.4 + 0.2 * i}
        for t in ("own", "seed")
        for i in range(2)
    ]
    return {
        "similarity": SIMILARITY.frame(similarity),
        "variants": VARIANTS.frame(variants),
        "floor": FLOOR.frame(floor),
    }


def rows(table, control, quantity="", **where):
    picked = table.filter(pl.col("control") == control, pl.col("quantity").str.contains(quantity, literal=True))
    for name, value in where.items():
        picked = picked.filter(pl.col(name) == value)
    return picked.to_dicts()


@pytest.fixture(scope="module")
def found():
    table = study_controls(tables(), rng_seed=0, n_bootstrap=200)
    assert table.schema == CONTROLS.schema
    return table


def test_norm_after_clipping(found):
    """Clipping took a tenth at strength 2, against the weakest strength."""
    shares = {row["strength"]: row["value"] for row in rows(found, controls.NORM, "adversarial")}
    assert shares == {0.5: pytest.approx(1), 2.0: pytest.approx(0.9)}
    assert {row["expected"] for row in rows(found, controls.NORM)} == {1.0}


def test_height_above_the_floor(found):
    """At strength 0.5, mean deviation 0.025 + 0.007 and twice that, floors 0.4 and 0.6."""
    [row] = rows(found, controls.UNRELATED, target="seed", strength=0.5)
    d = 0.025 + 0.002 * np.arange(8).mean()
    assert row["value"] == pytest.approx(np.mean([1 - d - 0.4, 1 - 2 * d - 0.6]))
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 8


def test_what_the_change_of_class_adds(found):
    added = {(r["quantity"].split()[-1], r["strength"]): r["value"] for r in rows(found, controls.OWN_CLASS)}
    assert added == {
        ("adversarial", 0.5): pytest.approx(0), ("adversarial", 2.0): pytest.approx(0.15),
        ("noise", 0.5): pytest.approx(0), ("noise", 2.0): pytest.approx(0),
    }  # fmt: skip


def test_fooling_and_not(found):
    """Six of eight seeds still fool the network at strength 2, none at 0.5."""
    fooling = rows(found, controls.FOOLING, "deviation, fooling", target="seed")
    missing = rows(found, controls.FOOLING, "deviation, not fooling", target="seed")
    assert [(r["strength"], r["n"]) for r in fooling] == [(2.0, 6)]
    assert [(r["strength"], r["n"]) for r in missing] == [(0.5, 8), (2.0, 2)]
    assert fooling[0]["value"] == pytest.approx(1.5 * (0.1 + 0.002 * np.arange(6).mean()))
    assert missing[1]["value"] == pytest.approx(1.5 * (0.1 + 0.002 * 6.5))


def test_two_draws_of_noise_are_held_against_each_other():
    """Equal draws: no layer compromised more than its own median, gain 1, no layer differs."""
    assert not rows(study_controls(tables(), rng_seed=0), controls.NOISE_AGAINST_NOISE)
    null = study_controls(tables(draws=2), rng_seed=0, n_bootstrap=50)
    [fraction] = rows(null, controls.NOISE_AGAINST_NOISE, "compromised", target="seed", strength=2.0)
    [differ] = rows(null, controls.NOISE_AGAINST_NOISE, "layers that differ", target="seed", strength=2.0)
    gain = [
        r for r in rows(null, controls.NOISE_AGAINST_NOISE, "gain", target="seed", strength=2.0) if r["layer"] is None
    ]
    assert (fraction["value"], fraction["expected"]) == (0.5, 0.5)
    assert (differ["value"], differ["expected"]) == (0, 0)
    assert (gain[0]["value"], gain[0]["expected"]) == (pytest.approx(1), 1)


@pytest.mark.parametrize(("p", "expected"), [(0.049, 1), (0.051, 0)])
def test_layers_differ_at_five_per_cent(p, expected):
    words = {"target": "seed", "strength": 1.0, "n_pairs": 8}
    statistics = LAYERS.frame([{**words, "layer": f"l{i}", "wilcoxon_p_holm": q} for i, q in enumerate((p, 1.0, None))])
    [row] = [row for row in controls.null_rows(statistics) if row["quantity"] == "layers that differ (Holm, 5 %)"]
    assert (row["value"], row["n"]) == (expected, 8)


def test_overlap_of_rank_intervals():
    """Intervals 1-2, 2-3, 3-4: two of three pairs overlap."""
    ranks = pl.DataFrame({"rank_low": [1, 2, 3, None], "rank_high": [2, 3, 4, None]})
    assert controls._overlapping(ranks) == pytest.approx(2 / 3)


def test_nothing_to_control():
    empty = {"similarity": SIMILARITY.frame(), "variants": VARIANTS.frame(), "floor": FLOOR.frame()}
    assert study_controls(empty, rng_seed=0).is_empty()
