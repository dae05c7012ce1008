"""Coverage criteria on a network worked by hand: F1 to F4 and F9 of the acceptance values."""

import numpy as np
import pytest
import torch

from camdrift.coverage.criteria import Background, NeuronBatch, NeuronLayout, criterion_of
from camdrift.coverage.profile import profile_of

TOY = NeuronLayout(("h", "z"), (3, 2))
W1, B1 = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([0.0, 0, -1])
W2 = torch.tensor([[1.0, -1, 0], [0, 1, 2]])
PROFILE, TEST = [(0, 0), (1, 0), (0, 1), (2, 1)], [(1, 1), (3, 0), (0, 2)]


def min_max(layer):
    low, high = layer.amin(1, keepdim=True), layer.amax(1, keepdim=True)
    return (layer - low) / torch.where(high > low, high - low, torch.nan)


def toy(points):
    """Neurons of the toy network: Linear(2, 3) with ReLU, then Linear(3, 2), without softmax units."""
    hidden = (torch.tensor(points, dtype=torch.float32) @ W1.T + B1).relu()
    logits = hidden @ W2.T
    return NeuronBatch(torch.cat([min_max(hidden), min_max(logits)], 1), torch.cat([hidden, logits], 1), logits)


def fold(criterion, batch, is_admitted=None):
    state = criterion.start()
    return state, state.fold(batch, np.ones(len(batch), bool) if is_admitted is None else np.array(is_admitted))


@pytest.fixture(scope="module")
def background():
    return Background(TOY, profile_of(toy(PROFILE).raw.double().numpy()))


@pytest.mark.parametrize(
    ("spec", "gains", "covered", "total"),
    [
        ("nc", [1, 2, 1], 4, 5),
        ("nc(threshold=0.75)", [1, 1, 1], 3, 5),
        ("kmnc(k=4)", [5, 3, 1], 9, 20),
        ("nbc", [0, 2, 2], 4, 10),
        ("snac", [0, 2, 1], 3, 5),
    ],
)
def test_worked_by_hand(background, spec, gains, covered, total):
    state, found = fold(criterion_of(spec, background), toy(TEST))
    assert found.tolist() == gains
    assert (state.reading().covered, state.reading().total) == (covered, total)
    assert state.reading().value == covered / total


def test_f9_distances():
    points = torch.tensor([(0.0, 0), (1.0, 0), (1.5, 0), (2.5, 0), (3.0, 0), (3.0, 1.5)])
    state, gains = fold(criterion_of("cc(threshold=2)", Background(TOY, None)), NeuronBatch(points, points, points))
    assert gains.tolist() == [1, 0, 1, 0, 1, 1]
    assert state.reading().covered == 4
