"""DLFuzz's strategies: candidates, signs, shares and edge cases of specification 1.6, on tables made by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

from camdrift.coverage.neurons import neuron_coverage
from camdrift.coverage.strategies import NeuronTable, neuron_table, select_neurons
from camdrift.models.classifier import Classifier
from support.fuzz_nets import SmallNet, small_classifier

THRESHOLD = 0.25

# Ten neurons, the last four dense.
TIMES = np.array([0, 5, 1, 0, 3, 1, 0, 10, 0, 0])
VALUES = np.array([0.30, 0.45, 0.10, 0.20, 0.25, 0.25 - 0.2, 0.30, 0.20, 0.49, 0.06])
TABLE = NeuronTable(strongest=np.array([7, 2, 5]), is_dense=np.arange(10) >= 6)


def select(*strategies, count=10, times=TIMES, values=VALUES, table=TABLE, threshold=THRESHOLD, rng_seed=0):
    rng = np.random.default_rng(rng_seed)
    return select_neurons(strategies, count, table=table, times=times, values=values, threshold=threshold, rng=rng)


def pushed(*strategies, **options):
    """(neuron, sign) of every push, sorted."""
    found = select(*strategies, **options)
    return sorted(zip(found.neurons.tolist(), found.signs.tolist(), strict=True))


def up(*neurons):
    return [(neuron, 1.0) for neuron in neurons]


def frequencies(strategy, count, draws, **options):
    """How often each of ten neurons was drawn."""
    found = [select(strategy, count=count, rng_seed=i, **options).neurons for i in range(draws)]
    assert all(len(neurons) == count == len(set(neurons.tolist())) for neurons in found)
    return np.bincount(np.concatenate(found), minlength=10)


class TestOneStrategy:
    """More are asked for than qualify: the strategy takes exactly its candidates, each once."""

    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            ("none", up(0, 3, 6, 8, 9)),  # never covered
            ("0", up(1, 2, 4, 5, 7)),  # covered at least once
            ("1", up(0, 1, 2, 3, 4, 5, 6, 8, 9)),  # covered less often than the most often covered
            ("2", up(2, 5, 7)),
            # 4 is on the threshold, 5 on the lower edge; 6 to 9 are dense
            ("3", [(0, 1.0), (1, 1.0), (2, -1.0), (3, -1.0)]),
        ],
    )
    def test_candidates_and_signs(self, strategy, expected):
        assert pushed(strategy) == expected

    @pytest.mark.parametrize("strategy", ["none", "0", "1", "2"])
    def test_takes_as_many_as_asked(self, strategy):
        candidates = {neuron for neuron, _ in pushed(strategy)}
        found = select(strategy, count=3).neurons.tolist()
        assert len(found) == 3 == len(set(found))
        assert set(found) <= candidates

    @pytest.mark.parametrize(("count", "above", "below"), [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 2, 2)])
    def test_strategy_3_halves_its_share_the_odd_one_below(self, count, above, below):
        signs = select("3", count=count).signs
        assert (np.sum(signs == 1), np.sum(signs == -1)) == (above, below)

    @pytest.mark.parametrize(
        ("value", "sign"),
        [(0.6, None), (0.849, 1.0), (0.85, None), (0.601, 1.0), (0.599, -1.0), (0.401, -1.0), (0.399, None)],
    )
    def test_strategy_3_moves_with_the_threshold(self, value, sign):
        values = np.full(10, np.nan)
        values[4] = value
        expected = [] if sign is None else [(4, sign)]
        assert pushed("3", values=values, threshold=0.6) == expected


class TestOdds:
    DRAWS = 1000

    def expect(self, seen, odds):
        odds = np.asarray(odds, dtype=float)
        assert not seen[odds == 0].any()
        expected = odds[odds > 0] / odds.sum() * seen.sum()
        assert chisquare(seen[odds > 0], expected).pvalue > 1e-3

    @pytest.mark.parametrize(
        ("strategy", "odds"),
        [
            ("none", TIMES == 0),
            ("0", TIMES),
            ("1", 10 - TIMES),
            ("2", np.isin(np.arange(10), [2, 5, 7])),
        ],
    )
    def test_single_draw(self, strategy, odds):
        self.expect(frequencies(strategy, 1, self.DRAWS), odds)

    @pytest.mark.parametrize(("sign", "odds"), [(1.0, [0, 1]), (-1.0, [2, 3])])
    def test_strategy_3_draws_uniformly(self, sign, odds):
        found = [select("3", count=2, rng_seed=i) for i in range(self.DRAWS)]
        drawn = np.concatenate([selection.neurons[selection.signs == sign] for selection in found])
        self.expect(np.bincount(drawn, minlength=10), np.isin(np.arange(10), odds))

    def test_second_draw_of_strategy_0_leaves_the_first_out(self):
        # Odds 1 : 1 : 8 over three neurons, two drawn. Neuron 0 is left out if the others come first and second:
        # 0.1 * 8/9 + 0.8 * 1/2.
        times = np.array([1, 1, 8, 0, 0, 0, 0, 0, 0, 0])
        seen = frequencies("0", 2, self.DRAWS, times=times)
        missed = 0.1 * 8 / 9 + 0.8 / 2
        assert seen[0] / self.DRAWS == pytest.approx(1 - missed, abs=0.04)


class TestEdges:
    NOTHING = np.zeros(10, dtype=np.int64)

    @pytest.mark.parametrize("strategies", [("0",), ("1",), ("0", "2"), ("2", "1"), ("3", "0")])
    def test_nothing_covered_yet_takes_one_neuron_in_all(self, strategies):
        seen = [pushed(*strategies, times=self.NOTHING, rng_seed=i) for i in range(40)]
        assert all(len(found) == 1 and found[0][1] == 1.0 for found in seen)
        assert len({found[0][0] for found in seen}) > 5

    @pytest.mark.parametrize("strategies", [("none",), ("2",), ("3",), ("2", "3")])
    def test_the_other_strategies_do_not_mind(self, strategies):
        assert len(pushed(*strategies, count=6, times=self.NOTHING)) > 1

    def test_all_covered_equally_often(self):
        same = np.full(10, 4)
        assert pushed("1", times=same) == up(*range(10))
        TestOdds().expect(frequencies("1", 1, 1000, times=same), np.ones(10))

    def test_all_covered_draws_from_all(self):
        assert pushed("none", times=TIMES + 1) == up(*range(10))
        TestOdds().expect(frequencies("none", 1, 1000, times=TIMES + 1), np.ones(10))

    def test_no_candidate_is_no_neuron(self):
        empty = NeuronTable(np.array([], dtype=np.int64), np.ones(10, dtype=bool))
        assert pushed("2", table=empty) == []
        assert pushed("3", table=empty) == []
        assert pushed("3", values=np.full(10, np.nan)) == []


class TestCombinations:
    @pytest.mark.parametrize(("count", "share"), [(4, 1), (10, 2), (12, 3)])
    def test_each_strategy_gets_an_equal_share(self, count, share):
        found = select("0", "1", "2", "3", count=count)
        assert len(found.neurons) == 4 * share
        parts = np.split(found.neurons, 4)
        assert set(parts[0]) <= {1, 2, 4, 5, 7}
        assert 7 not in parts[1]
        assert set(parts[2]) <= {2, 5, 7}
        assert set(parts[3]) <= {0, 1, 2, 3}
        assert found.signs[: 3 * share].tolist() == [1.0] * 3 * share
        assert sorted(found.signs[3 * share :]) == [-1.0] * (share - share // 2) + [1.0] * (share // 2)

    def test_strategy_3_adds_to_the_others(self):
        assert pushed("2", "3", count=20) == sorted([*up(2, 5, 7, 0, 1), (2, -1.0), (3, -1.0)])

    @given(
        st.permutations(["0", "1", "2", "3"]),
        st.integers(1, 4),
        st.integers(4, 40),
        st.lists(st.integers(0, 3), min_size=10, max_size=10),
        st.integers(0, 99),
    )
    @settings(max_examples=25, deadline=None)
    def test_any_combination(self, order, used, count, times, rng_seed):
        strategies = order[:used]
        found = select(*strategies, count=count, times=np.array(times), rng_seed=rng_seed)
        again = select(*strategies, count=count, times=np.array(times), rng_seed=rng_seed)
        assert found.neurons.tolist() == again.neurons.tolist()
        assert len(found.neurons) == len(found.signs) <= count
        assert np.all(found.neurons >= 0)
        assert np.all(found.neurons < 10)
        assert np.all(found.signs[~np.isin(found.neurons, [2, 3])] == 1)


class TestNeuronTable:
    def means(self, net):
        """Mean kernel weight of each of SmallNet's neurons, in order; none for pools."""
        kernels = [net.conv1, None, net.conv2, None, net.fc1, net.fc2]
        sizes = [6, 6, 8, 8, 60, 30]
        means = []
        for layer, size in zip(kernels, sizes, strict=True):
            weight = None if layer is None else layer.weight.detach().double().numpy()
            means += [-np.inf if weight is None else weight[n].mean() for n in range(size)]
        return np.array(means)

    @pytest.mark.parametrize("net", range(3))
    def test_strongest_tenth_by_mean_weight(self, net):
        means = self.means(SmallNet(net))
        # 118 neurons: a tenth, rounded up, as the published loop stops once it has at least 11.8
        expected = sorted(range(118), key=lambda neuron: -means[neuron])[:12]
        assert neuron_table(small_classifier(net)).strongest.tolist() == expected

    def test_biases_do_not_count(self):
        classifier = small_classifier(0)
        expected = neuron_table(classifier).strongest.tolist()
        with torch.no_grad():
            for layer in (classifier.module.conv1, classifier.module.conv2, classifier.module.fc1):
                layer.bias.copy_(torch.linspace(-5, 5, len(layer.bias)))
        assert neuron_table(classifier).strongest.tolist() == expected

    def test_only_positive_means(self):
        net = SmallNet(0)
        with torch.no_grad():
            for layer in (net.conv1, net.conv2, net.fc1, net.fc2):
                layer.weight.copy_(-layer.weight.abs())
            net.conv2.weight[5] = torch.linspace(-1, 1.1, net.conv2.weight[5].numel()).view(6, 3, 3)
            net.fc2.weight[7] = 0.1
            net.fc2.weight[8] = 0
        # Neurons 12 to 19 are conv2's, the last thirty the softmax units, with the last linear layer's weights.
        assert neuron_table(Classifier(net, size=8)).strongest.tolist() == [88 + 7, 12 + 5]

    def test_all_negative_leaves_none(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
        with torch.no_grad():
            net[0].weight.copy_(-net[0].weight.abs())
            net[2].weight.copy_(-net[2].weight.abs())
        assert neuron_table(Classifier(net, size=8)).strongest.tolist() == []

    def test_linear_layers_and_softmax_are_dense(self):
        dense = neuron_table(small_classifier(0)).is_dense
        assert dense.tolist() == [False] * 28 + [True] * 90


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1.3])
def test_constant_layer_covers_nothing(value):
    # The float32 mean of 49 equal values may differ from them in the last bit, on either side.
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 49, 3))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(value)
        net[2].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    covered = neuron_coverage(Classifier(net, size=7), torch.rand((2, 3, 7, 7)))
    assert not covered[:, :4].any()
    assert covered[:, 4:].any()
