"""Campaigns on a disk: tables that fit together, stops, other options, failures that a study takes up, bad input."""

import csv
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import camdrift
from camdrift.engine import dispatch, workplace
from camdrift.errors import StoreError, UserError
from camdrift.pipeline.onset import onset_of
from camdrift.statistics.trials import a12, compared, summarised
from camdrift.study import trial_jobs
from camdrift.tables.campaign import CAMPAIGN_TABLES, FAILURE_COUNTS
from support.rays import FakeRay, RayError
from support.studies import process, skip_report, tiny_classifier, write_factory

CHOICE = ("deephunter", "tensorfuzz", "keep-random")
OPTIONS = {"frameworks": CHOICE, "trials": 2, "budget": "240-passes"}


pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def campaign(classifier, eight, tmp_path_factory, no_figures):
    out = tmp_path_factory.mktemp("campaign") / "run"
    return camdrift.fuzz(classifier, eight, out=out, progress=False, **OPTIONS)


def without_time(campaign):
    tables = {name: campaign._table(name) for name in CAMPAIGN_TABLES}
    return {**tables, "growth": tables["growth"].drop("seconds")}


def assert_equal(one, other):
    for name, table in without_time(one).items():
        assert table.equals(without_time(other)[name]), name


def test_tables_fit_each_other(campaign, classifier):
    final = campaign.growth.filter(pl.col("mark") == 100)
    assert final["passes"].to_list() == [240] * 6
    by_trial = campaign.failures.group_by("framework", "trial", maintain_order=True)
    counts = dict(by_trial)
    for row in final.to_dicts():
        part = counts.get((row["framework"], row["trial"]), campaign.failures.clear())
        assert part.height == row["failures"]
        assert part["seed_id"].n_unique() == row["failing_seeds"]
        assert part.select("seed_id", "wrong_class").n_unique() == row["seed_classes"]
        assert (
            part.filter(~pl.col("is_moved")).select("seed_id", "wrong_class").n_unique() == row["unmoved_seed_classes"]
        )
        corpus = campaign.corpus.filter(framework=row["framework"], trial=row["trial"])
        assert corpus.height == row["corpus"]
        yields = campaign.mutators.filter(framework=row["framework"], trial=row["trial"])
        assert yields["failures"].sum() == row["failures"]
        assert yields["valid"].sum() == row["mutants"]
        assert yields["kept"].sum() == corpus.filter(pl.col("parent").is_not_null()).height
    assert campaign.failures.height > 0
    for row in campaign.failures.filter("is_new").to_dicts():
        image = torch.as_tensor(np.load(campaign.path / row["image"]))[None]
        assert int(classifier(image).argmax()) == row["wrong_class"]
    assert json.loads((campaign.path / "fuzz.json").read_text())["settings"]["budget"] == "240-passes"


def test_the_summary_says_what_the_tables_say(campaign):
    medians = campaign.frameworks.filter(pl.col("count") == "seed_classes").sort("median", descending=True)
    assert campaign.headline().startswith("Which framework finds most cannot be told: ")
    first, last = medians.row(0, named=True), medians.row(-1, named=True)
    assert f"{first['median']:g} pairs of seed and wrong class" in campaign.headline()
    assert f"{last['framework']} {last['median']:g}, on 8 seed images" in campaign.headline()
    assert "median of 2 trials" in campaign.headline()
    # two trials against two: p is at least 2/6, and there are three pairs
    assert (
        "2 trials of each framework cannot tell any difference from chance (p is at least 1, with Holm's correction "
        "for 3 pairs): more trials or fewer frameworks can" in campaign.summary()
    )


def test_onsets_are_where_maps_leave_the_range_of_noise(campaign):
    examined = campaign.failures.filter(pl.col("onset_reason").is_null() | (pl.col("onset_reason") == "within noise"))
    assert not examined["is_moved"].any()
    assert examined.select("seed_id", "wrong_class").n_unique() == examined.height
    assert campaign.clusters["failures"].sum() == examined.height
    assert campaign.clusters["share"].sum() == pytest.approx(1)
    noise = np.array([[0.1, 0.3], [0.2, 0.1], [0.1, 0.1], [np.nan, 0.1]])
    for deviation, index, reason in (
        ([0.4, 0.3, 0.2, 0.5], 0, None),
        ([0.4, 0.2, 0.2, 0.5], 2, None),  # equal to the largest draw is not beyond it
        ([0.4, 0.3, 0.1, 0.5], None, "within noise"),
        ([np.nan] * 4, None, "undefined"),
    ):
        place = onset_of(np.array(deviation), noise)
        assert (place.index, place.reason) == (index, reason)


