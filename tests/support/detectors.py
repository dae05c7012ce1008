"""A network of a few classes, ordinary images of it and others, for detectors."""

import numpy as np
import torch

import camdrift
from camdrift.coverage.surprise import Reference
from support.nets import Plain, fixed

SIZE = 16


def drawn_images(rng_seed, count):
    """Images of different brightness (count, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(rng_seed)
    images = torch.rand((count, 3, SIZE, SIZE), generator=generator)
    return images * torch.rand((count, 3, 1, 1), generator=generator)


def few_classes():
    """A classifier that predicts each of its four classes on `drawn_images`."""
    net = fixed(Plain())
    with torch.no_grad():
        features = net.features(drawn_images(1, 40)).mean((2, 3))
        net.head.weight.mul_(8)
        net.head.bias.copy_(-(features @ net.head.weight.T).mean(0))
    return camdrift.wrap(net, size=SIZE)


def classes_of_points(*points):
    """A reference with the points of each class."""
    rows = np.concatenate([np.asarray(each, np.float64) for each in points])
    return Reference(rows, np.repeat(np.arange(len(points)), [len(each) for each in points]))


def drawn_reference(rng_seed, images, features, classes=3):
    """A reference of a cloud for each class."""
    rng = np.random.default_rng(rng_seed)
    names = np.arange(images) % classes
    return Reference(rng.normal(size=(images, features)) + 2 * names[:, None], names)
