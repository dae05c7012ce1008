"""Figure 11: the effect of every defect of the released code on the findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from camdrift.figures.canvas import BAND, INK, MARGIN, MUTED, Sheet, blank_figure, sheet, styled
from camdrift.figures.rungs import BUT, DESCRIBED, WORDS, rung_numbers, sets, words_of
from camdrift.figures.scope import reason_for_nothing, scope_of
from camdrift.paper.defects import ALL_DEFECTS, NO_DEFECT
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record

_TITLE: Final = "Which defect of the released code makes which finding"
_ROW: Final = 0.185
_GROUP: Final = 0.25
_HEAD: Final = 0.66
_FOOT: Final = 0.3
_NAMES: Final = 2.62
_COLOURS: Final = ("#440154", "#1f9e89")
_MARKERS: Final = ("o", "D")
_SAME: Final = 0.01


@dataclass(frozen=True)
class _Panel:
    """One column of the figure: two numbers per set, on one axis.

    Attributes:
        title: The subject of the column.
        columns: The two columns of `paper.ladder.rank_agreement`.
        words: The name of each.
        limits: Ends of the axis; None to take them from the numbers.
        paper: The paper's number for each, if it gives one.
    """

    title: str
    columns: tuple[str, str]
    words: tuple[str, str]
    limits: tuple[float, float] | None = None
    paper: tuple[float, float] | None = None


_PANELS: Final = (
    _Panel("how far maps move", ("mean_deviation", "excess"), ("mean deviation", "its excess over noise")),
    _Panel("ranking of layers (tau)", ("tau_deviation", "tau_gain"), ("by deviation", "by gain")),
    _Panel(
        "distance of the curves",
        ("half_one", "quarter_two_four"),
        ("strengths 0.5 and 1", "0.25, 2 and 4"),
        (-0.06, 1.06),
    ),
    _Panel(
        "compromised fraction",
        ("compromised_middle", "compromised_outer"),
        ("at 0.5 and 1", "at the other strengths"),
        (-0.06, 1.06),
        (0.4, 0.8),
    ),
)


@styled
def ladder_figure(tables: Tables, record: Record) -> Figure:
    """Figure 11: the findings under every set of defects, from the equations to the released code.

    Args:
        tables: Tables of a reproduction: those of `tables.study.TABLES`, ladder and emulation.
        record: The run record.
    """
    scope = scope_of(tables, record)
    if tables["ladder"].is_empty():
        return blank_figure(_TITLE, reason_for_nothing(scope))
    rows = rung_numbers(tables)
    n = int(tables["ladder"]["n"].to_numpy().max(initial=0))
    note = (
        f"{scope.model}; n = {n} seeds. Lines show what a defect adds to the equations (above) or takes from the "
        "released code by its absence (below); pale marks have not moved. Tau: Kendall's, against the ranking by the "
        "equations. Distance: 0 for curves that coincide, 1 for the range over all strengths. Triangles: the "
        "paper's 40 and 80 %."
    )
    places, heads = _places(rows["defects"].to_list())
    body = _HEAD + _FOOT + max(places.values()) + _ROW / 2
    page = sheet(_TITLE, note, width=10.4, body=body)
    gap, width = 0.24, page.width - _NAMES - 2 * MARGIN
    each = (width - gap * (len(_PANELS) - 1)) / len(_PANELS)
    for number, panel in enumerate(_PANELS):
        box = (MARGIN + _NAMES + number * (each + gap), _FOOT, each, body - _HEAD - _FOOT)
        axes = page.axes(*box, ylim=(box[3], 0), yticks=[])
        _draw(axes, panel, rows, places)
    _names(page, places, heads, body)
    return page.figure


def _places(names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Distance of each set and each heading from the top, in inches."""
    places, heads, top = {}, {}, 0.0
    for title, group in sets(names):
        if title:
            heads[title] = top + _GROUP * 0.62
            top += _GROUP
        for name in group:
            places[name] = top + _ROW / 2
            top += _ROW
        top += 0.1
    return places, heads


