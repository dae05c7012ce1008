"""Mutations of images that leave every pixel in its place, each of a whole batch at once."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from camdrift.fuzzing.mutations import Mutation
from camdrift.streams import stream_seed
from camdrift.tensors import PIXELS, Images


def with_contrast(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Multiply every entry by `factor`."""
    return images * _column(images, mutations, "factor")


def brightness(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Add `shift` to every entry."""
    return images + _column(images, mutations, "shift")


def blur(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Blur by a Gaussian whose standard deviation is `sigma`, in shares of the side; borders are mirrored."""
    side = images.shape[-1]
    sigmas = _column(images, mutations, "sigma").view(-1, 1) * side
    radius = min(max(1, ceil(3 * float(sigmas.max()))), side - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigmas) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    batch, channels, height, width = images.shape
    planes = pad(images, (radius, radius, radius, radius), mode="reflect").flatten(0, 1)[None]
    across = conv2d(planes, kernels[:, None, None, :], groups=batch * channels)
    return conv2d(across, kernels[:, None, :, None], groups=batch * channels).view(batch, channels, height, width)


def with_random_values(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Replace a `share` of the entries, at random, by random values."""
    result = images.clone()
    entries = images[0].numel()
    for row, mutation in enumerate(mutations):
        rng = _rng(mutation)
        size = max(1, round(mutation.parameters["share"] * entries))
        places = rng.choice(entries, size=size, replace=False)
        values = torch.as_tensor(rng.random(size, dtype=np.float32)).to(images)
        result[row].view(-1)[torch.as_tensor(places, device=images.device)] = values
    return result


def noise(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Add white Gaussian noise of standard deviation `sigma`, in pixel units."""
    draws = [_rng(m).standard_normal(images[0].shape, dtype=np.float32) for m in mutations]
    return images + _column(images, mutations, "sigma") * torch.as_tensor(np.stack(draws)).to(images)


def clipped(images: Images) -> Images:
    """Return the images with every entry in [0, 1]."""
    return images.clamp(PIXELS.lower, PIXELS.upper)


def _column(images: Images, mutations: Sequence[Mutation], name: str) -> Tensor:
    """Return one parameter of every mutation, to be broadcast over the images."""
    values = [mutation.parameters[name] for mutation in mutations]
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1, 1)


def _rng(mutation: Mutation) -> np.random.Generator:
    """Return the random numbers of a mutation, the same whenever it is done."""
    return np.random.default_rng(stream_seed(mutation.stream, mutation.operator, "pixels"))
