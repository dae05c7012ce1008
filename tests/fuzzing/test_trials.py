"""Trials of every framework on a tiny network: what is equal, what is counted, what goes on after a stop."""

import numpy as np
import pytest
import torch

import camdrift.fuzzing.trial as trial_module
from camdrift.coverage.criteria import observe_batch
from camdrift.errors import UserError
from camdrift.fuzzing.budget import FORWARD, GRADIENT
from camdrift.fuzzing.campaign import new_trial, run_trial
from camdrift.fuzzing.checkpoint import mutation_of, save, take_up_again
from camdrift.fuzzing.constraints import NO_LEAK
from camdrift.fuzzing.corpus import MemoryStack
from camdrift.fuzzing.frameworks import FRAMEWORK_ROWS, Setup, nearest_distance, parse_framework
from camdrift.fuzzing.names import FRAMEWORK_WORDS
from camdrift.fuzzing.operators import replay
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.fuzzing.trial import GROWTH_MARKS
from camdrift.models import replicas
from camdrift.models.classifier import Classifier
from camdrift.tables.campaign import FAILURES_TABLE
from support.campaigns import design_of, pixels_of, trial_of
from support.studies import SIZE, TinyNet, tiny_classifier

ALONE = [name for name in FRAMEWORK_ROWS if name != "deepxplore"]
MUTATING = ["deephunter", "random", "keep-all", "keep-random", "margin", "gini"]


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def images(classifier):
    return pixels_of(classifier)


def facts(trial):
    """All that a trial says, without wall time and rounding of the last bit."""
    growth = [{key: value for key, value in row.items() if key != "seconds"} for row in trial.growth]
    entries = [{**vars(entry), "uncertainty": None} for entry in trial.corpus.entries]
    return FAILURES_TABLE.frame(trial.failures).to_dicts(), growth, entries, trial.tally


def test_names_may_stand_in_one_text():
    """As on the command line; a comma in brackets separates settings."""
    settings = FuzzSettings(frameworks="deephunter(mutants=2),random, margin", mutators="contrast,blur")
    assert settings.frameworks == ("deephunter(mutants=2)", "random", "margin")
    assert settings.mutators == ("contrast", "blur")
    assert FuzzSettings(frameworks=["random"]).frameworks == FuzzSettings(frameworks="random").frameworks == ("random",)


def test_every_framework_has_a_sentence():
    assert list(FRAMEWORK_ROWS) == list(FRAMEWORK_WORDS)


@pytest.mark.parametrize("name", ALONE)
def test_batches_change_nothing(name, classifier, images):
    small, large = (trial_of(name, design_of(classifier, images, batch_size=size), images) for size in (1, 64))
    assert facts(small) == facts(large)
    places = range(len(small.corpus))
    assert np.array_equal(small.corpus.images.read(places), large.corpus.images.read(places))


@pytest.mark.parametrize("name", ["deephunter", "tensorfuzz", "margin"])
def test_cores_change_nothing(name, classifier, images, monkeypatch):
    """Groups of images go side by side, each by one thread."""
    monkeypatch.setattr(replicas, "_FEWEST_VALUES", 0)
    design, threads, trials = design_of(classifier, images, batch_size=4), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with design.on_cores():
                assert (design.classifier.replicas is None) == (count == 1)
                trials.append(facts(trial_of(name, design, images)))
    finally:
        torch.set_num_threads(threads)
    assert trials[0] == trials[1]


@pytest.mark.parametrize("name", ALONE)
def test_what_no_criterion_reads_is_not_scaled(name, classifier, images, monkeypatch):
    """Extremes of whole layers are left out where they are for nothing; what a trial finds does not change."""
    design, seen = design_of(classifier, images, criterion="tknc"), []
    noting = lambda classifier, images, size=0, *, is_scaled=True: (  # noqa: E731
        seen.append(is_scaled) or observe_batch(classifier, images, size, is_scaled=is_scaled)
    )
    monkeypatch.setattr(trial_module, "observe_batch", noting)
    trial = trial_of(name, design, images)
    assert set(seen) == ({True, False} if name == "dlfuzz" else {False})
    monkeypatch.setattr(trial_module, "observe_batch", lambda *args, is_scaled: observe_batch(*args))
    assert facts(trial_of(name, design, images)) == facts(trial)


