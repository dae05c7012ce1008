"""Constraints, oracles, budgets, parents and guidance: the values of the specification, and what is refused."""

import numpy as np
import pytest
import torch

from camdrift.coverage.criteria import NeuronBatch
from camdrift.errors import UserError
from camdrift.fuzzing.budget import parse_budget
from camdrift.fuzzing.constraints import CONSTRAINTS, NO_LEAK, parse_constraint
from camdrift.fuzzing.gradients import joint_objective
from camdrift.fuzzing.guidance import ByUncertainty
from camdrift.fuzzing.names import CONSTRAINT_WORDS
from camdrift.fuzzing.oracles import Oracle
from camdrift.fuzzing.parents import selection_probability


def test_every_constraint_has_a_sentence():
    assert list(CONSTRAINTS) == list(CONSTRAINT_WORDS)


def changed(*entries):
    """A seed of 102 entries and a mutant: (how many change, by how many of 255 levels)."""
    seed = torch.full((1, 3, 2, 17), 0.1)
    mutant = seed.clone()
    count, levels = entries
    mutant.view(-1)[:count] += levels / 255
    return mutant, seed


@pytest.mark.parametrize(("count", "levels", "is_valid"), [(1, 200, True), (3, 60, False), (50, 40, True)])
def test_deephunters_validity(count, levels, is_valid):
    constraint = parse_constraint("deephunter(alpha=0.02, beta=0.2)")
    assert constraint.holds(constraint.use(*changed(count, levels))).tolist() == [is_valid]


def test_a_leak_counts_against_both_bounds_of_deephunter():
    """3 of 300 entries change by 0.1: half of alpha, half of beta. With 1.5 % and 0.15 beside it, both are over."""
    constraint = parse_constraint("deephunter(alpha=0.02, beta=0.2)")
    seeds, images = torch.zeros(2, 3, 10, 10), torch.zeros(2, 3, 10, 10)
    images[:, :, 0, 0] = 0.1
    assert constraint.use(images, seeds).tolist() == pytest.approx([0.5, 0.5])
    use = constraint.use_with([NO_LEAK, (0.015, 0.15)], images, seeds)
    assert use.tolist() == pytest.approx([0.5, 1.25])
    assert constraint.holds(use).tolist() == [True, False]


def test_norms_by_hand():
    mutant, seed = changed(4, 51)
    for spec, use in (("linf(eps=0.1)", 2.0), ("l2(eps=0.4)", 1.0), ("linf(eps=0.2)", 1.0)):
        constraint = parse_constraint(spec)
        value = constraint.use(mutant, seed)
        assert value.item() == pytest.approx(use, rel=1e-5)
        assert constraint.holds(value).item() is (use <= 1)
    half = torch.cat([torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)], 3)
    # less its mean every entry is 0.5 or -0.5: norm sqrt(24) / 2
    assert parse_constraint("ratio(most=0.1)").use(half + 0.05, half).item() == pytest.approx(1.0, rel=1e-5)


def test_similarity_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    generator = torch.Generator().manual_seed(1)
    seed = torch.rand((3, 3, 32, 32), generator=generator)
    mutant = (seed + 0.1 * torch.randn(seed.shape, generator=generator)).clamp(0, 1)
    expected = functional.structural_similarity_index_measure(mutant, seed, data_range=1.0, reduction="none")
    constraint = parse_constraint("ssim(least=0.9)")
    torch.testing.assert_close(1 - 0.1 * constraint.use(mutant, seed).float(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("spec", ["linf(eps=0.03)", "l2(eps=0.5)", "ratio(most=0.02)", "deephunter"])
def test_a_projected_image_is_valid(spec):
    generator = torch.Generator().manual_seed(1)
    seed = 0.3 + 0.4 * torch.rand((2, 3, 16, 16), generator=generator)
    mutant = seed + 0.3 * torch.randn(seed.shape, generator=generator)
    constraint = parse_constraint(spec)
    assert not constraint.holds(constraint.use(mutant, seed)).any()
    assert constraint.holds(constraint.use(constraint.project(mutant, seed), seed)).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linff", "did you mean `linf`"),
        ("linf(eps=0)", "must be a number above 0, got: 0"),
        ("ssim(least=1)", "above 0 and below 1, got: 1"),
        ("l2(epsilon=1)", "takes eps, got: epsilon"),
    ],
)
def test_wrong_constraints_are_refused(spec, message):
    with pytest.raises(UserError) as refusal:
        parse_constraint(spec)
    assert message in f"{refusal.value.message} {refusal.value.hint}"


