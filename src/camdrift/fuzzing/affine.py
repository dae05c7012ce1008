"""Affine mutations of images: one grid per image, on whatever device the images lie."""

from collections.abc import Mapping, Sequence
from math import cos, radians, sin
from typing import Final

import torch
from torch.nn.functional import affine_grid, grid_sample

from camdrift.tensors import Images

# Two rows of three: where a pixel of the result comes from, in coordinates from -1 to 1.
Matrix = tuple[float, float, float, float, float, float]

IDENTITY: Final[Matrix] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def translation(parameters: Mapping[str, float]) -> Matrix:
    """Move the picture by `right` and `down`, in shares of the side."""
    return (1.0, 0.0, -2 * parameters["right"], 0.0, 1.0, -2 * parameters["down"])


def scaling(parameters: Mapping[str, float]) -> Matrix:
    """Enlarge the picture by `factor` about its centre."""
    inverse = 1 / parameters["factor"]
    return (inverse, 0.0, 0.0, 0.0, inverse, 0.0)


def shearing(parameters: Mapping[str, float]) -> Matrix:
    """Shift each row by `slope` times its height over the centre."""
    return (1.0, -parameters["slope"], 0.0, 0.0, 1.0, 0.0)


def rotation(parameters: Mapping[str, float]) -> Matrix:
    """Turn the picture about its centre by `degrees`, counter-clockwise."""
    angle = radians(parameters["degrees"])
    return (cos(angle), -sin(angle), 0.0, sin(angle), cos(angle), 0.0)


def moved(images: Images, matrices: Sequence[Matrix | None]) -> Images:
    """Return the images, each moved by its matrix: bilinear, black outside; None leaves an image as it is.

    Args:
        images: (batch, 3, height, width).
        matrices: One per image.
    """
    rows = [row for row, matrix in enumerate(matrices) if matrix is not None]
    if not rows:
        return images
    theta = torch.tensor([matrices[row] for row in rows], dtype=images.dtype, device=images.device).view(-1, 2, 3)
    part = images[rows]
    grid = affine_grid(theta, list(part.shape), align_corners=False)
    result = images.clone()
    result[rows] = grid_sample(part, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return result