@pytest.mark.parametrize("name", ALONE)
def test_the_budget_is_kept_to_the_pass(name, classifier, images):
    trial = trial_of(name, design_of(classifier, images, budget="150-passes"), images)
    assert trial.counts.passes == 150
    assert [row["mark"] for row in trial.growth] == list(range(GROWTH_MARKS + 1))
    assert trial.growth[-1]["passes"] == 150
    if name in MUTATING:
        assert trial.counts.mutants == 150 - len(images)  # each a pass forward


def test_gradients_cost_three(classifier, images):
    trial = trial_of("dlfuzz", design_of(classifier, images, budget="1-iterations"), images)
    walks = len(images)  # as many as there are, of at most eight side by side
    steps = 3
    dry_run = len(images)
    assert trial.counts.passes == dry_run + 8 * (steps * GRADIENT + FORWARD)
    assert walks <= 8
    assert trial.counts.mutants <= 8 * steps


def test_failures_can_be_made_again(classifier, images):
    trial = trial_of("deephunter", design_of(classifier, images, budget="400-passes"), images)
    fresh = [row for row in trial.failures if row["is_new"]]
    assert fresh
    assert any(len(row["chain"]) > 1 for row in trial.failures)
    for row in fresh:
        seed = torch.as_tensor(images[int(row["seed_id"].split()[1])])
        chain = [mutation_of(*step) for step in zip(row["chain"], row["streams"], strict=True)]
        image = replay(seed, chain)
        assert np.array_equal(image.numpy(), trial.failing.read([int(row["image"])])[0])
        prediction = int(classifier(image[None]).argmax())
        assert prediction == row["wrong_class"] != row["clean_class"]


def test_a_picture_is_moved_once_at_most(classifier, images):
    trial = trial_of("keep-all", design_of(classifier, images, budget="400-passes"), images)
    affine = {"translate", "scale", "shear", "rotate"}
    for place, entry in enumerate(trial.corpus.entries):
        moves = [step for step in trial.corpus.chain(place) if step.operator in affine]
        assert len(moves) == (entry.matrix is not None)


def test_failures_and_invalid_mutants_never_join(classifier, images):
    design = design_of(classifier, images, constraint="linf(eps=0.05)", budget="300-passes")
    trial = trial_of("keep-all", design, images)
    places = [place for place, entry in enumerate(trial.corpus.entries) if entry.parent is not None]
    assert places
    kept = trial.corpus.read(places)
    assert classifier(kept).argmax(1).tolist() == trial.seed_classes(places).tolist()
    entries = [trial.corpus.entries[place] for place in places]
    seeds = trial.seeds_of(places, [entry.matrix for entry in entries])
    assert (kept - seeds).abs().max() <= 0.05 + 1e-6


def test_the_control_differs_in_guidance_alone(classifier, images):
    design = design_of(classifier, images, budget="24-passes")  # one iteration: the corpus is that of the seeds
    trials = [
        trial_of(name, design, images, rates={"deephunter": 0.5}) for name in ("deephunter", "keep-random", "random")
    ]
    chains = [[row["parameters"] for row in trial.failures] for trial in trials]
    assert chains[0] == chains[1] == chains[2]
    assert trials[2].counts.kept == 0


def test_the_control_keeps_as_many_as_it_is_told(classifier, images):
    design = design_of(classifier, images, budget="800-passes")
    trial = trial_of("keep-random", design, images, rates={"deephunter": 0.3})
    share = trial.counts.kept / trial.counts.admitted
    assert share == pytest.approx(0.3, abs=3 * (0.21 / trial.counts.admitted) ** 0.5)
    assert trial_of("keep-random(rate=0)", design, images, rates={"deephunter": 0.3}).counts.kept == 0


