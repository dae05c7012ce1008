"""LIME on the input: photos clean, attacked and noisy, and which squares of each speak for the class."""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from camdrift.figures.canvas import COLOURS, FAINT, MARGIN, MUTED, Sheet, blank_figure, printable, sheet, styled
from camdrift.tables.arrays import Floats, Gallery
from camdrift.tables.further import LIME_TABLE
from camdrift.tables.gallery import picture_of
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import ADVERSARIAL, ALL_CONDITIONS, CLEAN, count

_TITLE: Final = "LIME on the input: which squares speak for the seed's class"
_MOST_SEEDS: Final = 3
_WIDTH: Final = 8.0
_GAP: Final = 0.07
_BETWEEN: Final = 0.22
_BELOW: Final = 0.22
_HEAD: Final = 0.2
_NAME: Final = 0.18
_SCALE: Final = 0.34
_CELL: Final = (_WIDTH - 2 * MARGIN - _BETWEEN - 4 * _GAP) / 6
# From against the class to for it; it keeps apart in grey and for every kind of colour vision.
_MAP: Final = "PuOr_r"
_NO_GRID: Final = "Maps of superpixels stand in the table lime; a run keeps the shapes of squares alone."


@styled
def lime_figure(tables: Tables, record: Record, gallery: Gallery) -> Figure:
    """Photos of up to three seeds of the gallery, and their LIME maps, each row on a scale of its own."""
    table, ids = tables[LIME_TABLE.name], [str(seed_id) for seed_id in gallery.get("seed_ids", ())]
    places = [place for place, name in enumerate(ids) if not table.filter(seed_id=name).is_empty()]
    if not places:
        return blank_figure(_TITLE, "No analysed photo was stored for this study.")
    segments, design = int(table["n_segments"][0]), str(effective(record).get("lime_design"))
    if round(segments**0.5) ** 2 != segments or "quickshift" in design or "paper" in design:
        return blank_figure(_TITLE, _NO_GRID)
    choice = [places[i] for i in np.linspace(0, len(places) - 1, min(len(places), _MOST_SEEDS)).round().astype(int)]
    note = (
        f"{len(choice)} of {count(table['seed_id'].n_unique(), 'image')}; {count(segments, 'square')}, "
        f"{table['n_samples'][0]:,} masks, attack and noise at strength 1. The number under a map is its similarity to "
        "the clean one's; that under the clean one, in grey, is what other masks reach on the clean image itself."
    )
    block = _NAME + _CELL + _BELOW
    page = sheet(_TITLE, note, width=_WIDTH, body=_HEAD + len(choice) * block + _SCALE)
    _heads(page)
    for row, place in enumerate(choice):
        _row(page, table.filter(seed_id=ids[place]), gallery, place, page.body - _HEAD - row * block)
    _scale(page)
    return page.figure


def _left(column: int) -> float:
    return MARGIN + column * (_CELL + _GAP) + (_BETWEEN - _GAP if column > 2 else 0.0)


def _heads(page: Sheet) -> None:
    for column in range(6):
        condition = ALL_CONDITIONS[column % 3]
        axes = page.axes(_left(column), page.body - _HEAD, _CELL, _HEAD)
        axes.set_axis_off()
        words = condition if column < 3 else f"LIME, {condition}"
        axes.text(0, 0.5, words, va="center", size=7.5, color=COLOURS[condition])


def _row(page: Sheet, rows: pl.DataFrame, gallery: Gallery, place: int, top: float) -> None:
    """Photos and maps of one seed, below its name."""
    by_condition = {row["condition"]: row for row in rows.iter_rows(named=True)}
    maps = {name: np.array(row["coefficients"]) for name, row in by_condition.items()}
    peak = max(float(np.abs(values).max()) for values in maps.values()) or 1.0
    bottom = top - _NAME - _CELL
    name = page.axes(MARGIN, top - _NAME, _WIDTH - 2 * MARGIN, _NAME)
    name.set_axis_off()
    name.text(0, 0.4, printable(str(gallery["seed_ids"][place]), 60), va="center", size=7.0, color=MUTED)
    for column, condition in enumerate(ALL_CONDITIONS):
        photo = page.axes(_left(column), bottom, _CELL, _CELL)
        photo.imshow(picture_of(gallery, place, condition, 1.0), interpolation="antialiased")
        photo.set_axis_off()
        axes = page.axes(_left(column + 3), bottom, _CELL, _CELL, xticks=[], yticks=[])
        axes.imshow(_square(maps[condition]), cmap=_MAP, vmin=-peak, vmax=peak, interpolation="nearest")
        axes.spines[:].set(visible=True, color=FAINT)
        axes.text(0.5, -0.06, **_words(by_condition[condition]), ha="center", va="top", transform=axes.transAxes)


def _words(row: dict[str, Any]) -> dict[str, Any]:
    """Similarity to the clean map; of the clean one that of two designs of masks."""
    is_clean = row["condition"] == CLEAN
    value = row["floor_similarity" if is_clean else "similarity"]
    text = "zero map" if value is None else ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"
    if row["condition"] == ADVERSARIAL and row["is_resolved"] is False:
        text += " (not resolved)"
    return {"s": text, "size": 7.0, "color": MUTED if is_clean else "black"}


def _square(values: Floats) -> Floats:
    side = round(len(values) ** 0.5)
    square: Floats = values.reshape(side, side)
    return square


def _scale(page: Sheet) -> None:
    axes = page.axes(_left(3), 0.14, 1.6, 0.09, xticks=[], yticks=[])
    axes.imshow(np.linspace(-1, 1, 128)[None], cmap=_MAP, aspect="auto", extent=(0, 1, 0, 1))
    axes.spines[:].set_visible(False)
    axes.text(1.03, 0.5, "from against the class to for it", ha="left", va="center", size=7.0)
