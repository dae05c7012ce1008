"""Figures 4a to 5b: similarity of each layer's map under the attack and under noise of the same size."""

import itertools
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from camdrift.figures.canvas import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    MUTED,
    blank_figure,
    boxes,
    hlines,
    is_crowded,
    layer_panels,
    mark_size,
    strength_colours,
    strength_handles,
    styled,
    vlines,
)
from camdrift.figures.scope import Scope, few_seeds, grid, reason_for_nothing, reference_row, scope_of, span
from camdrift.tables.reading import Tables, collected, scan, streamed
from camdrift.tables.run_json import Record
from camdrift.tables.words import ADVERSARIAL, NOISE, strength_text

_SHOW_POINTS_UP_TO: Final = 40
_BANDS_UP_TO: Final = 2
_FLOOR_TEXT: Final = "floor: unrelated images"
_DOTS: Final[Any] = (0, (1, 1))
_TICKS: Final = (-100.0, -30.0, -10.0, -3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_COSINE_NOTE: Final = (
    "The axis is linear in the distance between the two maps at unit length, which spreads the upper end."
)
_OTHER_NOTE: Final = "The axis is linear in the square root of the deviation, which spreads the upper end."


def similarity_adversarial_figure(tables: Tables, record: Record) -> Figure:
    """Figure 4a: distribution of each layer's similarity under the attack, at the reference strength."""
    return _distribution(tables, scope_of(tables, record), ADVERSARIAL)


def similarity_noise_figure(tables: Tables, record: Record) -> Figure:
    """Figure 4b: distribution of each layer's similarity under noise, at the reference strength."""
    return _distribution(tables, scope_of(tables, record), NOISE)


def strength_adversarial_figure(tables: Tables, record: Record) -> Figure:
    """Figure 5a: mean similarity of each layer under the attack, one curve per strength."""
    return _means(tables, scope_of(tables, record), ADVERSARIAL)


def strength_noise_figure(tables: Tables, record: Record) -> Figure:
    """Figure 5b: mean similarity of each layer under noise, one curve per strength."""
    return _means(tables, scope_of(tables, record), NOISE)


@styled
def _distribution(tables: Tables, scope: Scope, condition: str) -> Figure:
    subject = "the attack" if condition == ADVERSARIAL else "noise of the same size"
    title = f"How similar each layer's map stays under {subject}, strength {strength_text(scope.reference)}"
    samples = {target: _samples(scan(tables, "similarity"), scope, condition, target) for target in scope.targets}
    if not any(len(values) for layers in samples.values() for values in layers):
        return blank_figure(title, reason_for_nothing(scope))
    boxes_are = "Boxes: quartiles and median; whiskers: 5th to 95th percentile."
    if is_crowded(scope):
        boxes_are = "Dark bands: quartiles; pale bands: 5th to 95th percentile."
    note = f"{scope.model}; {_sizes(samples, scope, condition)} {boxes_are} {_axis_note(scope)}"
    if condition == ADVERSARIAL:
        note = f"{note} {few_seeds(tables, scope)}".rstrip()
    figure, panels = layer_panels(scope, title, note, height=2.0, handles=_distribution_handles(condition))
    low = _lowest(tables, scope)
    for axes, target in zip(panels, scope.targets, strict=True):
        _boxplots(axes, scope, samples[target], COLOURS[condition])
        _floor(axes, tables, scope, target)
        if condition == ADVERSARIAL:
            tau = reference_row(scope, tables["layers"], "threshold", target)
            look = {"colors": COLOURS[NOISE], "linewidths": 1.6, "zorder": 4, "label": "threshold"}
            hlines(axes, np.arange(len(tau)), tau, 0.84, **look)
        similarity_axis(axes, low, scope.measure.words[1])
    return figure


def _samples(similarity: pl.LazyFrame, scope: Scope, condition: str, target: str) -> list[np.ndarray]:
    """Defined similarities of each layer, all draws."""
    keys = {"condition": condition, "strength": scope.reference, "target": target}
    values = similarity.filter(pl.col("similarity").is_not_null(), **keys)
    rows = collected(values.select("seed_id", "draw", "layer", "similarity")).sort("seed_id", "draw")
    groups = {key: part["similarity"].to_numpy() for (key,), part in rows.group_by("layer", maintain_order=True)}
    return [groups.get(layer, np.empty(0)) for layer in scope.layers]


def _boxplots(axes: Axes, scope: Scope, samples: list[np.ndarray], colour: str) -> None:
    """Draw the distribution of every layer: a box with its points, or bands where boxes would run into each other."""
    x = np.arange(len(samples))
    five = np.full((len(samples), 5), np.nan)
    for i, values in enumerate(samples):
        if len(values):
            five[i] = np.percentile(values, [5, 25, 50, 75, 95])
    low, first, middle, third, high = five.T
    hlines(axes, x, middle, 0.56, colors=INK, linewidths=1.6, zorder=5, label="median")
    if is_crowded(scope):
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, zorder=2)
        axes.fill_between(x, first, third, color=colour, alpha=0.4, lw=0, zorder=2)
        return
    edge = {"colors": colour, "linewidths": 0.9}
    vlines(axes, x, low, first, zorder=2, **edge)
    vlines(axes, x, third, high, zorder=2, **edge)
    boxes(
        axes,
        x,
        first,
        third,
        width=0.56,
        facecolors=f"{colour}33",
        edgecolors=colour,
        linewidths=0.9,
        zorder=2,
    )
    if 0 < max(len(values) for values in samples) <= _SHOW_POINTS_UP_TO:
        spread = [i + 0.4 * ((np.arange(len(v)) * 0.618034) % 1 - 0.5) for i, v in enumerate(samples)]
        look: dict[str, Any] = {"s": 4, "color": colour, "alpha": 0.55, "linewidths": 0, "zorder": 3}
        axes.scatter(np.concatenate(spread), np.concatenate(samples), **look)