def test_trials_have_their_own_numbers(classifier, images):
    design = design_of(classifier, images)
    first, again, second = (trial_of("random", design, images, number=number) for number in (0, 0, 1))
    assert facts(first) == facts(again) != facts(second)


@pytest.mark.parametrize("name", [*ALONE, "deepxplore"])
def test_a_stopped_trial_goes_on_to_the_same_end(name, classifier, images):
    others = (shifted(),) if name == "deepxplore" else ()
    design = design_of(classifier, images, others=others, budget="240-passes")
    whole = trial_of(name, design, images)

    class StopError(Exception):
        pass

    choice, setup = parse_framework(name), Setup(design, images)
    stacks, states = (MemoryStack(), MemoryStack()), []

    def after(trial):
        states.append(save(trial))
        if trial.counts.iterations == 2:
            raise StopError

    trial = new_trial(choice, 0, setup, *stacks)
    with pytest.raises(StopError):
        run_trial(trial, choice, setup, after)
    late = np.zeros((2, *images[0].shape), np.float32)
    stacks[0].append(late)  # written after the checkpoint, and lost with the process
    other = new_trial(choice, 0, setup, *stacks)
    tables, arrays, counts = states[-1]
    take_up_again(other, tables, {key: value.copy() for key, value in arrays.items()}, counts)
    run_trial(other, choice, setup, lambda trial: None)
    assert facts(other) == facts(whole)


def shifted():
    """A model that disagrees with the tiny one here and there."""
    return Classifier(TinyNet(1).eval(), mean=(0.42,) * 3, std=(0.25,) * 3, size=SIZE)


def test_deepxplore_finds_where_models_disagree(classifier, images):
    other = shifted()
    design = design_of(classifier, images, others=(other,), budget="600-passes", constraint="linf(eps=0.3)")
    trial = trial_of("deepxplore", design, images)
    assert trial.counts.passes == 600
    assert trial.failures
    for row in (row for row in trial.failures if row["is_new"]):
        image = torch.as_tensor(trial.failing.read([int(row["image"])]))
        own, second = (int(model(image).argmax()) for model in (classifier, other))
        assert own != second == row["wrong_class"]
        assert row["linf"] <= 0.3 + 1e-5


def test_a_model_wrapped_twice_never_disagrees_with_itself(classifier, images):
    design = design_of(classifier, images, others=(tiny_classifier(),), budget="400-passes")
    for name in ("deepxplore", "deephunter"):
        assert trial_of(name, design, images).failures == []


def test_precision_compares_a_model_with_itself_in_bfloat16(classifier, images):
    design = design_of(classifier, images, oracle="precision", budget="400-passes")
    trial = trial_of("deephunter", design, images)
    assert trial.counts.passes == 400
    assert trial.counts.mutants <= 200
    assert classifier.precision == "fp32"
    for row in (row for row in trial.failures if row["is_new"]):
        image = torch.as_tensor(trial.failing.read([int(row["image"])]))
        assert int(classifier(image).argmax()) != row["wrong_class"]