def test_a_study_takes_the_failures(campaign, classifier, eight, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    with campaign.failures_list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == sorted(campaign.failures["seed_id"].unique())
    study = camdrift.run(
        classifier, eight, adversarial=str(campaign.failures_list), out=tmp_path / "study", progress=False
    )
    assert study.seeds.filter(pl.col("status") == "analysed").height == len(rows)


def test_a_killed_campaign_goes_on_to_equal_tables(campaign, eight, tmp_path, classifier):
    """Killed at a moment between any two checkpoints, and once more on the way."""
    code = (
        "import sys, camdrift, camdrift.study.trials as trials\n"
        "sys.path.insert(0, 'TESTS')\n"
        "from support.studies import tiny_classifier\n"
        "trials.EVERY = 0.05\n"
        "camdrift.fuzz(tiny_classifier(), sys.argv[1], out=sys.argv[2], resume=True, progress=False, "
        f"frameworks={CHOICE!r}, trials=2, budget='240-passes')\n"
    ).replace("TESTS", str(Path(__file__).parents[1]))
    out = tmp_path / "run"
    for wanted in (2, 5):
        with process(code, str(eight), str(out), cwd=tmp_path) as running:
            end = time.monotonic() + 120
            while time.monotonic() < end and running.poll() is None:
                if len(list(out.glob("trials/*/*/counts.json"))) >= wanted:
                    break
                time.sleep(0.01)
            running.send_signal(signal.SIGKILL)
    again = camdrift.fuzz(classifier, eight, out=out, resume=True, progress=False, **OPTIONS)
    assert_equal(again, campaign)
    assert not (out / "trials").exists()
    assert sorted(path.name for path in out.rglob("*")) == sorted(path.name for path in campaign.path.rglob("*"))


def test_another_campaign_does_not_go_on(campaign, classifier, eight, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.stage == "fuzz":
            raise StopError

    out = tmp_path / "run"
    with pytest.raises(StopError):
        camdrift.fuzz(classifier, eight, out=out, on_progress=stop, **OPTIONS)
    with pytest.raises(UserError, match=r"settings\.budget 300-passes, before 240-passes"):
        camdrift.fuzz(classifier, eight, out=out, resume=True, progress=False, **{**OPTIONS, "budget": "300-passes"})
    with pytest.raises(StoreError, match="there is a campaign in it"):
        camdrift.fuzz(classifier, eight, out=out, progress=False, **OPTIONS)
    with pytest.raises(StoreError, match="no finished campaign"):
        camdrift.open_campaign(out)
    whole = camdrift.fuzz(classifier, eight, out=out, overwrite=True, progress=False, **OPTIONS)
    assert_equal(whole, campaign)
    assert_equal(camdrift.open_campaign(out), campaign)


def test_a_profile_guides_and_is_kept(classifier, eight, tmp_path):
    shown = []
    campaign = camdrift.fuzz(
        classifier, eight, profile=eight, out=tmp_path / "run", budget="60-passes", on_progress=shown.append
    )
    assert campaign.record["criterion"] == "kmnc(k=1000)"
    assert (campaign.path / "profile.npz").is_file()
    warnings = " ".join(text for progress in shown for text in progress.warnings)
    assert "8 of 8 images are in the profile too" in warnings
    assert "the seeds alone take 168 passes" in warnings
    stored = camdrift.fuzz(
        classifier,
        eight,
        profile=campaign.path / "profile.npz",
        out=tmp_path / "two",
        budget="60-passes",
        progress=False,
    )
    assert stored.growth["criterion"].equals(campaign.growth["criterion"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "8-passes"}, "more than the dry run of 8 seeds, which takes 8 passes"),
        ({"frameworks": "deepxplore"}, "must come with further models"),
        ({"criterion": "kmnc"}, "needs a profile"),
        ({"criterion": "nope"}, "`criteria` must be of"),
        ({"oracle": "disagree"}, "must come with other models"),
        ({"trials": 0}, "`trials` must be a whole number from 1 on, got: 0"),
        ({"mutators": ("spin",)}, "`mutators` must be of"),
        ({"frameworks": ("random", "random")}, "name each framework once"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(options, message, classifier, eight, tmp_path):
    with pytest.raises(UserError) as refusal:
        camdrift.fuzz(classifier, eight, out=tmp_path / "run", progress=False, **options)
    assert message in refusal.value.message
    assert not (tmp_path / "run").exists()


def test_models_must_fit(classifier, eight, tmp_path):
    other = tiny_classifier(labels=[f"c{number}" for number in range(10)])
    named = tiny_classifier(labels=[f"d{number}" for number in range(10)])
    with pytest.raises(UserError, match="must name classes alike, got: class 0 is c0 and d0"):
        camdrift.fuzz(other, eight, models=[named], out=tmp_path / "run", progress=False)
    smaller = camdrift.wrap(classifier.module, mean=(0.5,) * 3, std=(0.25,) * 3, size=24)
    with pytest.raises(UserError, match="must have the input size of the model, got: 24"):
        camdrift.fuzz(classifier, eight, models=[smaller], out=tmp_path / "run", progress=False)


def test_seeds_that_are_wrong_from_the_start_are_named(eight, tmp_path):
    labels = [f"class_{number}" for number in range(10)]
    classifier = tiny_classifier(labels=labels)
    (tmp_path / "photos" / "class_9").mkdir(parents=True)
    for path in sorted(eight.iterdir())[:2]:
        (tmp_path / "photos" / "class_9" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="must hold a seed that can be fuzzed, got: 2 images and none") as refusal:
        camdrift.fuzz(classifier, tmp_path / "photos", out=tmp_path / "run", progress=False)
    assert "predicted otherwise than its label says" in refusal.value.message


def test_frameworks_are_compared_over_trials():
    rows = [
        {"framework": name, "trial": trial, **dict.fromkeys(FAILURE_COUNTS, value)}
        for name, values in {"one": (3, 5, 7), "two": (1, 5, 6)}.items()
        for trial, value in enumerate(values)
    ]
    finals = pl.DataFrame(rows)
    assert a12([3, 5, 7], [1, 5, 6]) == pytest.approx(5.5 / 9)
    pairs = compared(finals)
    assert pairs.height == len(FAILURE_COUNTS)
    assert pairs["a12"].to_list() == pytest.approx([5.5 / 9] * len(FAILURE_COUNTS))
    # U = 5.5 of 9, with one tie: by the normal approximation with correction for continuity and ties
    ties = 3 * 3 / 12 * (7 - (2**3 - 2) / (6 * 5))
    z = (5.5 - 4.5 - 0.5) / ties**0.5
    from scipy.stats import norm

    assert pairs["p_value"][0] == pytest.approx(2 * norm.sf(z), rel=1e-6)
    table = summarised(finals, rng_seed=0).filter(pl.col("count") == "failures")
    assert table["median"].to_list() == [5, 5]
    assert table["low"].to_list() == [3, 1]
    assert table["high"].to_list() == [7, 6]
    assert compared(finals.filter(trial=0)).is_empty()
    assert summarised(finals.filter(trial=0), rng_seed=0)["low"].to_list() == [None] * 2 * len(FAILURE_COUNTS)


def test_the_command_fuzzes_and_goes_on(eight, tmp_path, camdrift_command):
    spec = write_factory(tmp_path)
    command = [
        "fuzz", str(eight), "--model", spec, "--frameworks", "random,margin", "--budget", "100-passes",
        "--limit", "4", "--out", str(tmp_path / "run"), "--json",
    ]  # fmt: skip
    code, out, err = camdrift_command(*command)
    assert code == 0, err
    result = json.loads(out)
    assert [row["framework"] for row in result["counts"]] == ["random", "margin"]
    assert result["run"] == str(tmp_path / "run")
    code, out, err = camdrift_command("fuzz", "--resume", "--out", tmp_path / "run")
    assert code == 0, err
    assert result["headline"] in out.replace("\n", " ")


def test_a_large_corpus_is_told_and_its_images_leave_no_file(classifier, eight, tmp_path):
    campaign = camdrift.fuzz(
        classifier, eight, frameworks="keep-all", budget="600-passes", out=tmp_path / "run", progress=False
    )
    assert campaign.corpus.height == campaign.growth["corpus"][-1] > 300
    assert not list((tmp_path / "run").rglob("*.f32"))


class TestWorkers:
    """Trials on the workers of a `FakeRay`, each from one iteration to the next checkpoint."""

    @pytest.fixture
    def fuzzed(self, monkeypatch, eight, tmp_path):
        pytest.importorskip("ray")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            monkeypatch.setenv(name, "1")
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(trial_jobs, "EVERY", 0.0)
        threads, trials = torch.get_num_threads(), []

        class Noted(trial_jobs.TrialInHand):
            """The files of a process that dies are closed with it."""

            def __init__(self, *arguments):
                super().__init__(*arguments)
                trials.append(self)

        monkeypatch.setattr(trial_jobs, "TrialInHand", Noted)

        def fuzz(fake, **options):
            monkeypatch.setattr(dispatch, "cluster", fake.cluster)
            options = {**OPTIONS, "engine": "ray", "workers": 3, "progress": False, **options}
            return camdrift.fuzz(tiny_classifier(), eight, out=tmp_path / "run", **options)

        yield fuzz
        for trial in trials:
            trial.close()
        torch.set_num_threads(threads)

    def test_side_by_side_they_find_the_same(self, fuzzed, campaign):
        """A trial that keeps as many as another did begins when that one has ended."""
        fake, calls = FakeRay(processors=(3,)), []
        fake.before = lambda call: (
            calls.append((call.handle.number, call.arguments)) if call.name == "compute" else None
        )
        assert_equal(fuzzed(fake), campaign)
        assert {number for number, _ in calls} == {0, 1, 2}
        following = [arguments for _, arguments in calls if arguments[0] in (4, 5)]
        assert all(0 < rates["deephunter"] < 1 for _, rates, _ in following)
        assert max(place for place, (_, arguments) in enumerate(calls) if arguments[0] == 0) > min(
            place for place, (_, arguments) in enumerate(calls) if arguments[0] == 1
        )

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_worker_that_dies_is_replaced(self, fuzzed, campaign, when):
        fake, calls, seen = FakeRay(processors=(3,)), [], []

        def die(call, answer=None):
            calls.append(call.name)
            if call.name == "compute" and calls.count("compute") in (2, 9):
                raise RayError("killed")
            return answer

        setattr(fake, when, die)
        made = fuzzed(fake, on_progress=lambda progress: seen.extend(progress.warnings))
        assert_equal(made, campaign)
        assert len(fake.handles) == 5
        # What was stored before its worker died is not done again.
        assert len([words for words in seen if "is done again" in words]) == (2 if when == "before" else 0)

    def test_asked_to_stop_it_goes_on_here(self, fuzzed, campaign, classifier, eight, tmp_path):
        calls = []

        def stop(progress):
            calls.append(progress)
            if [one.stage for one in calls].count("write") == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fuzzed(FakeRay(processors=(3,)), on_progress=stop)
        assert 0 < calls[-1].seeds_done < calls[-1].seeds_total == 6 * 240
        again = camdrift.fuzz(classifier, eight, out=tmp_path / "run", resume=True, progress=False, **OPTIONS)
        assert_equal(again, campaign)

    def test_a_folder_that_a_worker_does_not_see(self, fuzzed, monkeypatch):
        monkeypatch.setattr(workplace, "_PATIENCE", 0.0)
        monkeypatch.setattr(workplace.Workplace, "_is_there", lambda *_: False)
        with pytest.raises(StoreError, match="`out` must be a folder that every worker sees"):
            fuzzed(FakeRay())
