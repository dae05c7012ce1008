"""A study in a notebook: its first screen in small, and the whole page in a frame of its own."""

from html import escape
from typing import Any, Final

import numpy as np
from PIL import Image

from camdrift.figures.overlay import over
from camdrift.figures.scope import Scope, scope_of
from camdrift.figures.subjects import Subject, subject_of
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, percent, times, times_between
from camdrift.report.opening import opening_section
from camdrift.report.page.assets import fill_page
from camdrift.report.pictures import encoded, shown_places
from camdrift.report.telling import most_telling
from camdrift.statistics.headline import Certainty
from camdrift.tables.arrays import Bytes, Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.table import Row
from camdrift.tables.words import ALL_CONDITIONS, CLEAN

_WORDS: Final = {"clean": "clean", "adversarial": "attacked", "noise": "noisy"}
_SIDE: Final = 168
_QUALITY: Final = 75
_MOST_LAYERS: Final = 5
# The page may run its scripts and save files. It is kept from the notebook around it, and from its address.
_SANDBOX: Final = "allow-scripts allow-downloads allow-popups"


def notebook_html(tables: Tables, record: Record, gallery: Gallery) -> str:
    """A study for a notebook: headline, the most telling photo, the layers whose maps are moved most. Below 300 kB.

    Args:
        tables: As for `report_files`.
        record: As for `report_files`.
        gallery: As for `report_files`.
    """
    material = Material(tables, record, gallery, scope_of(tables, record))
    values = {**opening_section(material), "photos": _photos(material), "layers": _layers(material.scope)}
    return fill_page("notebook.html.jinja", values, scripts=(), sheets=())


def framed(page: str, height: int) -> str:
    """A report as a frame for a notebook: it holds the page itself, so that no server and no file need be in reach.

    Args:
        page: The report's HTML.
        height: Height of the frame in pixels.
    """
    # Links within the page would lead to the notebook's address without it.
    based = page.replace("<head>", '<head><base href="about:srcdoc">', 1)
    style = f"width: 100%; height: {height}px; border: 1px solid #8884"
    return f'<iframe title="camdrift report" sandbox="{_SANDBOX}" style="{style}" srcdoc="{escape(based)}"></iframe>'


def _photos(material: Material) -> list[dict[str, Any]]:
    """The photo that the page opens with, clean, attacked and noisy, and where the headline's layer looks in each."""
    scope, gallery = material.scope, material.gallery
    places = [] if material.nothing else shown_places(gallery, scope.indices)
    if not places:
        return []
    place = places[most_telling(material.tables, scope, [str(gallery["seed_ids"][place]) for place in places])]
    subject = subject_of(material.tables, material.record, scope, gallery, place)
    maps = subject.maps.get(_first_index(scope))
    return [
        {
            "name": _WORDS[condition],
            "picture": encoded(_small(subject.images[row]), _QUALITY),
            "said": _said(subject, condition),
            "map": "" if maps is None else encoded(over(_small(subject.images[row]), maps[row]), _QUALITY),
            "map_said": _map_said(subject, scope, condition),
        }
        for row, condition in enumerate(ALL_CONDITIONS)
    ]


def _first_index(scope: Scope) -> int:
    """The gallery's number of the headline's layer."""
    layer = scope.headline.layer
    return scope.indices[scope.layers.index(layer)] if layer in scope.layers else scope.indices[0]


def _small(picture: Bytes) -> Bytes:
    """A picture of at most so many pixels along a side."""
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image)


def _said(subject: Subject, condition: str) -> str:
    """What the network says of an image."""
    answer = subject.answers[condition]
    return UNDEFINED if answer is None else f"{answer.name}, {percent(answer.probability)}"


def _map_said(subject: Subject, scope: Scope, condition: str) -> str:
    """How far a variant's map lies from the clean one."""
    if condition == CLEAN:
        return "for comparison"
    value = subject.similarities.get((condition, scope.headline.layer or ""))
    return "no map to compare" if value is None else f"map moved by {percent(1 - value)}"


def _layers(scope: Scope) -> list[tuple[str, ...]]:
    """The layers whose maps are moved most, as rows: name, gain, its interval, rank with interval, images."""
    headline = scope.headline
    if headline.certainty in (Certainty.TOO_FEW, Certainty.NOTHING):
        return []
    rows = (*headline.tops, *headline.rest)[:_MOST_LAYERS]
    return [
        (row["layer_label"], times(row["gain"], row["gain_censored"]), times_between(row), _rank(row), f"{row['n']:,}")
        for row in rows
    ]


def _rank(row: Row) -> str:
    interval = "" if row["rank_low"] is None else f" [{row['rank_low']}, {row['rank_high']}]"
    return f"{row['rank']}{interval}"
