"""The documentation site builds without a warning, leads nowhere that is not there, and fetches nothing."""

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

import camdrift

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Page(HTMLParser):
    """Anchors of a page, where it leads, and what a browser fetches with it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get("src"):
            self.fetched.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, and what its making printed."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: python -m pip install -c constraints.txt -e '.[docs]'")
    top = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", top)
    shutil.copytree(DOCS, top / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    (top / "src").symlink_to(ROOT / "src")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    made = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return top / "site", (made.stdout + made.stderr).splitlines()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site):
    """Neither of links nor of docstrings; and every page of docs/ has its place in the navigation."""
    folder, lines = site
    words = ("Build started", "Build finished", "No issues found")
    assert [line for line in lines if line.strip() and not line.startswith(words)] == []
    named = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert named == {path.name for path in DOCS.glob("*.md")}
    assert [name for name in named if not (folder / name).with_suffix(".html").is_file()] == []
    assert [path.name for path in folder.rglob("*") if path.suffix in (".py", ".parquet", ".jinja")] == []


@pytest.mark.slow
def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(site):
    folder, _ = site
    pages = {path.resolve(): Page(path) for path in folder.glob("*.html") if path.name != "404.html"}
    broken, foreign = [], []
    for path, page in pages.items():
        foreign += [url for url in page.fetched if urlsplit(url).netloc]
        for url in (*page.links, *page.fetched):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (parts.fragment and parts.fragment not in pages[target].ids):
                broken.append((path.name, url))
    assert (len(pages) > 20, broken, foreign) == (True, [], [])


@pytest.mark.slow
def test_the_sample_report_is_on_the_site_as_it_was_made(site):
    folder, _ = site
    made = (DOCS / "sample/report.html").read_bytes()
    assert (folder / "sample/report.html").read_bytes() == made
    assert len(made) < 2e6
    assert re.findall(rb"(?:/tmp|/root|/home|/work)/", made) == []
    names = runpy.run_path(str(DOCS / "make_sample.py"))["PHOTOS"] if importlib.util.find_spec("skimage") else ()
    page = (DOCS / "sample.md").read_text(encoding="utf-8")
    assert [name for name in names if f"| `{name}` |" not in page] == []


@pytest.mark.slow
def test_every_public_name_has_its_docstring(site):
    folder, _ = site
    text = (folder / "api.html").read_text(encoding="utf-8")
    headings = set(re.findall(r"<h3[^>]*>\s*(camdrift\.\w+)", text))
    assert headings == {f"camdrift.{name}" for name in camdrift.__all__ if name != "__version__"}
    assert "What <code>load_model</code> or <code>wrap</code> returned." in text


@pytest.mark.parametrize("name", ["commands.md", "glossary.md", "api.md"])
def test_pages_are_those_that_the_code_makes(name):
    page = runpy.run_path(str(DOCS / "make_pages.py"))["PAGES"][name]
    assert (DOCS / name).read_text(encoding="utf-8") == page()


def test_the_how_to_pages_run(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    model, use = re.findall(r"```python\n(.*?)```", (DOCS / "own_model.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "net.py").write_text(model, encoding="utf-8")
    names = {}
    exec(compile(use, "own_model.md", "exec"), names)
    assert capsys.readouterr().out == "('0', '3')\n"
    (attack,) = re.findall(r"```python\n(.*?)```", (DOCS / "own_attack.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(attack, "own_attack.md", "exec"), names)
    image = torch.full((1, 3, 64, 64), 0.5)
    changed = names["sign_step"](names["classifier"], image.clone(), torch.tensor([0]), eps=2 / 255)
    assert (changed - image).abs().max().item() == pytest.approx(2 / 255, rel=1e-3)
