"""Explanations beside Grad-CAM: worked by hand, against naive float64 and other libraries, all from one pass."""

import math

import numpy as np
import pytest
import torch
from pytorch_grad_cam import AblationCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from camdrift.errors import UserError
from camdrift.explanations import gradient
from camdrift.explanations.attribution import attribute, explain_batch
from camdrift.explanations.gradient import grad_cam, grad_cam_pp, layer_cam, maps_of_gradients, xgrad_cam
from camdrift.explanations.registry import make_explainer
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.tables.measures import EXPLANATION_ROWS, EXPLANATIONS, GRADIENT_BASED, GRADIENTS, ExplanationRow
from support.nets import Branched, Plain, SideShow, Twice, Worked, calibrated, fixed, snapshot, vgg
from support.precision import assert_same_maps, in_float64

CAPTUM = ("captum:LayerGradientXActivation", "captum:LayerIntegratedGradients(n_steps=8)")


def batch(count=2, size=16, rng_seed=0):
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(rng_seed))


class TestByHand:
    """`Worked` at p = [[1/4, 1/2], [1, 0]]: A_1 = p, A_2 = [[1/2, 0], [0, 1]]; class 0 has the gradients
    G_1 = [[1, 2], [3, -2]], G_2 = -1/4 everywhere, and the logit 31/8."""

    IMAGE = torch.tensor([[0.25, 0.5], [1.0, 0.0]]).expand(1, 3, 2, 2)

    def map_of(self, explanation, target=0):
        return attribute(Classifier(Worked(), size=2), self.IMAGE, target, explanation=explanation)["conv"][0].tolist()

    def assert_map(self, explanation, expected, target=0):
        np.testing.assert_allclose(self.map_of(explanation, target), expected, rtol=1e-6, atol=1e-7)

    def test_gradcam(self):
        self.assert_map("gradcam", [[0.125, 0.5], [1.0, 0.0]])

    def test_gradcam_pp(self):
        # sum A_1 = 7/4: a = 1 / (2 + 7/4 G) where G > 0; no entry of G_2 is
        weight = 1 / 3.75 + 2 / 5.5 + 3 / 7.25
        self.assert_map("gradcam++", [[weight / 4, weight / 2], [weight, 0.0]])

    def test_xgradcam(self):
        # weights (1/4 + 1 + 3) / (7/4) = 17/7 and -1/4
        self.assert_map("xgradcam", [[17 / 28 - 1 / 8, 17 / 14], [17 / 7, 0.0]])

    def test_hirescam(self):
        self.assert_map("hirescam", [[1 / 4 - 1 / 8, 1.0], [3.0, 0.0]])

    def test_layercam(self):
        self.assert_map("layercam", [[0.25, 1.0], [3.0, 0.0]])

    def test_eigencam(self):
        # O^T O = [[21/16, 1/8], [1/8, 5/4]]: its larger eigenvalue is 41/32 + sqrt(17)/32
        first = np.array([1 / 8, (41 + math.sqrt(17)) / 32 - 21 / 16])
        first /= np.linalg.norm(first)
        rows = np.array([[1 / 4, 1 / 2], [1 / 2, 0], [1, 0], [0, 1]])
        self.assert_map("eigencam", (rows @ first).reshape(2, 2))

    def test_ablationcam(self):
        # without channel 1 the logit is -3/8, without channel 2 it is 17/4: weights 34/31 and -3/31
        self.assert_map("ablationcam", [[34 / 124 - 3 / 62, 34 / 62], [34 / 31, 0.0]])

    def test_ablationcam_where_the_logit_is_negative(self):
        """What a channel adds is no less an addition: dividing by the logit itself would turn the map around."""
        module = Worked()
        with torch.no_grad():
            module.mix.neg_()
        found = attribute(Classifier(module, size=2), self.IMAGE, 0, explanation="ablationcam")["conv"][0]
        # logit -37/8; without channel 1 it is -3/8, without channel 2 it is -17/4: no channel adds to it
        assert found.tolist() == [[0.0, 0.0], [0.0, 0.0]]

    def test_activation(self):
        assert self.map_of("activation") == [[[0.25, 0.5], [1.0, 0.0]], [[0.5, 0.0], [0.0, 1.0]]]

    def test_captum_gradient_x_activation(self):
        self.assert_map("captum:LayerGradientXActivation", [[1 / 4 - 1 / 8, 1.0], [3.0, 0.0]])

    def test_captum_integrated_gradients(self):
        # The black image has A_1 = 0, A_2 = 1, and the logit is linear in A: (A - A(black)) G
        self.assert_map("captum:LayerIntegratedGradients(n_steps=5)", [[1 / 4 + 1 / 8, 5 / 4], [13 / 4, 0.0]])

    @pytest.mark.parametrize("explanation", ["xgradcam", "gradcam++"])
    def test_a_silent_channel_stays_silent(self, explanation):
        """0/0 in a weight is no number that a small constant could decide."""
        activation = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])
        gradient = torch.tensor([[[[3.0, 1.0]], [[2.0, 2.0]]]])
        found = {"xgradcam": xgrad_cam, "gradcam++": grad_cam_pp}[explanation](activation, gradient)
        alone = {"xgradcam": xgrad_cam, "gradcam++": grad_cam_pp}[explanation](activation[:, :1], gradient[:, :1])
        assert torch.equal(found, alone)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_a_layer_in_parts_has_the_maps_of_the_whole(self, layout, monkeypatch):
        """Three images of five channels, two channels a part, or an image where channels come last."""
        generator = torch.Generator().manual_seed(0)
        shape = (3, 5, 4, 6)
        a = torch.rand(shape, generator=generator).to(memory_format=layout)
        g = torch.randn(shape, generator=generator).to(memory_format=layout)
        sums = {"gradcam": grad_cam, "gradcam++": grad_cam_pp, "layercam": layer_cam}
        whole = maps_of_gradients(sums, a, g)
        monkeypatch.setattr(gradient, "_PART_VALUES", 2 * 4 * 6)
        assert len(list(gradient._slices(a))) == (3 if layout is torch.channels_last else 9)
        for name, maps in maps_of_gradients(sums, a, g).items():
            assert (maps.flatten(1) > 0).any(1).all()
            torch.testing.assert_close(maps, whole[name])


