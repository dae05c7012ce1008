"""Explanations from a layer's activation alone, whatever the class: its first component, or the activation itself."""

import torch

from camdrift.tensors import Activations, Maps


def activation(values: Activations) -> Activations:
    """The activation, copied: the representation of a layer sustainability analysis (Khalooei 2022)."""
    return values.float().clone()


def eigen_cam(values: Activations) -> Maps:
    """Eigen-CAM (Muhammad 2020): the activation projected on its first right singular vector, then ReLU.

    With O of shape (h w, channels) and its first right singular vector v, the map is O v. Columns are not centred, as
    published (pytorch-grad-cam centres them). The sign of v, which no decomposition fixes, is the one that makes the
    sum of the map positive; for activations behind ReLU all of O v is then at least 0.

    Args:
        values: Activation, shape (batch, channels, h, w).
    """
    batch, channels, height, width = values.shape
    rows = values.flatten(2).double()
    # The vectors of the smaller of O O^T and O^T O: v itself, or O v up to its length.
    if channels <= height * width:
        first = torch.linalg.eigh(rows @ rows.transpose(1, 2)).eigenvectors[:, :, -1]
        projection = torch.bmm(first[:, None], rows)[:, 0]
    else:
        values_of, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        projection = vectors[:, :, -1] * values_of[:, -1:].clamp(min=0).sqrt()
    projection = torch.where(projection.sum(1, keepdim=True) < 0, -projection, projection)
    return projection.view(batch, height, width).relu().float()