def test_selection_probability():
    assert [selection_probability(times) for times in range(6)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.3, 0.3])
    released = [selection_probability(times, as_released=True) for times in range(6)]
    assert released == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_deepxplores_joint_objective():
    point = torch.tensor([[0.6, 0.4]], dtype=torch.float64, requires_grad=True)
    x1, x2 = point[:, 0], point[:, 1]
    outputs = [torch.stack(pair, 1) for pair in ((x1, x2), (2 * x1, x2), (x1 + 1, 2 * x2))]
    neurons = [output[:, 1] for output in outputs]
    value = joint_objective(outputs, neurons, torch.tensor([0]), w_diff=1, w_nc=0.1)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    assert gradient.tolist() == [pytest.approx([2, 0.4])]
    direction = gradient / (gradient.square().mean().sqrt() + 1e-5)
    assert (point + 0.1 * direction)[0].tolist() == pytest.approx([0.738674, 0.427735], abs=1e-5)


def test_uncertainty():
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]).log()
    batch = NeuronBatch(logits, logits, logits)
    assert ByUncertainty("gini").uncertainties(batch) == pytest.approx([0.46, 0], abs=1e-7)
    assert ByUncertainty("margin").uncertainties(batch) == pytest.approx([0.5, 0], abs=1e-7)
    is_admitted = np.array([True, True])
    assert ByUncertainty("gini").keep(batch, is_admitted, np.array([0.4, 0.0]), None).tolist() == [True, False]


def test_oracles_by_hand():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [float("nan"), 0, 1], [0, 3, 1]])
    seed_classes = torch.tensor([0, 0, 0, 1])
    prediction = Oracle("prediction").judge([logits], seed_classes)
    assert prediction.are_failures.tolist() == [False, True, False, False]
    assert Oracle("nonfinite").judge([logits], seed_classes).are_failures.tolist() == [False, False, True, False]
    second = torch.tensor([[2.0, 1, 0], [2, 1, 0], [0, 1, 2], [0, 3, 1]])
    third = torch.tensor([[2.0, 1, 0], [2, 1, 0], [0, 1, 2], [5, 3, 1]])
    among_three = Oracle("disagree", (None, None)).judge([logits, second, third], seed_classes)
    assert among_three.are_failures.tolist() == [False, True, False, True]
    assert among_three.alone.tolist() == [-1, 0, among_three.alone[2], 2]
    assert among_three.classes[[1, 3]].tolist() == [2, 0]
    between_two = Oracle("disagree", (None,)).judge([logits, second], seed_classes)
    assert between_two.alone[1] == -1
    assert between_two.classes[1] == 0


@pytest.mark.parametrize(
    ("text", "spec"),
    [("20_000-passes", "20000-passes"), ("1.5-minutes", "1.5-minutes"), ("7 iterations", "7-iterations")],
)
def test_budgets(text, spec):
    assert parse_budget(text).spec == spec


@pytest.mark.parametrize("text", ["", "0-passes", "1.5-passes", "10", "ten-passes", "-5-passes", "5-hours"])
def test_wrong_budgets_are_refused(text):
    with pytest.raises(UserError, match="`budget` must be a number and its unit"):
        parse_budget(text)
