"""The way from an image to a network's input, and the words that go with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from camdrift.errors import ModelError

NO_CONFIGURATION: Final = "no mean and std given: pixels are passed as they are"


@dataclass(frozen=True)
class InputSettings:
    """All that a classifier must know of a network beside its module.

    Attributes:
        mean, std: Per-channel normalisation, in pixel units.
        size: Height and width of the input.
        resize: Length of an image's short side before the centre crop to `size`; 0 squeezes the whole image to a
            square of `size`; None stands for `size`.
        interpolation: bilinear, bicubic or nearest.
        labels: Class names, or None.
        weights: Origin of the network's weights, in words.
        configuration: Origin of mean, std and size, in words; empty for the usual words.

    Raises:
        ModelError: A mean or std that is none of three channels in pixel units, or a size above `resize`.
    """

    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    size: int = 224
    resize: int | None = None
    interpolation: str = "bilinear"
    labels: Sequence[str] | None = None
    weights: str = ""
    configuration: str = ""

    def __post_init__(self) -> None:
        _check_normalisation(self.mean, self.std)
        if self.size < 1 or (self.resize is not None and self.resize != 0 and self.resize < self.size):
            raise ModelError(f"`size` must be at least 1 and at most `resize`, got: {self.size} and {self.resize}")

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
        short = self.size if self.resize is None else self.resize
        shape = f"short side to {short}, centre {size}" if short else f"squeezed to {size}"
        mean, std = (", ".join(f"{float(value):.4g}" for value in values) for values in (self.mean, self.std))
        numbers = f"mean {mean}, std {std}; " if self.is_normalising else ""
        return f"{shape} ({self.interpolation}), {numbers}{self.origin}"


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != 3 or len(std) != 3:
        raise ModelError(f"`mean` and `std` must have three values each, got: {len(mean)} and {len(std)}")
    if not all(value > 0 for value in std):
        raise ModelError(f"`std` must be positive, got: {tuple(std)}")
    if max(*map(abs, mean), *std) > 10:
        raise ModelError(
            f"`mean` and `std` must be in pixel units [0, 1], got: {tuple(mean)} and {tuple(std)}",
            "divide them by 255",
        )
