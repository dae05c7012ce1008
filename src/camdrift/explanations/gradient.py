"""Maps made of a layer's activation A and the gradient G of the class's logit y: sums over channels, then ReLU.

A and G have shape (batch, channels, h, w); maps (batch, h, w), float32, raw. Libraries differ in what they add to a
denominator and in whether they scale the map; here nothing is added, and a weight 0/0 is 0: its channel is silent.
"""

import torch
from torch import Tensor

from camdrift.tensors import Activations, Maps, Weights


def grad_cam(activation: Activations, gradient: Activations) -> Maps:
    """Grad-CAM (Selvaraju 2017; Eq. 4, Renkhoff 2022): weights are the spatial means of G."""
    return _weighted(activation, gradient.float().mean((2, 3)))


def grad_cam_pp(activation: Activations, gradient: Activations) -> Maps:
    """Grad-CAM++ (Chattopadhay 2018, Eqs. 10 and 19): weights sum_ij a_ij ReLU(G_ij), for the score exp(y).

    With S = exp(y) all its derivatives are powers of G times S, so that a_ij = G_ij^2 / (2 G_ij^2 + G_ij^3 sum A);
    the factor S of the weight is common to all channels of an image and is left out: the map is that of y's own
    gradient. Numerator and denominator are divided by G_ij^2: a_ij = 1 / (2 + G_ij sum A).
    """
    a, g = activation.float(), gradient.float()
    denominator = 2 + g * a.sum((2, 3), keepdim=True)
    counts = (g > 0) & (denominator != 0)
    share = torch.where(counts, 1 / torch.where(counts, denominator, 1.0), 0.0)
    return _weighted(activation, (share * g.relu()).sum((2, 3)))


def xgrad_cam(activation: Activations, gradient: Activations) -> Maps:
    """XGrad-CAM (Fu 2020, Eq. 8): weights sum_ij G_ij A_ij / sum A."""
    a, g = activation.float(), gradient.float()
    return _weighted(activation, _ratio((g * a).sum((2, 3)), a.sum((2, 3))))


def hires_cam(activation: Activations, gradient: Activations) -> Maps:
    """HiResCAM (Draelos 2020): ReLU(sum_k G_k A_k), cell by cell."""
    return (activation.float() * gradient.float()).sum(1).relu()


def layer_cam(activation: Activations, gradient: Activations) -> Maps:
    """LayerCAM (Jiang 2021, Eqs. 6 to 8): ReLU(sum_k ReLU(G_k) A_k), cell by cell."""
    return (activation.float() * gradient.float().relu()).sum(1).relu()


def _weighted(activation: Activations, weights: Weights) -> Maps:
    """ReLU(sum_k w_k A_k)."""
    batch, channels, height, width = activation.shape
    total = torch.bmm(weights[:, None], activation.float().reshape(batch, channels, height * width))
    return total.view(batch, height, width).relu()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is."""
    counts = denominator != 0
    return torch.where(counts, numerator / torch.where(counts, denominator, 1.0), 0.0)