def naive(explanation, activation, gradient):
    """A map of one image, as the paper of the method writes it: sums over cells one by one."""
    a, g = activation, gradient
    channels, height, width = a.shape
    total = np.zeros((height, width))
    for k in range(channels):
        match explanation:
            case "gradcam":
                total += g[k].mean() * a[k]
            case "gradcam++":
                weight = 0.0
                for i in range(height):
                    for j in range(width):
                        if g[k, i, j] > 0:
                            share = g[k, i, j] ** 2 / (2 * g[k, i, j] ** 2 + g[k, i, j] ** 3 * a[k].sum())
                            weight += share * g[k, i, j]
                total += weight * a[k]
            case "xgradcam":
                total += (g[k] * a[k]).sum() / a[k].sum() * a[k] if a[k].sum() else 0
            case "hirescam":
                total += g[k] * a[k]
            case "layercam":
                total += np.maximum(g[k], 0) * a[k]
    return np.maximum(total, 0)


def captured(classifier, images, classes, name):
    with torch.enable_grad(), hooks.capturing(classifier.taps([name])) as capture:
        logits = classifier(images)
    pair = hooks.reduce_gradients(logits.gather(1, classes[:, None]).sum(), capture, lambda a, g: (a, g))
    return tuple(part.numpy() for part in pair[name])


