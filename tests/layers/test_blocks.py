"""Blocks and layouts: token networks made by hand, with maps worked by hand; and real ones of every make."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from camdrift.coverage.neurons import neuron_coverage
from camdrift.errors import UserError
from camdrift.explanations.attribution import attribute
from camdrift.layers import hooks
from camdrift.layers.layers import reason_left_out
from camdrift.layers.layouts import GRID, Layout
from camdrift.layers.operations import first_tensor
from camdrift.models.classifier import Classifier
from support.architectures import ARCHITECTURES
from support.nets import Plain, calibrated, conv, fixed, snapshot
from support.precision import assert_same_maps, in_float64

UNREAD = "the logits read no patch token of it"


class Mixing(nn.Module):
    """Every token becomes itself plus a two-layer perceptron of itself and of the mean of all."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        mixed = self.norm(x + x.mean(1, keepdim=True))
        return x + self.down(F.gelu(self.up(mixed)))


class Tokens(nn.Module):
    """A tiny vision transformer without attention: 4x4 patches of a 16 px image, and what `extra` puts beside them."""

    def __init__(self, extra=1, *, behind=False, read="first", depth=3):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.extra = nn.Parameter(torch.linspace(-1, 1, 6 * extra).view(1, extra, 6))
        self.places = nn.Parameter(torch.linspace(-0.5, 0.5, 96).view(1, 16, 6))
        self.blocks = nn.Sequential(*(Mixing(6) for _ in range(depth)))
        self.head, self.behind, self.read = nn.Linear(6, 4), behind, read

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        extra = self.extra.expand(len(x), -1, -1)
        x = self.blocks(torch.cat([x, extra] if self.behind else [extra, x], 1))
        return self.head(x[:, 0] if self.read == "first" else x.mean(1))


class Merging(nn.Module):
    """Channels last; two stages of two blocks, and between them four neighbours become one."""

    def __init__(self):
        super().__init__()
        self.patches, self.merge, self.head = nn.Conv2d(3, 4, 2, 2), nn.Linear(16, 6), nn.Linear(6, 4)
        self.stages = nn.ModuleList([nn.Sequential(Mixing(4), Mixing(4)), nn.ModuleList([Mixing(6), Mixing(6)])])

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        x = self.stages[0](x)
        batch, side, _, width = x.shape
        x = x.view(batch, side // 2, 2, side // 2, 2, width).transpose(2, 3).reshape(batch, side // 2, side // 2, -1)
        x = self.merge(x)
        for block in self.stages[1]:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Latents(nn.Module):
    """Sixteen learned vectors read the image, as in Perceiver: they are no places in it."""

    def __init__(self, side=4):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4)
        self.latents = nn.Parameter(torch.linspace(-1, 1, side * side * 6).view(1, side * side, 6))
        self.blocks = nn.ModuleList([Reading(), Reading()])

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        latents = self.latents.expand(len(x), -1, -1)
        for block in self.blocks:
            latents = block(latents, x)
        return self.head(latents.mean(1))


class Reading(nn.Module):
    """Latents attend to patches."""

    def __init__(self):
        super().__init__()
        self.query, self.value = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, latents, x):
        return latents + (self.query(latents) @ x.transpose(1, 2)).softmax(2) @ self.value(x)


