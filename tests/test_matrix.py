"""Every explanation on networks of every make: finite, of the right shape, and equal to what one layer alone gives.

The oracle knows one layer at a time: it cuts the network there, makes the activation a leaf, differentiates the logit
with respect to it in float64, and applies the formula of the method's paper in NumPy. What camdrift computes for all
layers in one pass must be the same, whatever lies between them.
"""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from camdrift.explanations.attribution import explain
from camdrift.explanations.registry import make_explainer
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tables.measures import GRADIENT_BASED
from support.architectures import ARCHITECTURES

pytestmark = pytest.mark.slow

NAMES = (*GRADIENT_BASED, "eigencam", "activation")
EXPLAINERS = [make_explainer(name) for name in NAMES]
# Layers of an architecture that the oracle is asked about: first, last, and some between.
LAYERS = 5


class InFloat64(nn.Module):
    """A network that computes in float64 what it is asked in float32."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()

    def forward(self, images):
        return self.network(images.double())


@cache
def classifiers(name):
    architecture = ARCHITECTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, when they build
        single, double = architecture(), InFloat64(architecture())
    return tuple(Classifier(module, size=architecture.size) for module in (single, double))


def images_for(classifier):
    return torch.rand((2, 3, classifier.size, classifier.size), generator=torch.Generator().manual_seed(4))


def some(layers):
    return [layers[int(place)] for place in np.unique(np.linspace(0, len(layers) - 1, LAYERS).round())]


def leaf_and_gradient(classifier, images, classes, name):
    """Activation and gradient of one layer, the network cut there: float64, (batch, channels, h, w)."""
    leaves = []

    def cut(activation):
        leaves.append(activation.detach().double().requires_grad_())
        return leaves[0].clone()

    with torch.enable_grad(), hooks.replacing(classifier.taps([name])[name], cut):
        logits = classifier(images)
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), leaves)
    return leaves[0].detach().numpy(), gradient.numpy()


def formula(name, a, g):
    spatial = (2, 3)
    total = a.sum(spatial)
    match name:
        case "gradcam":
            weights = g.mean(spatial)
        case "gradcam++":
            # a gradient of 0 has no share in its weight
            below = 2 * g**2 + g**3 * total[:, :, None, None]
            weights = np.divide(g**2 * np.maximum(g, 0), below, out=np.zeros_like(g), where=(g > 0)).sum(spatial)
        case "xgradcam":
            weights = np.divide((g * a).sum(spatial), total, out=np.zeros_like(total), where=total != 0)
        case "hirescam":
            return np.maximum((g * a).sum(1), 0)
        case "layercam":
            return np.maximum((np.maximum(g, 0) * a).sum(1), 0)
    return np.maximum((weights[:, :, None, None] * a).sum(1), 0)


@pytest.mark.parametrize("name", ARCHITECTURES)
class TestArchitecture:
    def test_default_layers_are_of_the_expected_family(self, name):
        classifier, _ = classifiers(name)
        families = {info.name: info.family for info in classifier.layer_infos}
        assert len(classifier.layers) >= 2
        assert {families[layer] for layer in classifier.layers} == {ARCHITECTURES[name].family}

    def test_finite_and_of_the_right_shape(self, name):
        classifier, _ = classifiers(name)
        found = explain(classifier, images_for(classifier), [None], explainers=EXPLAINERS).attributions[0]
        shapes = {info.name: info.shape for info in classifier.layer_infos}
        for explanation in NAMES:
            assert list(found[explanation]) == list(classifier.layers)
            for layer, values in found[explanation].items():
                expected = shapes[layer] if explanation == "activation" else shapes[layer][1:]
                assert values.shape == (2, *expected), (explanation, layer)
                assert values.dtype == torch.float32
                assert torch.isfinite(values).all(), (explanation, layer)
                assert explanation == "activation" or (values >= 0).all(), (explanation, layer)

    def test_one_pass_is_what_each_layer_alone_gives(self, name):
        _, classifier = classifiers(name)
        images, classes = images_for(classifier), torch.tensor([1, 3])
        found = explain(classifier, images, [classes], explainers=EXPLAINERS[: len(GRADIENT_BASED)]).attributions[0]
        moving = 0
        for layer in some(classifier.layers):
            a, g = leaf_and_gradient(classifier, images, classes, layer)
            for explanation in GRADIENT_BASED:
                expected = formula(explanation, a, g)
                scale = np.abs(g).max() * np.abs(a).max() * a.shape[1]
                # A weight of Grad-CAM++ has a pole where signed activations sum up to less than 0.
                rtol, atol = (2e-2, 1e-4) if explanation == "gradcam++" and a.min() < 0 else (1e-4, 1e-6)
                actual, where = found[explanation][layer].numpy(), f"{layer} {explanation}"
                np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol * scale, err_msg=where)
                moving += expected.any()
        assert moving > LAYERS, "nearly all maps are zero"

    def test_float32_agrees_with_float64(self, name):
        single, double = classifiers(name)
        classes = torch.tensor([1, 3])
        maps = [explain(each, images_for(each), [classes]).maps[0] for each in (single, double)]
        for (layer, one), other in zip(maps[0].items(), maps[1].values(), strict=True):
            cosine = torch.cosine_similarity(one.flatten(1), other.flatten(1))
            assert ((cosine > 0.999) | (other.flatten(1).amax(1) == 0)).all(), layer

    def test_captum_takes_the_same_places(self, name):
        """Gradient times activation, by captum at camdrift's taps, is HiResCAM."""
        single, _ = classifiers(name)
        images, classes = images_for(single), torch.tensor([1, 3])
        layers = some(single.layers)[::2]
        explainers = [make_explainer(each) for each in ("hirescam", "captum:LayerGradientXActivation")]
        found = explain(single, images, [classes], layers=layers, explainers=explainers).attributions[0]
        for layer in layers:
            ours, theirs = (each[layer] for each in found.values())
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-7 + 1e-5 * float(ours.max()))


def test_ablation_of_tokens_leaves_other_tokens_alone():
    """The class token is no position of the map: it stays when a channel of the patches is silenced."""
    single, _ = classifiers("vit, torchvision")
    images, classes = images_for(single)[:1], torch.tensor([2])
    layer = single.layers[0]
    tap = single.taps([layer])[layer]
    found = explain(single, images, [classes], layers=[layer], explainers=[make_explainer("ablationcam")]).maps[0]
    with torch.no_grad():
        score = single(images)[0, 2]
        block = tap.module
        weights, grids = [], []
        for channel in range(24):

            def silence(_, __, output, channel=channel):
                changed = output.clone()
                changed[:, 1:, channel] = 0
                grids.append(output[0, 1:, channel].reshape(4, 4))
                return changed

            handle = block.register_forward_hook(silence)
            weights.append((score - single(images)[0, 2]) / score.abs())
            handle.remove()
    expected = sum(weight * grid for weight, grid in zip(weights, grids, strict=True)).relu()
    torch.testing.assert_close(found[layer][0], expected, rtol=1e-4, atol=1e-6)
