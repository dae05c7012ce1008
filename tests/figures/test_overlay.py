"""A map over its photo: the pictures that everything camdrift shows is made of."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from camdrift import overlay
from camdrift.errors import UserError

PHOTO = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
MAP = np.random.default_rng(1).random((4, 6))


def test_a_pixel_is_a_blend_of_photo_and_colour():
    """As large as the photo, the map is not interpolated: opacity 0.9 v^1.4 over inferno's colour."""
    picture = np.asarray(overlay(3 * MAP, PHOTO))
    value = round(255 * MAP[2, 5] / MAP.max()) / 255
    opacity, colour = 0.9 * value**1.4, 255 * np.array(mpl.colormaps["inferno"](value)[:3])
    np.testing.assert_array_equal(picture[2, 5], (PHOTO[2, 5] * (1 - opacity) + colour * opacity).round())
    assert picture.shape == PHOTO.shape


def test_a_zero_map_leaves_the_photo():
    np.testing.assert_array_equal(np.asarray(overlay(np.zeros((2, 2)), PHOTO)), PHOTO)


@pytest.mark.parametrize(
    "photo",
    [
        PHOTO / 255,
        torch.tensor(PHOTO).permute(2, 0, 1) / 255,
        torch.tensor(PHOTO).permute(2, 0, 1),
        Image.fromarray(PHOTO),
        Image.fromarray(PHOTO).convert("RGBA"),
    ],
)
def test_photos_of_every_kind_are_the_same(photo):
    np.testing.assert_array_equal(np.asarray(overlay(MAP, photo)), np.asarray(overlay(MAP, PHOTO)))


def test_maps_of_tensors_of_half_precision_that_need_gradients():
    exact = torch.tensor([[0.25, 1.0], [0.5, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_array_equal(np.asarray(overlay(exact, PHOTO)), np.asarray(overlay(exact.tolist(), PHOTO)))


@pytest.mark.parametrize(
    ("attribution", "photo", "message"),
    [
        (MAP[None], PHOTO, r"`attribution` must be one map, \(h, w\), got: shape \(1, 4, 6\) \(hint: one of a batch"),
        (np.zeros((0, 3)), PHOTO, r"`attribution` must be one map, \(h, w\), got: shape \(0, 3\)"),
        (-MAP, PHOTO, "`attribution` must be finite and at least 0, got: values from -"),
        (MAP * np.nan, PHOTO, "`attribution` must be finite and at least 0, got: values from nan to nan"),
        (MAP, PHOTO[None], r"`image` must have shape \(3, height, width\) or .*, got: \(1, 4, 6, 3\) \(hint: one of a"),
        (MAP, PHOTO[..., 0], r"`image` must have shape .*, got: \(4, 6\)"),
        (MAP, PHOTO.astype(float), r"`image` must be pixels in \[0, 1\], got: values from 1 to 248"),
        (MAP, PHOTO * np.nan, r"`image` must be pixels in \[0, 1\], got: values from nan to nan"),
        (MAP, PHOTO.astype(int), r"`image` must be floats in \[0, 1\] or bytes \(uint8\), got: int64"),
    ],
)
def test_what_is_no_map_or_photo_is_one_line(attribution, photo, message):
    with pytest.raises(UserError, match=message):
        overlay(attribution, photo)
