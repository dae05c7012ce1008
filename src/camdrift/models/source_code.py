"""The user's own Python code behind a spec or a module, by checksum. Code of installed packages is none of it."""

import ast
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from torch import nn

from camdrift.user_code import module_folder

# The start of the SHA-256 of every file or class, by its name.
Code = dict[str, str]

_DIGITS: Final = 16
_PACKAGES: Final = {"site-packages", "dist-packages"}
_LIBRARY: Final = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_CAMDRIFT: Final = Path(__file__).resolve().parents[1]
_IMPORTERS: Final = {"import_module", "__import__"}


def code_of(place: str) -> Code | None:
    """Return the user's code in a file or module, and in all that it imports; None for an installed package.

    Imports are read and not run, so that those inside functions count, too.

    Args:
        place: `path/to/file.py` or `package.module`.
    """
    folder = module_folder(place)
    is_file = place.endswith(".py")
    first = Path(place).resolve() if is_file else _file_of(place, folder)
    if first is None or not _is_users(first):
        return None
    files = {first: None}
    names = [*_imports(first, "" if is_file else place)]
    past = set[str]()
    while names:
        name = names.pop()
        if name in past:
            continue
        past.add(name)
        path = _file_of(name, folder)
        if path is not None and path not in files and _is_users(path):
            files[path] = None
            names += _imports(path, name)
    return {_name(path, folder): _checksum(path.read_bytes()) for path in sorted(files)}


def code_of_classes(module: nn.Module) -> Code | None:
    """Return the source of the user's classes of which a module is made; None for none."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    code = {}
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        try:
            file = inspect.getsourcefile(kind)
            if file is not None and _is_users(Path(file)):
                code[f"class {kind.__qualname__}"] = _checksum(inspect.getsource(kind).encode("utf-8", "replace"))
        except (OSError, TypeError, SyntaxError):
            continue  # built in, or made without a file
    return code or None


def _is_users(path: Path) -> bool:
    """Does a file belong to the user, and to no installed package?"""
    is_installed = bool(_PACKAGES & {*path.parts}) or any(path.is_relative_to(folder) for folder in _LIBRARY)
    return not is_installed and not path.is_relative_to(_CAMDRIFT)


def _file_of(name: str, folder: Path) -> Path | None:
    """Return the Python file of a module, looked for in a folder first; None for one without, or unknown."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    places: list[str] | None = [str(folder), *sys.path]
    spec = None
    for number in range(1, name.count(".") + 2):
        spec = None if places is None else PathFinder.find_spec(".".join(name.split(".")[:number]), places)
        if spec is None:
            break
        places = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    # Packages that are installed from their folder may be known to a finder of their own alone.
    origin = getattr(sys.modules.get(name), "__file__", None) if spec is None else spec.origin
    return Path(origin).resolve() if origin is not None and origin.endswith(".py") else None


def _imports(path: Path, name: str) -> Iterator[str]:
    """Yield the full names of modules that a file imports, and of those that `from ... import` may mean.

    Args:
        path: The file.
        name: Full name of its module; empty for a file that is in no package.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _importer(node) and isinstance(node.args[0], ast.Constant):
            yield from _with_parents(str(node.args[0].value))


def _importer(call: ast.Call) -> bool:
    """Is this a call of a function that imports the module whose name it gets?"""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _IMPORTERS and bool(call.args)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:number]) for number in range(1, len(parts) + 1))


def _name(path: Path, folder: Path) -> str:
    """Return the name of a file below a folder; of one elsewhere its last two parts."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else "/".join(path.parts[-2:])


def _checksum(data: bytes) -> str:
    return sha256(data.replace(b"\r\n", b"\n")).hexdigest()[:_DIGITS]
