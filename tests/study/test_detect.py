"""Detectors of adversarial images: folds, AUC, runs held against each other, what is written and what is refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict

import camdrift
from camdrift.detectors.cross_validation import Examples, assess, out_of_fold, roc_corners, seed_folds, weighted_auc
from camdrift.errors import UserError
from camdrift.figures.detection import DETECTION_FIGURE, detection_figure
from camdrift.figures.study import study_figures
from camdrift.statistics.bootstrap import resample_counts
from camdrift.study.detect import detection_of, readings
from camdrift.tables.detection import DETECTION, ROC
from camdrift.tables.further import DENOISED
from camdrift.tables.study import SEEDS, SIMILARITY
from support.studies import draw_only, picture, skip_report, study_of, tiny_classifier, write_factory, write_images
from support.study_tables import cells

OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (4.0,), "chunk_size": 5, "gallery": 0}
STRONGER = "dlfuzz(scores='logit', step=2/255)"


def examples(adversarial, other):
    """Images of seeds s00, s01, ...: one adversarial and one other of each, (seeds, layers)."""
    n = len(adversarial)
    names = np.array([f"s{i:02d}" for i in range(n)])
    features = np.concatenate([adversarial, other]).astype(np.float64)
    return Examples(features, np.arange(2 * n) < n, np.concatenate([names, names]))


def drawn(n_seeds, n_layers=4, *, shift=0.0, rng_seed=0):
    """Images that resemble their seed; the adversarial ones are shifted."""
    rng = np.random.default_rng(rng_seed)
    seed = rng.normal(size=(n_seeds, n_layers))
    first, second = seed + 0.5 * rng.normal(size=(2, n_seeds, n_layers))
    return examples(first - shift, second)


def naive_auc(scores, flags, weights=None):
    weights = np.ones(len(scores)) if weights is None else weights
    won = total = 0.0
    for i in np.flatnonzero(flags):
        for j in np.flatnonzero(~flags):
            pair = weights[i] * weights[j]
            won += pair * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
            total += pair
    return won / total


class TestAuc:
    def test_is_the_share_of_pairs(self):
        rng = np.random.default_rng(0)
        scores, flags = rng.integers(0, 9, 40).astype(float), rng.random(40) < 0.4
        weights = rng.integers(0, 3, (5, 40))
        found = weighted_auc(scores, flags, weights)
        assert found == pytest.approx([naive_auc(scores, flags, row) for row in weights])
        assert weighted_auc(scores, flags, np.ones((1, 40), int))[0] == pytest.approx(roc_auc_score(flags, scores))

    def test_needs_both_kinds(self):
        flags = np.array([True, False])
        found = weighted_auc(np.array([1.0, 0.0]), flags, np.array([[1, 0], [0, 2], [1, 1]]))
        assert np.isnan(found[:2]).all()
        assert found[2] == 1

    def test_is_the_area_below_the_corners(self):
        rng = np.random.default_rng(1)
        scores, flags = rng.normal(size=50), rng.random(50) < 0.5
        false_positive, true_positive = roc_corners(scores, flags)
        assert (false_positive[0], true_positive[0], false_positive[-1], true_positive[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(true_positive, false_positive) == pytest.approx(naive_auc(scores, flags))

    def test_interval_holds_the_value_and_is_that_of_resampled_seeds(self):
        images = drawn(12, shift=0.5)
        found = assess(images, images, rng_seed=3, n_bootstrap=200)
        scores = out_of_fold(images, images)
        assert found.auc == pytest.approx(naive_auc(scores, images.is_adversarial))
        assert found.low < found.auc < found.high
        counts = resample_counts(12, 200, rng_seed=3)
        redrawn = sorted(naive_auc(scores, images.is_adversarial, np.tile(row, 2)) for row in counts)
        assert (found.low, found.high) == pytest.approx((redrawn[4], redrawn[195]))


class TestFolds:
    def test_scores_are_those_of_detectors_fitted_fold_by_fold(self):
        """Naive: standardise and fit by hand, seed by seed."""
        images = drawn(11, shift=0.7)
        fold = seed_folds(images.seeds.tolist(), images.seeds.tolist())
        assert sorted(set(fold.values())) == [0, 1, 2, 3, 4]
        expected = []
        for row, seed in zip(images.features, images.seeds.tolist(), strict=True):
            seen = np.array([fold[other] != fold[seed] for other in images.seeds.tolist()])
            train = images.features[seen]
            mean, std = train.mean(0), train.std(0)
            model = LogisticRegression(max_iter=10_000).fit((train - mean) / std, images.is_adversarial[seen])
            expected.append(float(((row - mean) / std) @ model.coef_[0] + model.intercept_[0]))
        assert out_of_fold(images, images) == pytest.approx(expected, rel=1e-3, abs=1e-3)

    def test_as_many_as_there_are_seeds(self):
        assert seed_folds("abcd", "abcd") == {"a": 0, "b": 1, "c": 2, "d": 3}

    def test_seeds_to_learn_from_are_spread_over_the_folds(self):
        """Even where they lie such that sorting alone would put all of them into one fold."""
        train, test = [f"{i:02d}" for i in (0, 5, 10, 15)], [f"{i:02d}" for i in range(20)]
        fold = seed_folds(train, test)
        assert {fold[seed] for seed in train} == {0, 1, 2, 3}
        assert set(fold) == set(test)

    def test_nothing_is_learnt_from_the_fold_that_is_judged(self):
        images = drawn(10, shift=0.5)
        fold = seed_folds(images.seeds.tolist(), images.seeds.tolist())
        mine = np.array([fold[seed] == 2 for seed in images.seeds.tolist()])
        features = images.features.copy()
        features[mine] += 100
        changed = replace(images, features=features)
        before, after = out_of_fold(images, images), out_of_fold(changed, images)
        assert before[mine].tolist() == after[mine].tolist()
        assert before[~mine].tolist() != after[~mine].tolist()

    def test_features_that_name_the_seed_are_no_advantage(self):
        """Every image of a seed is of one kind: who knows the seed knows the answer, but no seed is on both sides."""
        rng = np.random.default_rng(5)
        seeds = np.repeat([f"s{i:02d}" for i in range(40)], 6)
        features = np.repeat(rng.normal(size=(40, 60)), 6, axis=0) + 0.01 * rng.normal(size=(240, 60))
        images = Examples(features, np.repeat(np.arange(40) % 2 == 0, 6), seeds)
        mixed = cross_val_predict(
            LogisticRegression(max_iter=1000), features, images.is_adversarial,
            cv=KFold(5, shuffle=True, random_state=0), method="decision_function",
        )  # fmt: skip
        assert naive_auc(mixed, images.is_adversarial) > 0.99
        found = assess(images, images, rng_seed=0, n_bootstrap=200)
        assert found.low < 0.5 < found.high


class TestKnownOutcome:
    def test_both_conditions_drawn_alike(self):
        images = drawn(40, rng_seed=1)
        found = assess(images, images, rng_seed=0)
        assert found.low < 0.5 < found.high

    def test_null_interval_holds_a_half_mostly(self):
        held = 0
        for rng_seed in range(20):
            images = drawn(30, rng_seed=rng_seed)
            found = assess(images, images, rng_seed=0, n_bootstrap=200)
            held += found.low <= 0.5 <= found.high
        assert held >= 16

    def test_separable(self):
        images = drawn(12, shift=30.0)
        found = assess(images, images, rng_seed=0)
        assert (found.auc, found.low, found.high) == (1, 1, 1)
        corners = list(zip(found.false_positive_rate.tolist(), found.true_positive_rate.tolist(), strict=True))
        assert {(0, 0), (0, 1), (1, 1)} <= set(corners)
        assert all(x == 0 or y == 1 for x, y in corners)

    def test_same_every_time(self):
        images = drawn(9, shift=0.3)
        assert assess(images, images, rng_seed=1).low == assess(images, images, rng_seed=1).low


class TestUndefined:
    def test_takes_part_as_a_flag(self):
        """The maps of half the adversarial images vanish at one layer, and nothing else is different."""
        images = drawn(24, rng_seed=2)
        features = images.features.copy()
        features[:24:2, 1] = np.nan
        found = assess(replace(images, features=features), replace(images, features=features), rng_seed=0)
        assert found.auc > 0.7
        assert found.low > 0.5

    def test_layer_without_any_value(self):
        images = drawn(10, shift=1.0)
        features = np.insert(images.features, 2, np.nan, axis=1)
        padded = replace(images, features=features)
        assert out_of_fold(padded, padded) == pytest.approx(out_of_fold(images, images))

    def test_layer_undefined_in_the_training_fold_alone(self):
        images = drawn(10, shift=1.0)
        fold = seed_folds(images.seeds.tolist(), images.seeds.tolist())
        features = np.insert(images.features, 2, np.nan, axis=1)
        features[[fold[seed] == 0 for seed in images.seeds.tolist()], 2] = 0.5
        padded = replace(images, features=features)
        assert np.isfinite(out_of_fold(padded, padded)).all()


def run_of(similarity, *, name="attack", checksums=None, denoised=None, n=8):
    """Readings of table rows of seeds s00, s01, ..."""
    names = [f"s{i:02d}" for i in range(n)]
    seeds = SEEDS.frame({"seed_id": names, "sha256": checksums or [f"c{i}" for i in range(n)]})
    tables = {"seeds": seeds, "similarity": SIMILARITY.frame(similarity)}
    return readings(name, tables if denoised is None else {**tables, "denoised": DENOISED.frame(denoised)})


def both(*, n=8, target="seed", strengths=(0.5, 1.0), rng_seed=0, draws=1):
    """Similarity rows of two layers: adversarial ones far below noisy ones; noise further up the ladder is far, too."""
    rng = np.random.default_rng(rng_seed)
    rows = []
    for layer, index in (("a", 0), ("b", 1)):
        where = {"layer": layer, "index": index, "target": target}
        for strength in strengths:
            rows += cells("adversarial", strength, rng.uniform(0.1, 0.3, n).tolist(), **where)
        for strength in (*strengths, 16.0):
            for draw in range(draws):
                low = 0.1 if strength == 16 else 0.7
                values = rng.uniform(low, low + 0.2, n).tolist()
                rows += cells("noise", strength, values, draw=draw, **where)
    return rows


class TestRows:
    def test_one_per_strength_and_one_for_all(self):
        found = detection_of([run_of(both(draws=2))], rng_seed=0).detection
        assert found.schema == DETECTION.schema
        assert found["strength"].to_list() == [0.5, 1.0, None]
        assert found["n_images"].to_list() == [24, 24, 48]  # noise at 16, which the attack lacks, takes no part
        assert found["n_seeds"].to_list() == [8, 8, 8]
        assert found["auc"].to_list() == [1, 1, 1]
        only = found.row(0, named=True)
        assert (only["reference"], only["negative"], only["target"]) == ("seed", "noise", "seed")
        assert (only["trained_on"], only["tested_on"]) == ("attack", "attack")

    def test_roc_has_the_same_keys(self):
        found = detection_of([run_of(both())], rng_seed=0)
        keys = ROC.schema.names()[:6]
        assert found.roc.schema == ROC.schema
        assert_frame_equal(found.roc.select(keys).unique(maintain_order=True), found.detection.select(keys))

    def test_features_are_layers_in_order_image_by_image(self):
        run = run_of(both(strengths=(1.0,), n=4), n=4)
        images = run.images["seed", "seed"].examples("noise", [1.0])
        rows = SIMILARITY.frame(both(strengths=(1.0,), n=4)).filter(pl.col("strength") == 1)
        for features, is_adversarial, seed in zip(
            images.features, images.is_adversarial, images.seeds.tolist(), strict=True
        ):
            condition = "adversarial" if is_adversarial else "noise"
            expected = rows.filter(pl.col("condition") == condition, pl.col("seed_id") == f"s0{seed[1]}")
            assert features.tolist() == expected.sort("layer_index")["similarity"].to_list()

    def test_one_file_under_two_names_is_one_seed(self):
        copies = [f"c{i // 2}" for i in range(8)]
        found = detection_of([run_of(both(), checksums=copies)], rng_seed=0).detection
        assert found["n_seeds"].to_list() == [4, 4, 4]
        assert found["n_images"].to_list() == [16, 16, 32]

    def test_target_with_too_few_seeds_is_left_out(self):
        rows = both() + [row for row in both(target="label") if row["seed_id"] < "s03"]
        assert detection_of([run_of(rows)], rng_seed=0).detection["target"].unique().to_list() == ["seed"]

    def test_denoised_reference_is_held_against_clean_images_too(self):
        names = DENOISED.schema.names()
        rows = [{k: v for k, v in row.items() if k in names} for row in both() if row["strength"] < 16]
        for layer, index in (("a", 0), ("b", 1)):
            clean = cells("clean", 0.0, [0.9 + 0.01 * i for i in range(8)], layer=layer, index=index)
            rows += [{k: v for k, v in row.items() if k in names} for row in clean]
        found = detection_of([run_of(both(), denoised=rows)], rng_seed=0).detection
        mine = found.filter(pl.col("reference") == "denoised")
        assert mine.select("negative", "strength", "n_images").rows() == [
            ("noise", 0.5, 16), ("noise", 1.0, 16), ("noise", None, 32),
            ("clean", 0.5, 16), ("clean", 1.0, 16), ("clean", None, 24),
        ]  # fmt: skip
        assert mine["target"].unique().to_list() == ["own"]
        assert mine["auc"].min() == 1


class TestPairs:
    def test_every_ordered_pair_at_shared_strengths(self):
        runs = [run_of(both(), name="one"), run_of(both(strengths=(1.0, 2.0), rng_seed=1), name="two")]
        found = detection_of(runs, rng_seed=0).detection
        pairs = found.group_by("trained_on", "tested_on", maintain_order=True).agg("strength").rows()
        assert pairs == [
            ("one", "one", [0.5, 1.0, None]), ("two", "two", [1.0, 2.0, None]),
            ("one", "two", [1.0, None]), ("two", "one", [1.0, None]),
        ]  # fmt: skip
        assert found["auc"].min() == 1

    def test_no_seed_is_on_both_sides(self):
        """What the training run says of a seed does not reach the scores of that seed's images."""
        train, test = drawn(10, shift=0.5), drawn(10, shift=0.5, rng_seed=9)
        mine = train.seeds == "s03"
        features = train.features.copy()
        features[mine] += 100
        before, after = out_of_fold(train, test), out_of_fold(replace(train, features=features), test)
        judged = test.seeds == "s03"
        assert before[judged].tolist() == after[judged].tolist()

    def test_of_different_seeds_learn_from_all_of_them(self):
        """Seeds that are not tested are left out in their own fold alone."""
        train, test = drawn(8, shift=2.0), drawn(6, shift=2.0, rng_seed=9)
        other = replace(test, seeds=np.array([f"t{s[1:]}" for s in test.seeds.tolist()]))
        assert np.isfinite(out_of_fold(train, other)).all()
        assert assess(train, other, rng_seed=0, n_bootstrap=50).auc > 0.9


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Two attacks on one model, the first with denoised copies."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        classifier = tiny_classifier()
        first = study_of(classifier, photos, folder / "first", denoised=True, **OPTIONS)
        return first, study_of(classifier, photos, folder / "second", attack=STRONGER, **OPTIONS)


