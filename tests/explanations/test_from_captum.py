"""Captum as oracle: the same attributions, layer by layer, on networks that trip up Grad-CAM tools."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn

from camdrift.explanations.attribution import attribute
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from support.nets import (
    Branched,
    InTurn,
    NamedActivation,
    OneReLU,
    Plain,
    SideShow,
    Squeezed,
    Twice,
    calibrated,
    fixed,
    replace_parts,
    vgg,
)

VGG16 = torchvision.models.vgg.cfgs["D"]


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
        part.register_forward_hook(note(name)) for name, part in module.named_modules() if not list(part.children())
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
    images = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0))
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
        # Four blocks of two and three layers each, put together as the 58 of DenseNet-121 are.
        net = timm.create_model("densenet121", block_config=(2, 3, 2, 2), growth_rate=16)
        assert_equal_to_captum(calibrated(net), 64, at_most=12)

    @pytest.mark.slow
    def test_googlenet_with_functional_in_place_relu(self):
        net = torchvision.models.googlenet(aux_logits=False, init_weights=False)
        assert_equal_to_captum(calibrated(net), 64, at_most=12)