class Residual(nn.Module):
    """Two convolutions; the output of the block is overwritten by the next one's in-place ReLU."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)

    def forward(self, x):
        x = F.relu(x, inplace=True)
        return x + self.second(F.relu(self.first(x)))


class Overwriting(nn.Module):
    """Blocks whose output is overwritten in place by what comes next; the last of them runs twice."""

    def __init__(self, *, in_place=True):
        super().__init__()
        self.stem, self.body, self.head = conv(3, 5), nn.ModuleList([Residual(5), Residual(5)]), nn.Linear(5, 4)
        self.in_place = in_place

    def forward(self, x):
        x = self.stem(x)
        for block in (self.body[0], self.body[1], self.body[1]):
            x = block(x if self.in_place else x.clone())
        return self.head(F.relu(x, inplace=self.in_place).mean((2, 3)))


def classifier_of(module, size=16):
    return Classifier(fixed(module), size=size)


def infos(classifier, family="block"):
    return {info.name: info for info in classifier.layer_infos if info.family == family}


def naive_maps(classifier, images, classes, forward):
    """Grad-CAM from `forward(module, images)`, which returns grids by name and the logits."""
    grids, logits = forward(classifier.module, images)
    score = logits.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(score, list(grids.values()))
    weights = [gradient.mean((2, 3), keepdim=True) for gradient in gradients]
    return {name: (w * a).sum(1).relu() for (name, a), w in zip(grids.items(), weights, strict=True)}


class TestLayout:
    TOKENS = torch.arange(2 * 6 * 3.0).view(2, 6, 3)  # two images, two class tokens and 2 x 2 places, three channels

    def test_tokens(self):
        grid = Layout(2, 2, 2).grid(self.TOKENS)
        assert grid.shape == (2, 3, 2, 2)
        # The second channel of the first image: 1 + 3 t for tokens 2 to 5, row by row.
        assert grid[0, 1].tolist() == [[7, 10], [13, 16]]

    def test_tokens_with_others_behind(self):
        assert Layout(2, 0, 2).grid(self.TOKENS)[0, 0].tolist() == [[0, 3], [6, 9]]

    def test_channels_last_and_first(self):
        last = torch.arange(24.0).view(1, 2, 2, 6)
        assert torch.equal(Layout(3).grid(last), last.permute(0, 3, 1, 2))
        assert torch.equal(GRID.grid(last), last)

    @pytest.mark.parametrize("layout", [Layout(2, 2, 2), Layout(2, 0, 2), Layout(2, 1, 2)])
    def test_fill_changes_the_places_alone(self, layout):
        grid = layout.grid(self.TOKENS)
        assert torch.equal(layout.fill(self.TOKENS, grid), self.TOKENS)
        filled = layout.fill(self.TOKENS, grid + 100)
        assert torch.equal(layout.grid(filled), grid + 100)
        assert int((filled != self.TOKENS).sum()) == grid.numel()


class TestTokens:
    @pytest.mark.parametrize(
        ("options", "start"),
        [({"extra": 1}, 1), ({"extra": 5}, 5), ({"extra": 2, "behind": True, "read": "mean"}, 0)],
        ids=["class token", "registers", "behind"],
    )
    def test_what_has_not_seen_the_image_is_no_place(self, options, start):
        classifier = classifier_of(Tokens(**options))
        assert classifier.family == "block"
        found = infos(classifier)
        assert list(found) == ["blocks.0", "blocks.1", "blocks.2"]
        assert {info.shape for info in found.values()} == {(6, 4, 4)}
        tap = classifier.taps(["blocks.0"])["blocks.0"]
        assert tap.layout == Layout(2, start, 4)
        assert found["blocks.0"].tap == f"output of Mixing, 4x4 of {16 + options['extra']} tokens"

    def test_the_last_block_of_a_class_token_is_left_out(self):
        classifier = classifier_of(Tokens(2))
        assert classifier.layers == ("blocks.0", "blocks.1")
        assert infos(classifier)["blocks.2"].note == UNREAD
        with pytest.raises(UserError, match=f"got: blocks.2 .blocks.2: {UNREAD}."):
            classifier.select_layers(["blocks.2"])
        assert classifier_of(Tokens(2, read="mean")).layers == ("blocks.0", "blocks.1", "blocks.2")

    @pytest.mark.parametrize(("extra", "behind"), [(1, False), (3, False), (2, True)])
    def test_maps_are_those_of_a_naive_float64_version(self, extra, behind):
        classifier = classifier_of(Tokens(extra, behind=behind, read="mean"))
        images = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(1)).double()
        classes = torch.tensor([0, 3, 1])

        def forward(module, x):
            x = module.patches(x).flatten(2).transpose(1, 2) + module.places
            others = module.extra.expand(len(x), -1, -1)
            grids = {}
            for index, block in enumerate(module.blocks):
                mean = torch.cat([x, others], 1).mean(1, keepdim=True)
                x, others = (part + block.down(F.gelu(block.up(block.norm(part + mean)))) for part in (x, others))
                # The places as planes from here on, so that autograd's gradient has their shape.
                grids[f"blocks.{index}"] = planes = x.transpose(1, 2).reshape(len(x), 6, 4, 4)
                x = planes.flatten(2).transpose(1, 2)
            return grids, module.head(torch.cat([x, others], 1).mean(1))

        with in_float64(classifier):
            found = attribute(classifier, images, classes)
            expected = naive_maps(classifier, images, classes, forward)
        assert list(found) == list(expected)
        for name, maps in found.items():
            assert maps.shape == (3, 4, 4)
            assert_same_maps(maps, expected[name])
            assert maps.any()

    def test_a_map_worked_by_hand(self):
        """Blocks that do nothing, and a head that reads the first channel's mean: A_1 is the patch, alpha_1 = w / 17.

        The channel is the mean of a patch's first plane, so the map of a picture is the picture, at w / 17.
        """
        module = Tokens(1, read="mean")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            module.patches.weight[0, 0] = 1 / 16
            module.head.weight[2, 0] = 34.0
        picture = torch.arange(16.0).view(4, 4) / 16
        images = picture.kron(torch.ones(4, 4)).expand(1, 3, 16, 16)
        found = attribute(Classifier(module, size=16), images, 2, layers=["blocks.0", "blocks.2"])
        torch.testing.assert_close(found["blocks.0"][0], 2 * picture)
        torch.testing.assert_close(found["blocks.2"][0], 2 * picture)

    def test_latents_are_no_places(self):
        classifier = classifier_of(Latents())
        notes = {info.note for info in infos(classifier).values()}
        assert notes == {"no grid: its 16 tokens are the same for every image at first"}
        assert (classifier.family, classifier.layers) == ("conv", ("patches",))
        with pytest.raises(UserError, match=r"blocks\.0: no grid: its 16 tokens"):
            classifier.select_layers(["block"])

    def test_tokens_that_are_no_square(self):
        class Cut(Tokens):
            def forward(self, x):
                x = (self.patches(x).flatten(2).transpose(1, 2) + self.places)[:, :-2]
                return self.head(self.blocks(x).mean(1))

        notes = {info.note for info in infos(classifier_of(Cut())).values()}
        assert notes == {"no grid: 14 tokens are no square"}

    def test_a_square_that_was_never_a_grid(self):
        class Picked(Tokens):
            def forward(self, x):
                x = (self.patches(x).flatten(2).transpose(1, 2) + self.places)[:, ::2][:, 1:].repeat(1, 1, 1)
                x = torch.cat([x, x[:, :2]], 1)
                return self.head(self.blocks(x).mean(1))

        notes = {info.note for info in infos(classifier_of(Picked())).values()}
        assert notes == {"no grid: 9 tokens, but nothing of 3x3 positions comes before"}

    @pytest.mark.parametrize("is_last", [False, True], ids=["tokens", "channels last"])
    def test_shuffled_positions_are_no_grid(self, is_last):
        """As in Hiera, whose tokens lie window by window, and NesT, whose windows are an axis of their own."""

        class Shuffled(Tokens):
            def forward(self, x):
                x = self.patches(x).reshape(-1, 6, 2, 2, 2, 2).permute(0, 2, 4, 3, 5, 1)
                x = self.blocks(x.reshape(-1, *((4, 4) if is_last else (16,)), 6))
                return self.head(x.flatten(1, -2).mean(1))

        classifier = classifier_of(Shuffled())
        notes = {info.note for info in infos(classifier).values()}
        assert notes == {"no grid: its positions do not lie as in the image"}
        assert classifier.layers == ("patches",)

    def test_patches_cut_without_a_convolution(self):
        class Cutting(Tokens):
            def __init__(self):
                super().__init__(read="mean")
                self.patches = nn.Linear(48, 6)

            def forward(self, x):
                x = x.view(-1, 3, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
                return self.head(self.blocks(self.patches(x) + self.places).mean(1))

        assert classifier_of(Cutting()).select_layers(["block"]) == ("blocks.0", "blocks.1", "blocks.2")

    def test_neurons_of_tokens_are_counted(self):
        classifier = classifier_of(Tokens(1))
        # patches, two linear layers per block, softmax
        assert neuron_coverage(classifier, torch.rand(2, 3, 16, 16)).shape == (2, 6 + 3 * (12 + 6) + 4)

    def test_replacing_leaves_the_class_token_alone(self):
        classifier = classifier_of(Tokens(1))
        images = torch.rand(2, 3, 16, 16)
        taps = classifier.taps(["blocks.1", "blocks.2"])
        logits = {}
        for name, tap in taps.items():
            with hooks.replacing(tap, torch.zeros_like), torch.no_grad():
                logits[name] = classifier(images)
        with torch.no_grad():
            expected = classifier(images)
        assert torch.equal(logits["blocks.2"], expected)  # the logits read the class token alone
        assert not torch.allclose(logits["blocks.1"], expected, rtol=1e-3)


class TestPlanes:
    def test_channels_last_and_merged(self):
        classifier = classifier_of(Merging())
        found = infos(classifier)
        assert [info.shape for info in found.values()] == [(4, 8, 8), (4, 8, 8), (6, 4, 4), (6, 4, 4)]
        assert classifier.layers == ("stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1")
        assert classifier.select_layers(["stage"]) == ("stages.0.1", "stages.1.1")
        assert found["stages.0.0"].tap == "output of Mixing, channels last"

    def test_maps_of_channels_last(self):
        classifier = classifier_of(Merging())
        images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1)).double()
        classes = torch.tensor([2, 0])

        def forward(module, x):
            x = module.stages[0](module.patches(x).permute(0, 2, 3, 1))
            x = x.view(2, 4, 2, 4, 2, 4).transpose(2, 3).reshape(2, 4, 4, 16)
            grid = module.stages[1][0](module.merge(x)).permute(0, 3, 1, 2)
            return {"stages.1.0": grid}, module.head(module.stages[1][1](grid.permute(0, 2, 3, 1)).mean((1, 2)))

        with in_float64(classifier):
            found = attribute(classifier, images, classes, layers=["stages.1.0"])
            expected = naive_maps(classifier, images, classes, forward)
        assert_same_maps(found["stages.1.0"], expected["stages.1.0"])
        assert found["stages.1.0"].any()

    def test_as_many_channels_as_positions(self):
        class Square(Merging):
            def __init__(self):
                super().__init__()
                self.patches = nn.Conv2d(3, 4, 4, 4)

            def forward(self, x):
                x = self.stages[0](self.patches(x).permute(0, 2, 3, 1))
                return self.head(F.pad(x.mean((1, 2)), (0, 2)))

        (first, _) = classifier_of(Square()).taps(["stages.0.0", "stages.0.1"]).values()
        assert first.layout == Layout(3)  # linear layers read it: channels are last
        (block, _) = classifier_of(Overwriting(), size=5).taps(["body.0", "body.1:1"]).values()
        assert block.layout == Layout(1)  # convolutions do


class TestOverwrittenOutputs:
    def test_activations_are_those_before(self):
        images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
        module, plain = fixed(Overwriting()), fixed(Overwriting(in_place=False))
        classifier = Classifier(module, size=8)
        names = ["body.0", "body.1:1", "body.1:2"]
        assert [name for name in classifier.layers if name.startswith("body")] == [
            "body.0.first", "body.0.second", "body.1.first:1", "body.1.second:1", "body.1.first:2", "body.1.second:2"
        ]  # fmt: skip
        assert list(infos(classifier)) == names
        taps = classifier.taps(names)
        assert [tap.is_overwritten for tap in taps.values()] == [True, True, True]
        seen = []
        handles = [block.register_forward_hook(lambda *args: seen.append(args[2].clone())) for block in plain.body]
        with torch.enable_grad(), hooks.capturing(taps) as capture:
            logits = classifier(images)
        with torch.no_grad():
            expected = plain(images)
        for handle in handles:
            handle.remove()
        assert torch.equal(logits.detach(), expected)
        for name, activation in zip(names, seen, strict=True):
            assert torch.equal(capture.activations[name].detach(), activation)

    def test_maps_are_those_without_anything_in_place(self):
        images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1)).double()
        classifiers = [Classifier(fixed(Overwriting(in_place=flag)), size=8) for flag in (True, False)]
        with in_float64(*classifiers):
            found, expected = (attribute(each, images, 1, layers=["body.0", "body.1:1"]) for each in classifiers)
        for name, maps in found.items():
            assert_same_maps(maps, expected[name])
            assert maps.any()

    def test_nothing_stays_behind(self):
        module = fixed(Overwriting())
        before = snapshot(module)
        classifier = Classifier(module, size=8)
        attribute(classifier, torch.rand(1, 3, 8, 8), layers=classifier.select_layers(["all"]))
        assert snapshot(module) == before

    def test_a_module_that_is_not_called_again_is_told(self):
        module = fixed(Overwriting())
        taps = Classifier(module, size=8).taps(["body.1:2"])
        with (
            pytest.raises(RuntimeError, match=r"another path than in its trace: body\.1:2 was not reached"),
            torch.enable_grad(),
            hooks.capturing(taps),
        ):
            module.body[1](module.stem(torch.rand(1, 3, 8, 8)))


class TestOutputsOfBlocks:
    @pytest.mark.parametrize(
        "change",
        [lambda x: (x, None), lambda x: [x], lambda x: {"hidden": x, "weights": None}],
        ids=["tuple", "list", "dict"],
    )
    def test_the_first_tensor_of_whatever_a_block_returns(self, change):
        class Wrapped(Mixing):
            def forward(self, x):
                return change(super().forward(x if isinstance(x, torch.Tensor) else first_tensor(x)))

        module, plain = Tokens(1, read="mean"), classifier_of(Tokens(1, read="mean"))
        module.blocks = nn.Sequential(*(Wrapped(6) for _ in range(3)), Unpacked())
        classifier = classifier_of(module)
        images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
        with in_float64(plain, classifier):
            expected, found = (attribute(each, images.double(), 1) for each in (plain, classifier))
        assert list(found) == list(expected)
        for name, maps in found.items():
            assert_same_maps(maps, expected[name])
        (tap,) = classifier.taps(["blocks.1"]).values()
        with hooks.replacing(tap, lambda grid: grid + 1), torch.no_grad():
            assert module(images).shape == (2, 4)


class Unpacked(nn.Module):
    """The tensor in whatever it is given."""

    def forward(self, x):
        return first_tensor(x)


@pytest.fixture(scope="module")
def resnet():
    return Classifier(calibrated(torchvision.models.resnet18(num_classes=5), size=64), size=64)


class TestSelection:
    def test_convolutions_are_the_default_of_a_convolutional_network(self, resnet):
        assert resnet.family == "conv"
        assert len(resnet.layers) == 20
        assert resnet.layers == resnet.select_layers(["conv"])

    def test_blocks(self, resnet):
        blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
        assert list(resnet.select_layers(["block"])) == blocks
        assert list(resnet.select_layers(["stage"])) == blocks[1::2]
        assert {reason_left_out(info, "conv") for info in infos(resnet).values()} == {
            "by default convolutions are studied: --layers block"
        }

    def test_all_in_execution_order(self, resnet):
        names = resnet.select_layers(["all"])
        assert len(names) == 28
        assert names[:4] == ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0")

    def test_kinds_and_globs_together(self, resnet):
        assert resnet.select_layers(["stage", "conv1", "layer1.1.*"]) == (
            "conv1", "layer1.1.conv1", "layer1.1.conv2", "layer1.1", "layer2.1", "layer3.1", "layer4.1"
        )  # fmt: skip

    def test_maps_of_blocks_have_their_resolution(self, resnet):
        maps = attribute(resnet, torch.rand(2, 3, 64, 64), layers=resnet.select_layers(["stage"]))
        assert [tuple(map_.shape) for map_ in maps.values()] == [(2, side, side) for side in (16, 8, 4, 2)]

    def test_stages_without_blocks(self):
        classifier = Classifier(fixed(Plain()), size=16)
        assert classifier.select_layers(["stage"]) == ("features.0", "features.3")


# Architecture, number of blocks, those of every resolution, what the last block's note is.
EXPECTED = {
    "resnet, batch norm and shared in-place ReLU": (8, [16, 8, 4, 2]),
    "vgg, in-place ReLU": (0, []),
    "mobilenet, depthwise, gates": (11, [16, 8, 4, 2]),
    "squeezenet, no norm": (8, [15, 7, 3]),
    "googlenet, auxiliary heads, functional ReLU": (9, [8, 4, 2]),
    "densenet, everything concatenated": (7, [16, 8, 4]),
    "convnext, torchvision": (6, [16, 8, 4]),
    "convnext, transformers": (6, [16, 8, 4]),
    "vit, torchvision": (3, [4]),
    "vit, timm, averaged": (3, [8]),
    "vit with registers": (3, [4]),
    "vit, transformers": (3, [4]),
    "dinov2 with registers, transformers": (3, [4]),
    "deit, distilled": (3, [4]),
    "cait, class token at the end": (3, [4]),
    "swin, torchvision, channels last": (4, [16, 8]),
    "swin v2, timm": (4, [16, 8, 4]),
    "swin, transformers, tokens merged": (5, [16, 8, 4]),
    "maxvit, windows and grids": (4, [16, 8, 4]),
    "pvt, tokens and planes in turn": (6, [16, 8, 4, 2]),
    "mixer": (3, [4]),
}
UNREAD_LAST = {"vit, torchvision", "vit with registers", "vit, transformers", "deit, distilled"}


class TestArchitectures:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_layers_of_every_make(self, name):
        """Found, of the right size, explained with finite maps that do not depend on the batch."""
        architecture = ARCHITECTURES[name]
        classifier = Classifier(architecture(), size=architecture.size)
        assert classifier.family == architecture.family
        blocks = list(infos(classifier).values())
        if name in EXPECTED:
            number, sides = EXPECTED[name]
            assert len(blocks) == number
            assert list(dict.fromkeys(info.shape[1] for info in blocks)) == sides
        notes = [info.note for info in blocks if info.note]
        assert notes == ([UNREAD] if name in UNREAD_LAST else [])
        images = torch.rand((2, 3, architecture.size, architecture.size), generator=torch.Generator().manual_seed(1))
        images, layers = images.double(), classifier.select_layers(["all"])
        with in_float64(classifier):
            classes = classifier(images).detach().argmax(1)
            found = attribute(classifier, images, classes, layers=layers)
            alone = attribute(classifier, images[1:], classes[1:], layers=layers)
        shapes = {info.name: info.shape[1:] for info in classifier.layer_infos}
        assert list(found) == list(layers)
        for layer, maps in found.items():
            assert maps.shape == (2, *shapes[layer])
            assert torch.isfinite(maps).all()
            assert_same_maps(alone[layer][0], maps[1])
        assert any(maps.any() for maps in found.values())
