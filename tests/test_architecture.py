"""The house stands as docs/architecture.md draws it: who imports whom, who touches hooks, files, the terminal."""

import ast
import re

import pytest

from support.structure import (
    PAGE,
    Structure,
    allowed,
    floors,
    is_participle,
    length,
    parameters,
    room_of,
    variables,
)
from support.studies import WITHOUT_TORCH, python

HOUSE = Structure()
MODULES = sorted(HOUSE.files)
ROOMS = sorted(HOUSE.rooms)
ALLOWED = allowed()
# The package itself only hands names on, and may name anything for type checkers.
ROOT = "__init__"


def rule(what):
    """Modules that a row of the page's table of rules speaks of."""
    (row,) = re.findall(rf"^\| {re.escape(what)} \| \w+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    places = [place.removesuffix(".py").strip("/").replace("/", ".") for place in re.findall(r"`([^`]+)`", row)]
    names = {name for name in MODULES for place in places if name == place or name.startswith(f"{place}.")}
    assert all(any(name == place or name.startswith(f"{place}.") for name in MODULES) for place in places), row
    return names


def test_the_page_names_every_room_and_ground_file():
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(ALLOWED) == ROOMS
    assert {
        name.removesuffix(".py") for name in re.findall(r"`(\w+\.py)`", page.partition("Ground files")[2])
    } >= HOUSE.ground
    assert all(re.search(rf"\b{room}\b", page.partition("## Rooms")[0]) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_names(room):
    beyond = HOUSE.arrows()[room] - ALLOWED[room]
    assert not beyond, f"{room} imports {sorted(beyond)}"


def test_every_arrow_of_the_page_is_there():
    """A row that allows more than its room needs would hide the next odd arrow."""
    arrows = HOUSE.arrows()
    assert {room: sorted(ALLOWED[room] - arrows[room]) for room in ROOMS if ALLOWED[room] - arrows[room]} == {}


def test_rooms_lie_on_the_floors_of_the_page():
    rows = re.findall(r"^\| (\d+) \| `(\w+)/` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {room: int(number) for number, room in rows} == floors(HOUSE.arrows())


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_inside_a_room(room):
    floors(HOUSE.inside(room))


def test_ground_files_import_each_other_alone():
    for name in HOUSE.ground:
        assert HOUSE.imports(name) <= HOUSE.ground, name
    floors({name: set(HOUSE.imports(name)) for name in HOUSE.ground})


def test_a_room_opens_with_its_docstring_alone():
    for name in ROOMS:
        tree = HOUSE.trees[name]
        assert ast.get_docstring(tree), name
        assert len(tree.body) == 1, name


def test_stages_hand_records_on_and_never_call_each_other():
    """An arrow of data is a type, not an import: attack, noise, maps and similarity meet in the chunk alone."""
    stages = {"pipeline.noise", "explanations.attribution", "explanations.similarity", "statistics.layers"}
    for name in stages:
        assert not HOUSE.imports(name) & (stages - {name}), name


def test_torch_stays_out_of_tables():
    for name in rule("torch is imported"):
        banned = HOUSE.foreign(name) & {"torch", "torchvision", "timm", "jaxtyping"}
        assert not banned, f"{name} imports {banned}"


def test_tables_and_reports_import_without_torch(tmp_path):
    """Also through other modules: a fresh process in which torch cannot be imported."""
    code = WITHOUT_TORCH + "\n".join(f"import camdrift.{name}" for name in sorted(rule("torch is imported")))
    code += "\nimport camdrift\nassert callable(camdrift.open)"
    code += "\ntry:\n    import torch\nexcept ImportError:\n    print('blocked')"
    done = python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "blocked\n"), done.stderr


def test_hooks_are_registered_in_layers():
    """Any `register_*hook*`, and torch's global ways to see every call."""
    for name in set(MODULES) - rule("a hook is registered on a module"):
        calls = [c for c in HOUSE.calls(name) if c.startswith(".register_") and "hook" in c]
        assert not calls, f"{name} calls {calls}"


READS = {
    "open", ".open", ".read_bytes", ".read_text", ".read_parquet", ".scan_parquet", ".read_csv", ".load",
    ".File", ".safe_open", "load_file", ".fromfile", ".loadtxt",
}  # fmt: skip
WRITES = {
    ".write_bytes", ".write_text", ".write_parquet", ".sink_parquet", ".write_csv", ".savefig", ".save",
    ".savez", ".savez_compressed", ".dump", ".mkdir", ".unlink", ".rename", ".rmtree", ".rmdir", ".touch",
}  # fmt: skip
# They open a run, and the browser.
OPENS_NO_FILE = {"RunDirectory.open", "webbrowser.open"}


def test_files_are_read_where_the_page_says():
    for name in set(MODULES) - rule("a file is read") - {ROOT}:
        calls = READS & HOUSE.calls(name, without=OPENS_NO_FILE)
        assert not calls, f"{name} calls {sorted(calls)}"


def test_files_are_written_where_the_page_says():
    for name in set(MODULES) - rule("a file is written") - {ROOT}:
        calls = writes(name)
        assert not calls, f"{name} calls {sorted(calls)}"


def writes(name):
    """Calls of a module that write files: not those that save into a buffer in memory."""
    nodes = list(ast.walk(HOUSE.trees[name]))
    made = [node for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.value) == "BytesIO()"]
    buffers = {ast.unparse(target) for node in made for target in node.targets}
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return WRITES & {f".{c.func.attr}" for c in calls if not (c.args and ast.unparse(c.args[0]) in buffers)}


def test_only_the_command_line_prints_and_exits():
    for name in set(MODULES) - rule("something is printed, the process ends, input is asked for"):
        calls = {"print", ".echo", "exit", "input"} & HOUSE.calls(name)
        assert not calls, f"{name} calls {calls}"
        exits = [n for n in ast.walk(HOUSE.trees[name]) if isinstance(n, ast.Attribute) and n.attr == "exit"]
        assert not exits, name
    for name in set(MODULES) - rule("the terminal's libraries are imported"):
        assert not HOUSE.foreign(name) & {"rich", "typer"}, name


def test_no_global_state():
    """No `global`, and no module-level list, dictionary or set that is not declared final."""
    for name, parsed in HOUSE.trees.items():
        assert not [n for n in ast.walk(parsed) if isinstance(n, ast.Global)], name
        for node in parsed.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Set | ast.ListComp):
                names = [t.id for t in node.targets if isinstance(t, ast.Name)]
                assert names == ["__all__"], f"{name} has a mutable {names}"


def test_no_random_state_but_from_streams():
    """Draws come from generators that are handed on: nobody seeds the process or draws from its state."""
    banned = {".manual_seed_all", ".set_rng_state", ".randint", ".randperm"}
    for name in set(MODULES) - rule("the random state of the process is set"):
        calls = banned & HOUSE.calls(name)
        assert not calls, f"{name} calls {calls}"
        for node in ast.walk(HOUSE.trees[name]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in {"torch.manual_seed", "np.random.seed", "random.seed"}, name
                if call in {"torch.rand", "torch.randn"}:
                    assert "generator" in {k.arg for k in node.keywords}, f"{name}: {ast.unparse(node)}"
                if node.func.attr == "default_rng":
                    assert ast.unparse(node.args[0]).startswith("stream_seed("), f"{name}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", MODULES)
def test_files_are_short(name):
    assert len(HOUSE.files[name].read_text(encoding="utf-8").splitlines()) <= 400


def test_functions_are_short():
    lengths = sorted((length(f), f"{name}.{f.name}") for name, f in HOUSE.functions())
    assert lengths[len(lengths) // 2][0] <= 10
    assert [entry for entry in lengths if entry[0] > 40] == []


def test_functions_take_few_parameters():
    """Commands aside: they take what a caller may say."""
    counts = [(len(parameters(f)), f"{name}.{f.name}") for name, f in HOUSE.functions() if room_of(name) != "cli"]
    assert [entry for entry in counts if entry[0] > 8] == []


def test_no_public_name_means_two_things():
    """A contract alone may have one name in every file that keeps it."""
    contracts = {
        "recipe": "attacks.from_",
        "defence": "defences.",
        "perturbation": "perturbations.from_",
        "compute": "engine.",
    }
    for name, places in HOUSE.definitions().items():
        if len(places) > 1:
            assert name in contracts, f"{name} is defined in {', '.join(sorted(places))}"
            assert all(place.startswith(contracts[name]) for place in places), name


def test_variables_are_nouns():
    names = {
        f"{name}.{f.name}": sorted(filter(is_participle, variables(f)))
        for name, f in HOUSE.functions()
        if any(map(is_participle, variables(f)))
    }
    assert len(names) <= len(HOUSE.functions()) // 100, names


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_explained(name):
    """Every file, class and public function says in its first line what it is or returns."""
    parsed = HOUSE.trees[name]
    assert ast.get_docstring(parsed), name
    public = [n for n in parsed.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    for node in [*public, *(part for found in public for part in found.body if isinstance(found, ast.ClassDef))]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            assert ast.get_docstring(node), f"{name}.{node.name}"
