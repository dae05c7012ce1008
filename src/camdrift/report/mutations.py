"""Mutations in words: what was done to a picture, as a person would say it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.specs import parse_spec
from camdrift.tables.words import count

MutationSettings = Mapping[str, Any]


def _shares(settings: MutationSettings) -> str:
    """How far a picture was moved, in shares of its side."""
    ways = (("right", "right", "left"), ("down", "down", "up"))
    parts = [f"{_percent(settings[key])} {plus if settings[key] >= 0 else minus}" for key, plus, minus in ways]
    return f"moved {' and '.join(parts)}"


def _scaled(settings: MutationSettings) -> str:
    factor = settings["factor"]
    return f"{'enlarged' if factor >= 1 else 'shrunk'} to {_percent(factor)}"


def _turned(settings: MutationSettings) -> str:
    degrees = settings["degrees"]
    return f"turned by {abs(degrees):.1f}\u00b0 {'counter-clockwise' if degrees >= 0 else 'clockwise'}"


def _brighter(settings: MutationSettings) -> str:
    shift = settings["shift"]
    return f"{'brighter' if shift >= 0 else 'darker'} by {255 * abs(shift):.0f}/255"


def _gradient(settings: MutationSettings) -> str:
    steps = settings.get("steps")
    return count(int(steps), "gradient step") if steps else "gradient steps"


def _noise(settings: MutationSettings) -> str:
    return f"white noise of {255 * settings['sigma']:.1f}/255"


_WORDS: Final[dict[str, Callable[[MutationSettings], str]]] = {
    "translate": _shares,
    "scale": _scaled,
    "shear": lambda settings: f"sheared by {settings['slope']:.2f}",
    "rotate": _turned,
    "contrast": lambda settings: f"contrast \u00d7 {settings['factor']:.2f}",
    "brightness": _brighter,
    "blur": lambda settings: f"blurred over {100 * settings['sigma']:.1f}\u00a0% of the side",
    "pixels": lambda settings: f"{100 * settings['share']:.1f}\u00a0% of the values replaced",
    "noise": _noise,
    "white": _noise,
    "gradient": _gradient,
}


def mutation_words(spec: str) -> str:
    """Return what a mutation does, in words; one that has none as its spec.

    Example:
        >>> mutation_words("rotate(degrees=-7.197)")
        'turned by 7.2\u00b0 clockwise'
    """
    try:
        parts = parse_spec(spec)
        return _WORDS[parts.name](parts.settings)
    except (UserError, KeyError, TypeError, ValueError):
        return spec if len(spec) <= 60 else f"{spec[:59]}\u2026"


def chain_words(chain: Sequence[str]) -> str:
    """Return a chain of mutations in words, one after the other; the same ones in a row are counted.

    Example:
        >>> chain_words(["scale(factor=0.8)", "gradient(steps=1)", "gradient(steps=1)"]).replace("\u00a0", " ")
        'shrunk to 80 %, then 2 times 1 gradient step'
    """
    runs = [(words, len(list(run))) for words, run in groupby(map(mutation_words, chain))]
    return ", then ".join(words if number == 1 else f"{number} times {words}" for words, number in runs)


def _percent(share: float) -> str:
    return f"{100 * abs(share):.0f}\u00a0%"
