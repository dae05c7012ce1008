"""Agreement of the sides' rankings: Kendall's tau of every two, values written in."""

import itertools
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from camdrift.figures.canvas import INK, MUTED, printable, sheet, styled, text_width
from camdrift.figures.sides import agreement_matrix, compared_sides
from camdrift.tables.comparison import BY_DEVIATION, BY_GAIN
from camdrift.tables.reading import Tables
from camdrift.tables.words import TARGET_WORDS, strength_text

_UNDEFINED: Final = "\u2013"


@styled
def agreement_figure(tables: Tables) -> Figure:
    """Kendall's tau of the layer rankings of every two sides, by gain and by mean deviation, values written in."""
    sides = compared_sides(tables)
    count = len(sides.names)
    side = max(2.4, min(4.6, 0.62 * count))
    names = [printable(name, 40) for name in sides.names]
    left = max(text_width(name, 7.0) for name in names) + 0.3
    # Slanted names below the columns reach to the left and down.
    foot = max(text_width(name, 7.0) for name in names) * 0.68 + 0.3
    width = left + 2 * side + 0.5 + 0.3
    note = (
        f"Kendall's tau-b at strength {strength_text(sides.reference)}, {TARGET_WORDS[sides.targets[0]]}: 1 the same "
        "order, 0 unrelated, -1 reversed. On the diagonal, framed: what a side would reach with itself on other "
        f"images. Bold: the 95 % interval excludes 0. {sides.left_out}"
    )
    page = sheet("How alike the sides rank their layers", note, width=max(width, 7.0), body=foot + side + 0.4)
    for column, (ranked_by, words) in enumerate(((BY_GAIN, "by gain"), (BY_DEVIATION, "by mean deviation"))):
        axes = page.axes(left + column * (side + 0.5), foot, side, side)
        _matrix(axes, agreement_matrix(tables, sides, ranked_by, sides.targets[0], sides.reference), count)
        axes.set_title(f"ranked {words}", loc="left", size=8.0, color=INK, pad=5)
        axes.set_xticks(range(count), names, rotation=42, ha="right", rotation_mode="anchor", size=7.0)
        axes.set_yticks(range(count), names if not column else [""] * count, size=7.0)
    return page.figure


def _matrix(axes: Axes, matrices: dict[str, np.ndarray], count: int) -> None:
    tau, low, high = matrices["tau"], matrices["tau_low"], matrices["tau_high"]
    axes.imshow(tau, cmap="PuOr", vmin=-1.15, vmax=1.15, aspect="equal")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    size = float(np.interp(count, [4, 12, 24], [8.0, 6.0, 4.0]))
    for i, j in itertools.product(range(count), repeat=2):
        value = tau[i, j]
        text = _UNDEFINED if np.isnan(value) else f"{value:.2f}".replace("-", "\u2212")
        clear = low[i, j] > 0 or high[i, j] < 0
        look: dict[str, Any] = {
            "color": "white" if abs(value) > 0.65 else MUTED if abs(value) < 0.3 and not clear else INK
        }
        look["path_effects"] = _heavy(look["color"]) if clear and i != j else []
        axes.text(j, i, text, ha="center", va="center", size=size, **look)
    for i in range(count):
        axes.add_patch(_frame(i))


def _heavy(colour: str) -> list[Any]:
    """Path effects that make letters bold: a thin stroke, since a second font would go into the file."""
    return [withStroke(linewidth=0.5, foreground=colour)]


def _frame(i: int) -> Any:
    look: dict[str, Any] = {"fill": False, "edgecolor": MUTED, "linewidth": 0.8, "linestyle": (0, (2, 1.5))}
    return Rectangle((i - 0.46, i - 0.46), 0.92, 0.92, **look)
