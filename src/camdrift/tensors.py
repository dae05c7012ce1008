"""Axis names of every tensor that crosses a file border, and the records that carry tensors.

Images are RGB float32 in [0, 1] ("pixel space") wherever they appear; the model owns its normalisation.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

Image = Float[Tensor, "3 height width"]
Images = Float[Tensor, "batch 3 height width"]
Logits = Float[Tensor, "batch classes"]
Classes = Int[Tensor, " batch"]
Activations = Float[Tensor, "batch channels h w"]
Maps = Float[Tensor, "batch h w"]
Weights = Float[Tensor, "batch channels"]
Values = Float[Tensor, " batch"]
Covered = Bool[Tensor, "batch neurons"]


class Bounds(NamedTuple):
    """Smallest and largest value of a pixel."""

    lower: float
    upper: float


PIXELS = Bounds(0.0, 1.0)


@dataclass(frozen=True)
class Attacked:
    """The result of an attack on one seed image.

    Attributes:
        base_perturbation: Adversarial image minus seed image, pixel units, not clipped; None without one.
        iterations: Perturbation steps spent on this seed; None where the attack does not tell.
        target_class: The class that the attack aims at; None if any other than the clean one will do.
        reason: Reason why there is no perturbation, or why it fools nobody; empty for the usual one.
        is_failure: Did the attack break down, rather than find nothing?
        remark: A warning of what the attack did beside; empty for none.
    """

    base_perturbation: Image | None
    iterations: int | None = None
    target_class: int | None = None
    reason: str = ""
    is_failure: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Explanation:
    """Raw attributions of one batch.

    Attributes:
        logits: The model's output.
        attributions: For every target, in the order of the request, by explanation and layer: a map (batch, h, w), or
            a representation (batch, channels, h, w).
        same_as: For every target the first one that explains the same classes, and so has the same attributions.
    """

    logits: Logits
    attributions: tuple[dict[str, dict[str, Tensor]], ...]
    same_as: tuple[int, ...]

    @property
    def maps(self) -> tuple[dict[str, Tensor], ...]:
        """For every target the attribution of each layer by the first explanation."""
        return tuple(next(iter(of_target.values())) for of_target in self.attributions)


def perturbed(seed: Image, perturbation: Image, strength: float = 1.0) -> Image:
    """Return the variant clip(x + s * delta, 0, 1), always computed from the seed (Eqs. 1 and 3, Renkhoff 2022).

    Args:
        seed: Seed image in pixel space.
        perturbation: Base perturbation in pixel units.
        strength: Factor s on it, dimensionless.
    """
    return (seed + strength * perturbation).clamp(PIXELS.lower, PIXELS.upper)


def rounded_to_bytes(images: Images) -> Images:
    """Return images as 8 bits store them."""
    return (images * 255).round() / 255
