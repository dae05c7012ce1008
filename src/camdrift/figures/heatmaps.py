"""Figure 3: heatmaps of sample seeds, layer by layer, under all three conditions."""

from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from camdrift.figures.canvas import (
    COLOURS,
    MARGIN,
    MUTED,
    Sheet,
    blank_figure,
    layer_names,
    printable,
    sheet,
    styled,
    text_width,
)
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of
from camdrift.figures.subjects import Answer, Subject, subject_of
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ALL_CONDITIONS, strength_text

_MOST_LAYERS: Final = 16
_MOST_SEEDS: Final = 3
_PER_INCH: Final = 160  # pixels, as figures are saved
_EXPLAINED: Final = {
    "own": "Each image's own prediction is explained",
    "seed": "The seed's clean prediction is explained",
    "label": "The true class is explained",
}
_GAP: Final = 0.06
_BELOW: Final = 0.24
_AFTER_IMAGE: Final = 0.18
_MAP: Final = "inferno"


@styled
def heatmaps_figure(tables: Tables, record: Record, gallery: Gallery) -> Figure:
    """Figure 3: clean, adversarial and noisy image and their maps, with the similarity under each map.

    Maps are enlarged bilinearly, as the similarity sees them. Each is scaled by its own maximum.
    """
    scope = scope_of(tables, record)
    title = "Where the model looks: heatmaps of sample images, layer by layer"
    ids = [str(seed_id) for seed_id in gallery.get("seed_ids", ())]
    if not ids:
        return blank_figure(
            title, reason_for_nothing(scope) if not scope.analysed else "No heatmaps were stored for this study."
        )
    columns = _even_choice(len(scope.labels), _MOST_LAYERS)
    places = _even_choice(len(ids), _MOST_SEEDS)
    width, layout = _layout(scope, columns)
    body = layout.head + len(places) * layout.block
    page = sheet(title, _note(scope, columns, len(places)), width=width, body=body + 0.2)
    for position, place in enumerate(places):
        top = page.body - layout.head - position * layout.block
        _block(page, layout, scope, subject_of(tables, record, scope, gallery, place), columns, top)
    _names(page, layout, scope, columns, page.body - layout.head)
    _scale(page)
    return page.figure


