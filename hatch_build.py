"""The long description of the package: the README without links and pictures that break outside the repository."""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

# The address of the repository's files, if there is one, such as https://HOST/OWNER/camdrift/blob/v0.1.0.
BASE = "CAMDRIFT_BASE_URL"
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