def _names(page: Sheet, places: dict[str, float], heads: dict[str, float], body: float) -> None:
    """Write the names of the sets to the left of the panels."""
    axes = page.axes(MARGIN, _FOOT, _NAMES - 0.12, body - _HEAD - _FOOT, xlim=(0, 1), ylim=(body - _HEAD - _FOOT, 0))
    axes.set_axis_off()
    for name, place in places.items():
        inset = 0.05 if name in WORDS or name.startswith(BUT) else 0.0
        axes.text(inset, place, words_of(name.removeprefix(BUT)), color=INK, size=7.5, va="center")
    for title, place in heads.items():
        axes.text(0, place, title, size=7.5, color=MUTED, va="center")


def _draw(axes: Axes, panel: _Panel, rows: pl.DataFrame, places: dict[str, float]) -> None:
    order = [name for name in rows["defects"].to_list() if name in places]
    y = np.array([places[name] for name in order])
    values = np.array([_values(rows, column, order) for column in panel.columns])
    axes.set_xlim(panel.limits or _limits(values))
    for place in y[1::2]:
        axes.axhspan(place - _ROW / 2, place + _ROW / 2, color=BAND, lw=0, zorder=0)
    of_released = np.array([name.startswith(BUT) or name in (ALL_DEFECTS, DESCRIBED) for name in order])
    for series, colour, marker, offset, words in zip(
        values, _COLOURS, _MARKERS, (-0.035, 0.035), panel.words, strict=True
    ):
        axes.plot(series, y, color=colour, marker=marker, alpha=0, label=words)
        for part, origin in ((~of_released, NO_DEFECT), (of_released, ALL_DEFECTS)):
            start = series[order.index(origin)]
            _series(axes, series[part], start, y[part] + offset, colour=colour, marker=marker)
    for place, colour in zip(panel.paper or (), _COLOURS, strict=False):
        axes.plot([place], [1.012], "v", color=colour, ms=4.5, transform=axes.get_xaxis_transform(), clip_on=False)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.tick_params(axis="x", length=0)
    _header(axes, panel)


def _series(axes: Axes, x: np.ndarray, start: float, y: np.ndarray, *, colour: str, marker: str) -> None:
    """Draw the marks of one half, each with a line from the start of that half."""
    ends = (y.min() - _ROW / 2, y.max() + _ROW / 2)
    axes.vlines(start, *ends, color=colour, lw=0.9, ls=[(0, (1, 1.6))], zorder=1)
    has_moved = np.abs(x - start) >= _SAME
    axes.hlines(y[has_moved], start, x[has_moved], color=colour, lw=1.3, alpha=0.55, zorder=2)
    look: dict[str, Any] = {"marker": marker, "ls": "", "markersize": 3.9, "markeredgewidth": 0, "color": colour}
    axes.plot(x[has_moved], y[has_moved], zorder=4, **look)
    axes.plot(x[~has_moved], y[~has_moved], zorder=3, alpha=0.35, **look)


def _header(axes: Axes, panel: _Panel) -> None:
    """Write title and key of a panel above it."""
    looks = zip(panel.words, _COLOURS, _MARKERS, strict=True)
    handles = [Line2D([], [], color=c, marker=m, ms=3.9, lw=1.3, label=w) for w, c, m in looks]
    height = axes.get_position().height * axes.get_figure().get_figheight()  # type: ignore[union-attr]
    axes.text(0, 1 + 0.55 / height, panel.title, transform=axes.transAxes, size=8.0, color=INK, va="center")
    place = (0, 1 + 0.155 / height)
    look: dict[str, Any] = {"loc": "lower left", "borderpad": 0, "labelspacing": 0.15, "handlelength": 1.2}
    axes.legend(handles=handles, bbox_to_anchor=place, fontsize=7.0, borderaxespad=0, handletextpad=0.5, **look)


def _values(rows: pl.DataFrame, column: str, names: Sequence[str]) -> np.ndarray:
    numbers = dict(rows.select("defects", column).iter_rows())
    return np.array([np.nan if numbers.get(name) is None else numbers[name] for name in names], dtype=np.float64)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of an axis that holds the values and 0."""
    low, high = min(0.0, np.nanmin(values, initial=0.0)), max(0.0, np.nanmax(values, initial=0.0))
    room = 0.06 * (high - low or 1.0)
    return float(low - room), float(high + room)