class TestAgainstOthers:
    @pytest.mark.parametrize("explanation", GRADIENT_BASED)
    def test_naive_float64(self, explanation):
        classifier = Classifier(calibrated(Branched()), size=16)
        images, classes = batch().double(), torch.tensor([1, 3])
        with in_float64(classifier):
            found = attribute(classifier, images, classes, explanation=explanation)
            pairs = {name: captured(classifier, images, classes, name) for name in classifier.layers}
        for name, (a, g) in pairs.items():
            expected = torch.tensor(np.stack([naive(explanation, a[i], g[i]) for i in range(len(images))]))
            assert expected.any()
            assert_same_maps(found[name], expected)

    @pytest.mark.parametrize(
        ("explanation", "tool"),
        [("gradcam++", GradCAMPlusPlus), ("xgradcam", XGradCAM), ("hirescam", HiResCAM), ("layercam", LayerCAM)],
    )
    def test_pytorch_grad_cam(self, explanation, tool):
        """On a network without in-place operations, where that library is right; scaled as it scales."""
        module = fixed(Plain())
        with torch.no_grad():
            module.head.weight.mul_(300)  # its constants in denominators are far below these gradients
        images, classes = batch(), [1, 3]
        found = attribute(Classifier(module, size=16), images, classes, explanation=explanation)
        for name, part in (("features.0", module.features[1]), ("features.3", module.features[4])):
            with tool(model=module.eval(), target_layers=[part]) as cam:
                expected = cam(input_tensor=images.clone(), targets=[ClassifierOutputTarget(c) for c in classes])
            size = found[name].shape[1:]
            shrunk = torch.nn.functional.interpolate(scaled(found[name])[:, None], size=(16, 16), mode="bilinear")[:, 0]
            assert size == (16, 16) or size == (8, 8)
            np.testing.assert_allclose(scaled(shrunk).numpy(), expected, atol=2e-3)

    def test_ablation_against_pytorch_grad_cam(self):
        module = fixed(Plain())
        with torch.no_grad():
            module.head.bias.add_(5.0)  # a positive logit, where both divide by the same
        images = batch(1)
        found = attribute(Classifier(module, size=16), images, 2, layers=["features.3"], explanation="ablationcam")
        with AblationCAM(model=module.eval(), target_layers=[module.features[4]]) as cam:
            expected = cam(input_tensor=images.clone(), targets=[ClassifierOutputTarget(2)])
        large = torch.nn.functional.interpolate(scaled(found["features.3"])[:, None], size=(16, 16), mode="bilinear")
        np.testing.assert_allclose(scaled(large[:, 0]).numpy(), expected, atol=2e-3)

    @pytest.mark.parametrize("make", [Branched, Twice, lambda: vgg([8, "M", 16, "M"])])
    def test_captum_and_ours_agree_behind_every_tap(self, make):
        """Gradient times activation is HiResCAM: shared, functional and in-place activations included."""
        classifier = Classifier(calibrated(make()), size=16)
        with in_float64(classifier):
            ours, theirs = (
                attribute(classifier, batch().double(), 1, explanation=name)
                for name in ("hirescam", "captum:LayerGradientXActivation")
            )
        for name in classifier.layers:
            assert_same_maps(theirs[name], ours[name])

    @pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 3, 4, 4), (1, 1, 2, 2)])
    def test_eigencam_against_a_decomposition(self, shape):
        generator = torch.Generator().manual_seed(3)
        values = torch.rand(shape, generator=generator)
        found = make_explainer("eigencam").of_activation(values)
        for i, image in enumerate(values.double().numpy()):
            rows = image.reshape(shape[1], -1).T
            projected = rows @ np.linalg.svd(rows)[2][0]
            expected = projected * np.sign(projected.sum())
            np.testing.assert_allclose(found[i].numpy().ravel(), expected, rtol=1e-5, atol=1e-6)
            assert (expected >= -1e-9).all()  # of activations behind ReLU

    def test_eigencam_of_signed_values_keeps_the_larger_side(self):
        values = torch.tensor([[[[3.0, -1.0]], [[3.0, -1.0]]]])
        assert make_explainer("eigencam").of_activation(-values).tolist() == [[[pytest.approx(math.sqrt(2) * 3), 0.0]]]


def scaled(maps):
    lowest = maps.flatten(1).amin(1)[:, None, None]
    raised = maps - lowest
    return raised / (1e-7 + raised.flatten(1).amax(1)[:, None, None])


