"""The layout holds: who may import whom, who may touch hooks, files, the terminal; how long things may be."""

import ast
from itertools import chain
from pathlib import Path

import pytest

from studies import WITHOUT_TORCH, python

PACKAGE = Path(__file__).parents[1] / "src" / "camdrift"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first; a file imports lower levels only. The folders are packages whose files may import each other.
LEVELS = (
    {"records", "errors", "streams", "clock", "provenance", "gain", "defects", "checksums", "interruption"},
    {"disk"},
    {"pieces"},
    {"measures", "spec", "lock", "archives", "dense", "engine", "cluster"},
    {"tensors", "memory", "settings", "user_code", "growth", "stats", "dose", "medians", "detector"},
    {"reading", "contrast", "alignment", "rounding"},
    {"ladder", "controls"},
    {"claims"},
    {"layouts", "labels", "images"},
    {"hooks", "places"},
    {"shards", "hf_images"},
    {"sources"},
    {"pairs", "selection", "tracing"},
    {"blocks"},
    {"layers"},
    {"models"},
    {"keras_weights", "weights", "hub", "exported"},
    {"zoo", "coverage", "explanations"},
    {"attacks", "noise", "explain", "variants", "recipe"},
    {"metrics"},
    {"similarity", "gallery"},
    {"store"},
    {"figures", "comparison_folder", "integrity", "remote"},
    {"report"},
    {"study"},
    {"detect", "sides"},
    {"comparison", "grid"},
    {"compare"},
    {"plan"},
    {"preflight", "listing", "preparation"},
    {"run_record"},
    {"resumption"},
    {"maps", "emulation", "focus", "denoised"},
    {"full_precision"},
    {"chunk"},
    {"worker"},
    {"actor"},
    {"dispatch"},
    {"run"},
    {"reproduce", "sweep", "verify"},
    {"progress", "options"},
    {"cli_studies"},
    {"cli"},
)
# The package itself only hands names on, and may name anything for type checkers.
ROOT = "__init__"
# What reads tables must work on a machine without the model.
NO_TORCH_IN = (
    "records", "settings", "stats", "gain", "spec", "dose", "medians", "store", "growth", "figures", "report", "study",
    "defects", "reading", "ladder", "claims", "controls", "pieces", "dense",
    "detector", "detect", "measures", "checksums", "lock", "archives", "integrity", "rounding",
    "alignment", "contrast", "sides", "comparison", "comparison_folder", "compare", "grid",
)  # fmt: skip


def module(path):
    """Name of a file's module below the package, such as `attacks.base`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def unit(name):
    """The file or folder of the package that a module belongs to."""
    return name.partition(".")[0]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


TREES = {module(path): tree(path) for path in FILES}
MODULES = set(TREES)


def imports(name):
    """Modules of the package that one module imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by a relative name"
            # `from camdrift.report import numbers` imports a file of that folder, not the folder.
            found |= {a if below(a := f"{node.module}.{n.name}") in MODULES else node.module for n in node.names}
    return {below(full) for full in found} & MODULES


def below(full):
    """A module's name without the package's; empty for what lies elsewhere."""
    return full.removeprefix("camdrift.") if full.startswith("camdrift.") else ""


def level(name):
    return next(number for number, names in enumerate(LEVELS) if unit(name) in names)


def foreign(name):
    """Top-level names of what a module imports from outside the package."""
    nodes = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = chain.from_iterable([a.name for a in n.names] if isinstance(n, ast.Import) else [n.module] for n in nodes)
    return {full.partition(".")[0] for full in names}


def calls(name):
    """Names of everything a module calls, as written: `open`, `path.open` gives `.open`."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield f".{node.func.attr}"
            elif isinstance(node.func, ast.Name):
                yield node.func.id


def functions(name):
    return [n for n in ast.walk(TREES[name]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_every_file_has_its_level():
    units = {unit(name) for name in MODULES} - {ROOT}
    assert units == set().union(*LEVELS)
    assert sum(len(names) for names in LEVELS) == len(units)


@pytest.mark.parametrize("name", sorted(MODULES - {ROOT}))
def test_imports_go_down(name):
    """Lower levels only, so never a sibling stage; files of one folder may import each other."""
    wrong = [other for other in imports(name) if unit(other) != unit(name) and level(other) >= level(name)]
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("folder", ["attacks", "figures", "report"])
def test_no_cycle_inside_a_folder(folder):
    graph = {
        name: {other for other in imports(name) if unit(other) == folder and other != name}
        for name in MODULES
        if unit(name) == folder
    }
    assert len(graph) > 2
    while graph:
        leaves = {name for name, others in graph.items() if not others & graph.keys()}
        assert leaves, f"cycle among {sorted(graph)}"
        graph = {name: others for name, others in graph.items() if name not in leaves}


def test_an_arrow_of_data_is_a_type_and_no_import():
    """The stages of the pipeline know each other's records, never each other."""
    stages = ("attacks", "noise", "explain", "similarity", "stats", "store")
    for name in MODULES:
        if unit(name) in stages:
            assert not {unit(other) for other in imports(name)} & (set(stages) - {unit(name)}), name