def _distribution_handles(condition: str) -> list[Line2D | Patch]:
    colour = COLOURS[condition]
    box = Patch(facecolor=f"{colour}33", edgecolor=colour, label=f"{condition}: middle half of the images")
    handles: list[Line2D | Patch] = [box, Line2D([], [], color=INK, lw=1.6, label="median")]
    if condition == ADVERSARIAL:
        text = "threshold: median under noise"
        handles.append(Line2D([], [], color=COLOURS[NOISE], lw=1.6, label=text))
    return [*handles, _floor_handle()]


def _floor_handle() -> Line2D:
    return Line2D([], [], color=MUTED, ls=_DOTS, lw=1.2, label=_FLOOR_TEXT)


def _floor(axes: Axes, tables: Tables, scope: Scope, target: str) -> None:
    floor = reference_row(scope, tables["layers"], "floor", target)
    look = {"colors": MUTED, "linewidths": 1.2, "linestyles": [_DOTS], "zorder": 1.5, "label": "floor"}
    hlines(axes, np.arange(len(floor)), floor, 0.84, **look)


def _axis_note(scope: Scope) -> str:
    return _COSINE_NOTE if scope.measure.metric == "cosine" else _OTHER_NOTE


def _sizes(samples: dict[str, list[np.ndarray]], scope: Scope, condition: str) -> str:
    counts = [len(values) for layers in samples.values() for values in layers if len(values)]
    if condition == NOISE and scope.draws > 1:
        return f"n = {span(counts)} noisy images per layer ({scope.draws} draws per seed)."
    return f"n = {span(counts)} seeds per layer."


def _lowest(tables: Tables, scope: Scope) -> float:
    """Lower end of the similarity axis: the same for both conditions, so that figures can be compared."""
    rows = scan(tables, "similarity").filter(pl.col("strength") == scope.reference)
    least = streamed(rows.select(pl.col("similarity").min()))["similarity"]
    return _lower_end([least, tables["layers"]["floor"]])