def test_tensorfuzz_takes_its_threshold_from_the_seeds(classifier, images):
    design = design_of(classifier, images)
    logits = classifier(torch.as_tensor(np.stack(images))).detach().double().numpy()
    squares = ((logits[:, None] - logits[None]) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    assert nearest_distance(Setup(design, images)) == pytest.approx(np.median(squares.min(1)), rel=1e-5)
    assert nearest_distance(Setup(design, images[:1])) == 1.0


def test_tensorfuzz_as_released_ends_at_its_first_failure(classifier, images):
    designs = [design_of(classifier, images, as_released=flag, budget="1000-passes") for flag in (True, False)]
    released, ours = (trial_of("tensorfuzz", design, images) for design in designs)
    assert 0 < released.counts.passes < 1000 == ours.counts.passes
    assert released.failures
    assert len(released.failures) < len(ours.failures)
    assert released.growth[-1]["mark"] == GROWTH_MARKS


def test_deephunter_as_released_books_rejected_changes_on_moved_pictures(classifier, images):
    options = {"operators": ("brightness", "translate"), "constraint": "deephunter(alpha=0.02, beta=0.02)"}
    designs = [
        design_of(classifier, images, as_released=flag, budget="200-passes", **options) for flag in (True, False)
    ]
    released, ours = (trial_of("keep-all", design, images) for design in designs)
    assert {entry.leak for entry in ours.corpus.entries} == {NO_LEAK}
    entries = released.corpus.entries
    moved = [entry for entry in entries if entry.mutation and entry.mutation.operator == "translate"]
    accounts = [entry.leak for entry in moved if entry.leak != NO_LEAK]
    assert accounts
    # Each was too large a change of the brightness; nearly all entries of a picture change by it.
    assert min(share for share, _ in accounts) > 0.5
    assert min(largest for _, largest in accounts) >= 0.02
    # So none of their children is valid, while other moved pictures have children.
    parents = {entry.parent for entry in entries}
    assert not parents & {place for place, entry in enumerate(entries) if entry.leak != NO_LEAK}
    again = new_trial(parse_framework("keep-all"), 0, Setup(designs[0], images), MemoryStack(), MemoryStack())
    saved = save(released)
    take_up_again(again, saved.tables, saved.arrays, saved.counts)
    assert [entry.leak for entry in again.corpus.entries] == [entry.leak for entry in entries]


def test_a_budget_must_outlast_the_dry_run(classifier, images):
    with pytest.raises(UserError, match=r"more than the dry run of 4 seeds, which takes 4 passes, got: 4-passes"):
        trial_of("random", design_of(classifier, images, budget="4-passes"), images)


def test_a_constraint_that_nothing_meets_ends_the_campaign(classifier, images):
    design = design_of(classifier, images, constraint="linf(eps=0.00001)", operators=("noise",))
    with pytest.raises(UserError, match="`constraint` must leave valid mutants"):
        trial_of("random", design, images)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("deephunt", "did you mean `deephunter`"),
        ("deephunter(mutants=0)", "a whole number from 1 on, got: 0"),
        ("keep-random(rate=2)", "a number from 0 to 1, got: 2"),
        ("keep-random(like='keep-random')", "must be another of"),
        ("random(k=3)", "takes mutants, got: k"),
        ("dlfuzz(strategy='9')", "none or different digits 0 to 3"),
        ("tensorfuzz(threshold=0)", "a number above 0, got: 0"),
    ],
)
def test_wrong_frameworks_are_refused(spec, message):
    with pytest.raises(UserError) as refusal:
        parse_framework(spec)
    assert message in f"{refusal.value.message} {refusal.value.hint}"


class NaNWhereBright(torch.nn.Module):
    """A tiny network that answers NaN where an image is brighter than the seeds."""

    def __init__(self, limit):
        super().__init__()
        self.net, self.limit = TinyNet(1).eval(), limit

    def forward(self, x):
        logits = self.net(x)
        return torch.where(x.mean((1, 2, 3))[:, None] > self.limit, torch.nan, logits)


def test_images_without_finite_logits_never_join(images):
    most = max(float((image.mean() - 0.5) / 0.25) for image in images)
    classifier = Classifier(NaNWhereBright(most + 0.05), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)
    design = design_of(classifier, images, operators=("brightness",), budget="200-passes")
    trial = trial_of("keep-all", design, images)
    logits = classifier(trial.corpus.read(range(len(trial.corpus))))
    assert len(trial.corpus) < trial.counts.mutants  # some did answer NaN
    assert torch.isfinite(logits).all()
    assert not any(np.isnan(row["probability"]) for row in trial.failures)
