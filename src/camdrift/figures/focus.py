"""Figure 9: the focus of each layer's map, under the attack and under noise of the same size."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from camdrift.figures.canvas import COLOURS, DASHES, MUTED, blank_figure, layer_panels, mark_size, styled
from camdrift.figures.scope import Scope, reason_for_nothing, scope_of, span
from camdrift.statistics.focus import focus_medians
from camdrift.tables.reading import Tables, scan
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, NOISE, TARGET_WORDS, strength_text


@dataclass(frozen=True)
class FocusMeasure:
    """One measure in words.

    Attributes:
        column: Its column in table `focus`.
        name: A few words, for lists.
        title: Its question, for a heading.
        unit: The unit of its axis.
        meaning: Its definition, in one sentence.
        cue: The meaning of its sign or its ends.
        rest: Its value where nothing moves or all is chance, marked by a line.
    """

    column: str
    name: str
    title: str
    unit: str
    meaning: str
    cue: str
    rest: float


MEASURES: Final = (
    FocusMeasure(
        column="centroid_shift",
        name="shift of the centre",
        title="How far the centre of the map moves",
        unit="sides of the image",
        meaning="Distance between the centres of mass of the two maps.",
        cue="0: the centre stays",
        rest=0.0,
    ),
    FocusMeasure(
        column="spread_change",
        name="change of spread",
        title="How much wider the map spreads around its centre",
        unit="sides of the image",
        meaning="Root mean square distance from the map's own centre, of the variant minus that of the clean image.",
        cue="above 0: wider; below: narrower",
        rest=0.0,
    ),
    FocusMeasure(
        column="entropy_change",
        name="change of entropy",
        title="How much more even the map becomes",
        unit="share of an even map's entropy",
        meaning="Entropy of the map over that of an even map, of the variant minus that of the clean image.",
        cue="above 0: more even; below: more concentrated",
        rest=0.0,
    ),
    FocusMeasure(
        column="top_overlap",
        name="overlap of the top fifth",
        title="How much of the map's top fifth stays in place",
        unit="Dice overlap",
        meaning="Dice overlap of the largest fifth of the cells of the two maps.",
        cue="1: the same cells; 0.2: by chance",
        rest=0.2,
    ),
    FocusMeasure(
        column="perturbation_correlation",
        name="correlation with the perturbation",
        title="Whether the map changes where the perturbation lies",
        unit="correlation over cells",
        meaning=(
            "Pearson correlation, over the cells of a map, of its change and the root mean square of the perturbation. "
            "Both tend to lie on the object, so it does not show a cause."
        ),
        cue="above 0: more where the perturbation is stronger",
        rest=0.0,
    ),
)

_CONDITIONS: Final = (ADVERSARIAL, NOISE)
_MARKERS: Final = {ADVERSARIAL: "o", NOISE: "s"}
_REST: Final[dict[str, Any]] = {"color": MUTED, "lw": 0.9, "ls": "-"}


@styled
def focus_figure(tables: Tables, record: Record) -> Figure:
    """Figure 9: five measures of the focus per layer, attack against noise, at the reference strength."""
    scope = scope_of(tables, record)
    title = f"Where the focus of each layer's map goes, strength {strength_text(scope.reference)}"
    target = scope.targets[0] if scope.targets else ""
    at = (pl.col("strength") == scope.reference) & (pl.col("target") == target)
    rows = focus_medians(scan(tables, "focus").filter(at))
    if not (rows["n"] > 0).any():
        return blank_figure(title, reason_for_nothing(scope))
    n = span(rows["n"].filter(rows["n"] > 0).to_list())
    note = (
        f"{scope.model}; {TARGET_WORDS.get(target, target)}; n = {n} seeds per layer. Each variant's map is held "
        "against that of its clean image. Marks: median over the seeds; bands: middle half of the seeds."
    )
    rows = rows.with_columns(is_rare=(pl.col("n") > 0) & (2 * pl.col("n") < pl.col("n").max()))
    titles = [measure.title for measure in MEASURES]
    handles = _handles(has_rare=bool(rows["is_rare"].any()))
    figure, panels = layer_panels(scope, title, note, height=1.12, handles=handles, names_of_panels=titles)
    for axes, measure in zip(panels, MEASURES, strict=True):
        axes.axhline(measure.rest, zorder=1, **_REST)
        for condition in reversed(_CONDITIONS):
            _curve(axes, scope, rows.filter(measure=measure.column, condition=condition), condition)
        _axis(axes, measure)
    return figure


def _handles(*, has_rare: bool) -> list[Line2D]:
    names = {ADVERSARIAL: "attack", NOISE: "noise of the same size"}
    marks = [
        Line2D([], [], color=COLOURS[c], ls=DASHES[c], marker=_MARKERS[c], markersize=4, label=names[c])
        for c in _CONDITIONS
    ]
    rest = Line2D([], [], label="no change; overlap by chance", **_REST)
    rare = Line2D([], [], color=MUTED, marker="o", mfc="white", ls="", label="open: undefined for most seeds")
    return [*marks, rest, *([rare] if has_rare else [])]


def _curve(axes: Axes, scope: Scope, rows: pl.DataFrame, condition: str) -> None:
    """Draw medians with the band of the middle half; a layer without values is a gap."""
    columns = {layer: values for layer, *values in rows.select("layer", "lower", "median", "upper", "is_rare").rows()}
    cells = [columns.get(layer, [None] * 3 + [False]) for layer in scope.layers]
    lower, median, upper, rare = np.array(cells, dtype=np.float64).T
    x, colour = np.arange(len(scope.layers)), COLOURS[condition]
    axes.fill_between(x, lower, upper, color=colour, alpha=0.16, lw=0, zorder=1.5)
    axes.plot(x, median, color=colour, ls=DASHES[condition], lw=1.1, zorder=2, label=condition)
    look: dict[str, Any] = {"color": colour, "marker": _MARKERS[condition], "ls": "", "zorder": 3}
    look |= {"markersize": mark_size(scope), "markeredgewidth": 0.8}
    for hollow, fill in ((0, colour), (1, "white")):
        places = (rare == hollow) & np.isfinite(median)
        axes.plot(x[places], median[places], mfc=fill, **look)


def _axis(axes: Axes, measure: FocusMeasure) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}".replace("-", "\u2212")))
    if measure.column == "top_overlap":
        axes.set_ylim(-0.02, 1.05)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_title(f"{measure.unit} \u00b7 {measure.cue}", loc="right", size=7.0, color=MUTED, pad=5)
