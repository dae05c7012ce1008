"""Taps follow the flow of values: looking moves none, an activation by hand is one, no surroundings leak in."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from camdrift.errors import UserError
from camdrift.explanations import from_captum
from camdrift.explanations.attribution import attribute
from camdrift.layers.state import undisturbed
from camdrift.models.classifier import Classifier
from support.nets import conv, fixed

SIZE = 16
IMAGES = torch.rand((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))


class Swish(torch.autograd.Function):
    """The memory-efficient one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * (gate * (1 + x * (1 - gate)))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def net(activation):
    parts = [conv(3, 4), nn.BatchNorm2d(4), activation, conv(4, 4), activation]
    return fixed(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))


def maps(module):
    return attribute(Classifier(module, size=SIZE), IMAGES, 0)


def assert_same(module, plain, names=None):
    found, expected = maps(module), maps(plain)
    assert len(found) == len(expected) > 1
    for one, other in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.max()))


BY_HAND = {
    "swish": (nn.SiLU(), lambda x: x * torch.sigmoid(x)),
    "swish, own function": (nn.SiLU(), Swish.apply),
    "swish, in place": (nn.SiLU(), lambda x: x.mul_(x.sigmoid())),
    "hard swish": (nn.Hardswish(), lambda x: x * F.relu6(x + 3) / 6),
    "mish": (nn.Mish(), lambda x: x * torch.tanh(F.softplus(x))),
    "gelu": (nn.GELU(), lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
    "softplus, in two steps": (nn.Softplus(), lambda x: torch.log(1 + torch.exp(x))),
    "relu, as a maximum": (nn.ReLU(), lambda x: torch.maximum(x, torch.zeros_like(x))),
    "relu, looked at": (nn.ReLU(), lambda x: (x.detach().abs().mean(), F.relu(x))[1]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_an_activation_by_hand_has_the_maps_of_the_one_by_name(name):
    named, function = BY_HAND[name]
    assert_same(net(Function(function)), net(named))


class Remembering(nn.Module):
    """Changes all kinds of state in evaluation mode, too."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.count, self.seen = inner, 0, []
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        x = self.inner[0](x)
        self.mean.mul_(0.9).add_(x.detach().mean((0, 2, 3)))
        self.count, self.last = self.count + 1, x.mean()
        self.seen.append(x)
        return self.inner[1:](x)


def test_what_a_pass_remembers_moves_no_tap_and_is_forgotten():
    module = Remembering(net(nn.ReLU()))
    assert_same(module, net(nn.ReLU()))
    assert not module.mean.any()
    assert (module.count, module.seen, hasattr(module, "last")) == (0, [], False)


def test_other_convolutions_are_studied_or_listed():
    class Unfolded(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            return (self.weight.flatten(1) @ F.unfold(x, 3, padding=1)).unflatten(2, x.shape[2:])

    inner = net(nn.ReLU())
    module = nn.Sequential(*inner[:3], nn.ConvTranspose2d(4, 4, 3), nn.ReLU(), Unfolded(), *inner[3:]).eval()
    notes = {info.name: bool(info.note) for info in Classifier(module, size=SIZE).layer_infos}
    assert notes == {"0": False, "3": False, "5": True, "6": False}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_type_is_said(dtype):
    classifier = Classifier(net(nn.ReLU()).to(dtype), size=SIZE)
    assert f"computed in {str(dtype)[6:]}" in classifier.remarks[0]
    assert set(attribute(classifier, IMAGES, 0)) == {"0", "3"}


def test_buffers_are_the_users_own_afterwards():
    module = net(nn.ReLU()).train()
    buffers = [id(value) for value in module.buffers()]
    with undisturbed(module):
        module(IMAGES)
    assert [id(value) for value in module.buffers()] == buffers
    assert module.training


def spec_of(method, settings):
    values = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"captum:{method}({values})" if values else f"captum:{method}"


class TestDeepLift:
    """Captum's, whose attributions sum to what the logit changes by where all ways lead through the layer."""

    @pytest.mark.parametrize("name", ["0", "2"])
    def test_behind_modules(self, name):
        pytest.importorskip("captum")
        parts = [conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
        classifier = Classifier(fixed(nn.Sequential(*parts)), size=SIZE)
        assert attribute(classifier, IMAGES, 0, explanation="captum:LayerDeepLift", layers=[name])[name].shape[0] == 2

    @pytest.mark.parametrize("name", ["0", "2"])
    @pytest.mark.parametrize("method", ["LayerDeepLift", "LayerIntegratedGradients", "LayerConductance"])
    def test_and_others_are_complete(self, method, name):
        """Over channels and places they sum to what the logit changes by from the black image on."""
        attr = pytest.importorskip("captum.attr")
        parts = [conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
        classifier, classes = Classifier(fixed(nn.Sequential(*parts)), size=SIZE), torch.tensor([0, 1])
        settings = {} if method == "LayerDeepLift" else {"n_steps": 400, "internal_batch_size": 4}
        network = from_captum._Tapped(classifier, classifier.taps([name])[name])
        with torch.enable_grad(), classifier.undisturbed():
            leaf = IMAGES.clone().requires_grad_()
            raw = getattr(attr, method)(network, network.here).attribute(leaf, target=classes, **settings)
        change = (classifier(IMAGES) - classifier(torch.zeros_like(IMAGES)))[[0, 1], classes]
        # Parts that cancel leave a small change: a path in 400 steps is exact to a thousandth of what they amount to.
        assert ((raw.flatten(1).sum(1) - change).abs() <= 1e-3 * raw.flatten(1).abs().sum(1)).all()
        maps = attribute(classifier, IMAGES, classes, explanation=spec_of(method, settings), layers=[name])[name]
        torch.testing.assert_close(maps, raw.sum(1).relu(), rtol=1e-4, atol=1e-7)

    def test_functions_are_refused(self):
        pytest.importorskip("captum")
        first, second, head = conv(3, 4), conv(4, 4), nn.Linear(4, 3)

        class Functional(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second, self.head = first, second, head

            def forward(self, x):
                return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))

        classifier = Classifier(fixed(Functional()), size=SIZE)
        with pytest.raises(UserError, match="is no DeepLIFT at layer first"):
            attribute(classifier, IMAGES, 0, explanation="captum:LayerDeepLift", layers=["first"])

    def test_ways_past_the_layer(self):
        """There the sum is none of the logit's change, but what is behind the layer still has to be followed."""
        pytest.importorskip("captum")

        class Residual(nn.Module):
            def __init__(self, last):
                super().__init__()
                self.first, self.second, self.third, self.head = conv(3, 4), conv(4, 4), conv(4, 4), nn.Linear(4, 3)
                self.between, self.last = nn.ReLU(), last

            def forward(self, x):
                x = self.first(x)
                x = x + self.third(self.between(self.second(x)))
                return self.head(self.last(x).mean((2, 3)))

        classifier = Classifier(fixed(Residual(nn.ReLU())), size=SIZE)
        maps = attribute(classifier, IMAGES, 0, explanation="captum:LayerDeepLift", layers=["second"])
        assert maps["second"].any()
        classifier = Classifier(fixed(Residual(nn.GELU())), size=SIZE)
        with pytest.raises(UserError, match="is no DeepLIFT at layer second"):
            attribute(classifier, IMAGES, 0, explanation="captum:LayerDeepLift", layers=["second"])
