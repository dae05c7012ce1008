"""The page of all runs in a folder: a card with a picture for each."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from camdrift.report.page.assets import fill_page
from camdrift.report.pictures import encoded
from camdrift.tables.arrays import Bytes, Gallery

# Stands in the page, so that nobody else's is taken for it.
GENERATOR: Final = "camdrift, page of all runs"
_SIDE: Final = 224
_QUALITY: Final = 72


@dataclass(frozen=True)
class Card:
    """A run on the page of all runs.

    Attributes:
        name: Its name.
        link: Address of its report from the page on, with escapes; empty where there is none.
        picture: Two pictures side by side as an address that holds them; empty where there are none.
        pair: What the two show.
        headline: Its main result.
        facts: What it is about, in words.
        is_done: Is it complete?
    """

    name: str
    link: str
    picture: str
    pair: str
    headline: str
    facts: list[str]
    is_done: bool


def index_page(cards: list[Card]) -> str:
    """Return the page of all runs as HTML.

    Args:
        cards: The runs in their order.
    """
    values = {"cards": cards, "generator": GENERATOR}
    return fill_page("index.html.jinja", values, scripts=(), sheets=("style", "index"))


def thumbnail(gallery: Gallery, strength: float) -> str:
    """Return the first clean image of a gallery beside its adversarial image; empty for an empty gallery.

    Args:
        gallery: Images of sample seeds; may be empty.
        strength: Strength of the adversarial image: that of the run's headline.
    """
    if not len(gallery.get("seed_ids", ())):
        return ""
    clean = gallery["0/clean"] / 255
    change = strength * gallery["0/peaks"][0] * gallery["0/perturbation"] / 127
    pair = [np.round(255 * np.clip(image, 0, 1)).astype(np.uint8) for image in (clean, clean + change)]
    return _side_by_side(pair)


def failure_thumbnail(gallery: Gallery) -> str:
    """Return the seed of the first failure of a campaign's gallery beside the failure; empty for an empty gallery.

    Args:
        gallery: Pictures of failures; may be empty.
    """
    rows = gallery["rows"]
    if not len(rows):
        return ""
    steps = gallery[f"{rows[0]}/steps"]
    return _side_by_side([steps[0], steps[-1]])


def _side_by_side(pair: list[Bytes]) -> str:
    small = [np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)) for image in pair]
    return encoded(np.concatenate(small, axis=1), _QUALITY)
