"""Find functions of the user's own, by `path/to/file.py:name` or `package.module:name`."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from camdrift.errors import FOREIGN, UserError, one_line


def is_user_code(place: str) -> bool:
    """Is `place` a Python file, or an existing module?"""
    if place.endswith(".py"):
        return True
    try:
        with importing(Path.cwd()):
            return find_spec(place) is not None
    except (ImportError, ValueError):
        return False


def module_folder(place: str) -> Path:
    """Return the folder of the user's modules that `place` may import."""
    return Path(place).resolve().parent if place.endswith(".py") else Path.cwd()


def load_function(spec: str, *, option: str) -> Callable[..., Any]:
    """Import the function that `spec` names.

    Args:
        spec: `path/to/file.py:name` or `package.module:name`.
        option: Option that got the spec, for messages.

    Raises:
        UserError: No such file, module or function, or one that cannot be imported.
    """
    place, _, _ = spec.rpartition(":")
    with importing(module_folder(place)):
        _, function = find_function(spec, option=option)
    return function


def find_function(spec: str, *, option: str) -> tuple[ModuleType, Callable[..., Any]]:
    """Import the module and the function that `spec` names. The modules beside them must be importable already.

    Args:
        spec: `path/to/file.py:name` or `package.module:name`.
        option: Option that got the spec, for messages.

    Raises:
        UserError: No such file, module or function, or one that cannot be imported.
    """
    place, _, name = spec.rpartition(":")
    module = _import_file(Path(place), option) if place.endswith(".py") else _import_module(place, option)
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"`{option}` must name a function, got: {spec} (no `{name}` in {place})")
    return module, function


@contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Make the modules in `folder` importable, and leave no compiled file there."""
    before, path = sys.dont_write_bytecode, list(sys.path)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        sys.path[:] = path


def _import_file(path: Path, option: str) -> ModuleType:
    if not path.is_file():
        raise UserError(f"`{option}` must name a Python file, got: {path} (no such file)")
    spec = spec_from_file_location(f"camdrift_{option}_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except FOREIGN as error:
        del sys.modules[spec.name]
        raise UserError(f"`{option}` {path} could not be imported: {one_line(error)}") from error
    return module


def _import_module(name: str, option: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except FOREIGN as error:
        raise UserError(f"`{option}` {name} could not be imported: {one_line(error)}") from error
