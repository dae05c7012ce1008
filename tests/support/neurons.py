"""A network worked by hand for coverage criteria: Linear(2, 3) with ReLU (h), then Linear(3, 2) (z)."""

from itertools import pairwise

import numpy as np
import torch

from camdrift.coverage.criteria import Background, NeuronBatch, NeuronLayout
from camdrift.coverage.profile import ProfileBuilder

W1, B1 = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([0.0, 0, -1])
W2 = torch.tensor([[1.0, -1, 0], [0, 1, 2]])
TOY = NeuronLayout(("h", "z"), (3, 2))
ORDINARY, SUITE = [(0, 0), (1, 0), (0, 1), (2, 1)], [(1, 1), (3, 0), (0, 2)]


def scaled(layer):
    low, high = layer.amin(1, keepdim=True), layer.amax(1, keepdim=True)
    return (layer - low) / torch.where(high > low, high - low, torch.nan)


def batch_of(*layers):
    """A batch of the outputs of some layers; the last are the logits."""
    return NeuronBatch(torch.cat([scaled(layer) for layer in layers], 1), torch.cat(layers, 1), layers[-1])


def toy(points):
    """The toy network's neurons, without softmax units."""
    hidden = (torch.tensor(points, dtype=torch.float32) @ W1.T + B1).relu()
    return batch_of(hidden, hidden @ W2.T)


def background_of(batch, layout=TOY, layers=()):
    """What criteria are made for, with the profile of a batch."""
    builder = ProfileBuilder(layout, layers)
    builder.add(batch)
    return Background(layout, builder.profile())


def parts_of(batch, *ends):
    """The batch cut before some images."""
    edges = pairwise([0, *ends, len(batch)])
    return [NeuronBatch(batch.scaled[a:b], batch.raw[a:b], batch.logits[a:b]) for a, b in edges if b > a]


def folded(criterion, *batches):
    """A state with all images of some batches, and their gains."""
    state = criterion.start()
    gains = [state.fold(batch, np.ones(len(batch), np.bool_)) for batch in batches]
    return state, np.concatenate(gains)


def drawn_batch(rng_seed, images, layout, *, wild=1.0):
    """Outputs as after ReLU, in eighths, so that sums are exact and many are equal."""
    generator = torch.Generator().manual_seed(rng_seed)
    layers = [
        (torch.randn((images, size), generator=generator) * wild * 8).round().clamp(min=0) / 8 for size in layout.sizes
    ]
    return batch_of(*layers)
