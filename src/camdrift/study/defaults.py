"""A settings file: defaults of options that a person sets once."""

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.storage.disk import read_small

_MOST_BYTES: Final = 2**20


def read_defaults(file: Path) -> dict[str, Any]:
    """Return the keys and values of a settings file in TOML; it is the reader's own, and may be a link.

    Raises:
        UserError: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_small(Path(os.path.realpath(file)), _MOST_BYTES).decode())
    except OSError as error:
        raise UserError(
            f"the settings file {file} cannot be read: {error.strerror}", "CAMDRIFT_SETTINGS names another one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the settings file {file} must be TOML: {error}", 'such as device = "cuda"') from error
