"""Turn the bytes of an image into pixels: decode, resize, crop.

Every file is judged by its content. A file that cannot be studied raises `ImageError` with a reason. Nothing else
escapes a broken file, no warning either, and no setting of Pillow's is changed.
"""

import hashlib
import math
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL.ExifTags import Base as ExifTag
from PIL.Image import Resampling, Transpose

from camdrift.errors import ImageError, UserError
from camdrift.images.files import read_bytes
from camdrift.tensors import Image

SHORTEST_SIDE: Final = 8
LARGEST_ASPECT: Final = 20

_INTERPOLATIONS: Final = {
    "bilinear": Resampling.BILINEAR,
    "bicubic": Resampling.BICUBIC,
    "nearest": Resampling.NEAREST,
    "lanczos": Resampling.LANCZOS,
    "box": Resampling.BOX,
    "hamming": Resampling.HAMMING,
}
# How libraries turn the long side of a resized picture, and the start of a centre crop, into whole pixels.
_ROUNDINGS: Final[Mapping[str, tuple[Callable[[float], int], Callable[[float], int]]]] = {
    "torchvision": (math.floor, round),  # timm, too
    "transformers": (math.floor, math.floor),
    "paddle": (round, math.floor),  # PP-LCNet in transformers
}
# Pillow opens these, but they are no photographs: drawings (they start Ghostscript), films, measured data.
_NO_PICTURES: Final = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"})
# In these formats the first frame is the whole picture; the others are a second view, or layers.
_PICTURE_FIRST: Final = frozenset({"MPO", "PSD"})
# Mode `I` is 32 bits wide; only in these formats is it known to hold 16-bit values.
_INTEGER_IS_16_BIT: Final = frozenset({"PNG", "PPM"})
_TURNS: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# `warnings.catch_warnings` swaps the filters of the whole process: two threads that leave it in the wrong
# order would leave Pillow's warnings off for good.
_DECODING: Final = threading.Lock()


@runtime_checkable
class Readable(Protocol):
    """Something that holds the bytes of an image."""

    def read(self) -> bytes:
        """Return the bytes of the whole file, or raise `ImageError`."""
        ...


@dataclass(frozen=True)
class ReadImage:
    """One image, read and cropped.

    Attributes:
        pixels: RGB in [0, 1], contiguous, (3, size, size).
        sha256: Checksum of the file, 64 hexadecimal digits.
    """

    pixels: Image
    sha256: str


