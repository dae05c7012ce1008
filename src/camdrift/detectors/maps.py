"""Detectors that read maps of the layers: against a denoised copy, and two kinds of maps against each other."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from camdrift.detectors.passes import GLOBAL_MAPS, LOCAL_MAPS, ImageBatch, MapsOf
from camdrift.explanations.similarity import measure_layers
from camdrift.tensors import Maps


def denoised_score(layers: Sequence[str], batch: ImageBatch) -> Tensor:
    """Deviation of every layer's Grad-CAM from that of the median-filtered copy, for the image's class; in [0, 1].

    The reading of `camdrift detect` with the reference `denoised`, without its logistic regression.
    """
    own, copies = (_of_layers(maps[GLOBAL_MAPS], layers) for maps in (batch.maps, batch.maps_of_denoised))
    height, width = batch.images.shape[2:]
    return (1 - measure_layers(own, copies, (height, width))[0]).T


def noisecam_score(layers: Sequence[str], batch: ImageBatch, *, change: bool) -> Tensor:
    """Length of N = |LayerCAM / |LayerCAM| - Grad-CAM / |Grad-CAM|| of every layer (images, layers).

    A reconstruction. NoiseCAM (arXiv 2303.06151) says that it joins globally and pixel-level weighted maps; no formula
    of it is public.

    Args:
        layers: The layers.
        batch: The images.
        change: Take the length of N's difference from that of the median-filtered copy.
    """
    own = differences_of_maps(batch.maps, layers)
    if change:
        copies = differences_of_maps(batch.maps_of_denoised, layers)
        own = {layer: own[layer] - copies[layer] for layer in layers}
    return torch.stack([own[layer].flatten(1).norm(dim=1) for layer in layers], 1)


def differences_of_maps(maps: MapsOf, layers: Sequence[str]) -> dict[str, Maps]:
    """N of every layer, (images, h, w); NaN where one of the two maps is zero."""
    return {layer: (_unit(maps[LOCAL_MAPS][layer]) - _unit(maps[GLOBAL_MAPS][layer])).abs() for layer in layers}


def _unit(maps: Maps) -> Maps:
    """Maps of length 1 over their cells; NaN where a map is zero."""
    values = maps.double()
    lengths = values.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(lengths > 0, values / lengths, torch.nan)


def _of_layers(maps: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    return {layer: maps[layer] for layer in layers}
