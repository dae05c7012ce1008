"""The scope of a study in display order: layers, targets, strengths, and the status of its seeds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from camdrift.statistics.flips import flips_of
from camdrift.statistics.headline import Headline, headline_of
from camdrift.tables.measures import Measure
from camdrift.tables.reading import Tables, scan, streamed
from camdrift.tables.run_json import Record, effective, model_name
from camdrift.tables.study import MEASURE
from camdrift.tables.words import (
    ADVERSARIAL,
    ANALYSED,
    DEFAULT_EXPLANATIONS,
    DEFAULT_METRICS,
    DEFAULT_TARGETS,
    FAILED,
    NO_ADVERSARIAL,
    TARGET_ORDER,
    UNREADABLE,
)

# Figures and reports caution against thresholds of fewer seeds: the 95 % interval of a median of nine images already
# reaches from the second to the eighth of them.
LEAST_SEEDS: Final = 10


@dataclass(frozen=True)
class Scope:
    """The scope of a study.

    Attributes:
        model: Name of the model.
        layers: Dotted names in execution order.
        labels: Their display names.
        indices: Their positions in the tables and the gallery.
        targets: Targets in display order.
        strengths: Strengths of the attack, ascending.
        headline: The headline of the study.
        statuses: Number of seeds by status.
        draws: Noise draws per seed and strength.
        measure: The study's first measure, an explanation compared by a metric.
    """

    model: str
    layers: tuple[str, ...]
    labels: tuple[str, ...]
    indices: tuple[int, ...]
    targets: tuple[str, ...]
    strengths: tuple[float, ...]
    headline: Headline
    statuses: Mapping[str, int]
    draws: int
    measure: Measure

    @property
    def reference(self) -> float:
        """The strength of the headline, at which figures compare attack and noise, and the page opens."""
        return self.headline.strength

    @property
    def analysed(self) -> int:
        """Number of seeds with an adversarial example and similarities."""
        return self.statuses.get(ANALYSED, 0)

    @property
    def readable(self) -> int:
        """Number of seeds that the attack ran on."""
        return self.analysed + self.statuses.get(NO_ADVERSARIAL, 0)

    @property
    def total(self) -> int:
        """Number of seeds found, unreadable ones included."""
        return sum(self.statuses.values())


def scope_of(tables: Tables, record: Record) -> Scope:
    """The scope of a study; layers and strengths come from the record where no table has them."""
    rows = _layer_rows(tables["layers"], record)
    strengths = _strengths(tables, record)
    present = set(tables["layers"]["target"]) or set(effective(record).get("targets") or DEFAULT_TARGETS)
    return Scope(
        model=model_name(record),
        layers=tuple(name for _, name, _ in rows),
        labels=tuple(label for _, _, label in rows),
        indices=tuple(index for index, _, _ in rows),
        targets=tuple(sorted(present, key=lambda t: (*TARGET_ORDER, t).index(t))),
        strengths=strengths,
        headline=headline_of(tables["layers"], flips_of(tables), strengths),
        statuses={str(status): int(n) for status, n in tables["seeds"]["status"].value_counts().iter_rows()},
        draws=1 + int(streamed(scan(tables, "similarity").select(pl.col("draw").cast(pl.Int64).max())).item() or 0),
        measure=_measure(tables),
    )


def _measure(tables: Tables) -> Measure:
    """The study's first measure; the paper's if no row names one."""
    measures = tables["layers"].select(MEASURE).drop_nulls().head(1).rows()
    return Measure(*(measures[0] if measures else (DEFAULT_EXPLANATIONS[0], DEFAULT_METRICS[0])))


def _layer_rows(layers: pl.DataFrame, record: Record) -> list[tuple[int, str, str]]:
    if layers.is_empty():
        labels = {str(row["name"]): str(row.get("label") or row["name"]) for row in record.get("layers") or []}
        names = [name for name in effective(record).get("layers") or () if name in labels] or list(labels)
        return [(i, name, labels[name]) for i, name in enumerate(names)]
    unique = layers.unique("layer").sort("layer_index")
    return list(unique.select("layer_index", "layer", "layer_label").iter_rows())


def _strengths(tables: Tables, record: Record) -> tuple[float, ...]:
    for name in ("layers", "variants", "coverage"):
        frame = tables[name]
        rows = frame.filter(pl.col("condition") == ADVERSARIAL) if "condition" in frame.columns else frame
        if strengths := sorted(set(rows["strength"])):
            return tuple(strengths)
    return tuple(sorted(effective(record).get("strengths") or ()))


def grid(scope: Scope, layers: pl.DataFrame, column: str, target: str) -> np.ndarray:
    """Values of one numeric column, (strengths, layers), NaN where the table has null or no row."""
    values = np.full((len(scope.strengths), len(scope.layers)), np.nan)
    rows = layers.filter(pl.col("target") == target, pl.col(column).is_not_null())
    for strength, layer, value in rows.select("strength", "layer", column).iter_rows():
        values[scope.strengths.index(strength), scope.layers.index(layer)] = value
    return values


def reference_row(scope: Scope, layers: pl.DataFrame, column: str, target: str) -> np.ndarray:
    """Values of one numeric column at the reference strength, (layers,), NaN where there is none."""
    row: np.ndarray = grid(scope, layers, column, target)[scope.strengths.index(scope.reference)]
    return row


def stage(label: str) -> str:
    """The part of a network that a layer belongs to: its label up to the first number.

    Example:
        >>> stage("block4_conv1"), stage("blocks.3.2.conv_pwl"), stage("conv_stem")
        ('block4', 'blocks.3', 'conv_stem')
    """
    match = re.match(r".*?\d+[a-z]?(?![a-z])", label)
    return match.group() if match else label


def part_of(labels: Sequence[str], place: int) -> str:
    """The part of the network that a layer stands for: its last block, an early layer, ...

    Args:
        labels: Display names of the layers in execution order.
        place: The layer's place among them.

    Example:
        >>> part_of(["stem", "block1.a", "block1.b", "block2.a", "block2.b"], 4), part_of(["a", "b", "c"], 1)
        ('its last block', 'a middle layer')
    """
    last = len(labels) - 1
    stages = [stage(label) for label in labels]
    blocks = [name for name in dict.fromkeys(stages) if stages.count(name) > 1]
    if len(blocks) > 1 and stages[place] in (blocks[0], blocks[-1]):
        return "its first block" if stages[place] == blocks[0] else "its last block"
    if place in (0, last):
        return "its first layer" if place == 0 else "its last layer"
    return ("an early layer", "a middle layer", "a late layer")[min(3 * place // (last + 1), 2)]


def reason_for_nothing(scope: Scope) -> str:
    """The reason why no layer could be measured, in one or two sentences."""
    if not scope.total:
        return "The study has no images."
    parts = [
        (NO_ADVERSARIAL, "kept the model's prediction throughout the attack"),
        (UNREADABLE, "could not be read"),
        (FAILED, "failed"),
    ]
    words = [f"{n:,} {what}" for status, what in parts if (n := scope.statuses.get(status, 0))]
    if scope.analysed:
        words.append(f"{scope.analysed:,} had an adversarial example, but no map that can be compared")
    images = f"{scope.total:,} {'image' if scope.total == 1 else 'images'}"
    return f"Of {images}, {', '.join(words)}. Without an adversarial example no layer can be measured."


def few_seeds(tables: Tables, scope: Scope) -> str:
    """A caution for figures and sentences on thresholds, if some rest on fewer than ten seeds; empty if none do."""
    rows = tables["layers"].filter(pl.col("threshold").is_not_null())
    least = rows.group_by("layer").agg(seeds=-(-pl.col("n_noise").min() // scope.draws))
    few = least.filter(pl.col("seeds") < LEAST_SEEDS)
    if few.is_empty():
        return ""
    where = "" if few.height == least.height else f" in {few.height:,} of {least.height:,} layers"
    fewest = int(few["seeds"].min())  # type: ignore[arg-type]
    images = "1 image" if fewest == 1 else f"{fewest} images"
    return f"Caution: thresholds rest on as few as {images}, fewer than {LEAST_SEEDS}{where}: they may lie elsewhere."


def span(values: np.ndarray | list[int]) -> str:
    """The range of some counts: '14', or '12 to 14'."""
    low, high = int(np.min(values)), int(np.max(values))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
