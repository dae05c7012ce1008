"""Coverage criteria: on a network worked by hand, against naive loops, and what holds for each of them."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

import camdrift
from camdrift.coverage.criteria import (
    CRITERIA,
    Background,
    NeuronBatch,
    NeuronLayout,
    criterion_of,
    make_criterion,
    observe_batch,
)
from camdrift.errors import UserError
from support.neurons import (
    B1,
    ORDINARY,
    SUITE,
    TOY,
    W1,
    W2,
    background_of,
    batch_of,
    drawn_batch,
    folded,
    parts_of,
    toy,
)

VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [64, 128, 256, 512, 512] + [4096, 4096, 1000]


class Toy(nn.Module):
    """The network worked by hand on the first two planes of an image of one pixel."""

    def __init__(self):
        super().__init__()
        self.h, self.z = nn.Linear(2, 3), nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.h.weight.copy_(W1)
            self.h.bias.copy_(B1)
            self.z.weight.copy_(W2)

    def forward(self, x):
        return self.z(self.h(x[:, :2, 0, 0]).relu())


class TestWorkedByHand:
    def test_f1_outputs_through_the_taps(self):
        classifier = camdrift.wrap(Toy(), std=0.25, size=1)
        images = torch.tensor([(*point, 0) for point in SUITE])[:, :, None, None] / 4
        batch = observe_batch(classifier, images)
        hidden, expected = batch.raw[:, :3], toy(SUITE)
        assert hidden.tolist() == [[1, 1, 1], [3, 0, 2], [0, 2, 1]]
        assert batch.logits.tolist() == [[0, 3], [3, 4], [-2, 4]]
        assert torch.equal(batch.scaled[:, :3].nan_to_num(-1), expected.scaled[:, :3].nan_to_num(-1))
        assert torch.equal(batch.raw[:, 3:], batch.logits.softmax(1))
        assert torch.equal(torch.cat([hidden, batch.logits], 1), expected.raw)

    def test_outputs_that_nobody_scales_are_the_same(self):
        classifier = camdrift.wrap(Toy(), std=0.25, size=1)
        images = torch.tensor([(*point, 0) for point in SUITE])[:, :, None, None] / 4
        scaled, raw = (observe_batch(classifier, images, is_scaled=is_scaled) for is_scaled in (True, False))
        assert torch.equal(scaled.raw, raw.raw)
        assert torch.equal(scaled.logits, raw.logits)
        assert scaled.above(0.5).any()
        with pytest.raises(ValueError, match="outputs must be scaled"):
            criterion_of("nc", Background(TOY)).start().fold(raw.first(2), np.ones(2, np.bool_))

    @pytest.mark.parametrize("spec", CRITERIA)
    def test_only_neuron_coverage_reads_what_is_scaled(self, spec):
        criterion, batch = criterion_of(spec, background_of(toy(ORDINARY), layers=("h", "z", "logits"))), toy(SUITE)
        raw = NeuronBatch(None, batch.raw, batch.logits)
        assert criterion.is_of_scaled == (spec == "nc")
        if not criterion.is_of_scaled:
            gains = [folded(criterion, each)[1] for each in (batch, raw)]
            assert np.array_equal(*gains, equal_nan=True)

    def test_an_empty_batch(self):
        classifier = camdrift.wrap(Toy(), std=0.25, size=1)
        batch = observe_batch(classifier, torch.zeros(0, 3, 1, 1))
        assert (len(batch), batch.raw.shape, batch.logits.shape) == (0, (0, 5), (0, 2))
        for spec in ("nc", "tknc", "tknp", "nlc", "nlc(guided=True)", "cc(threshold=1)"):
            criterion = make_criterion(spec, classifier)
            assert criterion.start().fold(batch, np.zeros(0, np.bool_)).tolist() == []

    def test_f1_bounds(self):
        profile = background_of(toy(ORDINARY)).profile
        assert profile.low.tolist() == [0, 0, 0, -1, 0]
        assert profile.high.tolist() == [2, 1, 2, 1, 5]
        assert profile.mean.tolist() == [0.75, 0.5, 0.5, 0.25, 1.5]
        assert profile.deviation == pytest.approx(toy(ORDINARY).raw.double().std(0, correction=0).numpy())

    @pytest.mark.parametrize(
        ("spec", "gains", "covered", "total"),
        [
            ("nc", [1, 2, 1], 4, 5),
            ("nc(threshold=0.75)", [1, 1, 1], 3, 5),
            ("kmnc(k=4)", [5, 3, 1], 9, 20),
            ("nbc", [0, 2, 2], 4, 10),
            ("nbc(reachable=True)", [0, 2, 2], 4, 6),
            ("nbc(as_released=True)", [0, 2, 1], 3, 10),  # z1 is above for B and below for C: one slot
            ("snac", [0, 2, 1], 3, 5),
            ("tknc", [2, 0, 1], 3, 5),
        ],
    )
    def test_f2_to_f5_sets(self, spec, gains, covered, total):
        state, found = folded(criterion_of(spec, background_of(toy(ORDINARY))), toy(SUITE))
        assert found.tolist() == gains
        reading = state.reading()
        assert (reading.covered, reading.total, reading.value) == (covered, total, covered / total)

    def test_f2b_a_convolution(self):
        """Channels [[0, 4], [0, 0]] and [[2, 2], [2, 2]]: their values are 1/4 and 1/2, and 1/4 is not above 1/4."""
        layout = NeuronLayout(("conv",), (2,))
        batch = NeuronBatch(torch.tensor([[0.25, 0.5]]), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
        covered = lambda t: folded(criterion_of(f"nc(threshold={t})", Background(layout)), batch)[0].reading().covered  # noqa: E731
        assert [covered(t) for t in (0.25, 0.75, 0.2)] == [1, 0, 2]

    def test_f2c_coverage_is_a_union_and_not_a_sum(self):
        suite = torch.tensor([[4.0, 0, 1], [0, 4, 1], [4, 0, 1]])
        state, _ = folded(criterion_of("nc(threshold=0.2)", Background(NeuronLayout(("h",), (3,)))), batch_of(suite))
        assert state.reading().covered == 3

    def test_f3_the_profile_hits_the_sections_of_its_own_bounds(self):
        criterion = criterion_of("kmnc(k=4)", background_of(toy(ORDINARY)))
        state, _ = folded(criterion, toy(ORDINARY))
        bits = np.unpackbits(state.arrays()["bits"])[:20].reshape(5, 4)
        assert bits.sum(1).tolist() == [3, 2, 2, 3, 2]
        assert state.by_layer()["h"].covered == 7

    @pytest.mark.parametrize("spec", ["nbc", "snac", "nbc(sigma=0.5)", "nbc(reachable=True)"])
    def test_f4_a_profile_s_own_images_score_nothing(self, spec):
        state, gains = folded(criterion_of(spec, background_of(toy(ORDINARY))), toy(ORDINARY))
        assert (state.reading().value, gains.any()) == (0, False)

    def test_f5_patterns(self):
        state, gains = folded(criterion_of("tknp", Background(TOY)), toy(SUITE))
        assert (gains.tolist(), state.reading().value, state.reading().total) == ([1, 0, 1], 2, None)

    def test_f6_the_suite(self):
        state, gains = folded(criterion_of("nlc", Background(TOY)), toy(SUITE))
        assert state.reading().value == pytest.approx(56 / 81 + 42 / 36, rel=1e-14)
        assert [reading.value for reading in state.by_layer().values()] == pytest.approx([56 / 81, 42 / 36])
        assert np.isnan(gains).all()

    def test_f6_guided_by_the_order_of_images(self):
        values, first = [], []
        for order in permutations(range(3)):
            batch = toy([SUITE[number] for number in order])
            state, gains = folded(criterion_of("nlc(guided=True)", Background(TOY)), batch)
            assert gains.sum() == pytest.approx(state.reading().value)
            values.append(state.reading().value)
            first.append(gains[0])
        assert values == pytest.approx([1.858025, 1.858025, 1.858025, 2.5625, 1.858025, 2.5625], abs=1e-6)
        # a single image has no spread: it raises nothing, in any order
        assert first == [0] * 6

    def test_f9_distances_are_squared_and_strict(self):
        points = torch.tensor([(0.0, 0), (1.0, 0), (1.5, 0), (2.5, 0), (3.0, 0), (3.0, 1.5)])
        layout = NeuronLayout(("h",), (2,))
        for layer in ("logits", "h"):
            criterion = criterion_of(f"cc(threshold=2, layer='{layer}')", Background(layout))
            state, gains = folded(criterion, batch_of(points))
            assert gains.tolist() == [1, 0, 1, 0, 1, 1]
            assert state.reading().value == 4

    def test_f9_a_distance_of_the_threshold_is_not_new(self):
        points = torch.tensor([(0.0, 0), (1.0, 1.0)])
        _, gains = folded(criterion_of("cc(threshold=2)", Background(NeuronLayout(("h",), (2,)))), batch_of(points))
        assert gains.tolist() == [1, 0]

    def test_f14_what_criteria_keep(self):
        layout = NeuronLayout(tuple(f"layer{number}" for number in range(len(VGG16))), tuple(VGG16))
        assert layout.total == 14888
        background = background_of(drawn_batch(0, 2, layout), layout)
        bits = criterion_of("kmnc", background).start().arrays()["bits"]
        assert bits.nbytes == 14_888_000 / 8
        assert sum(size * size for size in layout.sizes) == 36_975_168


LAYOUT = NeuronLayout(("a", "b", "c"), (5, 7, 3))
SPECS = [
    "nc",
    "kmnc(k=40)",
    "nbc",
    "snac(sigma=0.5)",
    "tknc(k=2)",
    "tknp(k=2)",
    "nlc",
    "nlc(guided=True)",
    "nlc(standardised=True)",
    "cc",
    "cc(threshold=2, layer='b')",
    "lsa(layer='c')",
    "dsa(layer='b')",
    "mdsa(layer='c')",
    "lsc(layer='c', k=5)",
    "dsc(layer='b', k=5)",
    "mdsc(layer='c', k=5)",
]


@pytest.fixture(scope="module")
def background():
    return background_of(drawn_batch(1, 60, LAYOUT), LAYOUT, ("b", "c", "logits"))


@pytest.fixture(scope="module")
def suite():
    return drawn_batch(2, 150, LAYOUT, wild=1.6)


class TestNaiveLoops:
    def test_sections(self, background, suite):
        profile, hits = background.profile, set()
        for row in suite.raw.double().tolist():
            for neuron, value in enumerate(row):
                low, high = profile.low[neuron], profile.high[neuron]
                if low <= value <= high:
                    hits.add((neuron, min(math.floor((value - low) / (high - low) * 40), 39)))
        state, _ = folded(criterion_of("kmnc(k=40)", background), suite)
        assert 20 < state.reading().covered == len(hits) < state.reading().total

    def test_corners(self, background, suite):
        low, high = (bound.numpy() for bound in background.profile.bounds())
        above, below = set(), set()
        for row in suite.raw.double().tolist():
            above |= {neuron for neuron, value in enumerate(row) if value > high[neuron]}
            below |= {neuron for neuron, value in enumerate(row) if value < low[neuron]}
        assert folded(criterion_of("nbc", background), suite)[0].reading().covered == len(above) + len(below)
        assert folded(criterion_of("snac", background), suite)[0].reading().covered == len(above) > 5

    def test_strongest(self, suite):
        patterns, neurons = set(), set()
        for row in suite.raw.tolist():
            pattern = []
            for name, place in LAYOUT.slices.items():
                layer = row[place]
                top = sorted(range(len(layer)), key=lambda number: (-layer[number], number))[:2]
                pattern.append((name, frozenset(top)))
                neurons |= {(name, number) for number in top}
            patterns.add(frozenset(pattern))
        assert folded(criterion_of("tknc(k=2)", Background(LAYOUT)), suite)[0].reading().covered == len(neurons)
        assert folded(criterion_of("tknp(k=2)", Background(LAYOUT)), suite)[0].reading().value == len(patterns) > 50

    def test_spread(self, background, suite):
        rows = suite.raw.double().numpy()
        units = (rows - background.profile.mean) / background.profile.deviation
        for spec, values in (("nlc", rows), ("nlc(standardised=True)", units)):
            terms = [np.abs(np.cov(values[:, place].T, bias=True)).mean() for place in LAYOUT.slices.values()]
            state, _ = folded(criterion_of(spec, background), suite)
            assert [reading.value for reading in state.by_layer().values()] == pytest.approx(terms, rel=1e-12)
            assert state.reading().value == pytest.approx(sum(terms), rel=1e-12)

    def test_guided_spread(self, suite):
        """Wide layers, so that the covariance is walked through in several blocks."""
        layout = NeuronLayout(("a", "b"), (300, 3))
        batch = drawn_batch(3, 12, layout, wild=0.2)
        value, states = 0.0, {}
        for row in batch.raw.double().numpy():
            for name, place in layout.slices.items():
                n, mean, sigma = states.get(name, (0, np.zeros(len(row[place])), 0.0))
                weight, step = 1 / (n + 1), mean - row[place]
                new = (1 - weight) * sigma + weight * (1 - weight) * np.outer(step, step)
                rise = (np.abs(new).sum() - np.abs(sigma).sum()) / new.size
                if n == 0 or rise > 0:
                    states[name] = n + 1, mean * (1 - weight) + row[place] * weight, new
                    value += rise
        state, gains = folded(criterion_of("nlc(guided=True)", Background(layout)), batch)
        assert state.reading().value == pytest.approx(value, rel=1e-12)
        assert 0 < (gains > 0).sum() < len(gains)


def same(arrays, others):
    return arrays.keys() == others.keys() and all(np.array_equal(arrays[key], others[key]) for key in arrays)


class TestEveryCriterion:
    @pytest.mark.parametrize("spec", SPECS)
    def test_batches_change_nothing(self, background, suite, spec):
        criterion = criterion_of(spec, background)
        state, gains = folded(criterion, suite)
        for ends in ((1, 2, 3, 64, 65), tuple(range(1, 150))):
            other, same_gains = folded(criterion, *parts_of(suite, *ends))
            assert same(state.arrays(), other.arrays())
            assert np.array_equal(gains, same_gains, equal_nan=True)
        assert criterion.is_guide == (not np.isnan(gains).any())

    @pytest.mark.parametrize("spec", SPECS)
    def test_states_of_shards_merge(self, background, suite, spec):
        criterion = criterion_of(spec, background)
        shards = [folded(criterion, part)[0] for part in parts_of(suite, 1, 50, 120)]
        if not criterion.is_order_free:
            with pytest.raises(TypeError, match="order"):
                shards[0].merge(shards[1])
            return
        whole, _ = folded(criterion, suite)
        total = criterion.start()
        for shard in reversed(shards):
            total.merge(shard)
        assert total.reading().value == pytest.approx(whole.reading().value, rel=1e-12)
        assert total.reading().covered == whole.reading().covered
        if spec[:3] in ("nc", "kmn", "nbc", "sna", "tkn", "lsc", "dsc"):
            assert same(total.arrays(), whole.arrays())

    @pytest.mark.parametrize("spec", SPECS)
    def test_a_state_goes_on_from_its_arrays(self, background, suite, spec):
        criterion = criterion_of(spec, background)
        first, second = parts_of(suite, 70)
        state = criterion.start()
        state.restore(folded(criterion, first)[0].arrays())
        again = state.fold(second, np.ones(len(second), np.bool_))
        whole, gains = folded(criterion, first, second)
        assert np.array_equal(again, gains[70:], equal_nan=True)
        assert same(state.arrays(), whole.arrays())
        assert state.reading() == whole.reading()

    @pytest.mark.parametrize("spec", SPECS)
    def test_who_is_not_admitted_changes_nothing(self, background, suite, spec):
        criterion = criterion_of(spec, background)
        is_admitted = np.arange(len(suite)) % 3 == 0
        state = criterion.start()
        gains = state.fold(suite, is_admitted)
        alone = NeuronBatch(suite.scaled[::3], suite.raw[::3], suite.logits[::3])
        other, own_gains = folded(criterion, alone)
        assert same(state.arrays(), other.arrays())
        assert np.array_equal(gains[::3], own_gains, equal_nan=True)

    @pytest.mark.parametrize("spec", SPECS)
    def test_a_second_time_adds_nothing(self, background, suite, spec):
        criterion = criterion_of(spec, background)
        state, gains = folded(criterion, suite)
        if criterion.is_guide and "guided" not in spec:
            assert gains.any()
            assert not state.fold(suite, np.ones(len(suite), np.bool_)).any()
            reading = state.reading()
            assert reading.covered == gains.sum()

    @pytest.mark.parametrize("spec", SPECS)
    def test_outputs_that_are_not_finite(self, background, suite, spec):
        """An image of NaN spoils nothing for the others, and is not new for criteria of distance."""
        raw, logits = suite.raw.clone(), suite.logits.clone()
        raw[3], logits[3] = torch.nan, torch.nan
        criterion = criterion_of(spec, background)
        state, gains = folded(criterion, NeuronBatch(suite.scaled, raw, logits))
        assert math.isfinite(state.reading().value)
        if not spec.startswith(("nc", "tkn", "lsa", "dsa", "mdsa", "nlc")) or "guided" in spec:
            assert gains[3] == 0

    def test_each_row_is_tried(self):
        assert {spec.partition("(")[0] for spec in SPECS} == set(CRITERIA)


class TestWords:
    @pytest.mark.parametrize(
        ("spec", "name"),
        [
            ("kmnc", "kmnc(k=1000)"),
            ("nc", "nc(threshold=0.25)"),
            ("nbc", "nbc"),
            ("snac(sigma=1)", "snac(sigma=1.0)"),
            ("nlc(guided=True)", "nlc(guided=True)"),
            ("cc(threshold=2)", "cc(threshold=2.0, layer='logits')"),
        ],
    )
    def test_names(self, background, spec, name):
        assert criterion_of(spec, background).name == name
        assert criterion_of(name, background).name == name

    def test_a_threshold_from_the_profile_is_told(self):
        background = background_of(
            batch_of(torch.tensor([[0.0, 0], [1, 0], [3, 0], [7, 0]])), NeuronLayout(("h",), (2,)), ("logits",)
        )
        # to the nearest: 1, 1, 4, 16
        assert criterion_of("cc", background).name == "cc(threshold=2.5, layer='logits')"

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("kmmc", "`criteria` must be of nc, kmnc, .* got: kmmc .*did you mean `kmnc`"),
            ("kmnc(sections=4)", "`kmnc` has no setting `sections` .*it has k=1000"),
            ("kmnc(k=0)", "`k` of criterion `kmnc` must be 1 or more, got: 0"),
            ("kmnc(k=2.5)", "`k` of criterion `kmnc` must be a whole number, got: 2.5"),
            ("nc(threshold=1)", "must be from 0 to below 1, got: 1"),
            ("nc(threshold=True)", "must be a number, got: True"),
            ("nbc(sigma=1e999)", "must be a number, got: inf"),
            ("cc(threshold=1, layer='x')", "must be a layer with neurons, got: x .*there are logits, a, b, c"),
            ("cc(layer='a')", "needs a profile with features of a, got: b, c, logits"),
        ],
    )
    def test_mistakes(self, background, spec, words):
        with pytest.raises(UserError, match=words):
            criterion_of(spec, background)

    @pytest.mark.parametrize("spec", ["kmnc", "nbc", "snac", "cc", "dsa", "lsc", "nlc(standardised=True)"])
    def test_a_profile_is_missing(self, spec):
        with pytest.raises(UserError, match=r"needs a profile: .* \(hint: --profile FOLDER"):
            criterion_of(spec, Background(LAYOUT))

    def test_a_profile_of_another_model(self, background):
        with pytest.raises(UserError, match="must be of this model, got: 15 neurons for 5"):
            criterion_of("kmnc", Background(TOY, background.profile))

    def test_neurons_that_are_constant_over_the_profile_have_no_sections(self):
        background = background_of(batch_of(torch.tensor([[1.0, 0], [1, 4]])), NeuronLayout(("h",), (2,)))
        state, gains = folded(criterion_of("kmnc(k=4)", background), batch_of(torch.tensor([[1.0, 2]])))
        assert (state.reading().total, gains.tolist()) == (4, [1])
        constant = background_of(batch_of(torch.ones(2, 2)), NeuronLayout(("h",), (2,)))
        reading = criterion_of("kmnc", constant).start().reading()
        assert (reading.value, reading.undefined_reason) == (None, "no neuron varies over the profile")
