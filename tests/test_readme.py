"""The README's Python examples run, its links exist, and generated documentation is up to date."""

import inspect
import re
import runpy
from pathlib import Path

import pytest
from typer.main import get_command

from camdrift.cli.app import app
from camdrift.fuzzing.names import CONSTRAINT_WORDS, FRAMEWORK_WORDS, OPERATOR_WORDS, ORACLE_WORDS
from camdrift.tables.measures import CAPTUM, EXPLANATIONS, METRICS
from support.studies import draw_only

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_examples_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")  # so that no browser is opened
    draw_only(monkeypatch)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["study"].seeds.height == 2
    assert set(names["top"]["target"]) == {"seed"}
    assert names["similarity"].shape == (2,)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_every_file_that_a_page_names_exists():
    """Links from its own folder; tests and benchmarks, as one runs them, from the top."""
    links, scripts = [], []
    for page in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").glob("*.md"),
    ]:
        text = page.read_text(encoding="utf-8")
        links += [page.parent / link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "//" not in link]
        scripts += [ROOT / name for name in re.findall(r"(?<![\w/])(?:tests|benchmarks|docs)/[\w/]+\.py", text)]
    assert (len(links) > 20, len(scripts) > 20) == (True, True)
    assert [path for path in (*links, *scripts) if not path.exists()] == []


def test_options_named_in_the_readme_exist():
    from camdrift.cli.app import app

    known = {name for command in app.registered_commands for name in inspect.signature(command.callback).parameters}
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)) + " ".join(
        re.findall(r"`([^`]*)`", README)
    )
    options = {o.removeprefix("--").replace("-", "_") for o in re.findall(r"--[a-z][a-z-]+", commands)} - {"help"}
    assert {"resume", "out", "model", "weights", "attack", "limit"} <= options
    assert options - known == set()


def test_the_page_on_tables_is_the_one_that_records_make():
    made = runpy.run_path(str(ROOT / "docs/make_tables.py"))["tables_page"]()
    assert (ROOT / "docs/tables.md").read_text(encoding="utf-8") == made


def test_the_page_on_explanations_lists_their_rows():
    page = runpy.run_path(str(ROOT / "docs/make_tables.py"))["explanations_page"]()
    assert (ROOT / "docs/explanations.md").read_text(encoding="utf-8") == page
    assert page.count("\n| `layercam` | sum_k ReLU(G_k) A_k, cell by cell | Jiang 2021 |\n") == 1
    assert page.count("\n| `ssim` |") == 1


def test_the_page_on_fuzzing_lists_the_names():
    page = runpy.run_path(str(ROOT / "docs/make_tables.py"))["fuzzing_page"]()
    assert (ROOT / "docs/fuzzing.md").read_text(encoding="utf-8") == page
    for name in (*FRAMEWORK_WORDS, *ORACLE_WORDS, *CONSTRAINT_WORDS, *OPERATOR_WORDS):
        assert f"\n| `{name}` | " in page


@pytest.mark.parametrize(
    ("option", "names"), [("explain", (*EXPLANATIONS, f"{CAPTUM}:CLASS")), ("similarity", METRICS)]
)
def test_the_help_lists_every_explanation_and_metric(option, names):
    (help_text,) = [p.help for p in get_command(app).commands["run"].params if p.name == option]
    assert [name for name in re.findall(r"[\w+-]+(?::CLASS)?", help_text) if name in names] == [*names]


@pytest.mark.parametrize("name", ["heads", "robust"])
def test_results_come_from_the_stored_tables(name):
    made = runpy.run_path(str(ROOT / f"docs/make_{name}.py"))["page"]()
    assert (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") == made


def test_the_page_on_the_paper_is_the_one_that_its_tables_make():
    made = runpy.run_path(str(ROOT / "docs/make_paper.py"))["page"]()
    assert (ROOT / "docs/paper.md").read_text(encoding="utf-8") == made


def test_the_page_on_python_runs(tmp_path, monkeypatch, capfd):
    """With a small network in place of the embedded one, and a report that is not drawn."""
    import camdrift
    from support.studies import skip_report, tiny_classifier, write_images

    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")
    monkeypatch.setattr(camdrift, "load_model", lambda spec: tiny_classifier())
    skip_report(monkeypatch)
    write_images(tmp_path / "photos", 8)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["study"].headline() in capfd.readouterr().out
    assert names["one"].seeds["seed_id"].to_list() == [names["name"]]
    assert {"gain.png", "attacked.png", "layers.png"} <= {path.name for path in tmp_path.iterdir()}
    assert not names["large"].is_empty()


def test_the_page_on_python_lists_every_figure():
    from camdrift.figures.study import FIGURE_ROWS

    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    assert [row.name for row in FIGURE_ROWS if f"`{row.name}`" not in page] == []