@styled
def layer_grid_figure(tables: Tables, record: Record, gallery: Gallery) -> Figure:
    """Figure 3 for the first seed of the gallery, with every layer of the study."""
    scope = scope_of(tables, record)
    subject = subject_of(tables, record, scope, gallery, 0)
    count = len(scope.labels)
    rows = -(-count // _MOST_LAYERS)
    parts = [tuple(int(i) for i in part) for part in np.array_split(np.arange(count), rows)]
    width, layout = _layout(scope, max(parts, key=len))
    stride = layout.head + layout.block
    title = f"Where the model looks: {printable(str(gallery['seed_ids'][0]), 60)}, layer by layer"
    page = sheet(title, _note(scope, tuple(range(count)), 1), width=width, body=rows * stride + 0.2)
    for row, part in enumerate(parts):
        top = page.body - row * stride - layout.head
        _block(page, layout, scope, subject, part, top)
        _names(page, layout, scope, part, top)
    _scale(page)
    return page.figure


def has_layer_grid(tables: Tables, gallery: Gallery) -> bool:
    """Is this a study of one image, and does the gallery hold it?"""
    return tables["seeds"].height == 1 and len(gallery.get("seed_ids", ())) > 0


@dataclass(frozen=True)
class _Layout:
    """Measures in inches."""

    cell: float
    left: float
    head: float
    block: float

    def place(self, column: int) -> float:
        """Left edge of a column of pictures; column 0 is the image, set apart from the maps."""
        return column * (self.cell + _GAP) + (_AFTER_IMAGE if column else 0.0)


def _even_choice(count: int, most: int) -> tuple[int, ...]:
    """Positions of the layers or seeds to show: all, or evenly chosen ones from the first to the last."""
    if count <= most:
        return tuple(range(count))
    return tuple(int(i) for i in np.linspace(0, count - 1, most).round())


def _note(scope: Scope, columns: tuple[int, ...], seeds: int) -> str:
    total = len(scope.labels)
    layers = f"{len(columns)} of {total} layers, evenly chosen" if len(columns) < total else f"all {total} layers"
    order = ", largest deviation first" if seeds > 1 else ""
    target = _EXPLAINED.get(scope.headline.target, scope.headline.target)
    return (
        f"{scope.model}; {seeds} of {scope.analysed:,} analysed images{order}; {layers}; perturbed at strength "
        f"{strength_text(scope.reference)}. {target}; class and probability stand on the left. Each map is "
        "scaled by its own maximum; the number under it is its similarity to the clean image's map."
    )


def _layout(scope: Scope, columns: tuple[int, ...]) -> tuple[float, _Layout]:
    """Width of the page, and its measures."""
    width, left = float(np.interp(len(columns), [6, 14], [8.0, 11.0])), 1.42
    names = [text_width(name, 7.0) for name in layer_names([scope.labels[i] for i in columns])]
    # Slanted names reach past the last column: the last one most, unless one before it is longer.
    reach = [name * 0.77 - 0.45 * after for after, name in enumerate(reversed(names))]
    right = max(MARGIN, max(reach) - 0.2)
    cell = min(0.8, (width - left - right - _AFTER_IMAGE) / (len(columns) + 1) - _GAP)
    return width, _Layout(cell, left, max(names) * 0.66 + 0.14, 3 * (cell + _BELOW) + 0.16)


def _block(page: Sheet, layout: _Layout, scope: Scope, subject: Subject, columns: tuple[int, ...], top: float) -> None:
    """Draw the three rows of one seed; axes units are inches, so that text and pictures share one grid."""
    width = page.width - layout.left
    axes = page.axes(layout.left, top - layout.block, width, layout.block)
    axes.set_axis_off()
    size = (round(layout.block * _PER_INCH), round(width * _PER_INCH), 3)
    mosaic = np.full(size, 255, dtype=np.uint8)
    for row, condition in enumerate(ALL_CONDITIONS):
        y = row * (layout.cell + _BELOW)
        _row_name(axes, y + layout.cell / 2, condition, _class_text(subject.answers[condition]))
        _paste(mosaic, _resized(subject.images[row], layout.cell), 0.0, y)
        for column, layer in enumerate(columns, 1):
            x = layout.place(column)
            _paste(mosaic, _map(subject, scope.indices[layer], row, layout.cell), x, y)
            value = _similarity_text(subject.similarities.get((condition, scope.layers[layer]), np.nan))
            axes.text(x + layout.cell / 2, y + layout.cell + 0.035, value, ha="center", va="top", size=7.0)
    axes.imshow(mosaic, extent=(0, width, layout.block, 0), interpolation="none", aspect="auto")


def _names(page: Sheet, layout: _Layout, scope: Scope, columns: tuple[int, ...], top: float) -> None:
    """Write the names of the columns above a block."""
    axes = page.axes(layout.left, top, page.width - layout.left, layout.head, xlim=(0, page.width - layout.left))
    axes.set_ylim(0, layout.head)
    axes.set_axis_off()
    for column, name in enumerate(["image", *layer_names([scope.labels[i] for i in columns])]):
        x = layout.place(column) + layout.cell * 0.42
        axes.text(x, 0.06, name, rotation=40, rotation_mode="anchor", ha="left", va="bottom", size=7.0)


def _row_name(axes: Axes, y: float, condition: str, words: str) -> None:
    look: dict[str, Any] = {"size": 7.5, "ha": "right", "linespacing": 1.3}
    axes.text(-0.1, y - 0.04, condition, va="bottom", color=COLOURS[condition], **look)
    axes.text(-0.1, y, words, va="top", color=MUTED, **look)


def _paste(mosaic: np.ndarray, picture: np.ndarray, x: float, y: float) -> None:
    row, column = round(y * _PER_INCH), round(x * _PER_INCH)
    mosaic[row : row + picture.shape[0], column : column + picture.shape[1]] = picture


def _class_text(answer: Answer | None) -> str:
    if answer is None:
        return ""
    name = printable(answer.name, 20)
    return name if answer.probability is None else f"{name}\n{answer.probability:.2f}"


def _map(subject: Subject, layer_index: int, row: int, cell: float) -> np.ndarray:
    """The heatmap in colour, (cell, cell, 3); light grey where none was stored."""
    maps = subject.maps.get(layer_index)
    if maps is None:
        return _resized(np.full((1, 1, 3), 230, dtype=np.uint8), cell)
    colours: np.ndarray = mpl.colormaps[_MAP](_resized(maps[row], cell), bytes=True)[..., :3]
    return colours


def _resized(values: np.ndarray, cell: float) -> np.ndarray:
    side = round(cell * _PER_INCH)
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))


def _similarity_text(value: float | None) -> str:
    """Two digits; empty for NaN, which stands for a map without a similarity, such as the clean one."""
    if value is None:
        return "zero map"
    if np.isnan(value):
        return ""
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def _scale(page: Sheet) -> None:
    axes = page.axes(page.width - 2.45, 0.12, 1.2, 0.09, xticks=[], yticks=[])
    axes.imshow(np.linspace(0, 1, 128)[None], cmap=_MAP, aspect="auto", extent=(0, 1, 0, 1))
    axes.spines[:].set_visible(False)
    axes.text(-0.04, 0.5, "0", ha="right", va="center", size=7.0)
    axes.text(1.04, 0.5, "the map's maximum", ha="left", va="center", size=7.0)
