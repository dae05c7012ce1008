"""A classifier behind a purifier, as an attack that knows it sees it."""

import pytest
import torch
from torch import nn

import camdrift
from camdrift.defences.base import EXACT, Defence
from camdrift.defences.defended import defended, majority_classes
from camdrift.defences.making import Workshop, make_defence
from support.studies import tiny_classifier

WORKSHOP = Workshop(geometry={"size": 32})


def images(count=3, size=32):
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(0))


def gradient(classifier, batch, score):
    batch = batch.clone().requires_grad_()
    return torch.autograd.grad(score(classifier(batch)), batch)[0]


class Difference(nn.Module):
    """Logits 3 x1 - x2 and 0, of the first two pixels of the first channel."""

    def forward(self, x):
        first = 3 * x[:, 0, 0, 0] - x[:, 0, 0, 1]
        return torch.stack([first, torch.zeros_like(first)], 1)


def test_bpda_by_hand():
    """g rounds to halves, f = 3 g(x1) - g(x2): its gradient is 0, BPDA's is (3, -1); a step raises f to 1.5 (D8)."""
    classifier = camdrift.wrap(Difference(), size=2)
    rounding = Defence("halves", lambda batch, _: torch.round(batch * 2) / 2)
    victim = defended(classifier, rounding, draws=1, role="attack", rng_seed=0)
    x = torch.full((1, 3, 2, 2), 0.3)
    slope = gradient(victim, x, lambda logits: logits[0, 0])
    assert slope[0, 0, 0].tolist() == [3.0, -1.0]
    exact = Defence("halves", rounding.function, gradient=EXACT)
    assert gradient(defended(classifier, exact, draws=1, role="attack", rng_seed=0), x, lambda v: v[0, 0]).any() == 0
    step = (x + 0.2 * slope.sign()).clamp(0, 1)
    assert (victim(x)[0, 0].item(), victim(step)[0, 0].item()) == (1.0, 1.5)


def test_behind_the_identity_nothing_changes():
    classifier, batch = tiny_classifier(), images()
    victim = defended(classifier, make_defence("identity", WORKSHOP), draws=5, role="attack", rng_seed=0)
    assert torch.equal(victim(batch), classifier(batch))
    of_first = lambda logits: logits[:, 0].sum()  # noqa: E731
    assert torch.equal(gradient(victim, batch, of_first), gradient(classifier, batch, of_first))
    assert majority_classes(classifier, make_defence("identity", WORKSHOP), batch, draws=5, rng_seed=0) == (
        classifier(batch).argmax(1).tolist()
    )


def test_an_exact_gradient_is_that_of_finite_differences():
    classifier = tiny_classifier()
    victim = defended(classifier, make_defence("blur", WORKSHOP), draws=1, role="attack", rng_seed=0)
    batch = images(1)
    score = lambda logits: logits[0, 3]  # noqa: E731
    slope, direction = gradient(victim, batch, score), torch.zeros_like(batch)
    direction[0, 1, 10:20, 10:20] = 1
    step = 1e-3
    with torch.no_grad():
        rise = (score(victim(batch + step * direction)) - score(victim(batch - step * direction))) / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(rise.item(), rel=0.02, abs=0.02)


class TestRandom:
    """A random purifier: the mean over draws, the same in every batch."""

    DEFENCE = make_defence("resize-pad(0.6)", WORKSHOP)

    def test_logits_are_the_mean_of_the_draws(self):
        classifier, batch = tiny_classifier(), images(1)
        one = [defended(classifier, self.DEFENCE, draws=n, role="attack", rng_seed=0)(batch) for n in (1, 2, 3)]
        # Draw by draw: the sums of n draws differ by one draw's logits, which differ from each other.
        second, third = 2 * one[1] - one[0], 3 * one[2] - 2 * one[1]
        assert not torch.allclose(second, third, atol=1e-3)
        assert not torch.allclose(one[0], second, atol=1e-3)

    def test_an_image_gets_the_same_draws_in_every_batch(self):
        classifier, batch = tiny_classifier(), images(3)
        victim = defended(classifier, self.DEFENCE, draws=2, role="attack", rng_seed=0)
        alone = torch.cat([victim(image) for image in batch.split(1)])
        assert torch.allclose(victim(batch), alone, atol=1e-5)
        other = defended(classifier, self.DEFENCE, draws=2, role="verdict", rng_seed=0)
        assert not torch.allclose(victim(batch), other(batch), atol=1e-3)

    def test_a_verdict_is_the_majority(self):
        """Draws of 0 or 1 decide between two classes: 21 draws of a coin that shows 1 in three of four tosses."""

        def coin(batch, generator):
            return torch.full_like(batch, float(torch.rand((), generator=generator) < 0.75))

        class Reading(nn.Module):
            def forward(self, x):
                value = x.mean((1, 2, 3))
                return torch.stack([0.5 - value, value - 0.5], 1)

        classifier = camdrift.wrap(Reading(), size=4)
        defence = Defence("coin", coin, is_random=True)
        votes = [
            majority_classes(classifier, defence, images(1, 4) * (i + 1) / 30, draws=21, rng_seed=0) for i in range(20)
        ]
        assert [vote for (vote,) in votes].count(1) >= 18