def test_torch_stays_out_of_tables():
    for name in MODULES:
        if unit(name) in NO_TORCH_IN:
            banned = foreign(name) & {"torch", "torchvision", "timm", "jaxtyping"}
            assert not banned, f"{name} imports {banned}"


def test_tables_and_reports_import_without_torch(tmp_path):
    """Also through other modules: a fresh process in which torch cannot be imported."""
    names = [name for name in sorted(MODULES) if unit(name) in NO_TORCH_IN]
    code = WITHOUT_TORCH + "\n".join(f"import camdrift.{name}" for name in names)
    code += "\nimport camdrift\nassert callable(camdrift.open)"
    code += "\ntry:\n    import torch\nexcept ImportError:\n    print('blocked')"
    done = python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "blocked\n"), done.stderr


def test_only_hooks_registers_hooks():
    """Any `register_*hook*`, and torch's global ways to see every call."""
    for name in MODULES - {"hooks"}:
        found = [c for c in calls(name) if c.startswith(".register_") and "hook" in c]
        assert not found, f"{name} calls {found}"


READS = {
    "open", ".open", ".read_bytes", ".read_text", ".read_parquet", ".scan_parquet", ".read_csv", ".load",
    ".File", ".safe_open", "load_file", ".fromfile", ".loadtxt",
}  # fmt: skip
WRITES = {
    ".write_bytes", ".write_text", ".write_parquet", ".sink_parquet", ".write_csv", ".savefig", ".save",
    ".savez", ".savez_compressed", ".dump", ".mkdir", ".unlink", ".rename", ".replace", ".rmtree", ".rmdir",
    ".touch",
}  # fmt: skip


def test_only_some_read_files():
    allowed = {
        "images",
        "sources",
        "shards",
        "hf_images",
        "zoo",
        "weights",
        "exported",
        "keras_weights",
        "store",
        "report",
        "grid",
    }
    allowed |= {"disk", "checksums", "archives"}
    # `PIL.Image.open` of bytes, `RunDirectory.open`, `os.open(os.devnull)` and `camdrift.open` open no other file.
    no_files = {"run": {".open"}, "study": {".open"}, "detect": {".open"}, "cli": {".open"}}
    no_files |= {"resumption": {".open"}, "lock": {".open"}, "integrity": {".open"}, "verify": {".open"}}
    for name in MODULES - {ROOT}:
        if unit(name) not in allowed:
            found = READS & set(calls(name)) - no_files.get(name, set())
            assert not found, f"{name} calls {sorted(found)}"


def test_only_store_and_report_write_files():
    for name in MODULES - {ROOT}:
        if unit(name) not in {"disk", "store", "report", "comparison_folder", "lock", "remote"}:
            found = WRITES & set(calls(name)) - {".replace"}  # of strings and columns
            assert not found, f"{name} calls {sorted(found)}"


def test_only_the_command_line_prints_and_exits():
    for name in MODULES - {"cli", "cli_studies"}:
        found = {"print", ".echo", "exit", "input"} & set(calls(name))
        assert not found, f"{name} calls {found}"
        if name not in {"progress", "options"}:
            assert not foreign(name) & {"rich", "typer"}, name
            exits = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.Attribute) and n.attr == "exit"]
            assert not exits, name


def test_no_global_state():
    """No `global`, and no module-level list, dictionary or set that is not declared final."""
    for name, parsed in TREES.items():
        assert not [n for n in ast.walk(parsed) if isinstance(n, ast.Global)], name
        for node in parsed.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Set | ast.ListComp):
                names = [t.id for t in node.targets if isinstance(t, ast.Name)]
                assert names == ["__all__"], f"{name} has a mutable {names}"


def test_no_random_state_but_from_streams():
    """Draws come from generators that are handed on: nobody seeds the process or draws from its state."""
    banned = {".manual_seed_all", ".set_rng_state", ".randint", ".randperm", ".default_rng"}
    allowed = {"attacks.dlfuzz": {".default_rng"}}
    # It lends the state to attack libraries, which draw from nothing else, and takes it back.
    for name in MODULES - {"attacks.seeding"}:
        found = banned & set(calls(name)) - allowed.get(name, set())
        assert not found, f"{name} calls {found}"
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in {"torch.manual_seed", "np.random.seed", "random.seed"}, name
                if call in {"torch.rand", "torch.randn"}:
                    assert "generator" in {k.arg for k in node.keywords}, f"{name}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_files_and_functions_are_short(name):
    path = next(path for path in FILES if module(path) == name)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    long = {f.name: length(f) for f in functions(name) if length(f) > 50}
    assert not long


def test_functions_are_short_at_the_median():
    lengths = sorted(length(f) for name in MODULES for f in functions(name))
    assert lengths[len(lengths) // 2] <= 10


@pytest.mark.parametrize("name", sorted(MODULES))
def test_everything_public_is_explained(name):
    """Every file, class and public function says in its first line what it is or returns."""
    parsed = TREES[name]
    assert ast.get_docstring(parsed), name
    public = [n for n in parsed.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    for node in [*public, *(part for found in public for part in found.body if isinstance(found, ast.ClassDef))]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            assert ast.get_docstring(node), f"{name}.{node.name}"
