"""Names and settings of attacks that other libraries bring: found, checked, and refused in words."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from math import isfinite
from types import ModuleType
from typing import Any, TypeVar

import torch

from camdrift.attacks.seeding import seeded
from camdrift.errors import UserError, one_line

_T = TypeVar("_T")


@contextmanager
def quietly() -> Iterator[None]:
    """What a library warns of inside the block is no user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_library(module: str, *, library: str, extra: str) -> ModuleType:
    """A library's module.

    Raises:
        UserError: The library is not installed, or does not work here.
    """
    with quietly():
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"`attack` needs {library}, which cannot be imported: {one_line(error)}",
                f'python -m pip install ".{extra}" in the folder of camdrift installs it',
            ) from error


def choose(library: str, name: str, names: Collection[str]) -> str:
    """The one of `names` that `name` means; capitals do not matter, nor an `Attack` at the end.

    Raises:
        UserError: None of them; the nearest are in the hint.
    """
    known = {n.lower().removesuffix("attack"): n for n in names} | {n.lower(): n for n in names}
    if name.lower() in known:
        return known[name.lower()]
    alike = [
        *(n for n in known if name and name.lower() in n),
        *get_close_matches(name.lower(), known, n=4, cutoff=0.4),
    ]
    near = list(dict.fromkeys(known[n] for n in alike))[:6]
    hint = f"nearest: {', '.join(near)}" if near else f"it has {', '.join(sorted(names))}"
    raise UserError(f"`attack` must name an attack of {library}, got: {name or 'nothing'}", hint)


def parameters(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, bool]:
    """The arguments that a function takes by name, and whether it must be given them."""
    left_out = {"self", *without}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters
    return {n: p.default is p.empty for n, p in found.items() if p.kind in kinds and n not in left_out}


def check_settings(spec: str, settings: Mapping[str, Any], takes: Mapping[str, bool]) -> None:
    """Raises `UserError` for a setting that there is not, or one that must be given and is not."""
    hint = f"settings: {', '.join(takes) or 'none'}"
    if unknown := [name for name in settings if name not in takes]:
        raise UserError(f"`attack` has no such setting, got: {', '.join(unknown)}", hint)
    if missing := [name for name, is_needed in takes.items() if is_needed and name not in settings]:
        raise UserError(f"`attack` must be given {', '.join(missing)}, got: {spec} without", hint)


def positive(name: str, value: Any) -> float:
    """A setting that must be a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise UserError(f"`attack` setting `{name}` must be a positive number, got: {value}")
    return float(value)


def built(spec: str, build: Callable[[], _T], settings: Iterable[str] = ()) -> _T:
    """What `build` makes of a library's class, tried before the study begins.

    Raises:
        UserError: The library refuses the settings; its own words are in the message.
    """
    try:
        with seeded(0, torch.device("cpu")), quietly():
            return build()
    except Exception as error:
        hint = f"settings: {', '.join(settings)}" if settings else ""
        raise UserError(f"`attack` {spec} is refused by its library: {one_line(error)}", hint) from error
