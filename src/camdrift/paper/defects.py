"""Defects: the nine ways in which the paper's released code departs from its equations, each a switch.

Everything else in camdrift follows the equations. `docs/released_code.md` states where each defect lies in the released
code and what follows from it; the letters below are its sections. Only `reproduce` switches any on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from camdrift.tables.arrays import Bytes, Floats

NO_DEFECT: Final = "none"
ALL_DEFECTS: Final = "all"

# An image read from 8 bits is k / 255 up to rounding of a float, which must not push it below k.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True)
class Defects:
    """The defects of the released code that are switched on; none by default.

    Attributes:
        accumulated: (a) The adversarial image of one strength is the base of the next, so that nominal strengths
            0.25, 0.5, 1, 2, 4 become 0.25, -0.25, -0.25, 0.75, 3.75.
        wrong_base: (a) Noise is added to that base and not to the seed, so that the noisy images hold up to 1.25 of
            the perturbation, with its sign turned.
        truncated: (b) Images are stored in 8 bits by cutting off, not rounding: every perturbation below one grey
            level becomes 0 or -1.
        softmax_clean: (c) Clean images are explained through the softmax, perturbed ones through the logits.
        own_class: (d) Every image is explained for its own prediction, so that a changed class counts as deviation.
        jet: (e) Similarity is the cosine of colour pictures (jet, enlarged in colour, 8 bit), not of maps.
        pooled_threshold: (f) One threshold for all layers, the mean of the noisy layer means; a layer counts once,
            by its mean, and no image counts at all.
        noise_for_attack: (f) Noisy similarities are read as the adversarial ones at every strength but the lowest.
        unequal_credit: (g) Coverage credits every noisy image, but an adversarial one only if it changes the
            prediction; and noise at the lowest strength is drawn against the attack at strength 1.
    """

    accumulated: bool = False
    wrong_base: bool = False
    truncated: bool = False
    softmax_clean: bool = False
    own_class: bool = False
    jet: bool = False
    pooled_threshold: bool = False
    noise_for_attack: bool = False
    unequal_credit: bool = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the switches."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def all(cls) -> "Defects":
        """The released code."""
        return cls(*[True] * len(cls.names()))

    @property
    def name(self) -> str:
        """`none`, `all`, the one that is on, `all but` the one that is off, else those that are on."""
        on = [name for name in self.names() if getattr(self, name)]
        off = [name for name in self.names() if name not in on]
        if not on or not off:
            return ALL_DEFECTS if on else NO_DEFECT
        return f"all but {off[0]}" if len(off) == 1 else " + ".join(on)


def rungs() -> list[Defects]:
    """The ladder from the equations to the released code: none, each one alone, all but each one, all."""
    names = Defects.names()
    alone = [Defects(**{name: True}) for name in names]
    but_one = [Defects(**{other: other != name for other in names}) for name in names]
    return [Defects(), *alone, *but_one, Defects.all()]


class Effective(NamedTuple):
    """Effect of a nominal strength, in units of the base perturbation P and the noise R.

    Attributes:
        adversarial: The adversarial image is seed + adversarial * P.
        noise_base: The noisy image is seed + noise_base * P + strength * R.
    """

    adversarial: float
    noise_base: float


def accumulated_strengths(strengths: Sequence[float]) -> dict[float, Effective]:
    """Effects of the nominal strengths in the released loop, in ascending order.

    The loop takes the last adversarial image for the one of strength 1: it subtracts P from it and adds strength * P.
    Before the first round that image is seed + P.

    Example:
        >>> [(s, *e) for s, e in accumulated_strengths([0.25, 0.5, 1, 2, 4]).items()]
        [(0.25, 0.25, 0.0), (0.5, -0.25, -0.75), (1, -0.25, -1.25), (2, 0.75, -1.25), (4, 3.75, -0.25)]
    """
    effects, last = {}, 1.0
    for strength in sorted(strengths):
        base = last - 1
        last = base + strength
        effects[strength] = Effective(last, base)
    return effects


def truncated(images: NDArray[np.floating]) -> Bytes:
    """Images in pixel space as the released code stores them: clipped to 0..255, cut off to whole grey levels."""
    grey = np.asarray(images, dtype=np.float64) * 255 + _ROUNDING
    levels: Bytes = np.clip(grey, 0, 255).astype(np.uint8)
    return levels


def jet_picture(attribution: NDArray[np.floating], size: tuple[int, int]) -> Bytes:
    """The picture that the released code stores of one map: jet colours, enlarged in colour, 8 bit.

    A map that is zero everywhere becomes a uniform blue picture, and is compared like any other.

    Args:
        attribution: One map, (h, w), at least 0, of any scale.
        size: Height and width of the picture: the model's input.

    Returns:
        Shape (height, width, 3).
    """
    values = np.asarray(attribution, dtype=np.float64)
    peak = values.max()
    levels = np.zeros(values.shape, np.uint8) if not peak > 0 else (255 * (values / peak)).astype(np.uint8)
    small = PillowImage.fromarray(_stretched(_jet_colours()[levels]))
    large = np.asarray(small.resize(size[::-1]))
    # 0.4 is the weight of an overlay: stretching the result to 0..255 again takes it back out. One value at a time,
    # because a picture of 8 bits has no more than 256.
    between = np.arange(int(large.min()), int(large.max()) + 1)
    table = np.zeros(256, np.uint8)
    table[between] = _stretched(between.astype(np.float32) * 0.4)
    picture: Bytes = table[large]
    return picture


def jet_direction(attribution: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """The picture of a map as a vector of unit length, (height * width * 3,).

    The released code's similarity of two maps is the product of their vectors: the cosine of their pictures, all pixels
    and channels in a row. Two maps that share nothing are similar by about 0.8, because their blue backgrounds agree.
    A picture is never all zero: its largest value is 255.

    Args:
        attribution: One map, (h, w), at least 0.
        size: Height and width of the picture.
    """
    values = jet_picture(attribution, size).reshape(-1).astype(np.float32)
    direction: NDArray[np.float32] = values / np.sqrt(values @ values)
    return direction


def pooled_compromise(adversarial: Floats, noise: Floats) -> Floats:
    """1 for every layer whose mean similarity lies below the mean over layers of the noisy ones, else 0.

    Args:
        adversarial: Mean similarity per layer under the attack, (..., layers).
        noise: The same under noise.
    """
    threshold = np.nanmean(noise, axis=-1, keepdims=True)
    below: Floats = (adversarial < threshold).astype(np.float64)
    return np.where(np.isnan(adversarial), np.nan, below)


@cache
def _jet_colours() -> Floats:
    """The 256 colours of jet, (256, 3), in [0, 1]."""
    colours: Floats = mpl.colormaps["jet"](np.arange(256))[:, :3]
    return colours


def _stretched(picture: NDArray[np.floating]) -> Bytes:
    """The picture with its smallest value at 0 and its largest at 255, cut off to whole numbers."""
    # In float32 as Keras does it: what is cut off depends on it.
    values = picture.astype(np.float32)
    values = values - values.min()
    peak = values.max()
    grey_levels: Bytes = ((values / peak if peak > 0 else values) * 255).astype(np.uint8)
    return grey_levels
