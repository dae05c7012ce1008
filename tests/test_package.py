"""The package as it is built: its long description, its marks, its extras."""

import importlib
import importlib.util
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from camdrift.errors import StoreError
from camdrift.report.page import assets

HOME = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", HOME / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_into_the_repository_become_words_or_addresses(build):
    text = "![A cat](docs/cat.png)\n\nSee [the [1] page](docs/a.md), [above](#top) and [us](https://x.org/a)."
    assert build.long_description(text) == "\n\nSee the [1] page, above and [us](https://x.org/a)."
    based = build.long_description(text, "https://x.org/b/")
    assert "![A cat](https://x.org/b/docs/cat.png)" in based
    assert "[the [1] page](https://x.org/b/docs/a.md), above and" in based


def test_the_readme_keeps_no_link_that_breaks(build):
    text = build.long_description((HOME / "README.md").read_text(encoding="utf-8"))
    assert "](docs/" not in text
    assert "](http" in text


def test_the_script_of_the_pages_is_there_with_its_licences(build):
    """The build writes it; its first line says what it holds, and the licences are those of these versions."""
    script = (HOME / build.SCRIPT).read_text(encoding="utf-8")
    versions = re.findall(r"(?:Vega|Vega-Embed) [\d.]+", script.partition("*/")[0])
    licences = (HOME / "LICENSE.plotting_library").read_text(encoding="utf-8")
    assert [words.split()[0] for words in versions] == ["Vega", "Vega-Embed"]
    assert [words for words in versions if words not in licences] == []
    assert "window.vegaEmbed" in script
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    (needed,) = [each for each in project["build-system"]["requires"] if each.startswith("vl-convert")]
    assert needed.replace("==", " ") in licences
    assert needed in (HOME / "constraints.txt").read_text(encoding="utf-8")
    for name in ("BSD-3-Clause", "ISC", "MIT", "Unlicense"):
        assert f"({name})" in licences
        assert name in project["project"]["license"]


def test_sources_that_were_never_built_say_so(monkeypatch):
    monkeypatch.setattr(assets, "files", lambda _: HOME / "docs")
    assets.plotting_library.cache_clear()
    with pytest.raises(StoreError, match="the script that draws charts is not there") as error:
        assets.plotting_library()
    assert "pip install -e ." in error.value.hint


def test_it_is_typed_and_every_extra_is_in_all():
    assert files("camdrift").joinpath("py.typed").is_file()
    extras = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = extras["all"][0].partition("[")[2].rstrip("]").split(",")
    # What nrtk needs wants a newer requests than torchattacks allows.
    assert set(names) == set(extras) - {"all", "bench", "dev", "docs", "nrtk"}


@pytest.mark.parametrize(
    ("names", "place"),
    [
        ("tables.measures.ExplanationName", "tables.measures.EXPLANATIONS"),
        ("tables.measures.MapMetricName", "tables.measures.MAP_METRICS"),
        ("tables.measures.MetricName", "tables.measures.METRICS"),
        ("tables.further.TableName", "tables.further.RUN_TABLES"),
        ("attacks.registry.AttackName", "attacks.registry.NAMES"),
        ("figures.study.FigureName", "figures.study.FIGURE_ROWS"),
    ],
)
def test_what_completion_offers_is_what_there_is(names, place):
    """Names are written out for type checkers, which read no registry."""

    def at(dotted):
        module, _, name = dotted.rpartition(".")
        return getattr(importlib.import_module(f"camdrift.{module}"), name)

    def flat(kind):
        return {name for part in get_args(kind) for name in (flat(part) if get_args(part) else {part})}

    assert flat(at(names)) == {getattr(row, "name", row) for row in at(place)}
