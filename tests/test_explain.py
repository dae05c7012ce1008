"""Attributions: worked by hand, naive float64, Captum as oracle on odd networks, and nothing left behind."""


import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from scipy.signal import correlate2d
from torch import nn

from camdrift import hooks
from camdrift.explain import attribute, grad_cam
from camdrift.models import Classifier
from nets import (
    Branched,
    InTurn,
    NamedActivation,
    OneReLU,
    Plain,
    SideShow,
    Squeezed,
    Twice,
    Worked,
    calibrated,
    fixed,
    replace_parts,
    vgg,
)

VGG16 = torchvision.models.vgg.cfgs["D"]


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
        classifier = Classifier(Worked(), size=2, mean=(0.5, 0, 0), std=(2.0, 1, 1))
        found = attribute(classifier, 2 * self.IMAGE + torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1), 1)
        assert found["conv"].tolist() == [[[0.375, 0.0], [0.0, 0.75]]]

    def test_formula(self):
        activation = torch.tensor([[[[1.0, 2.0]], [[4.0, -1.0]]]])
        gradient = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.0]]]])
        # alpha = 2, -1/2
        assert grad_cam(activation, gradient).tolist() == [[[0.0, 4.5]]]


def naive_maps(module, image, target):
    """Both maps of `Plain`, from differences of its logit in float64: it is linear between its kinks."""
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}

    def convolve(x, name):
        planes = [
            sum(correlate2d(plane, kernel, mode="same") for plane, kernel in zip(x, kernels, strict=True)) + bias
            for kernels, bias in zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
        ]
        return np.maximum(np.stack(planes), 0)

    def second(first):
        channels, height, width = first.shape
        return convolve(first.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4)), "features.3")

    def logit(activation):
        return (weights["head.weight"] @ activation.mean((1, 2)))[target]

    def grad_cam_by_differences(activation, score):
        alpha = np.zeros(len(activation))
        for place in np.ndindex(*activation.shape):
            step = np.zeros_like(activation)
            step[place] = 1e-7
            slope = (score(activation + step) - score(activation - step)) / 2e-7
            alpha[place[0]] += slope / activation[0].size
        return np.maximum(np.tensordot(alpha, activation, 1), 0)

    first = convolve(image, "features.0")
    return {
        "features.0": grad_cam_by_differences(first + 1e-3 * (first > 0), lambda a: logit(second(a))),
        "features.3": grad_cam_by_differences(second(first), logit),
    }


def test_naive_float64_version():
    module, image = fixed(Plain()), batch(1, 8)
    for target in range(2):
        found = attribute(Classifier(module, size=8), image, target)
        expected = naive_maps(module, image[0].double().numpy(), target)
        for name, maps in found.items():
            np.testing.assert_allclose(maps[0].numpy(), expected[name], atol=2e-2 * expected[name].max())
            assert expected[name].max() > 0


def hookable(module, images):
    """A copy of the module in which every call of an activation has its own module, as Captum needs it."""
    module = replace_parts(
        module, lambda part: type(part).__name__ == "BasicConv2d", lambda part: NamedActivation(part).eval()
    )
    counts = {}
    handles = [
        part.register_forward_hook(lambda part, *_: counts.update({part: counts.get(part, 0) + 1}))
        for part in module.modules()
        if isinstance(part, nn.ReLU)
    ]
    with torch.no_grad():
        module(images)
    for handle in handles:
        handle.remove()
    shared = {part for part, count in counts.items() if count > 1}
    named = {name: part for name, part in module.named_modules() if part in shared}
    for name, part in named.items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, InTurn([nn.ReLU() for _ in range(counts[part])]))
    return module.eval()


def outputs_of(module, images):
    """Outputs of the parts of a module that are called once, in execution order."""
    seen = {}

    def note(name):
        return lambda _, __, output: seen.setdefault(name, []).append(output.detach().clone())

    handles = [
        part.register_forward_hook(note(name))
        for name, part in module.named_modules()
        if not list(part.children())
    ]
    with torch.no_grad():
        module(images)
    for handle in handles:
        handle.remove()
    return {name: outputs[0] for name, outputs in seen.items() if len(outputs) == 1}


def captum_map(module, part, images, classes):
    tool = LayerGradCam(module, module.get_submodule(part))
    return tool.attribute(images, target=classes, relu_attributions=True)[:, 0].detach()


def assert_equal_to_captum(module, size, *, at_most=None):
    """Maps of a random class per image against Captum's on the module whose output is the captured activation."""
    images = batch(2, size)
    classifier = Classifier(module, size=size)
    with torch.enable_grad(), hooks.capturing(classifier.taps(classifier.layers)) as capture:
        logits = classifier(images)
    classes = logits.detach().argsort(1)[:, [-1, 1]].diagonal()
    found = attribute(classifier, images, classes)
    oracle = hookable(module, images)
    outputs = outputs_of(oracle, images)
    names = classifier.layers
    if at_most is not None:
        names = tuple(names[i] for i in np.unique(np.linspace(0, len(names) - 1, at_most).round().astype(int)))
    for name in names:
        activation = capture.activations[name]
        part = next(
            part
            for part, output in outputs.items()
            if output.shape == activation.shape and torch.allclose(output, activation, rtol=1e-5, atol=1e-6)
        )
        expected = captum_map(oracle, part, images, classes)
        peaks = expected.amax((1, 2), keepdim=True)
        assert (peaks > 0).any(), f"{name}: nothing to compare"
        error = (found[name] - expected).abs() / peaks.clamp(min=1e-30)
        assert float(error.max()) < 1e-4, f"{name} against {part}: {float(error.max())}"


class TestCaptum:
    @pytest.mark.parametrize(
        "make",
        [Plain, OneReLU, Branched, Twice, SideShow, Squeezed],
        ids=lambda make: make.__name__,
    )
    def test_small_nets(self, make):
        assert_equal_to_captum(calibrated(make(), size=16), 16)

    def test_frozen_parameters(self):
        assert_equal_to_captum(calibrated(Branched(), size=16).requires_grad_(False), 16)

    @pytest.mark.slow
    def test_vgg16_with_in_place_relu(self):
        assert_equal_to_captum(fixed(vgg(VGG16)), 32)

    @pytest.mark.slow
    def test_resnet18_with_shared_relu_and_in_place_addition(self):
        assert_equal_to_captum(calibrated(torchvision.models.resnet18()), 64)

    @pytest.mark.slow
    def test_mobilenet_with_hardswish_and_gates(self):
        assert_equal_to_captum(calibrated(torchvision.models.mobilenet_v3_small()), 64, at_most=16)

    @pytest.mark.slow
    def test_densenet(self):
        assert_equal_to_captum(calibrated(timm.create_model("densenet121")), 64, at_most=12)

    @pytest.mark.slow
    def test_googlenet_with_functional_in_place_relu(self):
        net = torchvision.models.googlenet(aux_logits=False, init_weights=False)
        assert_equal_to_captum(calibrated(net), 64, at_most=12)
