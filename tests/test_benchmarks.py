"""Every benchmark finds what it imports, wherever in the file it does, also in programs that it holds as text."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))


def imports(code):
    """Modules and names that a program imports, and those of programs among its texts."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import():
                yield from ((alias.name, None) for alias in node.names)
            case ast.ImportFrom():
                yield from ((node.module, alias.name) for alias in node.names)
            case ast.Constant(value=str(text)) if "import " in text:
                try:
                    yield from imports(text)
                except SyntaxError:  # prose
                    continue


def is_there(module, name):
    """Of other libraries the module alone is looked for: importing them takes seconds."""
    if (FOLDER / f"{module}.py").is_file():
        return True
    if module.partition(".")[0] != "camdrift":
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    try:
        found = importlib.import_module(module)
        return name is None or hasattr(found, name) or is_there(f"{module}.{name}", None)
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_it_imports_is_there(path):
    asked = set(imports(path.read_text(encoding="utf-8")))
    assert asked
    assert [one for one in sorted(asked, key=str) if not is_there(*one)] == []


def test_programs_among_texts_are_searched_and_what_is_gone_is_told():
    found = dict(
        imports("x = 'import camdrift.no_such_room'\ny = 'we import nothing: really'\nfrom camdrift import run")
    )
    assert found == {"camdrift.no_such_room": None, "camdrift": "run"}
    assert not is_there("camdrift.no_such_room", "run")
    assert not is_there("camdrift.specs", "no_such_name")
    assert is_there("camdrift", "run")
