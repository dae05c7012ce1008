"""Curves as pictures inside the page: paths and ticks, which its template draws in the colours of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.ticker import MaxNLocator

from camdrift.figures.campaign_growth import GrowthCurve
from camdrift.tables.arrays import Floats

# The size of a picture in its own units, and its margins.
WIDTH, HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40
_FIRST_ZERO: Final = 0.0


@dataclass(frozen=True)
class DrawnCurve:
    """A curve.

    Attributes:
        name: Its framework.
        place: Its place among the frameworks, for its colour.
        is_baseline: Is it a framework without guidance?
        line: Path of the median.
        band: Path around all trials; empty where they are the same.
        last: The last median in words.
    """

    name: str
    place: int
    is_baseline: bool
    line: str
    band: str
    last: str


@dataclass(frozen=True)
class DrawnChart:
    """A chart.

    Attributes:
        curves: Its curves.
        across: Ticks of passes: place and words.
        up: Ticks of values: place and words.
        box: Left, right, top and bottom of its panel.
        words: What it shows, for those who cannot see it.
    """

    curves: list[DrawnCurve]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    box: tuple[float, float, float, float]
    words: str


def drawn_chart(curves: Sequence[GrowthCurve], *, is_whole: bool, unit: str) -> DrawnChart | None:
    """A chart of curves; None where there are none.

    Args:
        curves: The curves.
        is_whole: Are the values counts? Then they go up in steps, from zero on.
        unit: What the values are, in words.
    """
    if not curves:
        return None
    end = max(float(curve.passes[-1]) for curve in curves)
    low = _FIRST_ZERO if is_whole else min(float(curve.least.min()) for curve in curves)
    high = max(float(curve.most.max()) for curve in curves)
    high = max(high, 1.0) if is_whole else high if high > low else low + 1e-9
    ups = [value for value in _ticks(low, high, 4, is_whole=is_whole) if low <= value <= high * 1.0001]
    left, right, top, bottom = float(_LEFT), float(WIDTH - _RIGHT), float(_TOP), float(HEIGHT - _BOTTOM)

    def x(passes: Floats) -> Floats:
        return left + passes / max(end, 1.0) * (right - left)

    def y(values: Floats) -> Floats:
        return bottom - (values - low) / (high - low) * (bottom - top)

    shapes = []
    for place, curve in enumerate(curves):
        ends = [_points(x(curve.passes), y(each), is_whole) for each in (curve.median, curve.least, curve.most)]
        band = f"M{_path(ends[1])}L{_path(ends[2][::-1])}Z" if np.any(curve.most > curve.least) else ""
        last = _number(float(curve.median[-1]), is_whole=is_whole)
        shapes.append(DrawnCurve(curve.framework, place, curve.is_baseline, f"M{_path(ends[0])}", band, last))
    across = [value for value in _ticks(0, end, 5, is_whole=True) if value <= end]
    names = "; ".join(f"{curve.name} {curve.last}" for curve in shapes)
    return DrawnChart(
        shapes,
        [(float(x(np.array(value))), f"{value:,.0f}") for value in across],
        [(float(y(np.array(value))), _number(value, is_whole=is_whole)) for value in ups],
        (left, right, top, bottom),
        f"{unit} after {end:,.0f} passes: {names}",
    )


def _ticks(low: float, high: float, most: int, *, is_whole: bool) -> list[float]:
    return [float(value) for value in MaxNLocator(most, integer=is_whole).tick_values(low, high)]


def _points(x: Floats, y: Floats, is_step: bool) -> Floats:
    """Points of a line, (n, 2); one that goes up in steps has a corner before each."""
    if is_step:
        x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    points: Floats = np.stack([x, y], 1)
    is_kept = np.ones(len(points), dtype=bool)
    # A point between two of the same place is not seen.
    is_kept[1:-1] = ~((points[1:-1] == points[:-2]).all(1) & (points[1:-1] == points[2:]).all(1))
    return points[is_kept]


def _path(points: Floats) -> str:
    return "L".join(f"{x:.1f},{y:.1f}" for x, y in points.tolist())


def _number(value: float, *, is_whole: bool) -> str:
    return f"{value:,g}" if is_whole else f"{value:.3g}"
