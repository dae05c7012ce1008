"""Writes the pages of the site that the code holds: docs/commands.md, docs/glossary.md and docs/api.md."""

from pathlib import Path
from typing import Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from camdrift import _PUBLIC
from camdrift.cli.app import app
from camdrift.report.terms import study_terms

DOCS = Path(__file__).parent
_NOTE: Final = "This page is written by `python docs/make_pages.py`.\n"
_WIDTH: Final = 80
# Rooms of public names, in the order of the page. What lies in another room comes last.
_ROOMS: Final = {
    "study": "Studies",
    "comparison": "Several studies",
    "models": "Models",
    "attacks": "Attacks",
    "explanations": "Maps",
    "errors": "Errors",
}
_OTHER_ROOMS: Final = "Further parts"


def commands_page() -> str:
    """The help of every command as Markdown."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    width = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    root = typer.Context(group, info_name="camdrift", **width, **group.context_settings)
    parts = ["# Commands\n", "The help of each command, as `camdrift COMMAND --help` prints it.", _NOTE]
    parts += ["## camdrift\n", _fenced(group.get_help(root))]
    for name, command in group.commands.items():
        context = typer.Context(command, parent=root, info_name=name, **width)
        parts += [f"## camdrift {name}\n", _fenced(command.get_help(context))]
    return "\n".join(parts)


def _fenced(text: str) -> str:
    return "\n".join(["```text", *(line.rstrip() for line in text.splitlines()), "```\n"])


def glossary_page() -> str:
    """The words of a report and their meanings as Markdown."""
    parts = ["# Glossary\n", "These are the words of a report on Grad-CAM maps compared by their cosine.", _NOTE]
    for term in study_terms("Grad-CAM", "cosine"):
        parts += [f"## {term.word}\n", f"{term.meaning}\n"]
    return "\n".join(parts)


def api_page() -> str:
    """The public names, each with the mark where the site puts its docstring."""
    parts = [
        "# Python names\n",
        "These are all names that `import camdrift` offers, with their docstrings.",
        "In Python, `help(camdrift.run)` prints the same.",
        _NOTE,
    ]
    rooms = {name: place.partition(".")[0] for name, place in _PUBLIC.items()}
    rooms = {name: room if room in _ROOMS else "" for name, room in rooms.items()}
    for room, title in {**_ROOMS, "": _OTHER_ROOMS}.items():
        parts += [f"## {title}\n"]
        for name in (name for name in _PUBLIC if rooms[name] == room):
            module, _, attribute = _PUBLIC[name].partition(":")
            parts += _marks(f"{module}.{attribute or name}", f"camdrift.{name}")
    parts += ["## Options of a study\n", "`camdrift.run` takes them by name.\n"]
    return "\n".join(parts + _marks("pipeline.settings.Settings", "Options by name", "members: false"))


def _marks(place: str, heading: str, *options: str) -> list[str]:
    """The lines that the site replaces by the docstring of what lies at some place."""
    options = (f"heading: {heading}", f"toc_label: {heading}", *options)
    return [f"::: camdrift.{place}", f"    options: {{{', '.join(options)}}}\n"]


PAGES: Final = {"commands.md": commands_page, "glossary.md": glossary_page, "api.md": api_page}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
