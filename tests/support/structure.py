"""The structure of the package, read from its code: rooms, arrows, names, functions.

A *room* is a folder of `src/camdrift`, a *ground file* a file beside the folders. An *arrow* goes from a room to one
that it imports. `docs/architecture.md` says which arrows there may be. `python tests/support/structure.py` prints the
measures of the whole.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Collection
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "camdrift"
PAGE = ROOT / "docs" / "architecture.md"

# Words that say what was done to a thing, and not what it is. Nouns, verbs and terms of the field that only look so are
# left out.
_IRREGULAR = (
    "begun bought brought built caught chosen cut done drawn felt found given gone got had heard held kept known left "
    "lost made meant met paid put read run said seen sent shown sought spent split stood struck taken thought thrown "
    "told torn understood won written"
)
_NO_PARTICIPLES = {"cut", "embed", "feed", "left", "need", "put", "read", "red", "run", "seed", "speed", "split"}
PARTICIPLES = frozenset(_IRREGULAR.split()) - _NO_PARTICIPLES


# Where the package begins when it is imported, and when it is run.
_ENTRIES = {"__init__", "__main__"}


class Structure:
    """What stands in the files of a package.

    Attributes:
        files: Path of every module by name, such as `attacks.base`; the package itself is `__init__`.
        trees: Its syntax tree, by the same names.
    """

    def __init__(self, package: Path = PACKAGE) -> None:
        self.files = {_module(path.relative_to(package)): path for path in sorted(package.rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self.rooms = {name.partition(".")[0] for name, path in self.files.items() if path.parent != package}
        self.ground = set(self.files) - _ENTRIES - {name for name in self.files if room_of(name) in self.rooms}

    @cache  # noqa: B019
    def imports(self, name: str) -> frozenset[str]:
        """Modules of the package that one module imports, wherever in the file it does."""
        targets = set()
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports by a relative name"
                # `from camdrift.report import numbers` imports a file of that folder, not the folder.
                targets |= {
                    a if _below(a := f"{node.module}.{n.name}") in self.files else node.module for n in node.names
                }
        return frozenset({_below(full) for full in targets} & self.files.keys())

    def arrows(self) -> dict[str, set[str]]:
        """By room the others that it imports."""
        arrows: dict[str, set[str]] = {room: set() for room in self.rooms}
        for name in self.files:
            if (room := room_of(name)) in self.rooms:
                arrows[room] |= {room_of(other) for other in self.imports(name)} & self.rooms - {room}
        return arrows

    def inside(self, room: str) -> dict[str, set[str]]:
        """By file of a room the others of that room that it imports."""
        names = {name for name in self.files if room_of(name) == room}
        return {name: set(self.imports(name)) & names - {name} for name in names}

    def foreign(self, name: str) -> set[str]:
        """Top-level names of what a module imports from outside the package."""
        nodes = [n for n in ast.walk(self.trees[name]) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = chain.from_iterable(
            [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or ""] for n in nodes
        )
        return {full.partition(".")[0] for full in names}

    def calls(self, name: str, *, without: Collection[str] = ()) -> set[str]:
        """Names of everything a module calls: `open(...)` gives `open`, `path.open(...)` gives `.open`.

        Args:
            name: The module.
            without: Calls to leave out, as they are written: `webbrowser.open`.
        """
        calls = [node.func for node in ast.walk(self.trees[name]) if isinstance(node, ast.Call)]
        functions = [function for function in calls if ast.unparse(function) not in without]
        methods = {f".{function.attr}" for function in functions if isinstance(function, ast.Attribute)}
        return methods | {function.id for function in functions if isinstance(function, ast.Name)}

    def functions(self) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Every function with the name of its module."""
        return [
            (name, node)
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    def definitions(self) -> dict[str, set[str]]:
        """By public name that a module defines at its top level: the modules that do."""
        places = defaultdict(set)
        for module, tree in self.trees.items():
            for node in tree.body:
                for name in _defined(node):
                    if not name.startswith("_"):
                        places[name].add(module)
        return dict(places)


def room_of(name: str) -> str:
    """The room of a module, or the module itself where it is a ground file."""
    return name.partition(".")[0]


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """By room the length of the longest way down from it, the lowest 1.

    Raises:
        ValueError: The arrows run in a circle.
    """
    floor: dict[str, int] = {}
    while len(floor) < len(arrows):
        ready = {room for room in arrows.keys() - floor.keys() if arrows[room] <= floor.keys()}
        if not ready:
            raise ValueError(f"a circle among {sorted(arrows.keys() - floor.keys())}")
        floor |= {room: 1 + max((floor[other] for other in arrows[room]), default=0) for room in ready}
    return floor


def allowed() -> dict[str, set[str]]:
    """By room the others that it may import, as the page on the architecture says."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)/` \| .+? \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {room: set(re.findall(r"\w+", names)) - {"nothing"} for _, room, names in rows}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of a function's parameters, without `self`."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [name for name in names if name not in ("self", "cls")]


def variables(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Parameters of a function and names that it assigns, without those of functions inside it."""
    names, nodes = set(parameters(function)), list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        nodes.extend(ast.iter_child_nodes(node))
    return names


def is_participle(name: str) -> bool:
    """Does a variable's name say what was done to a thing, and not what it is?"""
    if name in _NO_PARTICIPLES:
        return False
    return name == "of" or name in PARTICIPLES or bool(re.fullmatch(r"[a-z]+ed", name))


def _module(path: Path) -> str:
    name = ".".join(path.with_suffix("").parts)
    return name if name in _ENTRIES else name.removesuffix(".__init__")


def _below(full: str) -> str:
    """A module's name without the package's; empty for what lies elsewhere."""
    return full.removeprefix("camdrift.") if full.startswith("camdrift.") else ""


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement at a module's top level defines; imports define none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def measures(package: Path = PACKAGE) -> dict[str, str]:
    """The measures of the whole, in words."""
    structure = Structure(package)
    arrows = structure.arrows()
    functions = structure.functions()
    floor = floors(arrows)
    circles = [room for room in structure.rooms if _has_circle(structure.inside(room))]
    commands = {"cli.studies", "cli.results", "cli.listing", "cli"}
    most = max((len(parameters(f)), f"{name}.{f.name}") for name, f in functions if name not in commands)
    longest = max((length(f), f"{name}.{f.name}") for name, f in functions)
    named = [f for _, f in functions if any(map(is_participle, variables(f)))]
    twice = sorted(name for name, places in structure.definitions().items() if len(places) > 1)
    return {
        "folders and files on the first level": f"{len(structure.rooms)} and {len(structure.ground) + len(_ENTRIES)}",
        "arrows between rooms": str(sum(map(len, arrows.values()))),
        "floors": str(max(floor.values())),
        "rooms with a circle inside": ", ".join(circles) or "none",
        "public names defined in two modules": f"{len(twice)}: {', '.join(twice)}" if twice else "none",
        "functions with a participle or `of` as a variable": f"{len(named)} of {len(functions)}",
        "longest function, in lines": f"{longest[0]} ({longest[1]})",
        "most parameters of a function, commands aside": f"{most[0]} ({most[1]})",
    }


def _has_circle(arrows: dict[str, set[str]]) -> bool:
    try:
        floors(arrows)
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    for measure, value in measures(Path(sys.argv[1]) / "src" / "camdrift" if sys.argv[1:] else PACKAGE).items():
        sys.stdout.write(f"{measure}: {value}\n")
