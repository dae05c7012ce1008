"""Figure 12: similarity and compromised layers by the equations, and by the released code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from camdrift.figures.canvas import (
    COLOURS,
    FAINT,
    INK,
    MARGIN,
    MARKERS,
    MUTED,
    LayerNames,
    blank_figure,
    layer_names,
    mark_size,
    shade_stages,
    sheet,
    strength_colours,
    strength_handles,
    styled,
)
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of
from camdrift.figures.similarity import similarity_axis
from camdrift.paper.defects import Defects
from camdrift.paper.ladder import curve_distances
from camdrift.paper.readings import Reading, compromised_fraction, mean, read
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, strength_text

_TITLE: Final = "The same images, attacked once: by the equations, and as the released code computes"
_CURVES: Final = 2.3
_ROW: Final = 0.19
_GAP: Final = 0.4
_LEFT: Final = 0.8
_MEANS: Final = 0.46
_SHADES: Final = mpl.colors.LinearSegmentedColormap.from_list("compromised", ["#ffffff", COLOURS[ADVERSARIAL]])


@styled
def released_figure(tables: Tables, record: Record) -> Figure:
    """Figure 12: mean similarity and compromised fraction per layer and strength, equations beside released code.

    Both columns follow the paper's rule for thresholds, a median per layer. They differ in the images and in the
    comparison of their maps.

    Args:
        tables: Tables of a reproduction: those of `tables.study.TABLES`, and emulation.
        record: The run record.
    """
    scope = scope_of(tables, record)
    if tables["emulation"].is_empty():
        return blank_figure(_TITLE, reason_for_nothing(scope))
    readings = [read(tables["emulation"], defects) for defects in (Defects(), Defects.all())]
    columns = [
        _Column(title, mean(reading.adversarial, 0), compromised_fraction(reading))
        for title, reading in zip(("by the equations", "as the released code computes"), readings, strict=True)
    ]
    return _figure(scope, columns, readings[0])


@dataclass(frozen=True)
class _Column:
    """One half of the figure.

    Attributes:
        title: The source of its numbers.
        similarity: Mean similarity under the attack, (strengths, layers).
        compromised: Compromised fraction, (strengths, layers).
    """

    title: str
    similarity: np.ndarray
    compromised: np.ndarray


def _figure(scope: Scope, columns: list[_Column], reading: Reading) -> Figure:
    count = len(scope.labels)
    names = LayerNames(layer_names(scope.labels), crowd=12)
    width = float(np.interp(count, [13, 48], [9.2, 12.6]))
    strip = _ROW * len(scope.strengths)
    shades = [Patch(facecolor=_SHADES(v), edgecolor=MUTED, lw=0.5, label=_percent(v)) for v in (0.0, 0.5, 1.0)]
    note = (
        f"{scope.model}; n = {len(reading.seed_ids)} seeds. Above: mean similarity under the attack; distances between "
        "curves are shares of the range over all strengths. Below: share of adversarial images whose map is less "
        "similar than the median under noise; at the right its mean over layers."
    )
    body = names.foot + strip + _GAP + _CURVES + 0.44
    page = sheet(_TITLE, note, width=width, body=body, handles=[*strength_handles(scope), *shades])
    each = (page.width - _LEFT - 2 * _MEANS - MARGIN - 0.1) / 2
    low = _lowest(columns)
    for number, column in enumerate(columns):
        left = _LEFT + number * (each + _MEANS + 0.1)
        above = page.axes(left, names.foot + strip + _GAP, each, _CURVES, xlim=(-0.6, count - 0.4), xticks=[])
        below = page.axes(left, names.foot, each, strip, xlim=(-0.6, count - 0.4), xticks=[])
        _curves(above, scope, column, low)
        _strip(below, scope, column.compromised)
        names.write(below)
        if number:
            for axes in (above, below):
                axes.set_ylabel("")
                axes.tick_params(axis="y", labelleft=False, length=0)
    return page.figure


def _lowest(columns: list[_Column]) -> float:
    smallest = min(float(np.nanmin(column.similarity, initial=1.0)) for column in columns)
    return max(0.0, float(np.floor(10 * smallest - 0.3)) / 10)


def _curves(axes: Axes, scope: Scope, column: _Column, low: float) -> None:
    shade_stages(axes, scope.labels)
    axes.grid(axis="y")
    axes.set_title(column.title, loc="left", size=9.0, color=INK, pad=17)
    if words := _distances(column.similarity, scope.strengths):
        axes.text(0, 1.03, words, transform=axes.transAxes, va="bottom", size=7.5, color=MUTED)
    # The weakest first and widest: curves that coincide stay visible around each other.
    looks = list(zip(scope.strengths, column.similarity, strength_colours(scope), MARKERS, strict=False))
    for place, (strength, row, colour, marker) in enumerate(looks):
        wide = len(looks) - place
        size = mark_size(scope) + 0.55 * wide
        label = f"strength {strength_text(strength)}"
        axes.plot(row, color=colour, marker=marker, ms=size, lw=0.8 + 0.28 * wide, mew=0, zorder=2 + place, label=label)
    similarity_axis(axes, low)


def _strip(axes: Axes, scope: Scope, fractions: np.ndarray) -> None:
    """Draw a row per strength, a cell per layer, darker for more compromised; beside each row its mean."""
    cells = np.ma.masked_invalid(fractions)
    axes.imshow(cells, aspect="auto", cmap=_SHADES.with_extremes(bad=FAINT), vmin=0, vmax=1, interpolation="none")
    axes.set_xlim(-0.6, fractions.shape[1] - 0.4)
    axes.set_title("compromised fraction", loc="left", size=8.0, color=INK, pad=4)
    axes.set_yticks(range(len(scope.strengths)), [strength_text(s) for s in scope.strengths])
    axes.set_ylabel("strength")
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for edge in np.arange(len(scope.strengths) + 1) - 0.5:
        axes.axhline(edge, color=FAINT, lw=0.7)
    for row, values in enumerate(fractions):
        if np.isfinite(values).any():
            axes.text(
                1.01,
                row,
                _percent(float(np.nanmean(values))),
                transform=axes.get_yaxis_transform(),
                size=7.5,
                va="center",
            )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def _distances(similarity: np.ndarray, strengths: Sequence[float]) -> str:
    """Distances, in words, of the curves that the paper calls alike; empty where a strength is missing."""
    middle, outer = curve_distances(similarity, strengths)
    distances = [("0.5 and 1", middle), ("0.25, 2 and 4", outer)]
    parts = [f"{value:.2f} between {names}" for names, value in distances if np.isfinite(value)]
    return f"distance {'; '.join(parts)}" if parts else ""
