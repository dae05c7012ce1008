"""A map laid over its photo: as everything camdrift shows, and for whoever has maps and photos of their own."""

from typing import Any, Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camdrift.errors import UserError
from camdrift.tables.arrays import Bytes

# Where the map is largest the photo shines through by a tenth; between, the photo wins over faint colours.
_OPACITY: Final = 0.9
_CURVE: Final = 1.4
# Pixels may leave [0, 1] by so much before they are taken for bytes, or for normalised: as `attribute` has it.
_OUTSIDE: Final = 0.5


def overlay(attribution: Any, image: Any) -> Image.Image:
    """Return a picture of a map over its photo: the larger the map, the brighter and the less see-through.

    The map is scaled by its own maximum and enlarged bilinearly to the photo. Where it is zero the photo stays as it
    is.

    Args:
        attribution: One map, (h, w), finite and at least 0, of torch or NumPy: `maps["features.28"][0]` of what
            `attribute` returned, or a heatmap of `study.gallery`.
        image: The photo: (3, height, width) or (height, width, 3), floats in [0, 1] or bytes, of torch or NumPy; or a
            picture of Pillow.

    Returns:
        A picture of Pillow, RGB, as large as the photo. A notebook shows it; `save` writes it.

    Raises:
        UserError: Other shapes or values.

    Example:
        >>> overlay([[0.0, 1.0], [0.0, 0.0]], np.zeros((8, 8, 3), np.uint8)).getpixel((7, 0))
        (227, 229, 148)
    """
    values, photo = _map(attribution), _photo(image)
    peak = values.max(initial=0.0)
    return Image.fromarray(over(photo, (255 * values / peak if peak > 0 else values).round().astype(np.uint8)))


def over(image: Bytes, heat: Bytes) -> Bytes:
    """A heatmap over its photo; it shows as much as it is large, as on the page of a study.

    Args:
        image: (height, width, 3), 0 to 255.
        heat: (h, w), 0 to 255.
    """
    size = image.shape[1], image.shape[0]
    values = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR)) / 255
    colours = mpl.colormaps["inferno"](values)[..., :3] * 255
    opacity = _OPACITY * values[..., None] ** _CURVE
    blend: Bytes = (image * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return blend


def _map(attribution: Any) -> NDArray[np.float64]:
    values = _array(attribution).astype(np.float64)
    if values.ndim != 2 or not values.size:
        cure = "one of a batch: maps[layer][0]" if values.ndim == 3 else ""
        raise UserError(f"`attribution` must be one map, (h, w), got: shape {values.shape}", cure)
    if not np.isfinite(values).all() or values.min() < 0:
        raise UserError(
            f"`attribution` must be finite and at least 0, got: values from {values.min():.3g} to {values.max():.3g}"
        )
    return values


def _photo(image: Any) -> Bytes:
    """The photo as bytes, (height, width, 3)."""
    pixels = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else _array(image)
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        cure = "one of a batch: images[0]" if pixels.ndim == 4 else ""
        raise UserError(f"`image` must have shape (3, height, width) or (height, width, 3), got: {pixels.shape}", cure)
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"`image` must be floats in [0, 1] or bytes (uint8), got: {pixels.dtype}")
    lowest, highest = float(pixels.min()), float(pixels.max())
    if not (lowest >= -_OUTSIDE and highest <= 1 + _OUTSIDE):
        raise UserError(f"`image` must be pixels in [0, 1], got: values from {lowest:.3g} to {highest:.3g}")
    photo: Bytes = (255 * pixels.clip(0, 1)).round().astype(np.uint8)
    return photo


def _array(values: Any) -> NDArray[Any]:
    """The values as an array, also those of a tensor on a GPU or of half precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.dtype.is_floating_point else values
    return np.asarray(values)
