"""What the build adds to the sources: the long description of the package, and the script that draws charts.

`python hatch_build.py` writes the script into the sources, as an editable installation does.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# The address of the repository's files, if there is one, such as https://HOST/OWNER/camdrift/blob/v0.1.0.
BASE = "CAMDRIFT_BASE_URL"
# Where the script lies. Git does not have it: the build makes it, so that an installation needs no vl-convert.
SCRIPT = "src/camdrift/report/page/plotting_library.js"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:)([^)]*)\)")


def long_description(text: str, base: str = "") -> str:
    """Return a text in Markdown whose links and pictures lead out of the repository or are gone.

    Args:
        text: The text.
        base: Address that paths begin with; without one links become their words, and pictures go.
    """

    def replaced(match: re.Match[str]) -> str:
        mark, words, path = match.groups()
        if path.startswith("#"):
            return words
        if base:
            return f"{mark}[{words}]({base.rstrip('/')}/{path})"
        return "" if mark else words

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(replaced, text))


class LongDescription(MetadataHookInterface):
    """Gives the package its long description."""

    def update(self, metadata: dict[str, object]) -> None:
        """Add the description to the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": long_description(text, os.environ.get(BASE, "")),
        }


def plotting_library() -> str:
    """Return Vega-Embed, Vega-Lite and Vega as one script, which makes `vegaEmbed` known to its page."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in script.lower()
    versions = f"Vega {vl_convert.get_vega_version()}, Vega-Embed {vl_convert.get_vega_embed_version()}"
    return f"/* {versions}; licences: LICENSE.plotting_library of camdrift */\n{script}"


class PlottingLibrary(BuildHookInterface[Any]):
    """Puts the script into the wheel, or for an editable installation beside the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the script, and name it as a file of the wheel though Git ignores it."""
        Path(self.root, SCRIPT).write_text(plotting_library(), encoding="utf-8")
        build_data["artifacts"].append(f"/{SCRIPT}")


if __name__ == "__main__":
    Path(Path(__file__).parent, SCRIPT).write_text(plotting_library(), encoding="utf-8")
