"""Maps made of a layer's activation A and the gradient G of the class's logit y: a sum over channels, then ReLU.

A and G have shape (batch, channels, h, w); a map has (batch, h, w), float32, raw. Libraries differ in what they add to
a denominator and in whether they scale the map; here nothing is added, and a weight 0/0 is 0: its channel is silent.

What a channel adds depends on that channel alone. So `maps_of_gradients` walks through the channels once, in parts
that a processor's cache holds, and adds up every explanation on the way.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from camdrift.tensors import Activations, Maps, Weights

# Computes from activation and gradient what some channels add to the map, before ReLU.
ChannelSum = Callable[[Activations, Activations], Maps]
# Values of a part: about a megabyte. Larger ones are slower on a processor by half (docs/benchmarks.md).
_PART_VALUES: Final = 2**18


def grad_cam(activation: Activations, gradient: Activations) -> Maps:
    """Grad-CAM (Selvaraju 2017; Eq. 4, Renkhoff 2022) before ReLU: weights are the spatial means of G."""
    return _weighted(activation, gradient.mean((2, 3)))


def grad_cam_pp(activation: Activations, gradient: Activations) -> Maps:
    """Grad-CAM++ (Chattopadhay 2018, Eqs. 10 and 19) before ReLU: weights sum_ij a_ij ReLU(G_ij), for the score exp(y).

    With S = exp(y) all its derivatives are powers of G times S, so that a_ij = G_ij^2 / (2 G_ij^2 + G_ij^3 sum A);
    the factor S of the weight is common to all channels of an image and is left out: the map is that of y's own
    gradient. Numerator and denominator are divided by G_ij^2: a_ij = 1 / (2 + G_ij sum A).
    """
    positive = gradient.relu()
    total = activation.sum((2, 3), keepdim=True)
    denominator = torch.addcmul(positive.new_tensor(2.0), positive, total)
    if bool((total < 0).any()):
        denominator.masked_fill_(denominator == 0, torch.inf)
    return _weighted(activation, positive.div_(denominator).sum((2, 3)))


def xgrad_cam(activation: Activations, gradient: Activations) -> Maps:
    """XGrad-CAM (Fu 2020, Eq. 8) before ReLU: weights sum_ij G_ij A_ij / sum A."""
    total = activation.sum((2, 3))
    weights = (gradient * activation).sum((2, 3)) / total
    return _weighted(activation, weights.masked_fill_(total == 0, 0.0))


def hires_cam(activation: Activations, gradient: Activations) -> Maps:
    """HiResCAM (Draelos 2020) before ReLU: sum_k G_k A_k, cell by cell."""
    return (activation * gradient).sum(1)


def layer_cam(activation: Activations, gradient: Activations) -> Maps:
    """LayerCAM (Jiang 2021, Eqs. 6 to 8) before ReLU: sum_k ReLU(G_k) A_k, cell by cell."""
    return gradient.relu().mul_(activation).sum(1)


def maps_of_gradients(
    parts: Mapping[str, ChannelSum], activation: Activations, gradient: Activations
) -> dict[str, Maps]:
    """Maps of several explanations from one walk through the channels, by name; float32.

    Args:
        parts: For each explanation what some channels add to the map; the map is ReLU of the sum over all channels.
        activation: A.
        gradient: G.
    """
    slices = [*_slices(activation)]
    if len(slices) == 1:
        a, g = activation.float(), gradient.float()
        return {name: part(a, g).relu_() for name, part in parts.items()}
    maps = {name: activation.new_zeros((len(activation), *activation.shape[2:]), dtype=torch.float32) for name in parts}
    for images, channels in slices:
        a, g = activation[images, channels].float(), gradient[images, channels].float()
        for name, part in parts.items():
            maps[name][images] += part(a, g)
    return {name: total.relu_() for name, total in maps.items()}


def _slices(activation: Activations) -> Iterator[tuple[slice, slice]]:
    """Yield images and channels of one part after the other: all at once on a GPU, or where the layer is small."""
    batch, channels, height, width = activation.shape
    if activation.device.type != "cpu" or activation.numel() <= _PART_VALUES:
        yield slice(0, batch), slice(0, channels)
        return
    # In channels-last layout the channels of a pixel lie together: an image is one part.
    step = channels if activation.stride(1) == 1 else max(1, _PART_VALUES // (height * width))
    for image in range(batch):
        for start in range(0, channels, step):
            yield slice(image, image + 1), slice(start, start + step)


def _weighted(activation: Activations, weights: Weights) -> Maps:
    """sum_k w_k A_k."""
    batch, channels, height, width = activation.shape
    total: Tensor = torch.bmm(weights[:, None], activation.reshape(batch, channels, height * width))
    return total.view(batch, height, width)
