"""Neuron coverage as DLFuzz counts it: worked by hand, against a naive float64 version, and its edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import correlate2d
from torch import nn

from camdrift.coverage.neurons import neuron_count, neuron_coverage, observe
from camdrift.models.classifier import Classifier
from support.nets import Plain, SelfPooled, conv, fixed, snapshot
from support.precision import in_float64


class OneByTwo(nn.Module):
    """The first plane p of an image of 1 x 2 pixels: channels ReLU(4p), ReLU(1 - 4p), max pool, two logits."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 2, 1), nn.MaxPool2d((1, 2))
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[4.0, 0, 0], [-4.0, 0, 0]])[:, :, None, None])
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x):
        return self.pool(F.relu(self.conv(x[:, :, :1, :]))).flatten(1) * torch.tensor([1.0, 2.0])


def plane(*values):
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0] = torch.tensor(values)
    return image


class TestWorkedByHand:
    def test_values(self):
        """p = (0.125, 1): channels (0.5, 4) and (0.5, 0); layer from 0 to 4; pools 4 and 0.5; logits 4 and 1."""
        _, record = observe(Classifier(OneByTwo(), size=2), plane(0.125, 1.0))
        conv_values = [(0.5 + 4) / 2 / 4, 0.5 / 2 / 4]
        assert record.values[0].tolist() == pytest.approx([*conv_values, 1, 0, 1, 0], abs=1e-6)
        assert record.outputs["conv"].tolist() == [[2.25, 0.25]]
        assert record.outputs["pool"].tolist() == [[4.0, 0.5]]

    def test_a_value_on_the_threshold_is_not_covered(self):
        """p = (0, 1): channels (0, 4) and (1, 0), so that their values are exactly 1/2 and 1/8."""
        classifier, image = Classifier(OneByTwo(), size=2), plane(0.0, 1.0)
        assert neuron_coverage(classifier, image, threshold=0.125)[0, :2].tolist() == [True, False]
        assert neuron_coverage(classifier, image, threshold=0.124)[0, :2].tolist() == [True, True]
        assert neuron_coverage(classifier, image, threshold=0.5)[0, :2].tolist() == [False, False]

    def test_a_constant_layer_is_not_covered(self):
        """p = (1/8, 1/8): both channels are 0.5 everywhere; 0/0 lies above no threshold, not even above 0."""
        classifier = Classifier(OneByTwo(), size=2)
        _, record = observe(classifier, plane(0.125, 0.125))
        assert record.values[0, :4].isnan().all()
        assert neuron_coverage(classifier, plane(0.125, 0.125), threshold=0.0)[0].tolist() == [False] * 5 + [True]

    def test_each_image_is_scaled_by_itself(self):
        images = torch.cat([plane(0.125, 1.0), plane(0.0, 0.25)])
        _, record = observe(Classifier(OneByTwo(), size=2), images)
        # second image: channels (0, 1) and (1, 0)
        assert record.values[1, :2].tolist() == [0.5, 0.5]
        assert record.values[0, 0].item() == pytest.approx(0.5625)


def naive(module, image, threshold):
    """Specification 1.3 for `Plain`, neuron by neuron in float64."""
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}

    def convolve(x, name):
        planes = [
            sum(correlate2d(plane, kernel, mode="same") for plane, kernel in zip(x, kernels, strict=True)) + bias
            for kernels, bias in zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
        ]
        return np.maximum(np.stack(planes), 0)

    first = convolve(image, "features.0")
    channels, height, width = first.shape
    pool = first.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))
    second = convolve(pool, "features.3")
    logits = weights["head.weight"] @ second.mean((1, 2)) + weights["head.bias"]
    softmax = np.exp(logits) / np.exp(logits).sum()
    covered = []
    for layer in (first, pool, second, softmax[:, None, None]):
        scaled = (layer - layer.min()) / (layer.max() - layer.min())
        covered += [channel.mean() > threshold for channel in scaled]
    return covered


class TestNaiveVersion:
    @pytest.mark.parametrize("threshold", [0.0, 0.1, 0.25, 0.5, 0.75])
    def test_same_neurons(self, threshold, images):
        module = fixed(Plain())
        found = neuron_coverage(Classifier(module, size=16), images, threshold=threshold)
        expected = [naive(module, image.double().numpy(), threshold) for image in images]
        assert found.tolist() == expected
        assert 0 < np.mean(expected) < 1

    def test_default_threshold_is_a_quarter(self, plain, images):
        assert torch.equal(neuron_coverage(plain, images), neuron_coverage(plain, images, threshold=0.25))


class TestProperties:
    def test_batch_of_eight_is_eight_batches_of_one(self, plain, images):
        images = images.double()
        with in_float64(plain):
            alone = torch.cat([observe(plain, image[None])[1].values for image in images])
            together = observe(plain, images)[1].values
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)

    def test_count(self, plain, images):
        assert neuron_count(plain) == 5 + 5 + 6 + 4
        assert neuron_coverage(plain, images).shape == (8, 20)

    def test_predicted_class_is_always_covered(self, plain, images):
        for threshold in (0.25, 0.99):
            covered = neuron_coverage(plain, images, threshold=threshold)[:, -4:]
            assert covered.gather(1, plain(images).argmax(1, keepdim=True)).all()

    def test_a_saturated_softmax_covers_only_the_predicted_class(self):
        module = fixed(Plain())
        with torch.no_grad():
            module.head.bias.copy_(torch.tensor([0.0, 500, 0, 0]))
        covered = neuron_coverage(Classifier(module, size=16), torch.rand(1, 3, 16, 16))
        assert covered[0, -4:].tolist() == [False, True, False, False]

    def test_two_calls_in_one_module_are_two_layers(self, images):
        module = fixed(SelfPooled())
        record = observe(Classifier(module, size=16), images)[1]
        with torch.no_grad():
            before = F.relu(nn.Conv2d.forward(module.features[0], images))
        torch.testing.assert_close(record.outputs["features.0"], before.mean((2, 3)))
        pooled = F.max_pool2d(before, 2).mean((2, 3))
        torch.testing.assert_close(record.outputs["features.0.max_pool2d"], pooled)

    def test_values_before_an_activation_in_place_are_not_counted(self, images):
        """The tap is behind the ReLU, and what overwrites the output later changes nothing."""

        class Overwritten(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.head = conv(3, 4), nn.Linear(4, 3)

            def forward(self, x):
                x = F.relu(self.conv(x), inplace=True)
                pooled = x.mean((2, 3))
                x.fill_(-7)
                return self.head(pooled)

        module = fixed(Overwritten())
        outputs = observe(Classifier(module, size=16), images)[1].outputs["conv"]
        with torch.no_grad():
            torch.testing.assert_close(outputs, module.conv(images).relu().mean((2, 3)))

    def test_model_is_left_as_it_was(self, images):
        module = fixed(Plain()).train()
        classifier = Classifier(module, size=16)
        before = snapshot(module)
        neuron_coverage(classifier, images)
        assert snapshot(module) == before
