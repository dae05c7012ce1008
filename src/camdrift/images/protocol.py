"""Data sets as objects, in the protocol of maite 0.10 for image classification; maite itself is not needed.

Such a data set gives for a number an image (channels, height, width), a target of one value for each class, and
metadata with an `id`. The protocol sets neither type nor range of an image: bytes are taken as they are, floats in
[0, 1] are rounded to 8 bits, and anything else is refused.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeGuard, runtime_checkable

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from camdrift.errors import FOREIGN, ImageError, UserError, one_line
from camdrift.images.places import ImageFile, display_name

_BYTES: Final = "return bytes from 0 to 255, or floats in [0, 1], as (3, height, width)"
# An image may be so little outside of [0, 1] by rounding.
_ROUNDING: Final = 1e-4


@runtime_checkable
class ProtocolDataSet(Protocol):
    """A data set of the protocol `maite.protocols.image_classification.Dataset`."""

    metadata: Any

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, i: int, /) -> tuple[Any, Any, Any]:
        """Return image, target and metadata."""
        ...


class ObjectImages:
    """The images of a data set of the protocol, each asked for when it is read.

    Attributes:
        data: The data set.
        name: Its `id`.
        names: Class names, by the index of the class.
    """

    def __init__(self, data: ProtocolDataSet) -> None:
        self.data, self.name = data, display_name(str(data.metadata["id"]))
        self.names: Mapping[int, str] = data.metadata.get("index2label") or {}
        self._classes = 0

    def files(self) -> list[ImageFile]:
        """Return the images in their order, with their labels.

        A data set that has `get_target` and `get_metadata` is asked for these alone; of others every image is made.

        Raises:
            UserError: There are none, or their targets or metadata do not keep the protocol.
        """
        if not len(self.data):
            raise UserError(f"no images in the data set {self.name}: its length is 0")
        files = [self._file(key) for key in range(len(self.data))]
        if len({file.seed_id for file in files}) < len(files):
            raise UserError(f"the data set {self.name} must give every image an `id` of its own, got: one twice")
        return files

    def _file(self, key: int) -> ImageFile:
        try:
            if hasattr(self.data, "get_target") and hasattr(self.data, "get_metadata"):
                target, metadata = self.data.get_target(key), self.data.get_metadata(key)
            else:
                _, target, metadata = self.data[key]
            seed_id = display_name(str(metadata["id"]))
        except FOREIGN as error:
            raise UserError(
                f"the data set {self.name} failed on image {key}: {one_line(error)}",
                "it must give image, target and metadata with an `id`, as the protocol of maite has it",
            ) from error
        label = self._label(target, seed_id)
        return ImageFile(seed_id, self, key, self.names.get(label), label)

    def _label(self, target: Any, seed_id: str) -> int:
        """Return the class with the largest value of a target."""
        values = _array(target)
        if values.ndim != 1 or len(values) < 2 or (self._classes and len(values) != self._classes):
            raise UserError(
                f"targets of the data set {self.name} must be (classes,), one value for each class, got: "
                f"{values.shape} ({seed_id})",
                "numpy.eye(classes)[label] makes one of a number",
            )
        self._classes = len(values)
        return int(values.argmax())

    def read(self, key: int) -> bytes:
        """Return an image as a PNG file; raise `ImageError` with a reason where it does not keep the protocol."""
        try:
            image, _, _ = self.data[key]
            values = _array(image)
        except FOREIGN as error:
            raise ImageError(f"the data set failed: {one_line(error)}") from error
        buffer = BytesIO()
        _picture(values).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    @property
    def source(self) -> str:
        """The data set in words, for the record of a run."""
        return f"data set {self.name} ({len(self.data)} images)"

    def path(self, key: int) -> Path:
        """Return the data set's name and the number of an image, as a path to show."""
        return Path(f"{self.name}/{key}")

    def counts(self, classes: int) -> bool:
        """Are the labels indices of a model of so many classes?"""
        return self._classes == classes


def is_protocol_data_set(source: Any) -> TypeGuard[ProtocolDataSet]:
    """Is `source` a data set of the protocol? One that holds images, with metadata and an `id` in it."""
    return isinstance(source, ProtocolDataSet) and isinstance(source.metadata, Mapping) and "id" in source.metadata


def _array(values: Any) -> NDArray[Any]:
    """Return values as an array of NumPy, wherever a tensor of torch lies; torch itself is not imported here."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _picture(values: NDArray[Any]) -> PIL.Image.Image:
    """Return an image (channels, height, width) as a picture of 8 bits."""
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        raise ImageError(f"an image of shape {values.shape}, where (3, height, width) is needed")
    kind, low, high = values.dtype.kind, float(values.min()), float(values.max())
    if kind == "f" and -_ROUNDING <= low <= high <= 1 + _ROUNDING:
        values = np.rint(np.clip(values, 0, 1) * 255)
    elif kind not in "iu" or low < 0 or high > 255:
        raise ImageError(f"values of type {values.dtype} from {low:g} to {high:g}: {_BYTES}")
    planes = values.astype(np.uint8)
    return PIL.Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))
