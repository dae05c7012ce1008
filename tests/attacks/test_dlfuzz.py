"""The walk of DLFuzz: a naive walk as oracle, steps worked by hand, and what counts as success."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from camdrift.attacks import dlfuzz as module
from camdrift.attacks.dlfuzz import DLFuzz
from camdrift.attacks.making import make_attack
from camdrift.coverage.strategies import ChosenNeurons
from camdrift.tensors import perturbed
from support.fuzz_nets import (
    CHECKERS,
    Linear,
    NaiveDLFuzz,
    attack,
    checkered,
    grey,
    linear,
    names,
    plain_classifier,
    seed_images,
    small_classifier,
)

STEP = 0.5 / 255
# The published 1e-5, in the gradient's unit here: per unit of [0, 1] instead of per grey level.
TINY = 1e-5 * 255

# Spec and network; between them they see every branch of the walk (the last test of the class below).
CASES = [
    ("dlfuzz", 5),
    ("dlfuzz:paper", 5),
    ("dlfuzz(step=2/255, threshold=0.4, keep_ratio=0.08)", 3),
    ("dlfuzz(step=2/255, keep_ratio=0.08, predict_weight=2, neuron_weight=0.1, competitors=2)", 4),
    ("dlfuzz(step=4/255, keep_ratio=0.2, scores='logit')", 2),
    ("dlfuzz(strategy='0', step=2/255, keep_ratio=0.08)", 1),
    ("dlfuzz(strategy='3', step=2/255, keep_ratio=0.08)", 4),
    ("dlfuzz(strategy='none', step=2/255, keep_ratio=0.08)", 2),
    ("dlfuzz(strategy='0123', step=2/255, keep_ratio=0.08, neurons=12)", 4),
    ("dlfuzz:paper(step=2/255, keep_ratio=0.08)", 2),
    ("dlfuzz:paper(step=2/255, keep_ratio=0.08)", 4),
    ("dlfuzz:paper(step=2/255, threshold=0.4, keep_ratio=0.04)", 1),
]


def with_walkers(spec, walkers):
    inside = spec[:-1] + ", " if spec.endswith(")") else spec + "("
    return make_attack(f"{inside}walkers={walkers})")


@cache
def naive(spec, net, walkers):
    oracle = NaiveDLFuzz(with_walkers(spec, walkers), small_classifier(net))
    return oracle, oracle(seed_images(6, net))


def assert_same(found, expected):
    assert [result.iterations for result in found] == [result.iterations for result in expected]
    for got, want in zip(found, expected, strict=True):
        assert (got.base_perturbation is None) == (want.perturbation is None)
        if want.perturbation is not None:
            np.testing.assert_allclose(got.base_perturbation.numpy(), want.perturbation, atol=2e-6)


class TestAgainstNaiveWalk:
    @pytest.mark.parametrize(
        ("spec", "net", "walkers"),
        [(*case, 1) for case in CASES] + [(*case, 0) for case in CASES[1::2]] + [(*CASES[-2], 4)],
    )
    def test_same_walk(self, spec, net, walkers, monkeypatch):
        pops = []

        def select(*args, times, **kwargs):
            pops.append((times.copy(), times))
            return real(*args, times=times, **kwargs)

        real = module.select_neurons
        oracle, expected = naive(spec, net, walkers)
        monkeypatch.setattr(module, "select_neurons", select)
        found = attack(with_walkers(spec, walkers), small_classifier(net), seed_images(6, net))
        assert_same(found, expected)
        # One pop for each kept image: the same keep decisions, and the same coverage at each and at the end.
        np.testing.assert_array_equal([counts for counts, _ in pops], oracle.pops)
        np.testing.assert_array_equal(pops[-1][1], oracle.times)

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
    @pytest.mark.parametrize(("spec", "net"), [CASES[2], CASES[-2]])
    def test_batch_size_changes_nothing(self, spec, net, batch_size):
        _, expected = naive(spec, net, 0)
        found = attack(make_attack(spec), small_classifier(net), seed_images(6, net), batch_size=batch_size)
        assert_same(found, expected)

    def test_every_branch_is_seen(self):
        walks = [
            (position, make_attack(spec), walk)
            for spec, net in CASES
            for position, walk in enumerate(naive(spec, net, 1)[1])
        ]
        found = [walk for *_, walk in walks if walk.perturbation is not None]
        assert any(walk.popped == 1 and walk.iterations == 1 for walk in found)
        assert any(walk.popped == 1 and walk.iterations > 1 for walk in found)
        assert any(walk.popped > 2 for walk in found)
        assert any(walk.popped > 1 and walk.perturbation is None for *_, walk in walks)
        too_far = too_little = 0
        for position, settings, walk in walks:
            for _, gain, ratio in walk.passed_over:
                gains = gain > settings.keep_gain / (position + 1)
                too_far += gains and ratio >= settings.keep_ratio
                too_little += gain > 0 and not gains
        assert too_far
        assert too_little


class TestStep:
    def test_step_of_a_large_image_is_194_grey_levels_long(self):
        checkers = np.where(np.indices((224, 224)).sum(0) % 2, 1.0, -1.0)
        weight = np.stack([np.zeros((3, 224, 224)), np.stack([1000 * checkers] * 3)])
        classifier = plain_classifier(Linear(weight, [100.0, 0.0]), size=224)
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, torch.full((1, 3, 224, 224), 0.5))
        assert 255 * found.base_perturbation.norm().item() == pytest.approx(194.0, abs=0.05)
        assert found.iterations == 1

    @pytest.mark.parametrize(("slope", "share"), [(1e4, 1.0), (TINY, 0.5), (3 * TINY, 0.75), (TINY / 3, 0.25)])
    def test_stabiliser_is_a_gradient_per_grey_level(self, slope, share):
        # Objective 0.5 * y1 - y0, gradient 0.5 * 2 * slope at every pixel, up to the sign.
        classifier = linear(checkered([0, 0, 0], [2 * slope] * 3), [1e-6, 0.0])
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, grey())
        expected = np.broadcast_to(STEP * share * CHECKERS, (3, 8, 8))
        np.testing.assert_allclose(found.base_perturbation.numpy(), expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("settings", "gradient"),
        [
            ("", [-2.0, 0.5 * 3, 0.5 * 5]),
            ("predict_weight=2", [-2.0, 2 * 3, 2 * 5]),
            ("competitors=1", [-2.0, 0.5 * 3, 0]),
            ("predict_weight=0", [-2.0, 0, 0]),
        ],
    )
    def test_weight_multiplies_the_competitors_only(self, settings, gradient):
        # Each class sees one channel. On grey only the biases decide: class 0, then 1, then 2.
        classifier = linear(checkered([2, 0, 0], [0, 3, 0], [0, 0, 5]), [0.02, 0.01, 0.0])
        (found,) = attack(make_attack(f"dlfuzz(scores='logit', {settings})"), classifier, grey())
        rms = np.sqrt(np.mean(np.square(gradient)))
        expected = STEP * checkered(gradient)[0] / (rms + TINY)
        np.testing.assert_allclose(found.base_perturbation.numpy(), expected, rtol=1e-5, atol=1e-9)

    def test_probabilities_by_default(self):
        # d/dx (0.5 p1 - p0) = 1.5 p0 p1 (w1 - w0), with p0 = 0.8, p1 = 0.2.
        slope = 1e-2
        classifier = linear(checkered([0, 0, 0], [slope] * 3), [np.log(4), 0.0])
        attack(make_attack("dlfuzz(iterations=1)"), classifier, grey())
        gradient = 1.5 * 0.8 * 0.2 * slope
        step = classifier.module.seen[-1] - classifier.module.seen[0]
        expected = np.broadcast_to(STEP * gradient / (gradient + TINY) * CHECKERS, (3, 8, 8))
        np.testing.assert_allclose(step.numpy(), expected, atol=1e-7)

    @pytest.mark.parametrize("weight", [0.5, 0.25])
    def test_neurons_add_their_raw_spatial_mean(self, weight, monkeypatch):
        chosen = ChosenNeurons(np.array([0, 1, 1]), np.array([1.0, -1.0, -1.0]))
        monkeypatch.setattr(module, "select_neurons", lambda *args, **kwargs: chosen)
        net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(128, 2))
        kernel = np.array([[1.0, 2.0, -4.0], [3.0, 0.5, 1.0]])
        with torch.no_grad():
            net[0].weight.copy_(torch.from_numpy(kernel)[:, :, None, None])
            net[2].weight.zero_()
            net[2].bias.copy_(torch.tensor([2.0, 0.0]))
        classifier = plain_classifier(net)
        attack(make_attack(f"dlfuzz(iterations=1, neuron_weight={weight})"), classifier, grey())
        gradient = weight * (kernel[0] - 2 * kernel[1]) / 64
        expected = STEP * gradient / (np.sqrt(np.mean(gradient**2)) + TINY)
        step = (classifier.module.seen[-1] - classifier.module.seen[0]).numpy()
        np.testing.assert_allclose(step, np.broadcast_to(expected[:, None, None], (3, 8, 8)), atol=1e-7, rtol=1e-4)

    @pytest.mark.parametrize("scores", ["probability", "logit"])
    @pytest.mark.parametrize("net", [1, 2, 3])
    def test_walks_uphill(self, scores, net):
        settings = make_attack(f"dlfuzz(step=1e-6, strategy='02', scores='{scores}')")
        classifier, image = small_classifier(net), seed_images(1, net)
        chosen = []
        with pytest.MonkeyPatch.context() as patch:
            real = module.select_neurons
            patch.setattr(module, "select_neurons", lambda *a, **k: chosen.append(real(*a, **k)) or chosen[-1])
            # Clean logits of another class make every image a success, so that the first step comes back.
            clean = classifier(image).roll(1, 1)
            (found,) = attack(settings, classifier, image, clean=clean)
        oracle = NaiveDLFuzz(settings, classifier)
        classes = clean[0].argsort(descending=True)[:5].tolist()
        seed, step = image[0].double(), found.base_perturbation.double()
        before = oracle.objective(seed, classes, chosen[0]).item()
        after = oracle.objective((seed + step).clamp(0, 1), classes, chosen[0]).item()
        assert found.iterations == 1
        assert after > before

    @pytest.mark.parametrize("part", [slice(None), slice(1)], ids=["all pixels", "one row of pixels"])
    def test_gradient_that_is_not_finite_does_not_move(self, part):
        class Undefined(nn.Module):
            """The gradient of sqrt((mean - 0.25)^2) is 0 / 0 for one image; the logits are fine."""

            def __init__(self):
                super().__init__()
                self.linear = Linear(checkered([0, 0, 0], [8, 8, 8]), [0.1, 0.0])

            def forward(self, x):
                return self.linear(x) + 0 * torch.sqrt((x[:, :, part].mean((1, 2, 3)) - 0.25).square())[:, None]

        classifier = plain_classifier(Undefined())
        dark, bright = attack(make_attack("dlfuzz(scores='logit')"), classifier, torch.cat([grey(0.25), grey(0.75)]))
        assert (dark.base_perturbation, dark.iterations) == (None, 3)
        assert all(torch.equal(image, grey(0.25)[0]) for image in classifier.module.seen if image.mean() < 0.5)
        assert bright.base_perturbation is not None


class TestSuccess:
    FLIPPED_BY_ONE_STEP = checkered([0, 0, 0], [8, 8, 8])  # y1 - y0 grows by 8 * 192 * 0.5 / 255 = 3.01 a step

    @pytest.mark.parametrize(("margin", "iterations"), [(3.0, 1), (3.1, 2), (6.1, 3)])
    def test_first_success_ends_the_walk(self, margin, iterations):
        classifier = linear(self.FLIPPED_BY_ONE_STEP, [margin, 0.0])
        (found,) = attack(make_attack("dlfuzz(scores='logit', iterations=5)"), classifier, grey())
        assert found.iterations == iterations
        np.testing.assert_allclose(
            found.base_perturbation.abs().numpy(), np.full((3, 8, 8), iterations * STEP), rtol=1e-3
        )
        # One pass at the seed by the caller, one per image of the walk; none after the success.
        assert len(classifier.module.seen) == 2 + iterations

    def test_out_of_reach(self):
        classifier = linear(self.FLIPPED_BY_ONE_STEP, [9.1, 0.0])
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, grey())
        assert (found.base_perturbation, found.iterations) == (None, 3)

    def test_judged_on_the_clipped_image(self):
        # White where the attack wants more, black where it wants less: every step is clipped away.
        extreme = torch.from_numpy((CHECKERS + 1) / 2).float().expand(1, 3, 8, 8)
        on_white = (8 * extreme * torch.from_numpy(CHECKERS)).sum().item()
        classifier = linear(self.FLIPPED_BY_ONE_STEP, [on_white + 0.1, 0.0])
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, extreme)
        assert (found.base_perturbation, found.iterations) == (None, 3)
        assert all(torch.equal(image, extreme[0]) for image in classifier.module.seen)

    @pytest.mark.parametrize(("spec", "net"), [CASES[4], CASES[-1]])
    def test_strength_1_is_exactly_the_image_that_was_judged(self, spec, net):
        inner = small_classifier(net)
        classifier = plain_classifier(nn.Sequential(nn.BatchNorm2d(3, affine=False, eps=0), inner.module).eval())
        norm = classifier.module.net[0]
        norm.running_mean.copy_(torch.tensor(inner.mean))
        norm.running_var.copy_(torch.tensor(inner.std) ** 2)
        images = seed_images(6, net)
        clean = classifier(images).argmax(1)
        classifier.module.seen.clear()
        found = attack(make_attack(spec), classifier, images, batch_size=1)
        successes = [(i, result) for i, result in enumerate(found) if result.base_perturbation is not None]
        assert successes
        for i, result in successes:
            judged = perturbed(images[i], result.base_perturbation)
            assert any(torch.equal(judged, seen) for seen in classifier.module.seen)
            assert classifier(judged[None]).argmax() != clean[i]

    def test_against_the_clean_class(self):
        # The model says class 0 everywhere; the clean logits said class 1.
        classifier = linear(self.FLIPPED_BY_ONE_STEP, [100.0, 0.0])
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, grey(), clean=torch.tensor([[0.0, 1.0]]))
        assert found.iterations == 1
        assert found.base_perturbation is not None

    def test_nan_is_no_success(self):
        class Brittle(nn.Module):
            """The logit of class 1 is NaN for images that are nearly, but not quite, of one colour."""

            def __init__(self, weight):
                super().__init__()
                self.linear = Linear(weight, [3.5, 0.0])

            def forward(self, x):
                spread = x.var((1, 2, 3))
                brittle = torch.sqrt((spread - 1e-7) * (spread - 1e-3))
                return self.linear(x) + 0 * torch.stack([torch.zeros_like(brittle), brittle], 1)

        classifier = plain_classifier(Brittle(self.FLIPPED_BY_ONE_STEP))
        (found,) = attack(make_attack("dlfuzz(scores='logit')"), classifier, grey())
        seen = classifier(torch.stack(classifier.module.seen))
        assert torch.isnan(seen).any()
        assert (found.base_perturbation, found.iterations) == (None, 3)


class TestKeeping:
    """One step on grey covers the softmax unit of class 1: one new neuron of three. A second covers no more."""

    # softmax(1.5, 0.2, -0.6) is scaled to 1, 0.17, 0; one step adds 192 * 0.5 / 255 = 0.38 to the second logit
    # and makes it 0.31, two make it 0.52. The walk never flips the class: that needs four.
    WEIGHT, BIAS, MEAN = checkered([0, 0, 0], [1, 1, 1], [0, 0, 0]), (1.5, 0.2, -0.6), 0.25

    def walk(self, *, before=0, iterations=1, keep_ratio=1, **settings):
        """Steps spent on grey, and what the network saw, behind `before` seeds that only cover class 0."""
        far = (grey() - 0.5 * torch.from_numpy(CHECKERS).float()).clamp(0, 1)
        classifier = plain_classifier(Linear(self.WEIGHT, self.BIAS), mean=[self.MEAN] * 3)
        settings |= {"iterations": iterations, "keep_ratio": keep_ratio}
        dlfuzz = DLFuzz(scores="logit", competitors=1, walkers=1, **settings)
        *others, found = attack(dlfuzz, classifier, torch.cat([far] * before + [grey()]))
        assert all(other.iterations == 1 for other in others)
        assert found.base_perturbation is None
        return found.iterations, classifier.module.seen

    @pytest.mark.parametrize("before", [0, 1, 3])
    def test_gain_must_exceed_the_limit_over_the_position(self, before):
        limit = (before + 1) / 3
        assert self.walk(before=before, keep_gain=limit)[0] == 1
        assert self.walk(before=before, keep_gain=math.nextafter(limit, 0))[0] == 2

    def ratio(self):
        """L2 norm of the first step over that of grey minus the mean, in the order of float32 operations."""
        gradient = torch.from_numpy(checkered([0.5] * 3)[0]).float()
        step = STEP * (gradient / (gradient.square().mean().sqrt() + TINY))
        return float(step.norm()) / float((grey() - self.MEAN).norm())

    def test_ratio_must_stay_under_the_limit(self):
        assert self.ratio() == pytest.approx(STEP / (1 + 2 * TINY) / (0.5 - self.MEAN), rel=1e-5)
        assert self.walk(keep_ratio=self.ratio())[0] == 1
        assert self.walk(keep_ratio=math.nextafter(self.ratio(), 1))[0] == 2

    def test_kept_as_it_was_when_it_was_kept(self):
        iterations, seen = self.walk(iterations=2)
        assert iterations == 4
        _, seed, first, second, popped, *_ = seen
        assert torch.equal(popped, first)
        assert not torch.equal(popped, seed)
        assert not torch.equal(popped, second)

    def test_progress_counts_the_seeds_whose_queue_is_empty(self):
        """Of two side by side the first ends after its only round, the second after that of the image it keeps."""
        far = (grey() - 0.5 * torch.from_numpy(CHECKERS).float()).clamp(0, 1)
        classifier = plain_classifier(Linear(self.WEIGHT, self.BIAS), mean=[self.MEAN] * 3)
        dlfuzz = DLFuzz(scores="logit", competitors=1, iterations=1, keep_gain=0.5, keep_ratio=1)
        calls = []
        attack(dlfuzz, classifier, torch.cat([far, grey()]), advance=lambda *call: calls.append(call))
        assert calls == [(0, 0), (1, 0), (2, 0)]


class TestStreams:
    """What decides a seed's walk beside the network: `rng_seed`, its ID, and what was covered before it."""

    # Strategy 2 selects without coverage, and nothing is ever kept.
    SPEC = "dlfuzz(strategy='2', neurons=3, step=3/255, keep_gain=1)"

    def found(self, order=range(6), *, spec=SPEC, rng_seed=0, rename=lambda name: name):
        images, ids = seed_images(6, 1), names(6)
        results = attack(
            make_attack(spec),
            small_classifier(1),
            torch.stack([images[i] for i in order]),
            seed_ids=[rename(ids[i]) for i in order],
            rng_seed=rng_seed,
            batch_size=1,
        )
        return dict(zip(order, results, strict=True))

    def same(self, one, other):
        a, b = one.base_perturbation, other.base_perturbation
        if a is None or b is None:
            return a is b and one.iterations == other.iterations
        return torch.equal(a, b)

    def test_chunk_matters_through_coverage_alone(self):
        together = self.found()
        assert sum(result.base_perturbation is not None for result in together.values()) >= 2
        for order in (range(6), [5, 3, 1, 0, 2, 4], [4, 5], [1]):
            for seed, result in self.found(order).items():
                assert self.same(result, together[seed])

    def test_earlier_seeds_do_not_know_later_ones(self):
        spec = "dlfuzz:paper(step=3/255, keep_ratio=0.1, walkers=1)"
        together = self.found(spec=spec)
        for seed, result in self.found([0, 1, 2], spec=spec).items():
            assert self.same(result, together[seed])

    @pytest.mark.parametrize("changed", [{"rng_seed": 1}, {"rename": "other {}".format}])
    def test_other_streams_other_perturbations(self, changed):
        first, second = self.found(), self.found(**changed)
        assert not all(self.same(first[seed], second[seed]) for seed in first)


def test_advance_tells_seeds_finished_and_successes():
    calls = []
    classifier, images = small_classifier(1), seed_images(6, 1)
    spec = "dlfuzz(step=3/255, walkers=2)"
    found = attack(make_attack(spec), classifier, images, advance=lambda *call: calls.append(call))
    successes = sum(result.base_perturbation is not None for result in found)
    assert 0 < successes < 6
    assert calls[0] == (0, 0)
    assert calls[-1] == (6, successes)
    assert calls == sorted(calls)
    assert {finished for finished, _ in calls} >= {2, 4}


def test_caller_finds_everything_as_it_was():
    classifier, images = small_classifier(1), seed_images(3, 1)
    classifier.module.train()
    before = images.clone()
    with torch.no_grad():
        attack(make_attack("dlfuzz"), classifier, images)
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.module.parameters())
    assert classifier.module.training
