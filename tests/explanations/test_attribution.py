"""Attributions: worked by hand, naive float64, targets, properties, and nothing left behind."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from torch import nn

import camdrift.explanations.gradient
from camdrift.coverage.neurons import NeuronObserver, observe
from camdrift.errors import UserError
from camdrift.explanations.attribution import attribute, explain_batch
from camdrift.explanations.gradient import grad_cam, maps_of_gradients
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from support.nets import Branched, Fickle, Functional, Plain, SideShow, Twice, Worked, calibrated, fixed, snapshot
from support.precision import assert_same_maps, in_float64


def batch(count=2, size=16, rng_seed=0):
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(rng_seed))


class TestByHand:
    """`Worked`: A_1 = p, A_2 = ReLU(1 - 2p); logit 0 weighs A_1 by [[1, 2], [3, -2]] and A_2 by -1/4 each."""

    IMAGE = torch.tensor([[0.25, 0.5], [1.0, 0.0]]).expand(1, 3, 2, 2)

    def test_class_zero(self):
        # alpha_1 = (1 + 2 + 3 - 2) / 4 = 1, alpha_2 = -1/4; A_1 = p, A_2 = [[0.5, 0], [0, 1]]
        found = attribute(Classifier(Worked(), size=2), self.IMAGE, 0)
        assert found["conv"].tolist() == [[[0.125, 0.5], [1.0, 0.0]]]  # ReLU(0 - 1/4) is the last one

    def test_class_one(self):
        # alpha_1 = 0, alpha_2 = 3/4
        found = attribute(Classifier(Worked(), size=2), self.IMAGE, 1)
        assert found["conv"].tolist() == [[[0.375, 0.0], [0.0, 0.75]]]

    def test_own_class(self):
        # logits: 0.25 + 1 + 3 - 0.375 and 1.125
        classifier = Classifier(Worked(), size=2)
        assert classifier(self.IMAGE).tolist() == [[3.875, 1.125]]
        assert torch.equal(attribute(classifier, self.IMAGE)["conv"], attribute(classifier, self.IMAGE, 0)["conv"])

    def test_maps_are_raw(self):
        """Neither scaled to a peak of 1 nor enlarged: a logit ten times as steep gives a map ten times as high."""
        module = Worked()
        with torch.no_grad():
            module.mix.mul_(10)
        found = attribute(Classifier(module, size=2), torch.ones(1, 3, 2, 2), 0)
        assert found["conv"].tolist() == [[[10.0, 10.0], [10.0, 10.0]]]

    def test_normalisation_belongs_to_the_model(self):
        classifier = Classifier(Worked(), size=2, mean=(0.5, 0.0, 0.0), std=(0.25, 0.25, 0.25))
        found = attribute(classifier, 0.25 * self.IMAGE + torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1), 1)
        assert found["conv"].tolist() == [[[0.375, 0.0], [0.0, 0.75]]]

    def test_formula(self):
        activation = torch.tensor([[[[1.0, 2.0]], [[4.0, -1.0]]]])
        gradient = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.0]]]])
        # alpha = 2, -1/2
        found = maps_of_gradients({"gradcam": grad_cam}, activation, gradient)["gradcam"]
        assert found.tolist() == [[[0.0, 4.5]]]


def naive_maps(module, image, target):
    """Both maps of `Plain` in float64, its backward pass written out."""
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}

    def convolve(x, name):
        planes = [
            sum(correlate2d(plane, kernel, mode="same") for plane, kernel in zip(x, kernels, strict=True)) + bias
            for kernels, bias in zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
        ]
        return np.maximum(np.stack(planes), 0)

    def weighted_sum(activation, gradient):
        return np.maximum(sum(g.mean() * a for a, g in zip(activation, gradient, strict=True)), 0)

    first = convolve(image, "features.0")
    channels, height, width = first.shape
    windows = first.reshape(channels, height // 2, 2, width // 2, 2).swapaxes(2, 3).reshape(channels, -1, 4)
    second = convolve(windows.max(2).reshape(channels, height // 2, width // 2), "features.3")

    slope = weights["head.weight"][target][:, None, None] / second[0].size
    second_gradient = np.broadcast_to(slope, second.shape)
    kernels = weights["features.3.weight"]
    pool_gradient = np.stack(
        [
            sum(convolve2d(g, kernel[k], mode="same") for g, kernel in zip(slope * (second > 0), kernels, strict=True))
            for k in range(channels)
        ]
    )
    first_gradient = np.zeros_like(windows)
    np.put_along_axis(first_gradient, windows.argmax(2)[..., None], pool_gradient.reshape(channels, -1, 1), 2)
    return {
        "features.0": weighted_sum(first, first_gradient),
        "features.3": weighted_sum(second, second_gradient),
    }


def test_naive_float64_version():
    classifier, images = Classifier(fixed(Plain()), size=16), batch(3).double()
    for target in range(4):
        with in_float64(classifier):
            found = attribute(classifier, images, target)
        for row, image in enumerate(images):
            expected = naive_maps(classifier.module, image.numpy(), target)
            for name, maps in found.items():
                assert_same_maps(maps[row], torch.from_numpy(expected[name]))
        assert all(maps.any() for maps in found.values())


class TestTargets:
    def test_own_is_each_images_prediction(self, plain, images):
        own = plain(images).argmax(1)
        assert len(own.unique()) > 1
        expected = attribute(plain, images, own)
        for name, maps in attribute(plain, images).items():
            assert torch.equal(maps, expected[name])

    @pytest.mark.parametrize("target", [2, torch.tensor(2), [2] * 8, torch.full((8,), 2, dtype=torch.int32)])
    def test_one_class_for_all(self, target, plain, images):
        with in_float64(plain):
            expected = [attribute(plain, image[None], 2) for image in images.double()]
            found = attribute(plain, images.double(), target)
        for name, maps in found.items():
            assert_same_maps(maps, torch.cat([single[name] for single in expected]))

    def test_classes_differ_in_their_maps(self, plain, images):
        first, second = (attribute(plain, images, target) for target in (0, 1))
        assert not torch.allclose(first["features.3"], second["features.3"], rtol=1e-2)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (4, "`target` must lie in 0..3, got: [4, 4, 4, 4, 4, 4, 4, 4]"),
            (-1, "`target` must lie in 0..3, got: [-1"),
            ([0] * 7, "`target` must have one class per image (8), got: shape (7,)"),
            (torch.zeros(8, 4).long(), "`target` must have one class per image (8), got: shape (8, 4)"),
            (torch.zeros(8), "`target` must be class indexes, got: torch.float32"),
            (torch.ones(8).bool(), "`target` must be class indexes, got: torch.bool"),
        ],
    )
    def test_wrong_targets(self, target, message, plain, images):
        with pytest.raises(UserError) as caught:
            attribute(plain, images, target)
        assert message in caught.value.message

    def test_seed_is_no_target_of_one_batch(self, plain, images):
        with pytest.raises(UserError, match="`target` must be `own`, a class or one class per image, got: seed"):
            inspect.unwrap(attribute)(plain, images, "seed")

    @pytest.mark.parametrize("target", [None, ["cat"] * 8])
    def test_what_is_no_class(self, target, plain, images):
        with pytest.raises(UserError, match="`target` must be `own`, a class or one class per image, got: "):
            inspect.unwrap(attribute)(plain, images, target)

    def test_layers_and_explanations_that_are_misspelt(self, plain, images):
        with pytest.raises(UserError, match=r"`layers` must be a list of names, got: features\.0"):
            attribute(plain, images, layers="features.0")
        with pytest.raises(UserError, match="got: gradcan") as caught:
            attribute(plain, images, explanation="gradcan")
        assert caught.value.hint == "did you mean `gradcam`?"

    @pytest.mark.parametrize("value", [np.nan, np.inf, 255.0, -2.0])
    def test_one_pixel_that_is_none(self, value, plain, images):
        images[3, 1, 2, 2] = value
        with pytest.raises(UserError, match=r"`images` must be pixels in \[0, 1\], got: values from "):
            attribute(plain, images)

    def test_unknown_layer(self, plain, images):
        with pytest.raises(UserError, match=r"`layers` must name layers of the model, got: features\.1"):
            attribute(plain, images, layers=["features.1"])


class TestExplain:
    def count_backward_passes(self, monkeypatch):
        passes, grad = [], torch.autograd.grad
        monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: passes.append(1) or grad(*a, **k))
        return passes

    def test_two_targets_equal_two_calls(self, plain, images, monkeypatch):
        plain.layers  # noqa: B018 - found before backward passes are counted
        other = (plain(images).argmax(1) + 1) % 4
        passes = self.count_backward_passes(monkeypatch)
        found = explain_batch(plain, images, [None, other, None])
        assert len(passes) == 2
        assert torch.equal(found.logits, plain(images))
        for maps, target in zip(found.maps, ("own", other, "own"), strict=True):
            for name, single in attribute(plain, images, target).items():
                assert torch.equal(maps[name], single)

    def test_the_same_classes_need_no_second_pass(self, plain, images, monkeypatch):
        own = plain(images).argmax(1)
        plain.layers  # noqa: B018
        passes = self.count_backward_passes(monkeypatch)
        own_maps, seed_maps = explain_batch(plain, images, [None, own.clone()]).maps
        assert len(passes) == 1
        assert all(torch.equal(own_maps[name], seed_maps[name]) for name in plain.layers)

    def test_one_image_of_another_class_changes_its_maps_only(self, plain, images):
        seed = plain(images).argmax(1)
        seed[3] = (seed[3] + 1) % 4
        own_maps, seed_maps = explain_batch(plain, images, [None, seed]).maps
        for name in plain.layers:
            same = [torch.equal(a, b) for a, b in zip(own_maps[name], seed_maps[name], strict=True)]
            assert same == [True, True, True, False, True, True, True, True]

    def test_a_probability_explains_the_class_against_the_others(self, plain, images):
        """By the chain rule: the gradient of p_c is p_c (dz_c - sum_j p_j dz_j), worked from one map per logit."""
        images = images.double()
        with in_float64(plain):
            found, of_logits = (
                explain_batch(plain, images, [None], scores=scores).maps[0] for scores in ("probability", "logit")
            )
            p = plain(images).softmax(1)
            own = p.argmax(1)
            for name in plain.layers:
                tap = plain.taps([name])
                with torch.enable_grad(), hooks.capturing(tap) as capture:
                    logits = plain(images)
                activation = capture.activations[name]
                grads = [torch.autograd.grad(logits[:, j].sum(), activation, retain_graph=True)[0] for j in range(4)]
                alpha = torch.stack(grads, 1).mean((3, 4))
                rows = torch.arange(len(images))
                contrast = p[rows, own, None] * (alpha[rows, own] - (p[:, :, None] * alpha).sum(1))
                assert_same_maps(found[name], (contrast[:, :, None, None] * activation).sum(1).relu())
                assert not torch.allclose(found[name], of_logits[name], rtol=1e-2)

    def test_neurons_come_from_the_same_pass(self, plain, images):
        observer = NeuronObserver(plain)
        found = explain_batch(plain, images, [None], observer=observer)
        logits, expected = observe(plain, images)
        assert torch.equal(found.logits, logits)
        assert torch.equal(observer.record(found.logits).values, expected.values)
        alone = attribute(plain, images)
        assert all(torch.equal(found.maps[0][name], alone[name]) for name in plain.layers)


class TestProperties:
    @pytest.mark.parametrize("make", [Plain, Branched, Functional, Twice], ids=lambda make: make.__name__)
    def test_batch_of_eight_is_eight_batches_of_one(self, make, images):
        classifier = Classifier(calibrated(make(), size=16), size=16)
        with in_float64(classifier):
            alone = [attribute(classifier, image[None]) for image in images.double()]
            together = attribute(classifier, images.double())
        for name, maps in together.items():
            assert_same_maps(maps, torch.cat([single[name] for single in alone]))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
    def test_one_image_whose_tokens_come_from_a_batch_norm(self, images, layout):
        """Where torch 2.15 alone gives wrong gradients; LeViT and XCiT make their tokens so."""

        class Stem(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Linear(6, 4)

            def forward(self, x):
                tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2).contiguous()
                return self.head(tokens).square().mean(1)

        classifier = Classifier(calibrated(Stem(), size=16).to(memory_format=layout), size=16)
        with torch.enable_grad(), in_float64(classifier):
            inputs = images[:2].double().requires_grad_()
            (together,) = torch.autograd.grad(classifier(inputs)[:, 0].sum(), inputs)
            (alone,) = torch.autograd.grad(classifier(inputs[:1])[:, 0].sum(), inputs)
        torch.testing.assert_close(alone[0], together[0], rtol=1e-9, atol=1e-9 * float(together.abs().max()))

    def test_maps_do_not_depend_on_what_else_is_explained(self, images):
        classifier = Classifier(calibrated(Branched(), size=16), size=16)
        images = images.double()
        with in_float64(classifier):
            together = attribute(classifier, images)
            assert list(together) == ["stem", "left", "right", "last"]
            for count in (1, 2):
                for names in itertools.permutations(classifier.layers, count):
                    found = attribute(classifier, images, layers=names)
                    assert list(found) == [name for name in classifier.layers if name in names]
                    for name in names:
                        assert_same_maps(found[name], together[name])

    def test_what_does_not_reach_the_logits_corrupts_nothing(self, images):
        odd, plain = fixed(SideShow()), Plain()
        plain.load_state_dict({name: odd.state_dict()[name] for name in plain.state_dict()})
        classifiers = [Classifier(module, size=16) for module in (odd, plain)]
        assert classifiers[0].layers == ("features.0", "features.3")
        with in_float64(*classifiers):
            found, expected = (attribute(each, images.double(), 1) for each in classifiers)
        for name, maps in expected.items():
            assert_same_maps(found[name], maps)

    def test_a_layer_without_influence_has_an_empty_map_where_asked_for(self, images):
        found = attribute(Classifier(fixed(SideShow()), size=16), images, layers=["unused", "features.3"])
        assert found["unused"].shape == (8, 16, 16)
        assert not found["unused"].any()
        assert found["features.3"].any()

    def test_functions_equal_modules(self, images):
        functional, plain = Functional(), fixed(Plain())
        with torch.no_grad():
            for target, source in zip(functional.weights, (plain.features[0], plain.features[3]), strict=True):
                target.copy_(source.weight)
                source.bias.zero_()
            functional.head.load_state_dict(plain.head.state_dict())
        classifiers = [Classifier(module, size=16) for module in (functional, plain)]
        with in_float64(*classifiers):
            found, expected = (attribute(each, images.double(), 0) for each in classifiers)
        assert list(found) == ["conv2d:1", "conv2d:2"]
        for one, other in zip(found.values(), expected.values(), strict=True):
            assert_same_maps(one, other)


class TestNothingStaysBehind:
    def make(self):
        """A net in training mode, parts of it not, with a frozen layer, a gradient and a hook of its owner's."""
        module = calibrated(Branched(), size=16).train()
        module.norm.eval()
        module.left.requires_grad_(False)
        module.last.weight.grad = torch.ones_like(module.last.weight)
        module.stem.register_forward_hook(lambda *_: None)
        return module

    def test_after_success(self, images):
        module = self.make()
        before, inputs = snapshot(module), images.clone()
        classifier = Classifier(module, size=16)
        assert classifier.layer_infos
        attribute(classifier, images)
        assert snapshot(module) == before
        assert torch.equal(images, inputs)
        assert not images.requires_grad

    def test_training_mode_is_explained_as_evaluation(self, images):
        module = self.make()
        found = attribute(Classifier(module, size=16), images)
        expected = attribute(Classifier(module.eval(), size=16), images)
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    def test_after_a_wrong_target(self, images):
        module = self.make()
        classifier, before = Classifier(module, size=16), snapshot(module)
        with pytest.raises(UserError):
            attribute(classifier, images, 4)
        assert snapshot(module) == before

    def test_after_a_forward_pass_that_breaks(self, images):
        module = fixed(Fickle()).train()
        classifier = Classifier(module, size=16)
        assert classifier.layers
        before = snapshot(module)
        module.fails = True
        with pytest.raises(RuntimeError, match="broke midway"):
            attribute(classifier, images)
        assert snapshot(module) == before
        module.fails = False
        assert attribute(classifier, images)["features.0"].any()

    def test_after_a_reduction_that_breaks(self, images, monkeypatch):
        module = self.make()
        classifier = Classifier(module, size=16)
        expected = attribute(classifier, images)
        before = snapshot(module)

        def breaks(*_):
            raise MemoryError("no room for a map")

        monkeypatch.setattr(camdrift.explanations.gradient, "_weighted", breaks)
        with pytest.raises(MemoryError, match="no room"):
            attribute(classifier, images)
        monkeypatch.undo()
        assert snapshot(module) == before
        assert torch._C._len_torch_function_stack() == 0
        again = attribute(classifier, images)
        assert all(torch.equal(again[name], expected[name]) for name in expected)

    def test_a_model_that_changes_its_path_is_told(self, images):
        module = fixed(Fickle())
        classifier = Classifier(module, size=16)
        assert classifier.layers
        module.detours = True
        with pytest.raises(RuntimeError, match="another path than in its trace"):
            attribute(classifier, images)

    @pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad])
    def test_images_and_surroundings_with_or_without_gradients(self, grad, plain, images):
        expected = attribute(plain, images)
        traced = images.clone().requires_grad_()
        with grad():
            found = attribute(plain, traced)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert not any(maps.requires_grad for maps in found.values())
        assert traced.grad is None
