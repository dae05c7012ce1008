"""Words that tables and code share: conditions, statuses, reasons, verdicts, targets, defaults."""

from math import isclose
from typing import Final, Literal, get_args

SCHEMA_VERSION: Final = 6

# Conditions of an image.
Condition = Literal["clean", "adversarial", "noise"]
CLEAN: Final = "clean"
ADVERSARIAL: Final = "adversarial"
NOISE: Final = "noise"
ALL_CONDITIONS: Final[tuple[Condition, ...]] = get_args(Condition)
# Controls, in table `emulation` only.
SPECTRUM_NOISE: Final = "spectrum_noise"
CHANNEL_NOISE: Final = "channel_noise"
UNPERTURBED: Final = "unperturbed"

# Statuses of a seed image.
ANALYSED: Final = "analysed"
NO_ADVERSARIAL: Final = "no_adversarial"
UNREADABLE: Final = "unreadable"
FAILED: Final = "failed"

# Reasons why a similarity is undefined.
ZERO_MAP_SEED: Final = "zero_map_seed"
ZERO_MAP_VARIANT: Final = "zero_map_variant"
NON_FINITE_MAP: Final = "non_finite_map"
# The map has the same value everywhere: no correlation exists.
CONSTANT_MAP: Final = "constant_map"
# In tables `ceiling` and `layers`: the number holds nothing but the rounding of the arithmetic.
ROUNDING: Final = "rounding"
# In table `denoised`, which compares an image with its own copy.
ZERO_MAP_IMAGE: Final = "zero_map_image"
ZERO_MAP_DENOISED: Final = "zero_map_denoised"

# Verdicts on a claim of the paper.
HOLDS: Final = "holds"
ARTEFACT: Final = "artefact"
FAILS: Final = "fails"
UNDECIDED: Final = "undecided"

# Sides on which a gain is censored.
CENSORED_ABOVE: Final = "above"
CENSORED_BELOW: Final = "below"

# References of a detector: the maps of the clean image, or those of the image's own denoised copy.
SEED_REFERENCE: Final = "seed"
DENOISED_REFERENCE: Final = "denoised"

# Targets: whose class is explained.
Target = Literal["own", "seed", "label"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)
SEED_TARGET: Final = "seed"

# The headline target first: under `own` a flipped prediction adds the change of class to every layer.
TARGET_ORDER: Final = ("seed", "own", "label")
TARGET_WORDS: Final = {
    "seed": "explained class: the seed's clean prediction (target seed)",
    "own": "explained class: each image's own prediction (target own)",
    "label": "explained class: the true class (target label)",
}
# The class that a target explains, inside a sentence.
TARGET_CLASSES: Final = {"seed": "the seed's class", "own": "each image's own class", "label": "the true class"}

DEFAULT_STRENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
DEFAULT_NOISE_LADDER: Final = (8.0, 16.0, 32.0)
DEFAULT_TARGETS: Final = ("own", "seed")
DEFAULT_EXPLANATIONS: Final = ("gradcam",)
DEFAULT_METRICS: Final = ("cosine",)


def strength_text(strength: float) -> str:
    """The strength as figures and reports print it: at most four digits."""
    return f"{strength:.4g}"


def count(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "image"), count(1200, "image")
        ('1 image', '1,200 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pixels(value: float) -> str:
    """A number between 0 and 1 in steps of 8-bit pixels if it is one or a half of them; else with four digits.

    Example:
        >>> pixels(8 / 255), pixels(0.5 / 255), pixels(0.25)
        ('8/255', '0.5/255', '0.25')
    """
    steps = 2 * 255 * value
    is_step = 0 < value < 1 and isclose(steps, round(steps), abs_tol=1e-6)
    return f"{steps / 2:g}/255" if is_step else f"{value:.4g}"
