"""Defences made from specs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from camdrift.defences.base import Defence
from camdrift.defences.registry import DEFENCE_FORMS, DEFENCE_LIBRARIES, DEFENCES
from camdrift.errors import UserError, install_hint, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.source_code import code_of
from camdrift.specs import nearest, parse_spec, write_spec
from camdrift.user_code import is_user_code


class Learnt(Protocol):
    """Keeps what defences have learnt, so that it is learnt once."""

    def find(self, key: str) -> Mapping[str, Tensor] | None:
        """Tensors that were kept under a key; None for none."""
        ...

    def keep(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a key."""
        ...


@dataclass(frozen=True)
class Workshop:
    """For what defences are made, and what they may learn from.

    Attributes:
        geometry: Keyword arguments of `read_image`.
        seeds: Checksums of the seed images, which nothing may be trained on.
        rng_seed: Seed of every random draw.
        device: Where networks are trained, and run.
        learnt: Keeps what defences have learnt; None to keep nothing.
        classifier: The network, for defences that learn from it.
        show: Called with a line on what takes time.
    """

    geometry: Mapping[str, Any]
    seeds: frozenset[str] = frozenset()
    rng_seed: int = 0
    device: str = "cpu"
    learnt: Learnt | None = None
    classifier: Classifier | None = None
    show: Callable[[str], None] = lambda line: None


def make_defence(spec: str, workshop: Workshop) -> Defence:
    """The defence that `spec` names.

    Args:
        spec: A name of `registry.DEFENCES`, `art:CLASS`, or a function, `path/to/file.py:NAME` or
            `package.module:NAME`; each with settings if wanted: `jpeg(quality=50)`.
        workshop: Where and for what.

    Raises:
        UserError: An unknown defence or setting, a value that a setting cannot have, a missing library.
    """
    request = parse_spec(_with_names(spec), option="defence")
    if request.name in DEFENCES:
        row = DEFENCES[request.name]
        module = import_module(f"camdrift.defences.{row.module}")
        settings = {**row.settings, **request.settings}
        defence: Defence = module.defence(write_spec(request.name, settings), settings, workshop)
        return defence
    library, colon, name = request.name.partition(":")
    if colon and library in DEFENCE_LIBRARIES:
        return _of_library(library, name, request.settings, workshop)
    if colon and is_user_code(request.name.rpartition(":")[0]):
        module = import_module("camdrift.defences.from_function")
        function: Defence = module.defence(request.name, request.settings, workshop)
        return function
    raise UserError(
        f"`defence` must be one of {', '.join(DEFENCES)}, or name one of a library, got: {request.name}",
        f"{nearest(request.name, DEFENCES)}{', '.join(DEFENCE_FORMS)}",
    )


def code_checksum(function: str) -> str:
    """The checksum of a defence behind which a user's function is: that of its code.

    Args:
        function: `path/to/file.py:NAME` or `package.module:NAME`.
    """
    code = code_of(function.rpartition(":")[0]) or {}
    return " ".join(f"{file} {checksum}" for file, checksum in sorted(code.items()))


def _with_names(spec: str) -> str:
    """The spec with the name of its only setting, where that is left out: `median(3)`."""
    name, bracket, rest = spec.strip().partition("(")
    row = DEFENCES.get(name)
    value = rest[:-1].strip()
    if row is None or len(row.settings) != 1 or not bracket or not rest.endswith(")") or not value or "=" in value:
        return spec
    return f"{name}({next(iter(row.settings))}={value})"


def _of_library(library: str, name: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    module = import_module(f"camdrift.defences.{DEFENCE_LIBRARIES[library]}")
    try:
        defence: Defence = module.defence(name, settings, workshop)
    except ImportError as error:
        raise UserError(
            f"`defence` {library}:{name} cannot be imported: {one_line(error)}", install_hint("attacks")
        ) from error
    return defence


def ranged_setting(
    spec: str, settings: dict[str, Any], name: str, low: float, high: float, *, is_whole: bool = False
) -> Any:
    """A setting that is a number of a range.

    Raises:
        UserError: It is none, or lies outside.
    """
    value = settings[name]
    is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        kind = "a whole number" if is_whole else "a number"
        raise UserError(f"`defence` setting `{name}` must be {kind} from {low:g} to {high:g}, got: {value}", spec)
    return value


def check_setting_names(spec: str, settings: dict[str, Any], *names: str) -> None:
    """Raise `UserError` for settings that a defence does not have."""
    unknown = [name for name in settings if name not in names]
    if unknown:
        words = f"settings: {', '.join(names)}" if names else "it has none"
        raise UserError(f"`defence` {spec} has no such setting, got: {', '.join(unknown)}", words)
