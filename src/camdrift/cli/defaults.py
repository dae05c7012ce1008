"""Defaults of options: variables such as CAMDRIFT_DEVICE, and a settings file.

What stands on the command line goes first, then the variable, then the file. A file in the working directory is not
looked for: a folder of somebody else's could name code to run.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import typer

from camdrift.errors import UserError
from camdrift.specs import nearest

# Names the settings file; without it that in the user's own configuration counts.
SETTINGS: Final = "CAMDRIFT_SETTINGS"
# What one run is about is said for each run.
_OF_ONE_RUN: Final = ("adversarial", "limit", "name", "out", "overwrite", "resume", "sample")


def variable(flag: str) -> str | None:
    """Return the variable of the environment that gives an option its default; None if none does.

    Example:
        >>> variable("noise-ladder"), variable("out")
        ('CAMDRIFT_NOISE_LADDER', None)
    """
    return None if flag in _OF_ONE_RUN else f"CAMDRIFT_{flag.replace('-', '_').upper()}"


def settings(flags: Iterable[str]) -> dict[str, Any]:
    """Return the defaults in the settings file by name of the parameter; nothing where there is no file.

    Args:
        flags: Every option that there is.

    Raises:
        UserError: The file cannot be read, or has other keys.
    """
    name = os.environ.get(SETTINGS)
    file = Path(name) if name else Path(typer.get_app_dir("camdrift")) / "settings.toml"
    if not name and not file.is_file():
        return {}
    # Here and not above, so that --help comes at once.
    from camdrift.study.defaults import read_defaults

    names = [flag for flag in flags if variable(flag) is not None]
    values = {}
    for key, value in read_defaults(file).items():
        flag = key.replace("_", "-")
        if flag not in names:
            raise UserError(
                f"the settings file {file} must have keys that are options, got: {key}",
                f"{nearest(flag, names)}options: {', '.join(sorted(names))}",
            )
        values[flag.replace("-", "_")] = ",".join(map(str, value)) if isinstance(value, list) else value
    return values
