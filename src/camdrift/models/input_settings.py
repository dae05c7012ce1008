"""The way from an image to a network's input, and the words that go with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Final

from torch import Tensor

from camdrift.errors import ModelError
from camdrift.models.class_names import checked_labels

NO_CONFIGURATION: Final = "no mean and std given: pixels are passed as they are"
# Whose arithmetic turns the sides of a resized picture and the start of its crop into whole pixels.
ROUNDINGS: Final = ("torchvision", "transformers", "paddle")
_SIZE_HINT: Final = "like 224: inputs are square; --model net.py:build can hand over a module that resizes on its way"
_NUMBERS_HINT: Final = "like mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)"


@dataclass(frozen=True)
class InputSettings:
    """All that a classifier must know of a network beside its module.

    Attributes:
        mean, std: Per-channel normalisation, in pixel units.
        size: Height and width of the input.
        resize: Length of an image's short side before the centre crop to `size`; black borders fill what a shorter
            one lacks. Two numbers (height, width) squeeze the whole image before the crop; 0 squeezes it to `size`;
            None stands for `size`.
        interpolation: One of those that `read_image` knows: bilinear, bicubic, nearest, lanczos, box, hamming.
        rounding: torchvision, transformers or paddle: whose arithmetic gives whole pixels; timm's is torchvision's.
        labels: Class names, or None.
        output: Name or number of the network's output that holds the logits, where it has several; None to choose.
        weights: Origin of the network's weights, in words.
        configuration: Origin of mean, std and size, in words; empty for the usual words.
        own_preparation: Prepares a Pillow picture as the model's library does, (3, height, width) normalised; None
            where no library does.

    Raises:
        ModelError: Mean or std are not in pixel units.
    """

    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    size: int = 224
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    rounding: str = "torchvision"
    labels: Sequence[str] | None = None
    output: str | int | None = None
    weights: str = ""
    configuration: str = ""
    own_preparation: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        if not all(value > 0 for value in self.std):
            raise ModelError(f"`std` must be positive, got: {tuple(self.std)}")
        if max(*map(abs, self.mean), *self.std) > 10:
            raise ModelError(
                f"`mean` and `std` must be in pixel units [0, 1], got: {tuple(self.mean)} and {tuple(self.std)}",
                "divide them by 255",
            )
        assert self.rounding in ROUNDINGS

    @property
    def is_normalising(self) -> bool:
        """Does the classifier change pixels before the module sees them?"""
        return any(self.mean) or any(value != 1 for value in self.std)

    @property
    def origin(self) -> str:
        """Origin of mean, std and size, in words."""
        return self.configuration or ("given" if self.is_normalising else NO_CONFIGURATION)

    def describe(self) -> str:
        """Return on one line the way from an image to the module's input, and the origin of its numbers."""
        size = f"{self.size}x{self.size}"
        if isinstance(self.resize, tuple):
            shape = f"squeezed to {self.resize[0]}x{self.resize[1]}, centre {size}"
        else:
            short = self.size if self.resize is None else self.resize
            border = " with black borders" if 0 < short < self.size else ""
            shape = f"short side to {short}, centre {size}{border}" if short else f"squeezed to {size}"
        mean, std = (", ".join(f"{float(value):.4g}" for value in values) for values in (self.mean, self.std))
        numbers = f"mean {mean}, std {std}; " if self.is_normalising else ""
        return f"{shape} ({self.interpolation}), {numbers}{self.origin}"


def input_settings(**values: Any) -> InputSettings:
    """Return the settings that a user gives, in the types that neighbouring libraries take.

    Args:
        **values: Fields of `InputSettings`. One number of mean or std stands for three, two equal numbers of size for
            one; arrays and tensors will do; labels may be a mapping from class to name, or from name to class.

    Raises:
        ModelError: Any of them is not of its kind, or out of range.
    """
    size = _side(values.get("size", 224))
    fields: dict[str, Any] = {name: _three(values[name], name) for name in ("mean", "std") if name in values}
    fields |= {"resize": _resize(values.get("resize"), size), "labels": checked_labels(values.get("labels"))}
    output: Any = values.get("output")
    if not (output is None or isinstance(output, str) or _is_whole(output)):
        raise ModelError(f"`output` must be the name or number of an output, got: {output!r}")
    fields["output"] = int(output) if _is_whole(output) else output
    return InputSettings(**{**values, **fields, "size": size})


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _numbers(values: Any) -> list[Any] | None:
    """Return what a list, an array or a tensor holds; one number as a list of one; None for anything else."""
    if hasattr(values, "tolist"):  # an array's or a tensor's
        values = values.tolist()
    if _is_number(values):
        return [values]
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping) else None


def _three(values: Any, name: str) -> tuple[float, ...]:
    numbers = _numbers(values)
    if numbers is None or not all(_is_number(n) and isfinite(n) for n in numbers):
        raise ModelError(f"`{name}` must be three numbers, got: {str(values)[:60]}", _NUMBERS_HINT)
    if len(numbers) not in (1, 3):
        raise ModelError(f"`{name}` must have three values, got: {len(numbers)}", _NUMBERS_HINT)
    return tuple(map(float, numbers * (3 // len(numbers))))


def _side(size: Any) -> int:
    """Return the side of a square input."""
    numbers = _numbers(size) or [None]
    is_square = len(set(numbers)) == 1 and len(numbers) <= 2
    whole = [n for n in numbers if _is_number(n) and isfinite(n) and n == int(n)]
    if not is_square or len(whole) != len(numbers) or whole[0] < 1:
        raise ModelError(f"`size` must be a whole number from 1 up, got: {str(size)[:60]}", _SIZE_HINT)
    return int(whole[0])


def _resize(resize: Any, size: int) -> int | tuple[int, int] | None:
    """Return the size before the crop, a square of `size` as 0."""
    if resize is None or resize == 0:
        return None if resize is None else 0
    numbers = _numbers(resize) or []
    if not 1 <= len(numbers) <= 2 or not all(_is_whole(n) and n > 0 for n in numbers):
        raise ModelError(f"`resize` must be one or two whole numbers, got: {str(resize)[:60]}")
    if len(numbers) == 1:
        return int(numbers[0])
    height, width = map(int, numbers)
    return 0 if (height, width) == (size, size) else (height, width)
