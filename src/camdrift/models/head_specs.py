"""Heads by name: what may stand in the place of a network's last linear layer; nothing here imports torch."""

import re
from dataclasses import dataclass
from math import isfinite, log
from numbers import Real
from typing import Any, Final

from camdrift.errors import ModelError
from camdrift.specs import nearest, parse_spec

LINEAR_HEAD: Final = "linear"
LINEAR_NOBIAS: Final = "linear-nobias"
COSINE_HEAD: Final = "cosine"
ZERO_BIAS: Final = "zero-bias"
_AUTO: Final = "auto"
# Each kind, and what it computes of features x.
HEAD_WORDS: Final = {
    LINEAR_HEAD: "W x + b: an ordinary layer, trained as the others are",
    LINEAR_NOBIAS: "W x: the same without its bias",
    COSINE_HEAD: "m cos(w, x): the cosine of the features and of each class's weights",
    ZERO_BIAS: "m cos(w, V x + c) + m: an ordinary layer to as many values as classes, then fingerprints of classes",
}
# Probability that the best features of a class reach with `scale=auto`.
_CONFIDENCE: Final = 0.99
# The released layer's `normMag`, which is not learned.
_RELEASED_SCALE: Final = 5.0
_DEFAULT_SCALE: Final[dict[str, float | str]] = {COSINE_HEAD: _AUTO, ZERO_BIAS: _RELEASED_SCALE}


@dataclass(frozen=True)
class HeadSpec:
    """A kind of head with its scale.

    Attributes:
        kind: One of `HEAD_WORDS`.
        scale: The factor m on cosines: a number, or `auto`; None for a kind without one.
    """

    kind: str
    scale: float | str | None = None

    def __str__(self) -> str:
        if self.scale == _DEFAULT_SCALE.get(self.kind):
            return self.kind
        return f"{self.kind}(scale={self.scale if isinstance(self.scale, str) else f'{self.scale:g}'})"

    def scale_for(self, classes: int) -> float | None:
        """Return m for a number of classes; None for a kind without one."""
        return auto_scale(classes) if self.scale == _AUTO else None if self.scale is None else float(self.scale)


@dataclass(frozen=True)
class HeadRecord:
    """The head of a classifier, for its record.

    Attributes:
        spec: KIND@FILE.
        kind: Its kind, with the scale where that is not the usual one.
        sha256: Checksum of its file.
    """

    spec: str
    kind: str
    sha256: str


def auto_scale(classes: int) -> float:
    """Return the factor m at which a class can reach a probability of 0.99.

    The best that K fingerprints can do is a simplex: features that lie on one have cosine 1 with it and -1/(K - 1)
    with all others, so p = 1 / (1 + (K - 1) exp(-m K / (K - 1))).

    Args:
        classes: K, two or more.

    Example:
        >>> round(auto_scale(10), 4), round(auto_scale(1000), 4)
        (6.1131, 11.4904)
    """
    return (classes - 1) / classes * log((classes - 1) * _CONFIDENCE / (1 - _CONFIDENCE))


def parse_head(text: str) -> HeadSpec:
    """Return the kind and scale that KIND or KIND(scale=auto|NUMBER) names.

    Raises:
        ModelError: An unknown kind, or a setting that it does not have.

    Example:
        >>> parse_head("zero-bias(scale=auto)"), str(parse_head("zero-bias(scale=5)"))
        (HeadSpec(kind='zero-bias', scale='auto'), 'zero-bias')
    """
    spec = parse_spec(re.sub(r"=\s*auto\b", "='auto'", text), option="head")
    if spec.name not in HEAD_WORDS:
        question = nearest(spec.name, HEAD_WORDS)
        raise ModelError(f"`head` must be one of {', '.join(HEAD_WORDS)}, got: {spec.name}", f"{question}{_FORMS}")
    default = _DEFAULT_SCALE.get(spec.name)
    if set(spec.settings) - ({"scale"} if default is not None else set()):
        names = "scale alone" if default is not None else "no setting"
        raise ModelError(f"`head` {spec.name} must have {names}, got: {text}", _FORMS)
    return HeadSpec(spec.name, _scale(spec.settings.get("scale", default)))


_FORMS: Final = "heads are linear, linear-nobias, cosine(scale=auto) and zero-bias(scale=5); a scale may be auto"


def _scale(value: Any) -> float | str | None:
    if value is None or value == _AUTO:
        return None if value is None else _AUTO
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value) or value <= 0:
        raise ModelError(f"`scale` of a head must be auto or positive, got: {value}", _FORMS)
    return float(value)


def split_head(text: str) -> tuple[HeadSpec, str]:
    """Return kind and file of KIND@FILE.

    Raises:
        ModelError: There is no file, or no such kind.
    """
    kind, _, file = text.partition("@")
    if not file:
        raise ModelError(
            f"`head` must be KIND@FILE, got: {text}",
            "such as zero-bias@head.safetensors; `camdrift head` trains one and writes the file",
        )
    return parse_head(kind), file
