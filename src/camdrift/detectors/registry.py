"""Detectors by name, with what they read and their settings; nothing here imports torch or a library.

A detector is one row of `DETECTORS` and a function in this room. A score is high where an image looks attacked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.specs import Spec, nearest, parse_spec

PYTORCH_OOD: Final = "pytorch-ood"
# The extra of camdrift that installs pytorch-ood.
OOD_EXTRA: Final = "detectors"
FORM: Final = f"{PYTORCH_OOD}:NAME"
PROFILE_HINT: Final = "--profile FOLDER, or profile= in Python, names a folder of ordinary images"

# What a detector reads of an image: logits; every layer; the last layer before the logits; the logits, against those of
# the profile; maps of every layer; logits of changed copies.
READS_LOGITS: Final = "logits"
READS_LAYERS: Final = "layers"
READS_LAST: Final = "last layer"
READS_PROFILE_LOGITS: Final = "logits of the profile"
READS_MAPS: Final = "maps"
READS_COPIES: Final = "copies"
OF_PROFILE: Final = (READS_LAYERS, READS_LAST, READS_PROFILE_LOGITS)


@dataclass(frozen=True)
class DetectorRow:
    """A detector that camdrift knows.

    Attributes:
        reads: What it reads, one of the words above.
        words: Its score, in words.
        source: Where it is from.
        settings: Its settings with their values where they are left out.
        is_differentiable: Can an attack follow the gradient of its score?
        is_library: Is it one of pytorch-ood's?
    """

    reads: str
    words: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_differentiable: bool = False
    is_library: bool = False

    @property
    def needs_profile(self) -> bool:
        """Does it measure against ordinary images?"""
        return self.reads in OF_PROFILE


_LAYER: Final = {"layer": ""}
_SADL: Final = "Kim, ICSE 2019"
DETECTORS: Final[Mapping[str, DetectorRow]] = {
    "softmax": DetectorRow(READS_LOGITS, "-(largest probability)", "Hendrycks 2017", is_differentiable=True),
    "margin": DetectorRow(READS_LOGITS, "-(largest logit - second largest)", "", is_differentiable=True),
    "entropy": DetectorRow(READS_LOGITS, "entropy of the probabilities, in nats", "", is_differentiable=True),
    "energy": DetectorRow(READS_LOGITS, "-ln of the sum of exp(logit)", "Liu 2020", {"t": 1.0}, is_differentiable=True),
    "maxlogit": DetectorRow(READS_LOGITS, "-(largest logit)", "Hendrycks 2022", is_differentiable=True),
    "mahalanobis": DetectorRow(
        READS_LAYERS,
        "half the squared Mahalanobis distance to the nearest class, one covariance for all",
        "Lee 2018",
        {"shrinkage": None, **_LAYER},
        is_differentiable=True,
    ),
    "rmd": DetectorRow(
        READS_LAYERS,
        "squared Mahalanobis distance to the nearest class, less that to all images",
        "Ren 2021",
        {"shrinkage": None, **_LAYER},
        is_differentiable=True,
    ),
    "lid": DetectorRow(
        READS_LAYERS,
        "local intrinsic dimensionality: -(mean of ln(r_i / r_k))^-1 over the k nearest reference images",
        "Ma 2018",
        {"k": 20, "reference": 100, **_LAYER},
    ),
    "i-defender": DetectorRow(
        READS_LAST, "-ln of a mixture of Gaussians of the predicted class", "Zheng 2018", {"rng_seed": 0, **_LAYER}
    ),
    "dsa": DetectorRow(READS_LAST, "distance to the predicted class over that to the next", _SADL, _LAYER),
    "lsa": DetectorRow(READS_LAST, "-ln of a kernel density of the predicted class", _SADL, _LAYER),
    "mdsa": DetectorRow(READS_LAST, "Mahalanobis distance to the predicted class", "Kim, FSE 2020", _LAYER),
    "knn": DetectorRow(
        READS_LAST, "distance to the k-th nearest image", "Sun 2022", {"k": 50, **_LAYER}, is_library=True
    ),
    "vim": DetectorRow(READS_LAST, "virtual logit less energy", "Wang 2022", {"d": 0}, is_library=True),
    "squeeze": DetectorRow(
        READS_COPIES,
        "largest L1 distance of the probabilities of the image and of a squeezed copy",
        "Xu, NDSS 2018",
        {"bits": 5, "median": 2},
        is_differentiable=True,
    ),
    "denoised": DetectorRow(
        READS_MAPS, "mean deviation of the maps of the image and of its median-filtered copy", "camdrift detect"
    ),
    "noisecam-like": DetectorRow(
        READS_MAPS,
        "mean norm of |LayerCAM - Grad-CAM|, both of length 1: a reconstruction, not NoiseCAM as published",
        "after arXiv 2303.06151",
        {"change": False},
    ),
}
# Short names for detectors of pytorch-ood.
LIBRARY_NAMES: Final = {"knn": "KNN", "vim": "ViM"}


def parse_detector(spec: str) -> Spec:
    """The name of a detector, and its settings with those that are left out.

    A detector of pytorch-ood gets its settings as they stand; the library checks them.

    Args:
        spec: One of `DETECTORS`, or `pytorch-ood:NAME` with a class of the library; each with settings if wanted:
            `lid(k=10)`.

    Raises:
        UserError: An unknown detector or setting, or a value of another kind.

    Example:
        >>> parse_detector("knn(k=10)")
        Spec(name='knn', settings={'k': 10, 'layer': ''})
    """
    request = parse_spec(spec, option="detector")
    library, colon, name = request.name.partition(":")
    if colon and library == PYTORCH_OOD and name:
        return request
    if request.name not in DETECTORS:
        raise UserError(
            f"`detector` must be one of {', '.join(DETECTORS)}, or {FORM}, got: {request.name}",
            nearest(request.name, DETECTORS) + "docs/defences.md says what each reads",
        )
    defaults = DETECTORS[request.name].settings
    for key, value in request.settings.items():
        _check_setting(request.name, key, value, defaults)
    return Spec(request.name, {**defaults, **request.settings})


def _check_setting(detector: str, key: str, value: Any, defaults: Mapping[str, Any]) -> None:
    """Refuse a setting that a detector does not have, or a value of another kind than the default's."""
    if key not in defaults:
        names = ", ".join(f"{name}={default!r}" for name, default in defaults.items())
        raise UserError(f"`detector` {detector} has no setting `{key}`", f"it has {names}" if names else "it has none")
    kind = type(defaults[key])
    rules: dict[type, tuple[bool, str]] = {
        bool: (isinstance(value, bool), "True or False"),
        int: (_is_number(value, int) and value >= 0, "a whole number from 0 on"),
        float: (_is_number(value, int | float) and value > 0, "a positive number"),
        str: (isinstance(value, str), "a name in quotes"),
        type(None): (value is None or (_is_number(value, int | float) and 0 <= value <= 1), "a number from 0 to 1"),
    }
    is_right, rule = rules[kind]
    if not is_right:
        raise UserError(f"`detector` setting `{key}` of {detector} must be {rule}, got: {value!r}")


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