@pytest.fixture(scope="module")
def alone(runs):
    """Detectors of the first run."""
    return camdrift.detect(runs[0])


@pytest.fixture(scope="module")
def together(runs, alone):
    """Detectors of both runs, from each to the other: what the first has stored now."""
    return camdrift.detect(*runs)


class TestStudies:
    def test_tables_are_stored_and_read_again(self, runs, alone):
        found = alone
        again = camdrift.open(runs[0].path)
        assert_frame_equal(again.detection, found.detection)
        assert_frame_equal(again.roc, found.roc)
        assert (runs[0].path / "figures" / f"{DETECTION_FIGURE}.pdf").is_file()
        assert found.detection["n_seeds"].unique().to_list() == [
            runs[0].seeds.filter(pl.col("status") == "analysed")["sha256"].n_unique()
        ]

    def test_are_left_as_they_are_but_for_what_is_added(self, runs):
        before = {path.name: path.read_bytes() for path in runs[0].path.glob("*.parquet")}
        camdrift.detect(runs[0])
        after = {path.name: path.read_bytes() for path in runs[0].path.glob("*.parquet")}
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) <= {"detection.parquet", "roc.parquet"}

    def test_second_run_without_denoised_copies(self, runs, together):
        found = together.detection
        pairs = found.group_by("trained_on", "tested_on", maintain_order=True).agg(pl.col("reference").unique())
        assert pairs["reference"].list.sort().to_list() == [["denoised", "seed"], ["seed"], ["seed"], ["seed"]]
        assert found["trained_on"].unique(maintain_order=True).to_list() == [
            study.record["arguments"]["effective"]["attack"] for study in runs
        ]

    def test_runs_of_one_attack_are_told_apart(self, runs, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        again = study_of(tiny_classifier(), photos, tmp_path / "again", rng_seed=1, **OPTIONS)
        found = camdrift.detect(runs[0], again).detection
        attack = again.record["arguments"]["effective"]["attack"]
        assert found["tested_on"].unique(maintain_order=True).to_list() == [
            f"{attack} ({runs[0].path})", f"{attack} ({again.path})",
        ]  # fmt: skip

    def test_words_say_which_needs_the_clean_image(self, runs, alone, together):
        found = alone
        heads, rows = found.cells()
        assert "0.5 is chance" in found.notes()[0]
        assert " ".join(heads) == "reference class told from strength 0.5 strength 1 all strengths seeds"
        starts = [row[0] for row in rows]
        assert starts == ["seed (needs the clean image)"] * 2 + ["denoised (needs no clean image)"] * 2
        first = found.detection.row(0, named=True)
        assert f"{first['auc']:.2f} [{first['auc_low']:.2f}, {first['auc_high']:.2f}]" in rows[0]
        assert together.cells()[0][:3] == ["trained on", "tested on", "reference"]
        assert camdrift.detect(runs[1]).notes()[-1] == (
            "Nothing was measured without the clean image: that needs a run with --denoised."
        )

    def test_figure_is_drawn_from_the_tables(self, runs):
        camdrift.detect(*runs)
        tables = camdrift.open(runs[0].path)._tables
        figures = study_figures(tables, runs[0].record, {})
        assert DETECTION_FIGURE in figures
        page = figures[DETECTION_FIGURE]
        assert len(page.axes) == 8  # two panels for each of four pairs
        words = [text.get_text() for legend in page.legends for text in legend.get_texts()]
        assert len(words) == 4 + 3 * 2
        whole = tables["detection"].filter(pl.col("strength").is_null()).row(0, named=True)
        label = f"AUC {whole['auc']:.2f} [{whole['auc_low']:.2f}, {whole['auc_high']:.2f}]"
        assert (
            words[0] == f"adversarial from noise by similarity to the clean image (needed), class of the seed: {label}"
        )
        curve = next(line for line in page.axes[0].get_lines() if len(line.get_xdata()) > 2)
        keys = [pl.col(name) == whole[name] for name in ("reference", "trained_on", "tested_on", "negative", "target")]
        corners = tables["roc"].filter(*keys, pl.col("strength").is_null())
        assert np.array_equal(curve.get_xydata(), corners.select("false_positive_rate", "true_positive_rate"))

    def test_figure_without_data_says_so(self, runs):
        tables = {**runs[0]._tables, "detection": DETECTION.frame(), "roc": ROC.frame()}
        page = detection_figure(tables, runs[0].record)
        assert any("Nothing to show" in text.get_text() for axes in page.axes for text in axes.texts)


class TestRefused:
    def test_too_few_seeds(self, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "few", 3), tmp_path / "run", **OPTIONS)
        n = study.seeds.filter(pl.col("status") == "analysed").height
        with pytest.raises(UserError) as caught:
            camdrift.detect(study)
        expected = f"`runs` must have at least 4 different analysed seed images each, got: {n} in {study.path}"
        assert caught.value.message == expected
        assert "more images" in caught.value.hint
        assert not (study.path / "detection.parquet").exists()

    def test_copies_of_one_image_are_no_more_seeds(self, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        (tmp_path / "copies").mkdir()
        for number in range(8):
            picture(1).save(tmp_path / "copies" / f"{number}.png")
        study = study_of(tiny_classifier(), tmp_path / "copies", tmp_path / "run", attack=STRONGER, **OPTIONS)
        with pytest.raises(UserError, match=r"at least 4 different analysed seed images each, got: 1 in"):
            camdrift.detect(study)

    def test_other_layers(self, runs, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        other = study_of(tiny_classifier(), photos, tmp_path / "run", layers=("stem", "body"), **OPTIONS)
        with pytest.raises(UserError) as caught:
            camdrift.detect(runs[0], other)
        assert caught.value.message == (
            f"`runs` must have the same layers, got: 4 in {runs[0].path} and 2 in {other.path} "
            "(side in one of them only)"
        )

    def test_other_model(self, runs, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        other = study_of(tiny_classifier(rng_seed=2), photos, tmp_path / "run", **OPTIONS)
        mine, theirs = (study.record["model"]["weights_sha256"] for study in (runs[0], other))
        with pytest.raises(UserError) as caught:
            camdrift.detect(runs[0], other)
        assert caught.value.message == (
            f"`runs` must be of the same model, got: weights_sha256 {mine} and {theirs} in {runs[0].path} "
            f"and {other.path}"
        )

    def test_the_same_run_twice(self, runs):
        with pytest.raises(UserError, match="`runs` must be different runs, got twice: "):
            camdrift.detect(runs[0], camdrift.open(runs[0].path))


@pytest.mark.slow
def test_command_line_from_run_to_figure(tmp_path, photos, camdrift_command, monkeypatch):
    """`camdrift run --denoised`, then `camdrift detect`, then `camdrift report` rebuilds the figure."""
    draw_only(monkeypatch, DETECTION_FIGURE)
    spec, run = write_factory(tmp_path), tmp_path / "run"
    attack = ["--attack", STRONGER, "--strengths", "1", "--noise-ladder", "4"]
    assert camdrift_command("run", photos, "--model", spec, *attack, "--denoised", "--out", run)[0] == 0
    code, out, err = camdrift_command("detect", run)
    assert (code, err) == (0, "")
    figure = run / "figures" / f"{DETECTION_FIGURE}.png"
    assert out.splitlines()[-1] == str(figure)
    assert out.count("needs the clean image") == 2
    assert out.count("needs no clean image") == 2
    drawn_first = figure.read_bytes()
    figure.unlink()
    assert camdrift_command("report", run)[0] == 0
    assert figure.read_bytes() == drawn_first
    code, _, err = camdrift_command("detect", run, run)
    assert (code, err.splitlines()[0]) == (2, f"error: `runs` must be different runs, got twice: {run}")
    assert camdrift_command("detect")[0] == 2


@pytest.mark.slow
def test_reproduction_has_it_with_four_seeds_or_more(photos, tmp_path, monkeypatch):
    from camdrift.study.reproduce import reproduce

    skip_report(monkeypatch)
    options = {"attack": STRONGER, "strengths": (0.5, 1.0), "noise_ladder": (), "gallery": 0}
    classifier = tiny_classifier()
    study = reproduce(classifier, photos, out=tmp_path / "many", limit=6, **options)
    assert study.record["arguments"]["effective"]["denoised"] is True
    assert set(study.detection["reference"]) == {"seed", "denoised"}
    assert_frame_equal(camdrift.detect(study).detection, study.detection)
    few = reproduce(classifier, photos, out=tmp_path / "few", limit=2, **options)
    assert few.denoised["similarity"].len() > 0
    assert not (few.path / "detection.parquet").exists()