def _lower_end(columns: list[pl.Series]) -> float:
    smallest = min(float(v) for column in columns if (v := column.min()) is not None)  # type: ignore[arg-type]
    lowest = float(np.floor(10 * smallest - 0.3)) / 10
    return max(0.0, lowest) if smallest >= 0 else lowest


def similarity_axis(axes: Axes, low: float, metric: str = "cosine") -> None:
    """Set an axis from `low` to 1, linear in sqrt(1 - s): for cosines, the distance of two maps at unit length."""
    axes.set_yscale("function", functions=(_stretch, _shrink))
    axes.set_ylim(low, _shrink(0.02 * (1 - _stretch(low))))
    axes.set_yticks([tick for tick in _TICKS if tick >= low], [f"{tick:g}" for tick in _TICKS if tick >= low])
    axes.minorticks_off()
    axes.set_ylabel(f"similarity to the\nclean image's map ({metric})")


def _stretch(similarity: Any) -> Any:
    return np.sign(similarity - 1) * np.sqrt(np.abs(similarity - 1))


def _shrink(distance: Any) -> Any:
    return 1 + np.sign(distance) * np.square(distance)


@styled
def _means(tables: Tables, scope: Scope, condition: str) -> Figure:
    subject = "the attack" if condition == ADVERSARIAL else "noise of the same size"
    title = f"Mean similarity of each layer's map under {subject}, by strength"
    layers = tables["layers"]
    means = {target: grid(scope, layers, f"{condition}_mean", target) for target in scope.targets}
    if not any(np.isfinite(values).any() for values in means.values()):
        return blank_figure(title, reason_for_nothing(scope))
    count = layers["n" if condition == ADVERSARIAL else "n_noise"]
    has_bands = len(scope.strengths) <= _BANDS_UP_TO
    band = " Bands: mean ± 2 standard errors." if has_bands else ""
    unit = "seeds" if condition == ADVERSARIAL or scope.draws == 1 else "noisy images"
    n = span(count.filter(count > 0).to_list())
    note = f"{scope.model}; n = {n} {unit} per layer and strength.{band} {_axis_note(scope)}"
    figure, panels = layer_panels(scope, title, note, height=2.0, handles=[*strength_handles(scope), _floor_handle()])
    low = _lower_end([layers[name] for name in ("adversarial_mean", "noise_mean", "floor")])
    for axes, target in zip(panels, scope.targets, strict=True):
        _floor(axes, tables, scope, target)
        _curves(axes, scope, means[target], condition)
        if has_bands:
            _bands(axes, tables, scope, condition, target)
        similarity_axis(axes, low, scope.measure.words[1])
    return figure


def _curves(axes: Axes, scope: Scope, means: np.ndarray, condition: str) -> None:
    looks = zip(scope.strengths, means, strength_colours(scope), itertools.cycle(MARKERS), strict=False)
    for strength, row, colour, marker in looks:
        look = {
            "color": colour,
            "marker": marker,
            "markersize": min(3.2, mark_size(scope)),
            "ls": DASHES[condition],
            "lw": 1.2,
        }
        axes.plot(np.arange(len(row)), row, label=f"strength {strength_text(strength)}", **look)


def _bands(axes: Axes, tables: Tables, scope: Scope, condition: str, target: str) -> None:
    count = "n" if condition == ADVERSARIAL else "n_noise"
    names = (f"{condition}_mean", f"{condition}_std", count)
    mean, std, n = (grid(scope, tables["layers"], name, target) for name in names)
    floor = 0.0 if np.nanmin(mean) >= 0 else -np.inf
    for row, colour in enumerate(strength_colours(scope)):
        error = 2 * std[row] / np.sqrt(n[row])
        x = np.arange(error.size)
        high = np.minimum(mean[row] + error, 1.0)
        axes.fill_between(x, np.maximum(mean[row] - error, floor), high, color=colour, alpha=0.15, lw=0, zorder=1)
