"""How well detectors tell: by hand, against scikit-learn, and that thresholds see no image that they judge."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from camdrift.detectors.assessment import (
    assessed,
    clustered_auc,
    detector_rows,
    fold_thresholds,
    seed_thresholds,
    threshold_at,
)
from camdrift.detectors.cross_validation import seed_folds
from camdrift.detectors.sheet import DetectorScores, Judged, ScoreSheet
from camdrift.tables.detection import DETECTORS_TABLE


def judged(values, seeds=None):
    scores = np.asarray(values, np.float64)
    names = [f"{number:04d}" for number in (range(len(scores)) if seeds is None else seeds)]
    return Judged(DetectorScores(scores, scores[:, None]), np.array(names))


def sheet_of(attack, rng_seed, *, seeds=40, layers=3, gap=3.0, strengths=(1.0, 2.0)):
    """A run in which the first layer tells attacked images, and noise does nothing."""
    rng = np.random.default_rng(rng_seed)
    sheet = ScoreSheet(attack, epsilon=1 / 255, columns={"made": ["a", "b", "c"][:layers], "single": [""]})
    names = [f"seed {number}" for number in range(seeds)]
    for condition, at in (("clean", (0.0,)), ("adversarial", strengths), ("noise", strengths)):
        for strength in at:
            values = rng.normal(size=(seeds, layers))
            values[:, 0] += gap * (condition == "adversarial")
            scores = {
                "made": DetectorScores(values.mean(1), values),
                "single": DetectorScores(values[:, 0], values[:, :1]),
            }
            sheet.add(condition, strength, scores, names)
    return sheet


class TestByHand:
    def test_d5_auc(self):
        """0.9 and 0.8 win all three pairs each, 0.4 one, loses one and ties one: 7.5 / 9."""
        scores = np.array([0.9, 0.8, 0.4, 0.7, 0.4, 0.1])
        flags = np.arange(6) < 3
        assert clustered_auc(scores, flags, np.arange(6).astype(str)).auc == pytest.approx(7.5 / 9)

    def test_d5_threshold(self):
        negatives = np.arange(200) / 200
        threshold = threshold_at(negatives, 1)
        assert threshold == 0.985
        assert (negatives > threshold).sum() == 2
        assert (np.array([0.5, 0.985, 0.992, 0.999]) > threshold).mean() == 0.5
        assert (negatives > threshold_at(negatives, 5)).sum() == 10

    def test_interval_of_seeds_by_hand(self):
        """Two seeds: V - A are 1/2 - 3/4, 1 - 3/4 (positives) and 1/2 - 3/4, 1 - 3/4 (negatives)."""
        scores, flags = np.array([2.0, 4.0, 3.0, 1.0]), np.array([True, True, False, False])
        interval = clustered_auc(scores, flags, np.array(["a", "b", "a", "b"]))
        error = np.sqrt(2 * ((-0.125 - 0.125) ** 2 + (0.125 + 0.125) ** 2))
        reach = 12.706204736 * error / (0.75 * 0.25)
        assert interval.auc == 0.75
        assert interval.low == pytest.approx(1 / (1 + np.exp(-np.log(3) + reach)))

    def test_all_told(self):
        interval = clustered_auc(np.array([2.0, 1.0]), np.array([True, False]), np.array(["a", "b"]))
        assert (interval.auc, interval.low, interval.high) == (1, 1, 1)


def test_auc_against_scikit_learn():
    rng = np.random.default_rng(0)
    scores, flags = rng.integers(0, 9, 80).astype(float), rng.random(80) < 0.3
    assert clustered_auc(scores, flags, np.arange(80).astype(str)).auc == pytest.approx(roc_auc_score(flags, scores))


def test_variance_is_delongs_where_every_image_is_a_seed():
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1, 1, 30), rng.normal(0, 1, 30)
    wins = (positive[:, None] > negative).astype(float)
    # DeLong: S10 / m + S01 / n; here with 60 seeds in place of 30 and 30, so divided by n / (n - 1) alike
    variance = wins.mean(1).var() / 30 + wins.mean(0).var() / 30
    auc = wins.mean()
    interval = clustered_auc(np.r_[positive, negative], np.arange(60) < 30, np.arange(60).astype(str))
    import scipy.stats

    width = 2 * scipy.stats.t.ppf(0.975, 59) * np.sqrt(60 / 59 * variance) / (auc * (1 - auc))
    ends = np.log(interval.high / (1 - interval.high)) - np.log(interval.low / (1 - interval.low))
    assert ends == pytest.approx(width)


def test_a_random_score_is_called_random():
    """The interval holds 0.5 in 93 or more of 100 repeats, with seeds whose images resemble each other too."""
    for alike in (0.0, 2.0):
        held = 0
        for repeat in range(100):
            rng = np.random.default_rng(repeat)
            values = rng.normal(size=(20, 2)) + alike * rng.normal(size=(20, 1))
            seeds, flags = np.repeat(np.arange(20), 2).astype(str), np.tile([True, False], 20)
            interval = clustered_auc(values.ravel(), flags, seeds)
            held += interval.low <= 0.5 <= interval.high
        assert held >= 93


class TestThresholds:
    def test_never_see_what_they_judge(self):
        """Whatever the images of a fold are called or score, its threshold stays."""
        rng = np.random.default_rng(0)
        negatives = judged(rng.normal(size=200))
        folds = seed_folds(negatives.seeds.tolist(), [])
        before = fold_thresholds(negatives, folds, 5)
        is_in = np.array([folds[seed] == 2 for seed in negatives.seeds.tolist()])
        values = negatives.scores.combined.copy()
        values[is_in] = rng.normal(9, 1, is_in.sum())
        after = fold_thresholds(judged(values), folds, 5)
        assert after[2] == before[2]
        assert after[1] > before[1]

    def test_permuted_labels_of_the_test_change_none(self):
        """Positives set no threshold: false positives stay, whatever the positives are."""
        negatives = judged(np.random.default_rng(0).normal(size=200))
        one, two = (assessed(judged(np.full(200, value)), negatives) for value in (9.0, -9.0))
        assert one["fpr_5"] == two["fpr_5"]
        assert (one["tpr_5"], two["tpr_5"]) == (1, 0)
        assert one["fpr_1"] == pytest.approx(0.01, abs=0.02)

    def test_need_a_hundred_negatives(self):
        row = assessed(judged(np.arange(20.0)), judged(np.arange(99.0), range(99)))
        assert "tpr_1" not in row
        assert row["undefined_reason"] == "rates need 100 negatives, got 99"
        assert "tpr_1" in assessed(judged(np.arange(20.0)), judged(np.arange(100.0)))

    def test_undefined_scores_are_counted(self):
        row = assessed(judged([1.0, np.nan]), judged([0.0, np.nan, np.nan]))
        assert (row["n_positives"], row["n_negatives"], row["n_undefined"], row["auc"]) == (1, 1, 3, 1)
        empty = assessed(judged([np.nan]), judged([0.0]), "no mixture")
        assert "auc" not in empty
        assert empty["undefined_reason"] == "no mixture"

    def test_for_an_attack_come_from_clean_images_of_other_seeds(self):
        sheet = sheet_of("pgd", 0)
        limits = seed_thresholds(sheet, "single", percent=5)
        clean = sheet.judged("single", "clean", [0.0])
        for place, seed in enumerate(clean.seeds.tolist()):
            others = [i for i in range(40) if i != place]
            assert limits[seed] <= clean.scores.combined[others].max()
        assert len(set(limits.values())) > 1


@pytest.fixture(scope="module")
def rows():
    return DETECTORS_TABLE.frame(detector_rows([sheet_of("pgd", 0), sheet_of("dlfuzz", 1)])).to_dicts()


class TestRows:
    def test_which(self, rows):
        keys = {(r["detector"], r["setting"], r["trained_on"], r["tested_on"]) for r in rows}
        trained = {("made", "supervised", a, b) for a in ("pgd", "dlfuzz") for b in ("pgd", "dlfuzz")}
        alone = {(name, "unsupervised", None, attack) for name in ("made", "single") for attack in ("pgd", "dlfuzz")}
        assert keys == trained | alone  # one layer is nothing to train over
        tasks = {(r["positive"], r["negative"], r["strength"]) for r in rows if r["setting"] == "unsupervised"}
        pairs = [("adversarial", "clean"), ("adversarial", "noise"), ("noise", "clean")]
        assert tasks == {(*pair, strength) for pair in pairs for strength in (1.0, 2.0, None)}
        assert {r["eps"] for r in rows} == {1 / 255, 2 / 255, None}

    def test_say_what_is_there(self, rows):
        def auc(**keys):
            return next(r["auc"] for r in rows if all(r[name] == value for name, value in keys.items()))

        alone = {"detector": "made", "setting": "unsupervised", "strength": 1.0}
        trained = {**alone, "setting": "supervised", "trained_on": "pgd", "tested_on": "dlfuzz"}
        assert auc(**trained, negative="clean") > auc(**alone, negative="clean", positive="adversarial") > 0.8
        assert 0.3 < auc(**alone, positive="noise") < 0.7  # noise does nothing here
        for row in rows:
            assert row["auc_low"] <= row["auc"] <= row["auc_high"]

    def test_too_few_seeds_to_train(self):
        rows = detector_rows([sheet_of("pgd", 0, seeds=3)])
        reasons = {r["undefined_reason"] for r in rows if r["setting"] == "supervised"}
        assert reasons == {"fewer than 4 seeds to train on"}
        assert {r["auc"] for r in rows if r["setting"] == "supervised"} == {None}
