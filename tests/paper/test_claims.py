"""The paper's claims as numbers: made-up readings whose answers are known."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from camdrift.paper import claims as module
from camdrift.paper.claims import claims, verdict
from camdrift.paper.defects import Defects
from camdrift.paper.readings import compromised_fraction, mean, median, read, variance
from camdrift.tables.reproduction import EMULATION
from camdrift.tables.study import FLOOR, LAYERS, SEEDS
from camdrift.tables.words import ARTEFACT, FAILS, HOLDS, UNDECIDED

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
LAYER_LABELS = ("block1_conv1", "block4_conv1", "block5_conv1", "block5_conv2")


def emulation(
    similar,
    seeds=12,
    *,
    flipped=lambda released, strength, seed: True,
    gained=None,
    labels=LAYER_LABELS,
    strengths=STRENGTHS,
):
    """A whole `emulation` table; `similar(condition, released, strength, layer, seed)` is the similarity.

    `released` is true for rows with every defect; all other readings are those of the equations.
    """
    gained = gained or (lambda condition, released, strength, seed: 10)
    rows = []
    for released in (False, True):
        readings = [
            (
                released,
                released,
                "own" if released else "seed",
                "probability" if released else "logit",
                "jet" if released else "cosine",
            )
        ]
        for is_accumulated, is_truncated, target, score, metric in readings:
            for condition in ("adversarial", "noise"):
                for strength in strengths:
                    for seed in range(seeds):
                        for index, label in enumerate(labels):
                            rows.append({
                                "seed_id": f"{seed:02d}", "condition": condition, "strength": strength, "draw": 0,
                                "is_accumulated": is_accumulated, "is_truncated": is_truncated,
                                "is_flipped": condition == "adversarial" and flipped(released, strength, seed),
                                "realised_l2": strength, "n_gained": gained(condition, released, strength, seed),
                                "target": target, "clean_score": score, "metric": metric, "layer": f"l{index}",
                                "layer_label": label, "layer_index": index,
                                "similarity": similar(condition, released, strength, index, seed),
                            })  # fmt: skip
    return EMULATION.frame(rows)


def tables(analysed=12, lost=13):
    rows = [
        {"seed_id": f"{i:02d}", "status": "analysed" if i < analysed else "no_adversarial"}
        for i in range(analysed + lost)
    ]
    floor = [
        {"seed_id": "00", "other_seed_id": "01", "target": "seed", "layer": f"l{i}", "similarity": f}
        for i, f in enumerate((0.5, 0.9, 0.5, 0.5))
    ]
    return {"seeds": SEEDS.frame(rows), "floor": FLOOR.frame(floor), "layers": LAYERS.frame()}


def found(similar, *, n_bootstrap=200, **options):
    table = claims(tables(), emulation(similar, **options), rng_seed=0, n_bootstrap=n_bootstrap)
    return {(row["claim"], row["subject"], row["measure"]): row for row in table.to_dicts()}


def rows_about(table, words, subject=None):
    return [row for (claim, about, _), row in table.items() if words in claim and subject in (None, about)]


def wobble(seed, layer, size=0.02):
    """Something that differs from seed to seed, and sums to about nothing."""
    return size * np.sin(2.4 * seed + layer)


def strong(condition, released, strength, layer, seed):
    """Attack: deviates by 0.1 per doubling, most in the third and second layer. Released: two groups of strengths."""
    if condition == "noise":
        return 0.95 + wobble(seed, layer) / 2
    if released:
        return (0.7 if strength in (0.5, 1.0) else 0.5) + wobble(seed, layer)
    return 0.85 - 0.1 * STRENGTHS.index(strength) - (0.0, 0.06, 0.08, 0.02)[layer] + wobble(seed, layer)


class TestNumbers:
    def test_difference(self):
        table = found(strong)
        row = rows_about(table, "deviate more", "strength 1")[0]
        expected = np.mean(
            [[strong("noise", 0, 1.0, i, s) - strong("adversarial", 0, 1.0, i, s) for i in range(4)] for s in range(12)]
        )
        assert row["corrected"] == pytest.approx(expected)
        assert row["corrected_low"] < expected < row["corrected_high"]
        assert row["verdict"] == HOLDS
        assert len(rows_about(table, "deviate more")) == 5 + 4

    def test_variance_ratio(self):
        row = rows_about(found(strong), "vary more", "strength 2")[0]
        assert row["corrected"] == pytest.approx(2)  # the wobble of noise is half that of the attack

    def test_ranks_before_and_after_the_floor(self):
        """Deviations 0.56, 0.58 rank second and first; with a floor of 0.9, 0.56 / 0.1 takes over."""
        table = found(strong)
        plain = {
            r["subject"]: r for r in rows_about(table, "most susceptible") if r["measure"] == "rank by mean deviation"
        }
        corrected = {r["subject"]: r for r in rows_about(table, "most susceptible") if "floor" in r["measure"]}
        assert [plain[label]["corrected"] for label in ("block4_conv1", "block5_conv1")] == [2, 1]
        assert [corrected[label]["corrected"] for label in ("block4_conv1", "block5_conv1")] == [1, 2]
        assert {row["verdict"] for row in plain.values()} == {HOLDS}

    def test_layers_that_are_not_the_papers_are_not_ranked(self):
        assert not rows_about(found(strong, labels=("a", "b", "c", "d")), "most susceptible")

    def test_curves(self):
        table = found(strong)
        half = rows_about(table, "0.5 and 1 are almost")[0]
        quarter = rows_about(table, "0.25, 2 and 4 are very")[0]
        assert (half["corrected"], quarter["corrected"]) == (pytest.approx(0.1 / 0.4), pytest.approx(1))
        assert (half["as_released"], quarter["as_released"]) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
        assert half["verdict"] == quarter["verdict"] == ARTEFACT

    def test_everything_compromised(self):
        table = found(strong)
        assert rows_about(table, "compromise all")[0]["corrected"] == 1
        assert rows_about(table, "compromise no layer")[0]["corrected"] == 0
        assert rows_about(table, "few layers")[0]["verdict"] == FAILS
        assert [r["corrected"] for r in rows_about(table, "compromised in about")] == [1, 1]

    def test_compromised_share(self):
        """The attack is noise of other seeds: about half lies below the median, nobody more."""
        row = rows_about(
            found(lambda c, r, s, layer, seed: 0.9 + wobble(seed + 5 * (c == "noise"), layer)), "about 40 %"
        )[0]
        assert 0.3 <= row["corrected"] <= 0.7

    def test_coverage(self):
        def gained(condition, released, strength, seed):
            return (20 if condition == "adversarial" else 5) + int(4 * strength) + seed

        table = found(strong, gained=gained, flipped=lambda released, strength, seed: not released or strength > 1)
        faster = rows_about(table, "grows faster")[0]
        assert faster["corrected"] == pytest.approx(15)
        # Released: the attack at strength 1 is not credited, and stands against noise at 0.25.
        assert faster["as_released"] == pytest.approx(0 - np.mean([6 + s for s in range(12)]))
        trend = rows_about(table, "the more coverage")[0]
        assert trend["corrected"] == pytest.approx(1)

    def test_trend_is_kendalls_tau(self):
        rng = np.random.default_rng(0)
        gained = rng.integers(0, 4, (6, 5)).astype(float)
        gained[0] = 3
        expected = [0.0, *(stats.kendalltau(row, STRENGTHS).statistic for row in gained[1:])]
        assert module._trend(gained, STRENGTHS) == pytest.approx(np.mean(expected))

    def test_share_of_attacked_images(self):
        row = rows_about(found(strong), "48 %")[0]
        assert (row["corrected"], row["n"], row["verdict"]) == (12 / 25, 25, UNDECIDED)
        wilson = stats.binomtest(12, 25).proportion_ci(method="wilson")
        assert (row["corrected_low"], row["corrected_high"]) == pytest.approx(tuple(wilson))

    def test_released_images_that_are_not_adversarial(self):
        row = rows_about(found(strong, flipped=lambda released, strength, seed: not released), "change the prediction")[
            0
        ]
        assert (row["as_released"], row["corrected"], row["verdict"]) == (0, 1, HOLDS)


HUNDRED = tuple(f"layer {i}" for i in range(100))


def compromising(n_layers):
    """The attack compromises the first so many layers of every image, at every strength: no interval has a width."""
    return lambda condition, released, strength, layer, seed: (
        0.1 if condition == "adversarial" and layer < n_layers else 0.9
    )


def curves(similarities):
    """All layers and seeds have these similarities, by strength."""
    return lambda condition, released, strength, layer, seed: (
        similarities[strength] if condition == "adversarial" else 0.95
    )


class TestLimits:
    """The words of the paper as numbers: a claim holds just inside its limit, and fails just outside."""

    def verdict(self, words, *arguments, **options):
        (verdict,) = self.verdicts(words, *arguments, **options)
        return verdict

    def verdicts(self, words, *arguments, **options):
        """Different verdicts on the claims with these words."""
        table = found(*arguments, **{"seeds": 3, "n_bootstrap": 10} | options)
        return {row["verdict"] for row in rows_about(table, words)}

    @pytest.mark.parametrize(("distance", "expected"), [(0.0499, HOLDS), (0.0501, FAILS)])
    def test_almost_identical(self, distance, expected):
        """The curves of 0.5 and 1 lie a twentieth of the whole range apart, no more."""
        similarity = curves({0.25: 0.9, 0.5: 0.8, 1.0: 0.8 - 0.5 * distance, 2.0: 0.6, 4.0: 0.4})
        assert self.verdict("0.5 and 1 are almost identical", similarity) == expected

    @pytest.mark.parametrize(("distance", "expected"), [(0.333, HOLDS), (0.334, FAILS)])
    def test_very_similar(self, distance, expected):
        """The curves of 0.25, 2 and 4 lie a third of the whole range apart, no more."""
        similarity = curves({0.25: 0.7, 0.5: 0.9, 1.0: 0.4, 2.0: 0.7 - 0.5 * distance, 4.0: 0.69})
        assert self.verdict("0.25, 2 and 4 are very similar", similarity) == expected

    @pytest.mark.parametrize(
        ("paper", "n_layers", "expected"),
        [
            (40, 29, FAILS), (40, 31, HOLDS), (40, 49, HOLDS), (40, 51, FAILS),
            (80, 69, FAILS), (80, 71, HOLDS), (80, 89, HOLDS), (80, 91, FAILS),
        ],
    )  # fmt: skip
    def test_about_is_within_ten_points(self, paper, n_layers, expected):
        assert self.verdict(f"in about {paper} %", compromising(n_layers), labels=HUNDRED) == expected

    @pytest.mark.parametrize(("share", "expected"), [(0.37, FAILS), (0.39, HOLDS), (0.57, HOLDS), (0.59, FAILS)])
    def test_about_of_the_attacked_images(self, share, expected):
        """Of 20,000 images, so that the interval is narrow."""
        analysed = round(20_000 * share)
        seeds = SEEDS.frame({"status": ["analysed"] * analysed + ["no_adversarial"] * (20_000 - analysed)})
        table = claims({"seeds": seeds}, EMULATION.frame(), rng_seed=0)
        assert table["verdict"].to_list() == [expected]

    @pytest.mark.parametrize(("n_layers", "expected"), [(25, HOLDS), (26, FAILS)])
    def test_a_few_layers_are_a_quarter(self, n_layers, expected):
        words = "A few layers suffice (at most 25 of 100)"
        assert self.verdict(words, compromising(n_layers), labels=HUNDRED) == expected

    @pytest.mark.parametrize(("n_strengths", "expected"), [(12, FAILS), (13, HOLDS)])
    def test_many_cases_are_a_quarter(self, n_strengths, expected):
        """Of fifty strengths: at so many of them one layer of four is compromised, at the others all."""
        strengths = tuple(float(s) for s in range(1, 51))

        def similar(condition, released, strength, layer, seed):
            is_compromised = condition == "adversarial" and (layer == 0 or strength > n_strengths)
            return 0.1 if is_compromised else 0.9

        assert self.verdict("A few layers suffice", similar, strengths=strengths) == expected

    @pytest.mark.parametrize("words", ["compromise all layers", "compromise no layer"])
    @pytest.mark.parametrize(("n_images", "expected"), [(0, FAILS), (1, HOLDS)])
    def test_some_are_one_or_more(self, words, n_images, expected):
        """Of thirty images; all others compromise one layer of four."""

        def similar(condition, released, strength, layer, seed):
            layers = 1 if seed >= n_images else {"compromise all layers": 4, "compromise no layer": 0}[words]
            return 0.1 if condition == "adversarial" and layer < layers else 0.9

        assert self.verdict(words, similar, seeds=30, strengths=(1.0,)) == expected

    @pytest.mark.parametrize(("n_flipped", "expected"), [(98, FAILS), (99, HOLDS)])
    def test_all_change_the_prediction_but_one_in_a_hundred(self, n_flipped, expected):
        options = {"seeds": 100, "strengths": (1.0,), "labels": ("a",), "n_bootstrap": 0}
        flipped = lambda released, strength, seed: seed < n_flipped  # noqa: E731
        assert self.verdict("change the prediction", compromising(1), flipped=flipped, **options) == expected

    @pytest.mark.parametrize(("difference", "expected"), [(0.001, HOLDS), (-0.001, FAILS)])
    def test_more_deviation_is_more_than_none(self, difference, expected):
        similarity = lambda condition, *_: 0.8 - difference * (condition == "adversarial")  # noqa: E731
        assert self.verdicts("deviate more", similarity) == {expected}

    @pytest.mark.parametrize(("ratio", "expected"), [(1.01, HOLDS), (0.99, FAILS)])
    def test_more_variance_is_a_ratio_above_one(self, ratio, expected):
        def similar(condition, released, strength, layer, seed):
            return 0.8 + wobble(seed, layer) * (ratio if condition == "adversarial" else 1)

        assert self.verdicts("vary more", similar, n_bootstrap=0) == {expected}

    @pytest.mark.parametrize(("more", "expected"), [(1, HOLDS), (-1, FAILS)])
    def test_faster_growth_is_any_neuron_more(self, more, expected):
        """One neuron at one strength of five."""
        gained = lambda condition, released, strength, seed: (  # noqa: E731
            10 + more * (condition == "adversarial" and strength == 1.0)
        )
        assert self.verdict("grows faster", compromising(1), gained=gained) == expected

    @pytest.mark.parametrize(("more", "expected"), [(1, HOLDS), (-1, FAILS)])
    def test_more_coverage_with_strength_is_any_trend(self, more, expected):
        """One image of thirty gains or loses a neuron at the last strength; the others stay as they are."""
        gained = lambda condition, released, strength, seed: 10 + more * (seed == 0 and strength == 4.0)  # noqa: E731
        options = {"seeds": 30, "labels": ("a",), "n_bootstrap": 0}
        assert self.verdict("the more coverage", compromising(1), gained=gained, **options) == expected

    @pytest.mark.parametrize(("rank", "expected"), [(1, HOLDS), (2, HOLDS), (3, FAILS)])
    def test_the_two_most_susceptible_are_the_first_two(self, rank, expected):
        """By deviation; with the same floor under every layer the second measure ranks them alike."""
        labels = ("a", "block5_conv1", "b", "block4_conv1")
        deviations = {1: (0.1, 0.5, 0.2, 0.6), 2: (0.1, 0.6, 0.2, 0.5), 3: (0.7, 0.6, 0.2, 0.5)}[rank]
        similar = lambda condition, released, strength, layer, seed: 1 - deviations[layer]  # noqa: E731
        floor = tables()["floor"].with_columns(similarity=0.5)
        table = claims(tables() | {"floor": floor}, emulation(similar, labels=labels), rng_seed=0, n_bootstrap=0)
        rows = table.filter(pl.col("subject") == "block4_conv1", pl.col("measure").str.starts_with("rank"))
        assert rows["corrected"].to_list() == [rank, rank]
        assert rows["verdict"].to_list() == [expected, expected]

    @pytest.mark.parametrize(("rank", "expected"), [(1, HOLDS), (2, HOLDS), (3, FAILS)])
    def test_the_two_highest_gains_are_the_first_two(self, rank, expected):
        """At the lowest strength; at the higher one the layer ranks last."""
        row = {"target": "seed", "layer": "l1", "layer_label": "block4_conv1", "layer_index": 1, "n": 12}
        ranks = {0.25: rank, 0.5: 9}
        layers = LAYERS.frame([
            {**row, "strength": s, "rank": r, "rank_low": r, "rank_high": r} for s, r in ranks.items()
        ])  # fmt: skip
        table = claims(tables() | {"layers": layers}, emulation(strong, seeds=3), rng_seed=0, n_bootstrap=10)
        rows = table.filter(pl.col("measure") == "rank by noise-equivalent gain, strength 0.25")
        assert rows.select("subject", "corrected", "n", "verdict").rows() == [("block4_conv1", rank, 12, expected)]
        assert not table["measure"].str.contains("gain, strength 0.5").any()


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "released", "expected"),
        [
            (0.1, 0.3, None, HOLDS),
            (-0.1, 0.3, 0.2, UNDECIDED),
            (-0.3, -0.1, 0.2, ARTEFACT),
            (-0.3, -0.1, -0.2, FAILS),
            (-0.3, -0.1, None, FAILS),
            (2.0, 3.0, 0.0, ARTEFACT),
            (2.0, 3.0, 1.0, ARTEFACT),
            (0.0, 1.0, None, HOLDS),
            (-0.2, 0.0, None, UNDECIDED),
            (1.0, 1.2, None, UNDECIDED),
        ],
    )
    def test_follows_from_the_interval(self, low, high, released, expected):
        row = {
            "n": 20,
            "corrected": (low + high) / 2,
            "corrected_low": low,
            "corrected_high": high,
            "as_released": released,
        }
        assert verdict({**row, "holds_from": 0.0, "holds_to": 1.0}) == expected

    def test_no_end_is_no_bound(self):
        row = {"n": 20, "corrected": 5.0, "corrected_low": 4.0, "corrected_high": 1e9, "as_released": None}
        assert verdict({**row, "holds_from": 0.0, "holds_to": None}) == HOLDS

    def test_without_an_interval_the_value_decides(self):
        row = {"n": 20, "corrected": 0.2, "corrected_low": None, "corrected_high": None, "as_released": None}
        assert verdict({**row, "holds_from": 1e-9, "holds_to": 1.0}) == HOLDS

    @pytest.mark.parametrize(
        ("corrected", "holds_from", "n", "expected"),
        [
            (0.5, 0.0, 1, UNDECIDED),
            (0.5, 0.0, 2, HOLDS),
            (-0.5, 0.0, 1, UNDECIDED),
            (-0.5, 0.0, 2, FAILS),
            (1.0, 1e-9, 1, HOLDS),
            (0.0, 1e-9, 1, UNDECIDED),
            (0.0, 1e-9, 2, FAILS),
        ],
    )
    def test_one_image_decides_only_that_something_exists(self, corrected, holds_from, n, expected):
        row = {"corrected": corrected, "corrected_low": None, "corrected_high": None, "as_released": None, "n": n}
        assert verdict({**row, "holds_from": holds_from, "holds_to": 1.0}) == expected

    def test_nothing_measured_is_undecided(self):
        row = {"n": 20, "corrected": None, "corrected_low": None, "corrected_high": None, "as_released": 1.0}
        assert verdict({**row, "holds_from": 0.0, "holds_to": 1.0}) == UNDECIDED


class TestReading:
    def test_measures_leave_out_what_is_undefined(self):
        values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [8.0, np.nan]])
        assert mean(values, 0)[0] == 4
        assert median(values)[0] == 3
        assert variance(values)[0] == pytest.approx(26 / 3)
        assert np.isnan([mean(values, 0)[1], median(values)[1], variance(values)[1]]).all()

    def test_fraction_is_of_what_is_defined(self):
        table = emulation(
            lambda c, r, s, layer, seed: None if seed == 0 else (0.5 if c == "noise" else 0.1 + seed / 20), seeds=11
        )
        reading = read(table, Defects())
        assert reading.adversarial.shape == (11, 5, 4)
        assert np.allclose(compromised_fraction(reading), 0.7)  # 0.15 to 0.45 lie below 0.5, 0.5 to 0.6 do not

    def test_rows_follow_the_switches(self):
        table = emulation(strong)
        assert read(table, Defects.all()).adversarial.mean() == pytest.approx(
            table.filter(pl.col("metric") == "jet", pl.col("condition") == "adversarial")["similarity"].mean()
        )
