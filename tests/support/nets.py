"""Tiny networks: weights set by hand, and the constructions that trip up Grad-CAM tools."""

import copy

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


def conv(channels_in, channels_out, size=3):
    return nn.Conv2d(channels_in, channels_out, size, padding=size // 2)


def drawn(make, rng_seed):
    """What `make` makes of weights that torch draws from a seed, as small as those of a new network are."""
    with torch.random.fork_rng():
        torch.manual_seed(rng_seed)
        return make()


def fixed(module, *, rng_seed=0):
    """The module with reproducible random weights, calibrated batch norms and in evaluation mode."""
    generator = torch.Generator().manual_seed(rng_seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                fan_in = part.weight[0].numel()
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if part.bias is not None:
                    part.bias.copy_(0.1 * torch.randn(part.bias.shape, generator=generator))
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(torch.empty(part.weight.shape).uniform_(0.5, 1.5, generator=generator))
                part.bias.copy_(0.3 * torch.randn(part.bias.shape, generator=generator))
    return module.eval()


def calibrated(module, *, size=64, rng_seed=0):
    """`fixed`, with the batch norms' running statistics those of two random batches."""
    norms = [part for part in fixed(module, rng_seed=rng_seed).modules() if isinstance(part, nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(rng_seed)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for _ in range(2):
            module(torch.randn((4, 3, size, size), generator=generator))
    return module.eval()


class Worked(nn.Module):
    """One channel per value of a 2 x 2 image's first plane, all weights set: every number fits on a page.

    Activation: A = ReLU([p, 1 - 2p]) of plane p. Logits: sum(A_1 * W) - mean(A_2) and 3 mean(A_2).
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.mix = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, -2.0]]))
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [-2.0, 0, 0]])[:, :, None, None])
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x):
        first, second = F.relu(self.conv(x)).unbind(1)
        mean = second.mean((1, 2))
        return torch.stack([(first * self.mix).sum((1, 2)) - mean, 3 * mean], 1)


class Plain(nn.Module):
    """Two convolutions with their activations, pool, head: nothing odd."""

    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(conv(3, 5), nn.ReLU(), nn.MaxPool2d(2), conv(5, 6), nn.ReLU())
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class OneReLU(nn.Module):
    """One in-place ReLU module for three convolutions, registered before them and in another order."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.head, self.third, self.second, self.first = nn.Linear(6, 4), conv(6, 6), conv(5, 6), conv(3, 5)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.second(x))
        return self.head(self.relu(self.third(x)).mean((2, 3)))


class Branched(nn.Module):
    """A stem that feeds two branches; one has no activation, the other's norm output is overwritten by `+=`.

    One in-place ReLU module serves the stem and the second branch.
    """

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right, self.last = conv(3, 5), conv(5, 5), conv(5, 5, 1), conv(10, 6)
        self.norm, self.right_norm, self.relu = nn.BatchNorm2d(5), nn.BatchNorm2d(5), nn.ReLU(inplace=True)
        self.act, self.head = nn.SiLU(), nn.Linear(6, 4)

    def forward(self, x):
        stem = self.relu(self.norm(self.stem(x)))
        left = self.left(stem)
        right = self.right_norm(self.right(stem))
        right += stem
        joined = torch.cat([left, self.relu(right)], 1)
        return self.head(self.act(self.last(joined)).mean((2, 3)))


class Twice(nn.Module):
    """One convolution with its norm called twice, each time with its own activation."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.norm = conv(3, 5), conv(5, 5), nn.BatchNorm2d(5)
        self.one, self.two, self.three = nn.ReLU(), nn.ReLU(), nn.Tanh()
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        x = self.one(self.stem(x))
        x = self.two(self.norm(self.body(x)))
        return self.head(self.three(self.norm(self.body(x))).mean((2, 3)))


class SideShow(Plain):
    """`Plain` with convolutions whose outputs never reach the logits: unused, detached, or only an argmax."""

    def __init__(self):
        super().__init__()
        self.unused, self.cut, self.late = conv(3, 2), conv(3, 2), conv(5, 2)

    def forward(self, x):
        F.relu_(self.unused(x))
        cut = self.cut(x).detach()
        hidden = self.features[:2](x)
        late = self.late(hidden)
        late *= 0
        return self.head(self.features[2:](hidden).mean((2, 3))) + 0 * cut.mean() + late.argmax() * 0


class Squeezed(Plain):
    """`Plain` with squeeze-and-excitation: two convolutions of 1 x 1 outputs that gate the features."""

    def __init__(self):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x):
        x = self.features(x)
        gate = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        return self.head((x * gate).mean((2, 3)))


class Functional(nn.Module):
    """No submodules but one: convolutions, pools and activations called as functions."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.zeros(5, 3, 3, 3), torch.zeros(6, 5, 3, 3)])
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = F.max_pool2d(F.conv2d(x, self.weights[0], padding=1).relu_(), 2)
        x = F.relu(F.conv2d(x, self.weights[1], padding=1), inplace=True)
        return self.head(F.avg_pool2d(x, x.shape[-1]).flatten(1))


class ConvPool(nn.Conv2d):
    """A convolution that pools its own activation."""

    def forward(self, x):
        return F.max_pool2d(F.relu(super().forward(x)), 2)


class SelfPooled(Plain):
    """`Plain` whose first convolution calls its pool itself, and whose second is a plain one."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(ConvPool(3, 5, 3, padding=1), conv(5, 6), nn.ReLU())


class Fickle(Plain):
    """`Plain` that does something else when told to: `fails` raises midway, `detours` swaps the activation."""

    fails = detours = False

    def forward(self, x):
        hidden = self.features[0](x)
        if self.fails:
            raise RuntimeError("broke midway")
        hidden = F.leaky_relu(hidden) if self.detours else self.features[1](hidden)
        return self.head(self.features[2:](hidden).mean((2, 3)))


class Wrapping(nn.Module):
    """`Plain` whose logits go through a function on their way out."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = fixed(Plain()), change

    def forward(self, x):
        return self.change(self.inner(x))


class InTurn(nn.Module):
    """Hands its k-th call of a forward pass to its k-th module, so that tools can hook every call by itself."""

    def __init__(self, parts):
        super().__init__()
        self.parts, self.calls = nn.ModuleList(parts), 0

    def forward(self, x):
        part = self.parts[self.calls % len(self.parts)]
        self.calls += 1
        return part(x)


class NamedActivation(nn.Module):
    """torchvision's convolution, norm and `F.relu(inplace=True)`, with a module for the activation."""

    def __init__(self, basic):
        super().__init__()
        self.conv, self.bn, self.relu = basic.conv, basic.bn, nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


def replace_parts(module, wanted, make):
    """A copy of the module in which every part that is `wanted` is replaced by what `make` makes of it."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if wanted(part):
                setattr(parent, name, make(part))
    return module


def vgg(configuration, classes=10):
    """torchvision's VGG with its in-place ReLUs, and one linear layer in place of the huge three."""
    with torch.device("meta"):
        net = torchvision.models.VGG(nn.Identity(), init_weights=False)
    net.features = torchvision.models.vgg.make_layers(configuration)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(configuration[-2], classes)
    return net


def snapshot(module):
    """Everything that studying a module must leave as it was: modes, hooks, flags, gradients, values."""
    parts = {
        name: (part.training, [len(v) for k, v in vars(part).items() if "hooks" in k and v])
        for name, part in module.named_modules()
    }
    parameters = {
        name: (id(p), p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist())
        for name, p in module.named_parameters()
    }
    return parts, parameters, {name: buffer.tolist() for name, buffer in module.named_buffers()}
