"""The notebook whose cell this process may run in, and what a cell shows."""

import sys
from importlib import import_module
from typing import Any


def is_notebook() -> bool:
    """Does a kernel of Jupyter run this process, so that a cell can show HTML? Colab and VS Code start one, too."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


class CellOutput:
    """The place below a cell where something is shown, and shown anew.

    Args:
        html: What it shows.
        text: What a console without HTML shows in its place.
    """

    def __init__(self, html: str, text: str) -> None:
        self._handle: Any = import_module("IPython.display").display(_bundle(html, text), raw=True, display_id=True)

    def update(self, html: str, text: str) -> None:
        """Show something else."""
        self._handle.update(_bundle(html, text), raw=True)


def _bundle(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}


def tell(text: str) -> None:
    """Write a line to standard error, for whoever calls from a script or a console."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
