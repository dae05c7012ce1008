"""Names and settings of attacks that other libraries bring: looked up, checked, refused in words."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from math import isfinite
from types import ModuleType
from typing import Any, TypeVar

import torch

from camdrift.attacks.seeding import seeded
from camdrift.errors import FOREIGN, UserError, one_line

_T = TypeVar("_T")

# Settings that camdrift keeps to itself: no library and no function gets them.
TARGET_CLASS, BATCHED = "target_class", "batched"


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what a library warns of inside the block: it is no user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_library(module: str) -> ModuleType:
    """A module of a library, imported without its warnings.

    Raises:
        ImportError: The library is not installed, or does not work here; `making.make_attack` says so in words.
    """
    with quietly():
        return importlib.import_module(module)


def choose(library: str, name: str, names: Collection[str]) -> str:
    """The one of `names` that `name` means; capitals do not matter, nor an `Attack` at the end.

    Raises:
        UserError: `name` means none of them; the hint names the nearest.
    """
    spellings = {n.lower().removesuffix("attack"): n for n in names} | {n.lower(): n for n in names}
    if name.lower() in spellings:
        return spellings[name.lower()]
    alike = [
        *(n for n in spellings if name and name.lower() in n),
        *get_close_matches(name.lower(), spellings, n=4, cutoff=0.4),
    ]
    near = list(dict.fromkeys(spellings[n] for n in alike))[:6]
    hint = f"nearest: {', '.join(near)}" if near else f"it has {', '.join(sorted(names))}"
    raise UserError(f"`attack` must name an attack of {library}, got: {name or 'nothing'}", hint)


def parameters(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, bool]:
    """The arguments that a function takes by name, and whether it needs them."""
    exceptions = {"self", *without}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = inspect.signature(function).parameters
    return {n: p.default is p.empty for n, p in arguments.items() if p.kind in kinds and n not in exceptions}


def check_settings(spec: str, settings: Mapping[str, Any], takes: Mapping[str, bool]) -> None:
    """Raises `UserError` for a setting that the attack does not have, or for one that it needs and lacks."""
    hint = f"settings: {', '.join(takes) or 'none'}"
    if unknown := [name for name in settings if name not in takes]:
        raise UserError(f"`attack` has no such setting, got: {', '.join(unknown)}", hint)
    if missing := [name for name, is_needed in takes.items() if is_needed and name not in settings]:
        raise UserError(f"`attack` must be given {', '.join(missing)}, got: {spec} without", hint)


def check_package(spec: str, package: str) -> None:
    """Raises `UserError` if an attack needs a package that is not installed."""
    if find_spec(package) is None:
        raise UserError(
            f"`attack` {spec} needs {package}, which is not installed", f"python -m pip install {package} installs it"
        )


def positive(name: str, value: Any) -> float:
    """A setting that must be a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise UserError(f"`attack` setting `{name}` must be a positive number, got: {value}")
    return float(value)


def built(spec: str, build: Callable[[], _T], settings: Iterable[str] = ()) -> _T:
    """The result of `build`, which makes an attack of a library's class, to find mistakes before the study begins.

    Raises:
        UserError: The library refuses the settings; the message has its own words.
    """
    try:
        with seeded(0, torch.device("cpu")), quietly():
            return build()
    except UserError:
        raise
    except FOREIGN as error:
        hint = f"settings: {', '.join(settings)}" if settings else ""
        raise UserError(f"`attack` {spec} is refused by its library: {one_line(error)}", hint) from error
