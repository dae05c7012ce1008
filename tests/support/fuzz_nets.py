"""Networks for the attack's tests, and DLFuzz once more: one seed, one image at a time, in float64."""

import copy
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from camdrift.attacks.base import SeedBatch
from camdrift.coverage.neurons import observe
from camdrift.coverage.strategies import neuron_table, select_neurons
from camdrift.models.classifier import Classifier
from camdrift.streams import stream_seed

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CHECKERS = np.where(np.indices((8, 8)).sum(0) % 2, 1.0, -1.0)


class SmallNet(nn.Module):
    """Convolutions, both pools, linear layers; 118 neurons, of which the last 30 are softmax units."""

    def __init__(self, rng_seed=0):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.max_pool = nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        self.avg_pool = nn.AvgPool2d(2)
        self.fc1, self.relu3 = nn.Linear(32, 60), nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(60, 30)
        generator = torch.Generator().manual_seed(rng_seed)
        with torch.no_grad():
            for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.1)

    def forward(self, x):
        x = self.max_pool(self.relu1(self.conv1(x)))
        x = self.avg_pool(self.relu2(self.conv2(x)))
        return self.fc2(self.relu3(self.fc1(x.flatten(1))))


class Linear(nn.Module):
    """Logits that are linear in the pixels; the only neurons are the softmax units, and none has weights."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float32).flatten(1))
        self.bias = nn.Parameter(torch.as_tensor(bias, dtype=torch.float32))

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


class Remembering(nn.Module):
    """A network that remembers every image it has seen."""

    def __init__(self, net):
        super().__init__()
        self.net, self.memory = net, SimpleNamespace(images=[])  # a list by itself would be put back

    @property
    def seen(self):
        return self.memory.images

    def forward(self, x):
        self.seen.extend(x.detach().clone())
        return self.net(x)


def small_classifier(rng_seed=0):
    return Classifier(SmallNet(rng_seed), mean=MEAN, std=STD, size=8)


def plain_classifier(net, *, size=8, mean=(0.0, 0.0, 0.0)):
    """A classifier that remembers what `net` sees, and has forgotten what it saw so far."""
    classifier = Classifier(Remembering(net), size=size, mean=mean)
    assert classifier.neuron_groups
    classifier.module.seen.clear()
    return classifier


def linear(weight, bias):
    """A classifier of logits weight * x + bias; `weight` has one 8x8 map per class and channel."""
    return plain_classifier(Linear(weight, bias))


def grey(value=0.5):
    return torch.full((1, 3, 8, 8), value)


def checkered(*rows):
    """Weights with zero sum: each row is one class, its numbers scale a checkerboard per channel."""
    return np.array(rows, dtype=float)[:, :, None, None] * CHECKERS


def seed_images(count, rng_seed=0):
    """Variations of one image, so that a step still finds neurons which no seed before has covered."""
    generator = torch.Generator().manual_seed(rng_seed)
    base = torch.rand((1, 3, 8, 8), generator=generator)
    return (base + 0.1 * torch.randn((count, 3, 8, 8), generator=generator)).clamp(0, 1)


def attack(dlfuzz, classifier, images, *, rng_seed=0, batch_size=4, seed_ids=None, advance=None, clean=None):
    """`dlfuzz` on a chunk, called as the pipeline calls it; `clean` overrides the clean logits."""
    logits, neurons = observe(classifier, images)
    seeds = SeedBatch(images, logits if clean is None else clean, neurons, seed_ids or names(len(images)), rng_seed)
    return dlfuzz(classifier, seeds, batch_size=batch_size, advance=advance or (lambda finished, found: None))


def names(count):
    return [f"seed {i}" for i in range(count)]


@dataclass
class NaiveWalk:
    """What became of one seed, in plain numbers."""

    perturbation: np.ndarray | None = None
    iterations: int = 0
    kept: list = field(default_factory=list)  # (iteration, gain, ratio)
    passed_over: list = field(default_factory=list)  # the same, of images that were not kept
    popped: int = 0


class NaiveDLFuzz:
    """DLFuzz on a `SmallNet` as the specification tells it (1.3 to 1.5), with camdrift's stated differences.

    The neurons to push are drawn by `select_neurons`, which has its own tests; all else is written anew.
    """

    def __init__(self, dlfuzz, classifier, rng_seed=0):
        self.settings, self.rng_seed = dlfuzz, rng_seed
        self.net = copy.deepcopy(classifier.module).double().eval()
        self.mean = torch.tensor(classifier.mean, dtype=torch.float64).view(3, 1, 1)
        self.std = torch.tensor(classifier.std, dtype=torch.float64).view(3, 1, 1)
        self.table = neuron_table(classifier)
        self.times = np.zeros(118, dtype=np.int64)
        self.pops = []  # coverage counts as every popped image found them

    def look(self, image):
        """Logits and the outputs of the counted layers, one tensor (channels, ...) each."""
        outputs = []
        layers = (self.net.relu1, self.net.max_pool, self.net.relu2, self.net.avg_pool, self.net.relu3)
        hooks = [layer.register_forward_hook(lambda *a: outputs.append(a[2][0])) for layer in layers]
        logits = self.net(((image - self.mean) / self.std)[None])[0]
        for hook in hooks:
            hook.remove()
        return logits, [*outputs, logits.softmax(0)]

    def neuron_values(self, outputs):
        values = []
        for output in outputs:
            array = output.detach().numpy()
            scaled = (array - array.min()) / (array.max() - array.min())
            values.extend(scaled[channel].mean() for channel in range(len(array)))
        return np.array(values)

    def objective(self, image, classes, selection):
        s = self.settings
        logits, outputs = self.look(image)
        scores = logits if s.scores == "logit" else logits.softmax(0)
        objective = -scores[classes[0]]
        for competitor in classes[1:]:
            objective = objective + s.predict_weight * scores[competitor]
        neurons = [output[channel].mean() for output in outputs for channel in range(len(output))]
        for neuron, sign in zip(selection.neurons, selection.signs, strict=True):
            objective = objective + s.neuron_weight * sign * neurons[neuron]
        return objective

    def gradient(self, image, classes, selection):
        image = image.clone().requires_grad_()
        return torch.autograd.grad(self.objective(image, classes, selection), image)[0]

    def walk(self, result, position, seed, seed_id):
        """A generator that stops after every pop and every step, so that seeds can walk side by side."""
        s = self.settings
        rng = np.random.default_rng(stream_seed(self.rng_seed, seed_id, "attack"))
        own_class = int(self.look(seed)[0].argmax())
        queue = deque([torch.zeros_like(seed)])
        while queue:
            delta = queue.popleft()
            result.popped += 1
            logits, outputs = self.look((seed + delta).clamp(0, 1))
            values = self.neuron_values(outputs)
            self.times += values > s.threshold
            self.pops.append(self.times.copy())
            selection = select_neurons(
                s.strategies,
                s.neurons,
                table=self.table,
                times=self.times,
                values=values,
                threshold=s.threshold,
                rng=rng,
            )
            classes = logits.argsort(descending=True)[: 1 + s.competitors].tolist()
            yield
            for _ in range(s.iterations):
                g = self.gradient((seed + delta).clamp(0, 1), classes, selection).numpy() / 255
                g = g / (np.sqrt(np.mean(g**2)) + 1e-5)
                delta = delta + s.step * torch.from_numpy(g)
                result.iterations += 1
                if self.judge(result, position, seed, delta, own_class, queue):
                    return
                yield

    def judge(self, result, position, seed, delta, own_class, queue):
        logits, outputs = self.look((seed + delta).clamp(0, 1))
        before = (self.times > 0).sum() / len(self.times)
        self.times += self.neuron_values(outputs) > self.settings.threshold
        gain = (self.times > 0).sum() / len(self.times) - before
        if int(logits.argmax()) != own_class:
            result.perturbation = delta.numpy()
            return True
        ratio = np.linalg.norm(delta) / np.linalg.norm(seed - self.mean)
        what = (result.iterations, gain, ratio)
        if gain > self.settings.keep_gain / (position + 1) and ratio < self.settings.keep_ratio:
            queue.append(delta)
            result.kept.append(what)
        else:
            result.passed_over.append(what)
        return False

    def __call__(self, images, seed_ids=None):
        results = [NaiveWalk() for _ in images]
        ids = seed_ids or names(len(images))
        walks = [
            self.walk(result, position, image.double(), seed_id)
            for position, (result, image, seed_id) in enumerate(zip(results, images, ids, strict=True))
        ]
        group = self.settings.walkers or len(walks)
        for start in range(0, len(walks), group):
            on_replicas = walks[start : start + group]
            while on_replicas:
                on_replicas = [walk for walk in on_replicas if next(walk, "end") != "end"]
        return results
