"""The look that all figures share: colours, type, sheets with a header, panels with one column per layer.

Sizes are inches and every margin is computed from the text it holds, so that no layout engine has to draw
twice; one weight of one font, since a PDF embeds each weight that it uses, which takes longer than drawing.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from camdrift.figures.scope import Scope, stage
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, TARGET_WORDS, strength_text

P = ParamSpec("P")
R = TypeVar("R")

INK: Final = "#1c1f24"
MUTED: Final = "#5b626c"
FAINT: Final = "#d9dce1"
BAND: Final = "#f4f5f7"
# Okabe and Ito's vermilion and blue: apart for every kind of colour vision, and in grey.
COLOURS: Final = {CLEAN: "#5b626c", ADVERSARIAL: "#d55e00", NOISE: "#0072b2"}
DASHES: Final[dict[str, Any]] = {CLEAN: (0, (1, 1.4)), ADVERSARIAL: "-", NOISE: (0, (4, 1.6))}
MARKERS: Final = "osDPXph*8d"  # no triangles: those are arrows of bounds
STYLE: Final[dict[Any, Any]] = {
    "text.usetex": False,
    "text.parse_math": False,  # a layer or file may be called `a$b$`
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes everywhere
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.facecolor": "none",
    "figure.facecolor": "white",
    "figure.dpi": 160.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}
_FONT: Final = FontProperties(family="DejaVu Sans")
MARGIN: Final = 0.12
_LEGEND: Final[dict[str, Any]] = {
    "loc": "upper left",
    "borderpad": 0.2,
    "columnspacing": 1.5,
    "handletextpad": 0.5,
    "labelspacing": 0.35,
}
_TITLE_SIZE: Final = 11.5
_NOTE_SIZE: Final = 7.5
_LONGEST_LABEL: Final = 30
_MOST_NAMES: Final = 64


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Return the function so that it runs with this package's matplotlib settings and restores the caller's."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


@functools.cache
def _advance(sign: str) -> float:
    """Width of one sign in em."""
    font = get_font(findfont(_FONT))
    font.set_size(100, 72)
    return float(font.load_char(ord(sign)).linearHoriAdvance) / 65536 / 100


def text_width(text: str, size: float) -> float:
    """Width of one line of text at `size` points, in inches."""
    return sum(map(_advance, text)) * size / 72


def printable(text: str, longest: int = _LONGEST_LABEL) -> str:
    """The text on one line: its middle left out if it is too long, signs that the font lacks replaced."""
    font = get_font(findfont(_FONT))
    line = "".join(c if c == " " or font.get_char_index(ord(c)) else "\ufffd" for c in " ".join(text.split()))
    if len(line) <= longest:
        return line
    tail = (longest - 1) * 2 // 3
    return f"{line[: longest - 1 - tail]}…{line[-tail:]}"


def layer_names(labels: Sequence[str], longest: int = _LONGEST_LABEL) -> list[str]:
    """Names of layers short enough to stand side by side, as different from each other as the labels are.

    A name that is too long loses whole words, those that tell least first: its beginning, then what stands between
    its last number and its last word, then the words between numbers.

    Args:
        labels: Display names of the layers.
        longest: Signs that a name should not exceed; names take more where they would become alike.

    Example:
        >>> layer_names(["model.encoder.layers.11.mlp.fc2", "model.encoder.layers.11.attention.self.query"])
        ['…encoder.layers.11.mlp.fc2', '…layers.11…self.query']
    """
    names = [printable(_condensed(label, longest), longest) for label in labels]
    if len(set(names)) < len(set(labels)) and longest < max(map(len, labels)):
        return layer_names(labels, longest + 8)
    return names


def _condensed(label: str, longest: int) -> str:
    """A dotted name without the words that tell least, until it is short enough."""
    words = label.split(".")
    places = [place for place, word in enumerate(words) if any(map(str.isdigit, word))]
    if not places:
        return label
    first, last = max(places[0] - words[places[0]].isdigit(), 0), places[-1]
    between = [place for place in range(first, last) if place not in places]
    rest = set(range(len(words)))
    for place in [*range(first), *range(last + 1, len(words) - 1), *between]:
        if len(_joined(words, rest)) <= longest:
            break
        rest.remove(place)
    return _joined(words, rest)


def _joined(words: Sequence[str], rest: set[int]) -> str:
    """The remaining words of a dotted name, an ellipsis where some are left out."""
    parts = (word if place in rest else "" for place, word in enumerate(words))
    return re.sub(r"^\.+|\.{2,}", "…", ".".join(parts))


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Lines of at most `width` inches each."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


class NotebookFigure(Figure):
    """A figure that a notebook shows, whether or not its matplotlib is set up for that."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure without hinting, which makes text wider than its lines may be."""
        with mpl.rc_context({"text.hinting": "none"}):
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture, and the size at which it is shown in pixels."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=120)
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}


