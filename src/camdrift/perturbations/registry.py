"""Names of natural changes; nothing here imports torch.

A perturber of nrtk is one row of `PERTURBERS`. Everything else is a function of the user's own.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Perturber:
    """One perturber of nrtk that keeps the picture where it is.

    Attributes:
        module: Its module below `nrtk.impls.perturb_image`.
        extra: The extra of nrtk that it needs; empty for none.
        example: Settings that change a picture.
        help: What it does, in the words of docs/perturbations.md.
    """

    module: str
    extra: str
    example: str
    help: str


NRTK: Final = "nrtk"
_ENHANCE, _BLUR, _NOISE = "photometric.enhance", "photometric.blur", "photometric.noise"
PERTURBERS: Final[dict[str, Perturber]] = {
    "BrightnessPerturber": Perturber(_ENHANCE, "pillow", "factor=1.4", "brightens above 1, darkens below"),
    "ContrastPerturber": Perturber(_ENHANCE, "pillow", "factor=0.6", "less contrast below 1, more above"),
    "ColorPerturber": Perturber(_ENHANCE, "pillow", "factor=0.3", "greyer below 1, more colourful above"),
    "SharpnessPerturber": Perturber(_ENHANCE, "pillow", "factor=0.2", "softens below 1, sharpens up to 2"),
    "AverageBlurPerturber": Perturber(_BLUR, "headless", "ksize=3", "mean of `ksize` x `ksize` pixels"),
    "GaussianBlurPerturber": Perturber(_BLUR, "headless", "ksize=5", "Gaussian over `ksize` x `ksize` pixels"),
    "MedianBlurPerturber": Perturber(_BLUR, "headless", "ksize=3", "median of `ksize` x `ksize` pixels"),
    "GaussianNoisePerturber": Perturber(_NOISE, "skimage", "var=0.01", "Gaussian noise of variance `var`"),
    "SpeckleNoisePerturber": Perturber(_NOISE, "skimage", "var=0.05", "noise in proportion to the pixel"),
    "SaltNoisePerturber": Perturber(_NOISE, "skimage", "amount=0.02", "white pixels"),
    "PepperNoisePerturber": Perturber(_NOISE, "skimage", "amount=0.02", "black pixels"),
    "SaltAndPepperNoisePerturber": Perturber(_NOISE, "skimage", "amount=0.02", "white and black pixels"),
    "HazePerturber": Perturber("environment", "", "factor=0.5", "haze over the whole picture"),
    "WaterDropletPerturber": Perturber("environment", "waterdroplet", "num_drops=20", "drops on the lens"),
}
# Maps move with a picture that is moved, so that nothing could be read from how far they are.
MOVERS: Final = (
    *("RandomCropPerturber", "RandomTranslationPerturber", "RandomRotationPerturber", "RandomScalePerturber"),
    "RadialDistortionPerturber",
)
PERTURBATION_FORMS: Final = (f"{NRTK}:NAME", "path/to/file.py:function")
