"""Names of defences; nothing here imports torch.

A defence is one row of `DEFENCES` and one file, which is imported when the defence is made: its function
`defence(name, settings)` returns a `Defence`.
"""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class DefenceRow:
    """One defence that has a short name.

    Attributes:
        module: The file in this folder that makes it.
        settings: Settings that its name stands for.
        help: What it does, in the words of docs/defences.md.
    """

    module: str
    settings: dict[str, Any]
    help: str


DEFENCES: Final[dict[str, DefenceRow]] = {
    "identity": DefenceRow("identity", {}, "changes nothing: the control"),
    "bits": DefenceRow("bits", {"depth": 3}, "rounds every entry to `depth` bits (Xu 2018)"),
    "median": DefenceRow("median", {"window": 3}, "takes the median of `window` x `window` pixels, per channel"),
    "blur": DefenceRow("blur", {"sigma": 1.0}, "blurs by a Gaussian of `sigma` pixels"),
    "jpeg": DefenceRow("jpeg", {"quality": 75}, "encodes and decodes as JPEG of `quality`"),
    "tv": DefenceRow("total_variation", {"weight": 0.1}, "minimises the total variation (Chambolle 2004)"),
    "resize-pad": DefenceRow(
        "resize_pad", {"least": 0.9}, "shrinks to a random size from `least` on and pads at random (Xie 2018)"
    ),
    "dae": DefenceRow(
        "autoencoder",
        {"sigma": 16 / 255, "steps": 800},
        "a denoising autoencoder, trained on the images of `train` or read from `file` (Gondara 2016)",
    ),
    "puvae": DefenceRow(
        "puvae",
        {"steps": 1000},
        "the nearest reconstruction, one for each class, of an autoencoder trained on `train` (Hwang 2019)",
    ),
    "defense-gan": DefenceRow(
        "generator",
        {"steps": 200, "restarts": 10},
        "the nearest image that a `generator` of yours makes (Samangouei, ICLR 2018)",
    ),
    "diffusion": DefenceRow(
        "diffusion",
        {"time": 0.1, "steps": 100},
        "noise up to `time`, and the way back by a diffusion `pipeline` of yours (Nie, ICML 2022)",
    ),
}
# Libraries whose classes are defences, and the files that make them.
DEFENCE_LIBRARIES: Final = {"art": "from_art"}
DEFENCE_FORMS: Final = ("art:CLASS", "path/to/file.py:function")