@dataclass(frozen=True)
class Sheet:
    """A figure with its header drawn.

    Attributes:
        figure: The figure.
        width: Its width in inches.
        body: Height below the header, in inches.
    """

    figure: Figure
    width: float
    body: float

    def axes(self, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
        """New axes at this place, in inches from the lower left corner."""
        total = float(self.figure.get_figheight())
        box = (left / self.width, bottom / total, width / self.width, height / total)
        return self.figure.add_axes(box, **options)


def sheet(title: str, note: str, *, width: float, body: float, handles: Sequence[Artist] = ()) -> Sheet:
    """A sheet with a title, a note of as many lines as it needs and a legend, above `body` inches of room."""
    inner = width - 2 * MARGIN
    titles = wrapped(title, _TITLE_SIZE, inner)
    notes = wrapped(note, _NOTE_SIZE, inner)
    columns = _legend_columns(handles, inner)
    rows = -(-len(handles) // columns) if handles else 0
    heights = [0.2] * len(titles) + [0.03] + [0.145] * len(notes)
    tops = [MARGIN, *(MARGIN + h for h in itertools.accumulate(heights))]
    head = tops[-1] + 0.05 + 0.19 * rows
    figure = NotebookFigure(figsize=(width, head + body))
    for line, top in zip(titles, tops[: len(titles)], strict=True):
        _line(figure, line, top, width, size=_TITLE_SIZE, color=INK)
    for line, top in zip(notes, tops[len(titles) + 1 : -1], strict=True):
        _line(figure, line, top, width, size=_NOTE_SIZE, color=MUTED)
    if handles:
        place = ((MARGIN - 0.05) / width, 1 - (tops[-1] + 0.02) / (head + body))
        figure.legend(handles=list(handles), bbox_to_anchor=place, ncols=columns, **_LEGEND)
    return Sheet(figure, width, body)


def _legend_columns(handles: Sequence[Artist], inner: float) -> int:
    """Number of legend columns that fit; with several rows each column is as wide as the widest entry."""
    widths = [text_width(str(handle.get_label()), 8.0) + 0.5 for handle in handles]
    if sum(widths) <= inner:
        return max(1, len(handles))
    return max(1, int(inner / max(widths)))


def _line(figure: Figure, text: str, top: float, width: float, **look: Any) -> None:
    figure.text(MARGIN / width, 1 - top / figure.get_figheight(), text, va="top", **look)


@styled
def blank_figure(title: str, reason: str) -> Figure:
    """A figure without data: it gives the reason in words."""
    page = sheet(title, "", width=8.0, body=1.1)
    lines = wrapped(f"Nothing to show. {reason}", 9.0, 6.6)
    axes = page.axes(0.3, 0.15, 7.4, 0.85, xticks=[], yticks=[], facecolor=BAND)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", size=9.0, color=MUTED, linespacing=1.5)
    return page.figure


def strength_colours(scope: Scope) -> list[Any]:
    """One colour per strength, darker for stronger: a slice of viridis without its pale end."""
    count = len(scope.strengths)
    places = np.linspace(0.74, 0.02, count) if count > 1 else np.array([0.3])
    return [mpl.colors.to_hex(mpl.colormaps["viridis"](place)) for place in places]


def strength_handles(scope: Scope) -> list[Line2D]:
    """Legend entries: one colour and marker per strength."""
    looks = zip(scope.strengths, strength_colours(scope), itertools.cycle(MARKERS), strict=False)
    return [Line2D([], [], color=c, marker=m, markersize=4, label=f"strength {strength_text(s)}") for s, c, m in looks]


def layer_panels(
    scope: Scope,
    title: str,
    note: str,
    *,
    height: float,
    handles: Sequence[Artist] = (),
    names_of_panels: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """A figure with panels one above the other, one column per layer, named at the foot; by default one per target."""
    titles = names_of_panels or [TARGET_WORDS.get(target, target) for target in scope.targets]
    count, rows, gap = len(scope.labels), len(titles), 0.36
    width = float(np.interp(count, [16, 48], [8.0, 11.0]))
    names = LayerNames(layer_names(scope.labels))
    page = sheet(title, note, width=width, body=names.foot + rows * height + (rows - 1) * gap + 0.26, handles=handles)
    panels = []
    for row, words in enumerate(titles):
        bottom = names.foot + (rows - 1 - row) * (height + gap)
        place = (names.left, bottom, width - names.left - MARGIN, height)
        axes = page.axes(*place, xlim=(-0.6, count - 0.4), xticks=[])
        axes.set_title(words, loc="left", size=8.0, color=INK, pad=5)
        axes.grid(axis="y")
        shade_stages(axes, scope.labels)
        panels.append(axes)
    names.write(panels[-1])
    return page.figure, panels


class LayerNames:
    """The names below the lowest panel: slanted while there are few, upright when there are many.

    They are plain text, since a tick takes as much time as four texts.
    """

    def __init__(self, names: Sequence[str], *, crowd: int = 20) -> None:
        self.names = names
        self.upright = len(names) > crowd
        self.size = 7.0 if self.upright else 7.5
        self.step = -(-len(names) // _MOST_NAMES)
        longest = max(text_width(name, self.size) for name in names)
        self.depth = longest * (1.0 if self.upright else 0.66) + 0.14
        self.foot = self.depth + 0.3
        self.left = 0.7 if self.upright else max(0.7, text_width(names[0], self.size) * 0.77 - 0.15)

    def write(self, axes: Axes) -> None:
        """Write the names of the columns of these axes, and that of the axis itself."""
        look: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "top"}
        if not self.upright:
            look = {"rotation": 40, "ha": "right", "va": "top", "rotation_mode": "anchor"}
        below = -0.06 / (axes.get_position().height * axes.get_figure().get_figheight())  # type: ignore[union-attr]
        for i in range(0, len(self.names), self.step):
            axes.text(i, below, self.names[i], size=self.size, transform=axes.get_xaxis_transform(), **look)
        note = f", every {_ordinal(self.step)} named" if self.step > 1 else ""
        axes.set_xlabel(f"layer, in execution order{note}", labelpad=self.depth * 72 + 2)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def shade_stages(axes: Axes, labels: Sequence[str]) -> None:
    """Shade every other stage of the network, so that the eye can follow a column."""
    runs = [len(list(group)) for _, group in itertools.groupby(labels, key=stage)]
    ends = list(itertools.accumulate(runs))
    spans = [(end - run - 0.5, end - 0.5) for end, run in zip(ends, runs, strict=True)][1::2]
    boxes = [[(a, 0), (a, 1), (b, 1), (b, 0)] for a, b in spans]
    shade = PolyCollection(boxes, facecolors=BAND, edgecolors="none", transform=axes.get_xaxis_transform(), zorder=0)
    axes.add_collection(shade, autolim=False)


def mark_size(scope: Scope) -> float:
    """Size of a mark in points, smaller where many layers share the width."""
    return float(np.interp(len(scope.labels), [20, 50, 150], [3.6, 3.0, 1.8]))


def dodge(count: int, width: float = 0.62) -> np.ndarray:
    """Offsets that set `count` marks of one layer side by side."""
    return (np.arange(count) - (count - 1) / 2) * (width / max(count, 3))


def is_crowded(scope: Scope) -> bool:
    """Whether there are so many layers that marks and bars side by side run into each other."""
    return len(scope.labels) > _MOST_NAMES


def intervals(axes: Axes, scope: Scope, x: np.ndarray, ends: tuple[np.ndarray, np.ndarray], colour: Any) -> None:
    """Draw the interval of every layer: as a bar, or all as one band where bars would run into each other."""
    low, high = ends
    if is_crowded(scope):
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, zorder=1.4)
    else:
        vlines(axes, x, low, high, colors=colour, linewidths=1.0, alpha=0.5, zorder=2)


def vlines(axes: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, **look: Any) -> LineCollection:
    """Vertical intervals as one artist; those with a NaN end are left out."""
    keep = np.isfinite(low) & np.isfinite(high)
    ends = np.stack([np.stack([x, x], -1), np.stack([low, high], -1)], -1)[keep]
    lines = LineCollection(list(ends), **look)
    axes.add_collection(lines)
    return lines


def hlines(axes: Axes, x: np.ndarray, y: np.ndarray, width: float, **look: Any) -> LineCollection:
    """Short level strokes of this width, centred on x, as one artist; NaN is left out."""
    keep = np.isfinite(y)
    ends = np.stack([np.stack([x - width / 2, x + width / 2], -1), np.stack([y, y], -1)], -1)[keep]
    lines = LineCollection(list(ends), **look)
    axes.add_collection(lines)
    return lines


def boxes(
    axes: Axes, x: Iterable[float], low: Iterable[float], high: Iterable[float], *, width: float, **look: Any
) -> PolyCollection:
    """Upright rectangles as one artist; those with a NaN end are left out."""
    corners = [
        [(a - width / 2, b), (a - width / 2, c), (a + width / 2, c), (a + width / 2, b)]
        for a, b, c in zip(x, low, high, strict=True)
        if np.isfinite(b) and np.isfinite(c)
    ]
    shapes = PolyCollection(corners, **look)
    axes.add_collection(shapes)
    return shapes
