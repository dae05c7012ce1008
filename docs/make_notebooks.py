"""Runs the notebooks of examples/ and keeps their outputs: python docs/make_notebooks.py.

It needs nbconvert and ipykernel.

A notebook stores every picture as PNG, too, where it has a JPEG: six times as many bytes. The JPEG alone is kept.
"""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(notebook: Path) -> None:
    """Run a notebook in its folder, and keep its outputs."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", notebook.name]
    subprocess.run(command, cwd=notebook.parent, check=True)
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["metadata"] = {}  # when each line ran
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/jpeg" in data:
                data.pop("image/png", None)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for notebook in sorted(EXAMPLES.glob("*.ipynb")):
        run(notebook)
