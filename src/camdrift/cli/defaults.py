"""Defaults of options: variables such as CAMDRIFT_DEVICE, and a settings file.

What stands on the command line goes first, then the variable, then the file. A file in the working directory is not
looked for: a folder of somebody else's could name code to run.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer

from camdrift.errors import UserError
from camdrift.specs import nearest

# Names the settings file; without it that in the user's own configuration counts.
SETTINGS: Final = "CAMDRIFT_SETTINGS"
# What one run is about is said for each run.
_OF_ONE_RUN: Final = (
    "adversarial",
    "cross",
    "limit",
    "name",
    "out",
    "overwrite",
    "perturb",
    "resume",
    "sample",
    "trust",
)


def variable(flag: str) -> str | None:
    """Return the variable of the environment that gives an option its default; None if none does.

    Example:
        >>> variable("noise-ladder"), variable("out")
        ('CAMDRIFT_NOISE_LADDER', None)
    """
    return None if flag in _OF_ONE_RUN else f"CAMDRIFT_{flag.replace('-', '_').upper()}"


def settings(kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the defaults in the settings file by name of the parameter; nothing where there is no file.

    Args:
        kinds: The type that the command line reads, of every option that there is.

    Raises:
        UserError: The file cannot be read, or has other keys or values.
    """
    name = os.environ.get(SETTINGS)
    file = Path(name) if name else Path(typer.get_app_dir("camdrift")) / "settings.toml"
    if not name and not file.is_file():
        return {}
    # Here and not above, so that --help comes at once.
    from camdrift.study.defaults import read_defaults

    names = [flag for flag in kinds if variable(flag) is not None]
    values = {}
    for key, value in read_defaults(file).items():
        flag = key.replace("_", "-")
        if flag not in names:
            raise UserError(
                f"the settings file {file} must have keys that are options, got: {key}",
                f"{nearest(flag, names)}options: {', '.join(sorted(names))}",
            )
        if not _fits(value, kinds[flag]):
            rule = "true or false" if kinds[flag] is bool else "a text, a number or a list of them"
            raise UserError(
                f"`{key}` of the settings file {file} must be {rule}, got: {value}",
                'such as device = "cuda", noise-ladder = [8, 16], denoised = true',
            )
        values[flag.replace("-", "_")] = ",".join(map(str, value)) if isinstance(value, list) else value
    return values


def _fits(value: Any, kind: type) -> bool:
    """May a value of the settings file stand for an option of a type?"""
    if kind is bool:
        return isinstance(value, bool)
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items)


def value_of(error: typer.TyperException) -> str:
    """Return the value that cannot be read, for the end of a message; empty for other mistakes.

    Args:
        error: What the command line raised.
    """
    reasons: list[Any] = getattr(error.__cause__, "errors", list)()
    return f", got: {reasons[0]['input']}" if reasons else ""


def source_of(error: typer.TyperException) -> str:
    """Return where a value was set that cannot be read, for the beginning of a hint; empty for the command line.

    Args:
        error: What the command line raised.
    """
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    source = None if context is None or parameter is None else context.get_parameter_source(parameter.name)
    places = {"ENVIRONMENT": f"{getattr(parameter, 'envvar', '')} sets it", "DEFAULT_MAP": "the settings file sets it"}
    place = places.get(getattr(source, "name", ""))
    return "" if place is None else f"{place}; "