class TestOnePass:
    def test_all_gradient_based_ones_share_one_forward_and_one_backward_pass(self, monkeypatch):
        module = calibrated(Branched())
        classifier = Classifier(module, size=16)
        classifier.layers  # noqa: B018 - its trace is a pass, too
        passes = {"forward": 0, "backward": 0}
        forward, backward = module.forward, torch.autograd.grad

        def counted_forward(*args):
            passes["forward"] += 1
            return forward(*args)

        def counted_backward(*args, **kwargs):
            passes["backward"] += 1
            return backward(*args, **kwargs)

        monkeypatch.setattr(module, "forward", counted_forward)
        monkeypatch.setattr(torch.autograd, "grad", counted_backward)
        explainers = [make_explainer(name) for name in (*GRADIENT_BASED, "eigencam", "activation")]
        seen = explain_batch(classifier, batch(), [torch.tensor([1, 2])], explainers=explainers)
        assert passes == {"forward": 1, "backward": 1}
        assert list(seen.attributions[0]) == [explainer.spec for explainer in explainers]

    def test_together_as_alone(self):
        classifier = Classifier(calibrated(SideShow()), size=16)
        names = (*EXPLANATIONS, CAPTUM[0])
        images, other = batch(3), torch.tensor([1, 2, 3])
        together = explain_batch(classifier, images, [None, other], explainers=[make_explainer(name) for name in names])
        for name in names:
            alone = explain_batch(classifier, images, [None, other], explainers=[make_explainer(name)])
            for target in (0, 1):
                for layer in classifier.layers:
                    expected = alone.attributions[target][name][layer]
                    assert torch.equal(together.attributions[target][name][layer], expected), (name, layer)

    @pytest.mark.parametrize("name", [*EXPLANATIONS, *CAPTUM])
    def test_a_batch_is_its_images_one_by_one(self, name):
        classifier = Classifier(calibrated(Branched()), size=16)
        images = batch(3).double()
        with in_float64(classifier):
            whole = attribute(classifier, images, [1, 2, 3], explanation=name)
            alone = [attribute(classifier, images[i : i + 1], i + 1, explanation=name) for i in range(3)]
        for i, single in enumerate(alone):
            for layer, maps in whole.items():
                assert_same_maps(maps[i : i + 1], single[layer])

    @pytest.mark.parametrize("name", [*EXPLANATIONS, *CAPTUM])
    def test_raw_finite_not_negative_and_nothing_left_behind(self, name):
        module = calibrated(Twice()).train()
        classifier = Classifier(module, size=16)
        before = snapshot(module)
        images = batch()
        copy = images.clone()
        found = attribute(classifier, images, explanation=name)
        assert list(found) == list(classifier.layers)
        for layer, info in zip(found, classifier.layer_infos, strict=True):
            expected = (2, *info.shape) if name == "activation" else (2, *info.shape[1:])
            assert found[layer].shape == expected
            assert found[layer].dtype == torch.float32
            assert not found[layer].requires_grad
            assert torch.isfinite(found[layer]).all()
            assert name == "activation" or (found[layer] >= 0).all()
        assert torch.equal(images, copy)
        assert snapshot(module) == before
        assert torch._C._len_torch_function_stack() == 0


class TestSpecs:
    def test_a_row_and_a_function_make_an_explanation(self, monkeypatch):
        row = ExplanationRow("new", "New", "", "", GRADIENTS, "gradient.hires_cam")
        monkeypatch.setitem(EXPLANATION_ROWS, "new", row)
        classifier = Classifier(calibrated(Branched()), size=16)
        maps, expected = (attribute(classifier, batch(), 0, explanation=name) for name in ("new", "hirescam"))
        assert all(torch.equal(maps[layer], expected[layer]) for layer in classifier.layers)

    @pytest.mark.parametrize("name", [*EXPLANATIONS, *CAPTUM])
    def test_a_spec_gives_the_same_explainer_again(self, name):
        assert make_explainer(make_explainer(name).spec).spec == make_explainer(name).spec == name

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("gradcam+", "`explain` must be one of gradcam, gradcam"),
            ("captum:Saliency", "got: Saliency"),
            ("captum:LayerIntegratedGradients(steps=3)", "no such setting, got: steps"),
            ("captum:LayerIntegratedGradients(3)", "NAME(key=value"),
        ],
    )
    def test_what_does_not_exist_is_refused(self, spec, said):
        with pytest.raises(UserError) as error:
            make_explainer(spec)
        assert said in str(error.value.message)

    def test_without_captum_there_is_one_command(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "captum", None)
        with pytest.raises(UserError, match="not installed") as error:
            make_explainer(CAPTUM[0])
        assert error.value.hint == 'pip install "camdrift[captum]" installs it'

    def test_what_captum_cannot_do_here_is_one_line(self):
        classifier = Classifier(calibrated(Twice()), size=16)
        with pytest.raises(UserError, match=r"fails at layer") as error:
            attribute(classifier, batch(), 0, explanation="captum:LayerIntegratedGradients(method='none')")
        assert "\n" not in error.value.message