@dataclass(frozen=True)
class _Geometry:
    """The way from an upright picture to a square of pixels, as `read_image` takes it."""

    size: int
    resize: int | tuple[int, int]
    interpolation: str
    rounding: str

    def __post_init__(self) -> None:
        for name, words in (("interpolation", _INTERPOLATIONS), ("rounding", _ROUNDINGS)):
            if (word := getattr(self, name)) not in words:
                raise UserError(f"`{name}` must be one of {', '.join(words)}, got: {word}")
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if self.size < 1 or min(sides) < 0:
            raise UserError(f"`size` must be at least 1 and `resize` at least 0, got: {self.size} and {self.resize}")

    def __call__(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """Return the square. What a crop takes beyond the picture is black."""
        whole = picture.resize(self._resized(picture.size), _INTERPOLATIONS[self.interpolation])
        left, top = (self._start(side) for side in whole.size)
        return whole.crop((left, top, left + self.size, top + self.size))

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return width and height before the crop."""
        if isinstance(self.resize, tuple):
            height, width = self.resize
            return width, height
        if self.resize == 0:
            return self.size, self.size
        whole, _ = _ROUNDINGS[self.rounding]
        width, height = (whole(self.resize * side / min(size)) for side in size)
        return width, height

    def _start(self, side: int) -> int:
        # Borders are added in whole pixels first, the larger one behind, by every library.
        _, whole = _ROUNDINGS[self.rounding]
        return -((self.size - side) // 2) if side < self.size else whole((side - self.size) / 2)


def read_image(
    image: Path | Readable,
    *,
    size: int,
    resize: int | tuple[int, int],
    interpolation: str = "bilinear",
    rounding: str = "torchvision",
) -> ReadImage:
    """Return the pixels of an image and the checksum of its file.

    The picture is turned upright (EXIF), reduced to 8-bit RGB, resized so that its short side is `resize`, and cropped
    to its centre. The result is pixel for pixel that of torchvision's Resize and CenterCrop. Transparency shows white,
    16-bit grey is scaled by 1/257, floats are read on [0, 1], colour profiles are ignored.

    Args:
        image: The image file, or something that holds its bytes.
        size: Side of the crop in pixels; what it takes beyond the picture is black.
        resize: Short side before the crop, in pixels. Or both sides, (height, width): the whole picture is squeezed
            to them. 0 squeezes it to a square of `size`.
        interpolation: bilinear, bicubic, lanczos, box or hamming, all with antialiasing, or nearest.
        rounding: torchvision, transformers or paddle: whose arithmetic gives whole pixels.

    Raises:
        ImageError: The file cannot be studied; the message is a short reason without the file's name.
        UserError: An argument is out of range.
    """
    geometry = _Geometry(size, resize, interpolation, rounding)
    data = read_bytes(image) if isinstance(image, Path) else image.read()
    return ReadImage(_pixels(geometry(_decode(data))), hashlib.sha256(data).hexdigest())


def read_adversarial(
    path: Path,
    *,
    size: int,
    resize: int | tuple[int, int],
    interpolation: str = "bilinear",
    rounding: str = "torchvision",
) -> ReadImage:
    """Return the pixels and the checksum of an image that somebody has already made of a seed.

    A picture of the size of the model's input is taken as it is; another one is resized and cropped as a seed is. A
    .npy file keeps what 8 bits lose: floats in [0, 1], (3, size, size) or (size, size, 3). A picture of 16 bits a
    colour is refused, since who kept them did so for the perturbation.

    Args:
        path: A picture or a .npy file.
        size: Side of the model's input in pixels.
        resize, interpolation, rounding: As in `read_image`.

    Raises:
        ImageError: The file cannot be used; the message is a short reason without the file's name.
    """
    data = read_bytes(path)
    checksum = hashlib.sha256(data).hexdigest()
    if path.suffix.lower() == ".npy":
        return ReadImage(_array(data, size), checksum)
    if _is_deep(data):
        raise ImageError("more than 8 bits a colour, of which 8 would be kept: save it as .npy, which keeps them all")
    picture = _decode(data)
    if picture.size != (size, size):
        picture = _Geometry(size, resize, interpolation, rounding)(picture)
    return ReadImage(_pixels(picture), checksum)


def _array(data: bytes, size: int) -> Image:
    """Return the image in the bytes of a .npy file."""
    try:
        values: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ImageError("not a .npy file of numbers") from error
    if values.shape == (size, size, 3):
        values = values.transpose(2, 0, 1)
    if values.shape != (3, size, size):
        raise ImageError(f"an array of {values.shape}, where the model takes (3, {size}, {size})")
    if values.dtype.kind != "f" or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ImageError("an array that does not hold floats in [0, 1]")
    return torch.tensor(values.astype(np.float32))


def jpeg_copy(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Pixels encoded as JPEG and decoded, (height, width, 3).

    Args:
        pixels: (height, width, 3).
        quality: Pillow's quality, 1 to 95.
    """
    buffer = BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with PIL.Image.open(buffer) as picture:
        return np.array(picture.convert("RGB"))


@cache
def readable_endings() -> frozenset[str]:
    """Return the endings of file names, in lower case, that promise a picture which `read_image` can read."""
    readable = {*_formats(), "MPO"}  # MPO is opened as JPEG
    return frozenset(end for end, name in PIL.Image.registered_extensions().items() if name in readable)


@cache
def _formats() -> tuple[str, ...]:
    PIL.Image.init()
    return tuple(name for name in PIL.Image.ID if name not in _NO_PICTURES)


def _decode(data: bytes) -> PIL.Image.Image:
    """Return the picture in a file's bytes: 8-bit RGB, upright."""
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = PIL.Image.open(BytesIO(data), formats=_formats())
            _refuse(image)
            image.load()
            picture, turn = _as_rgb(image), _turn(image)
        except ImageError:
            raise
        except Exception as error:  # decoders of broken bytes raise anything, from KeyError to MemoryError
            raise ImageError(_reason(error)) from error
    return picture if turn is None else picture.transpose(turn)


def _is_deep(data: bytes) -> bool:
    """Has a picture more than 8 bits a colour?"""
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = PIL.Image.open(BytesIO(data), formats=_formats())
            layout = str([tile[3] for tile in image.tile])  # such as RGB;16B, or a largest value of 65535
            return image.mode == "F" or image.mode.startswith("I") or ";16" in layout or "65535" in layout
        except Exception:  # `_decode` gives the reason
            return False


def _reason(error: Exception) -> str:
    message = str(error)
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image in a known format or variant, or damaged at its very start"
    if isinstance(error, PIL.Image.DecompressionBombError):
        count = re.search(r"(\d+) pixels", message)
        return f"too large: {int(count[1]):,} pixels" if count else "too large: too many pixels"
    if "truncated" in message.lower() or isinstance(error, EOFError):
        return "truncated: the file ends before the picture does"
    return f"cannot be decoded: {message[:160] or type(error).__name__}"


def _refuse(image: PIL.Image.Image) -> None:
    """Raise `ImageError` for a picture that is not worth decoding."""
    short, long = sorted(image.size)
    sides = f"{image.width} x {image.height}"
    if short < SHORTEST_SIDE:
        raise ImageError(f"too small: {sides} pixels, the short side must be at least {SHORTEST_SIDE}")
    if long > LARGEST_ASPECT * short:
        raise ImageError(f"too narrow: {sides} pixels, the sides may differ {LARGEST_ASPECT}-fold at most")
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and short * long > limit:
        raise ImageError(f"too large: {short * long:,} pixels ({sides}), at most {limit:,} are read")
    if image.format not in _PICTURE_FIRST and getattr(image, "is_animated", False):
        raise ImageError("several frames or pages: give each as a file of its own")


def _as_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # convert("RGB") would drop alpha and show whatever colour hides behind it.
    layer = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale deep grey to 8 bits; convert("RGB") would clip it."""
    values: NDArray[np.float32] = np.asarray(image, dtype=np.float32)
    tags = getattr(image, "tag_v2", {})
    lowest, highest, white = float(values.min()), float(values.max()), _white(image, tags)
    if not 0 <= lowest <= highest <= white:
        raise ImageError(f"values from {lowest:g} to {highest:g}: neither in [0, 1] nor known as 16-bit")
    if tags.get(ExifTag.PhotometricInterpretation) == 0:  # white is zero; Pillow minds it up to 8 bits only
        values = white - values
    return PIL.Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _white(image: PIL.Image.Image, tags: Mapping[int, Any]) -> float:
    """Return the largest value that a pixel can have; NaN where the format does not tell."""
    if image.mode == "F":
        return 1.0
    if image.mode == "I" and image.format not in _INTEGER_IS_16_BIT:
        return math.nan
    return float(2 ** tags.get(ExifTag.BitsPerSample, (16,))[0] - 1)


def _turn(image: PIL.Image.Image) -> Transpose | None:
    """Return the turn that puts the picture upright; none where the metadata are damaged."""
    try:
        return _TURNS.get(image.getexif().get(ExifTag.Orientation, 1))
    except Exception:
        return None


def _pixels(picture: PIL.Image.Image) -> Image:
    values = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    planes = values.view(picture.height, picture.width, 3).permute(2, 0, 1)
    return torch.empty(planes.shape, dtype=torch.float32).copy_(planes).div_(255)
