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

from camdrift.errors import UserError
from camdrift.explanations.attribution import attribute, explain_batch
from camdrift.explanations.registry import make_explainer
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tables.measures import GRADIENT_BASED
from support.architectures import ARCHITECTURES
from support.precision import STORED, in_float64

pytestmark = pytest.mark.slow

NAMES = (*GRADIENT_BASED, "eigencam", "activation")
EXPLAINERS = [make_explainer(name) for name in NAMES]
# Networks that only add up what their last layer returns, and those that have modules behind it which Captum follows.
LINEAR_AT_THE_END = ("shufflenet", "squeezenet", "googlenet", "efficientnet", "nfnet")
FOLLOWED_TO_THE_END = ("vgg, in-place ReLU", "resnet")
# Layers of an architecture that the oracle is asked about: first, last, and some between.
LAYERS = 5


@cache
def classifier_of(name):
    architecture = ARCHITECTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, when they build
        return Classifier(architecture(), size=architecture.size)


def images_for(classifier):
    return torch.rand((2, 3, classifier.size, classifier.size), generator=torch.Generator().manual_seed(4))


def maps_and_gradient(classifier, images, classes):
    """Grad-CAM maps by layer, and the gradient of the classes' logits at the images."""
    leaf = images.clone(memory_format=torch.preserve_format).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(leaf).gather(1, classes[:, None]).sum(), leaf)
    return {**attribute(classifier, images, classes), "the image": gradient}


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


def largest_sum(a, g):
    """What a map could reach if nothing cancelled: float64 errors are 1e-16 of it, however small the map."""
    return np.abs(g).max() * np.abs(a).max() * a.shape[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
class TestArchitecture:
    def test_default_layers_are_of_the_expected_family(self, name):
        classifier = classifier_of(name)
        families = {info.name: info.family for info in classifier.layer_infos}
        assert len(classifier.layers) >= 2
        assert {families[layer] for layer in classifier.layers} == {ARCHITECTURES[name].family}

    def test_finite_and_of_the_right_shape(self, name):
        classifier = classifier_of(name)
        found = explain_batch(classifier, images_for(classifier), [None], explainers=EXPLAINERS).attributions[0]
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
        classifier = classifier_of(name)
        images, classes = images_for(classifier).double(), torch.tensor([1, 3])
        moving = 0
        with in_float64(classifier):
            found = explain_batch(classifier, images, [classes], explainers=EXPLAINERS[: len(GRADIENT_BASED)])
            for layer in some(classifier.layers):
                a, g = leaf_and_gradient(classifier, images, classes, layer)
                for explanation in GRADIENT_BASED:
                    expected, actual = formula(explanation, a, g), found.attributions[0][explanation][layer].numpy()
                    atol, where = 1e-12 * largest_sum(a, g), f"{layer} {explanation}"
                    np.testing.assert_allclose(actual, expected, rtol=STORED, atol=atol, err_msg=where)
                    moving += expected.any()
        assert moving > LAYERS, "nearly all maps are zero"

    def test_float32_agrees_with_float64_alone_in_a_batch_and_channels_last(self, name):
        """Memory order is where libraries err: torch 2.15 reads the gradient of one image wrongly behind norms."""
        classifier = classifier_of(name)
        images, classes = images_for(classifier), torch.tensor([1, 3])
        single = {"in a batch": maps_and_gradient(classifier, images, classes)}
        single["alone"] = maps_and_gradient(classifier, images[1:], classes[1:])
        channels_last = images.contiguous(memory_format=torch.channels_last)
        classifier.module.to(memory_format=torch.channels_last)
        try:
            single["in a batch, channels last"] = maps_and_gradient(classifier, channels_last, classes)
            single["alone, channels last"] = maps_and_gradient(classifier, channels_last[1:], classes[1:])
        finally:
            classifier.module.to(memory_format=torch.contiguous_format)
        with in_float64(classifier):
            double = maps_and_gradient(classifier, images.double(), classes)
        for order, values in single.items():
            for layer, one in values.items():
                other = double[layer][-len(one) :].flatten(1)
                cosine = torch.cosine_similarity(one.flatten(1), other)
                assert ((cosine > 0.999) | (other.amax(1) == 0)).all(), (layer, order)

    def test_captum_takes_the_same_places(self, name):
        """Gradient times activation, by captum at camdrift's taps, is HiResCAM."""
        classifier = classifier_of(name)
        images, classes = images_for(classifier).double(), torch.tensor([1, 3])
        layers = some(classifier.layers)[::2]
        explainers = [make_explainer(each) for each in ("hirescam", "captum:LayerGradientXActivation")]
        with in_float64(classifier):
            found = explain_batch(classifier, images, [classes], layers=layers, explainers=explainers).attributions[0]
            for layer in layers:
                ours, theirs = (each[layer] for each in found.values())
                atol = 1e-12 * largest_sum(*leaf_and_gradient(classifier, images, classes, layer))
                torch.testing.assert_close(theirs, ours, rtol=STORED, atol=atol, check_dtype=False)

    def test_deep_lift_is_complete_or_refused(self, name):
        """Behind the last convolution most networks are linear: there DeepLIFT is gradient times change."""
        classifier = classifier_of(name)
        images, classes, layer = images_for(classifier).double(), torch.tensor([1, 3]), classifier.layers[-1]

        def deep_lift():
            return attribute(classifier, images, classes, explanation="captum:LayerDeepLift", layers=[layer])[layer]

        with in_float64(classifier):
            if not name.startswith(LINEAR_AT_THE_END + FOLLOWED_TO_THE_END):
                with pytest.raises(UserError, match=r"no DeepLIFT at|doesn't require gradient"):
                    deep_lift()
                return
            a, g = leaf_and_gradient(classifier, images, classes, layer)
            black, _ = leaf_and_gradient(classifier, torch.zeros_like(images), classes, layer)
            expected, atol = np.maximum((g * (a - black)).sum(1), 0), 1e-12 * largest_sum(a, g)
            ours = deep_lift()
            assert ours.any()
            if name.startswith(LINEAR_AT_THE_END):
                np.testing.assert_allclose(ours, expected, rtol=STORED, atol=atol)


def test_ablation_of_tokens_leaves_other_tokens_alone():
    """The class token is no position of the map: it stays when a channel of the patches is silenced."""
    classifier = classifier_of("vit, torchvision")
    images, classes = images_for(classifier)[:1].double(), torch.tensor([2])
    layer = classifier.layers[0]
    block = classifier.taps([layer])[layer].module
    with in_float64(classifier), torch.no_grad():
        (found,) = explain_batch(
            classifier, images, [classes], layers=[layer], explainers=[make_explainer("ablationcam")]
        ).maps
        score = classifier(images)[0, 2]
        weights, grids = [], []
        for channel in range(24):

            def silence(_, __, output, channel=channel):
                changed = output.clone()
                changed[:, 1:, channel] = 0
                grids.append(output[0, 1:, channel].reshape(4, 4))
                return changed

            handle = block.register_forward_hook(silence)
            weights.append((score - classifier(images)[0, 2]) / score.abs())
            handle.remove()
    expected = sum(weight * grid for weight, grid in zip(weights, grids, strict=True)).relu()
    torch.testing.assert_close(found[layer][0], expected, rtol=STORED, atol=1e-12 * float(expected.max()))
