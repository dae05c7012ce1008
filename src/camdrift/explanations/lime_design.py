"""The design of a LIME: which segments, how many masks, how they are weighted; nothing here imports torch."""

from dataclasses import dataclass, fields
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.specs import nearest, parse_spec

LIME: Final = "lime"
LIME_PAPER: Final = "lime:paper"
LIME_GRID: Final = "grid"
QUICKSHIFT: Final = "quickshift"
_FORMS: Final = f"such as {LIME}, {LIME}(grid=8, samples=500), {LIME}(segments='{QUICKSHIFT}') or {LIME_PAPER}"


@dataclass(frozen=True)
class LimeDesign:
    """How an image is explained by LIME (Ribeiro 2016).

    Attributes:
        segments: `grid`: squares; `quickshift`: superpixels of the clean image, by scikit-image.
        grid: Squares along a side.
        samples: Number of masks; the first one leaves every segment on, and in the others each is on with 1/2.
        alpha: Penalty of the ridge regression, per mask.
        kernel: Width of the kernel that weights masks by their cosine distance to the first.
        target: `logit` or `probability` of the explained class.
    """

    segments: str = LIME_GRID
    grid: int = 8
    samples: int = 500
    alpha: float = 1e-3
    kernel: float = 0.25
    target: str = "logit"


# As `lime` 0.2.0.1 has it: a penalty of 1 whatever the number of masks, and probabilities.
_PAPER_SAMPLES: Final = 1000
_PAPER: Final = LimeDesign(segments=QUICKSHIFT, samples=_PAPER_SAMPLES, alpha=1 / _PAPER_SAMPLES, target="probability")


def parse_lime(spec: str) -> LimeDesign:
    """Return the design that `lime`, `lime:paper`, or one of them with settings in brackets names.

    Raises:
        UserError: Another name, a setting that there is not, or a value out of range.

    Example:
        >>> parse_lime("lime(grid=4)").grid, parse_lime("lime:paper").samples
        (4, 1000)
    """
    name, settings = (parsed := parse_spec(spec, option="lime")).name, parsed.settings
    if name not in (LIME, LIME_PAPER):
        question = nearest(name, (LIME, LIME_PAPER))
        raise UserError(f"`lime` must be {LIME} or {LIME_PAPER}, got: {name}", f"{question}{_FORMS}")
    names = [field.name for field in fields(LimeDesign)]
    for key, value in settings.items():
        if key not in names:
            raise UserError(f"`{name}` must have settings among {', '.join(names)}, got: {key}", _FORMS)
        if not _fits(key, value):
            raise UserError(f"`{key}` of `{name}` must be {_RULES[key]}, got: {value}", _FORMS)
    base = _PAPER if name == LIME_PAPER else LimeDesign()
    return LimeDesign(**{**vars(base), **settings})


_RULES: Final = {
    "segments": f"{LIME_GRID} or {QUICKSHIFT}",
    "grid": "an integer from 2 to 32",
    "samples": "an integer of at least 10",
    "alpha": "positive",
    "kernel": "positive",
    "target": "logit or probability",
}


def _fits(key: str, value: Any) -> bool:
    if key in ("segments", "target"):
        return value in ((LIME_GRID, QUICKSHIFT) if key == "segments" else ("logit", "probability"))
    if isinstance(value, bool) or not isinstance(value, int if key in ("grid", "samples") else int | float):
        return False
    least, most = {"grid": (2, 32), "samples": (10, 10**6)}.get(key, (1e-300, 1e300))
    return bool(least <= value <= most)
