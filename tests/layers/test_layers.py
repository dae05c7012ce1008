"""What counts as a layer, what it is called and where it is tapped; what counts as a neuron."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from camdrift.coverage.neurons import neuron_coverage
from camdrift.layers.layers import call_names, find_layers, find_neurons, follow, label_blocks
from camdrift.layers.tracing import trace
from camdrift.models.classifier import Classifier
from support.nets import Branched, Functional, OneReLU, Plain, SelfPooled, Squeezed, Twice, conv, fixed, vgg

VGG16_LABELS = [
    f"block{block}_conv{number}" for block, convs in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, convs + 1)
]


def trace_of(module, size=16, device="cpu"):
    """Trace of a pass of two images; on device `meta` shapes only, nothing is computed."""
    module = module.eval()
    return trace(module, lambda: module(torch.zeros(2, 3, size, size, device=device)))


@cache
def traced_at_imagenet_size(name):
    with torch.device("meta"):
        options = {"init_weights": False} if name == "googlenet" else {}
        return trace_of(torchvision.models.get_model(name, weights=None, **options), 224, "meta")


def chain(trace, position):
    return [call.operation for call in follow(trace, trace.calls[position]).calls]


def infos(module, size=16):
    return {layer.info.name: layer.info for layer in find_layers(trace_of(module, size), [])}


class TestFollow:
    def test_norm_and_activation(self):
        net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.SiLU(), conv(4, 4), nn.GroupNorm(2, 4))
        calls = trace_of(net)
        assert chain(calls, 0) == ["conv2d", "batch_norm", "silu"]
        assert chain(calls, 3) == ["conv2d", "group_norm"]

    def test_activation_ends_the_chain(self):
        net = nn.Sequential(conv(3, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU())
        assert chain(trace_of(net), 0) == ["conv2d", "relu"]

    def test_one_norm_only(self):
        net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU())
        assert chain(trace_of(net), 0) == ["conv2d", "batch_norm"]

    def test_no_further_than_where_the_output_is_shared_or_otherwise_read(self):
        calls = trace_of(Branched())
        names = call_names(calls.calls)
        assert chain(calls, names.index("stem")) == ["conv2d", "batch_norm", "relu"]
        assert chain(calls, names.index("left")) == ["conv2d"]  # goes into cat
        assert chain(calls, names.index("right")) == ["conv2d", "batch_norm"]  # += comes first

    def test_what_the_network_returns_is_not_passed_over(self):
        class ReturnsBoth(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv(3, 4)

            def forward(self, x):
                x = self.conv(x)
                return x, F.relu(x)

        assert chain(trace_of(ReturnsBoth()), 0) == ["conv2d"]


class TestCallNames:
    def test_execution_order_not_that_of_registration(self):
        assert list(infos(OneReLU())) == ["first", "second", "third"]

    def test_second_call_of_a_module(self):
        assert list(infos(Twice())) == ["stem", "body:1", "body:2"]

    def test_functions_without_a_module(self):
        names = [call_names(calls := trace_of(Functional()).calls), [call.family for call in calls]]
        assert names[0] == ["conv2d:1", "relu_:1", "max_pool2d:1", "conv2d:2", "relu:2", "avg_pool2d:2", "head"]

    def test_two_kinds_of_call_in_one_module_have_two_names(self):
        groups = find_neurons(trace_of(SelfPooled()), 4)
        assert [group.name for group in groups] == ["features.0", "features.0.max_pool2d", "features.1", "softmax"]
        assert list(infos(SelfPooled())) == ["features.0", "features.1"]


class TestFindLayers:
    def test_description(self):
        found = infos(Branched())
        assert found["stem"].shape == (5, 16, 16)
        assert found["stem"].kind == "Conv2d"
        assert found["stem"].tap == "conv2d > batch_norm > relu"
        assert found["left"].tap == "conv2d, then cat"
        assert found["right"].tap.startswith("conv2d > batch_norm, then ")
        assert not any(info.note for info in found.values())

    def test_shape_is_that_of_the_tap(self):
        assert infos(nn.Sequential(nn.Conv2d(3, 7, 3, stride=2), nn.ReLU()))["0"].shape == (7, 7, 7)

    def test_map_of_one_value_is_noted(self):
        notes = {name: info.note for name, info in infos(Squeezed()).items() if info.note}
        assert notes == dict.fromkeys(("reduce", "expand"), "1x1 output: a map of one value cannot move")

    @pytest.mark.parametrize("fold", [lambda x: x.unflatten(2, (2, 8)).transpose(1, 2).flatten(0, 1), lambda x: x[0]])
    def test_output_without_one_map_per_image_is_noted(self, fold):
        class Folded(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv(3, 4)

            def forward(self, x):
                return F.relu(self.conv(fold(x))).mean()

        assert infos(Folded())["conv"].note == "output is no (batch, channels, height, width)"


class TestVGG:
    def test_labels(self):
        trace = traced_at_imagenet_size("vgg16")
        layers = label_blocks(find_layers(trace, []), trace.calls)
        assert [layer.info.label for layer in layers] == VGG16_LABELS
        positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
        assert [layer.info.name for layer in layers] == [f"features.{i}" for i in positions]
        assert {layer.info.tap for layer in layers} == {"conv2d > relu"}

    def test_classifier_labels_it(self):
        infos = Classifier(vgg([4, "M", 8, 8, "M", 8, "M"]), size=16).layer_infos
        assert [info.label for info in infos] == ["block1_conv1", "block2_conv1", "block2_conv2", "block3_conv1"]

    def test_neurons(self):
        """Specification 1.3: 13 convolutions, 5 pools, fc1, fc2 and the softmax: 14,888 neurons."""
        groups = find_neurons(traced_at_imagenet_size("vgg16"), 1000)
        assert [(group.kind, group.neurons) for group in groups] == [
            *[("convolution", 64)] * 2,
            ("pool", 64),
            *[("convolution", 128)] * 2,
            ("pool", 128),
            *[("convolution", 256)] * 3,
            ("pool", 256),
            *[("convolution", 512)] * 3,
            ("pool", 512),
            *[("convolution", 512)] * 3,
            ("pool", 512),
            *[("linear", 4096)] * 2,
            ("softmax", 1000),
        ]
        assert sum(group.neurons for group in groups) == 14_888
        kinds = {kind: sum(g.neurons for g in groups if g.kind == kind) for kind in {g.kind for g in groups}}
        assert kinds == {"convolution": 4224, "pool": 1472, "linear": 8192, "softmax": 1000}

    def test_softmax_stands_for_the_layer_of_the_logits(self):
        last = find_neurons(traced_at_imagenet_size("vgg16"), 1000)[-1]
        assert (last.name, last.module, last.tap) == ("softmax", "classifier.6", None)

    def test_adaptive_pool_counts_where_it_does_something(self):
        groups = find_neurons(trace_of(vgg([4, "M", 8, "M"]), 16), 10)
        assert [(g.module, g.neurons) for g in groups if g.kind == "pool"][-1] == ("avgpool", 8)


class TestFindNeurons:
    def test_taps_lie_behind_the_activation(self):
        trace = trace_of(Plain())
        taps = {group.name: group.tap and trace.calls[group.tap.index].operation for group in find_neurons(trace, 4)}
        assert taps == {"features.0": "relu", "features.2": "max_pool2d", "features.3": "relu", "softmax": None}

    def test_stride_one_pools_of_inception_blocks_count(self):
        groups = {group.name: group for group in find_neurons(traced_at_imagenet_size("googlenet"), 1000)}
        branches = {name: group.neurons for name, group in groups.items() if name.endswith("branch4.0")}
        inputs = {"3a": 192, "3b": 256, "4a": 480, "4b": 512, "4c": 512, "4d": 512, "4e": 528, "5a": 832, "5b": 832}
        assert branches == {f"inception{block}.branch4.0": width for block, width in inputs.items()}
        assert groups["avgpool"].neurons == 1024

    def test_channels_of_tokens_are_their_last_axis(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.patches, self.mix, self.head = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 7), nn.Linear(7, 4)

            def forward(self, x):
                return self.head(F.gelu(self.mix(self.patches(x).flatten(2).transpose(1, 2))).mean(1))

        group = find_neurons(trace_of(Tokens()), 4)[1]
        assert (group.name, group.neurons, group.channel_axis) == ("mix", 7, -1)
        covered = neuron_coverage(Classifier(fixed(Tokens()), size=16), torch.rand(3, 3, 16, 16))
        assert covered.shape == (3, 6 + 7 + 4)

    def test_rows_that_are_no_images_do_not_count(self):
        """Swin V2 multiplies windows, and a table of positions that has one row whatever the batch."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = SwinTransformer(
                patch_size=[4, 4],
                embed_dim=8,
                depths=[1, 1],
                num_heads=[1, 1],
                window_size=[2, 2],
                num_classes=4,
                block=SwinTransformerBlockV2,
                downsample_layer=PatchMergingV2,
            )
        classifier = Classifier(net, size=32)
        modules = [group.module for group in classifier.neuron_groups]
        assert "features.1.0.mlp.0" in modules
        assert not any("attn" in module for module in modules)
        images = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        alone = torch.cat([neuron_coverage(classifier, image[None]) for image in images])
        assert torch.equal(neuron_coverage(classifier, images), alone)
