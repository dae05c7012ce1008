"""Similarities of a table as dense arrays, read piece by piece.

An undefined or missing value is NaN. Seeds stand in the order that the caller asks for, so that the order of rows
changes no digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from camdrift.statistics.bootstrap import Ints
from camdrift.tables.arrays import Floats
from camdrift.tables.reading import AnyFrame, by_seeds, streamed
from camdrift.tables.words import ADVERSARIAL, NOISE


class Dense(NamedTuple):
    """One condition of a table: its values, (strengths, layers, seeds, draws), and its rows per (strength, layer)."""

    values: Floats
    rows: Ints


@dataclass(frozen=True)
class SimilarityArrays:
    """Similarities of one target.

    Attributes:
        layers: layer, layer_label, layer_index; in order of layer_index.
        strengths: Strengths of the attack, ascending.
        ladder: Strengths of the attack or the noise, ascending.
        adversarial: Similarities under the attack; one draw.
        noise: Similarities under noise, over the ladder.
        matched: The part of `noise` at the strengths of the attack.
    """

    layers: pl.DataFrame
    strengths: Floats
    ladder: Floats
    adversarial: Dense
    noise: Dense
    matched: Dense


def seed_arrays(similarity: AnyFrame, seeds: Sequence[str]) -> SimilarityArrays:
    """Similarities of one measure and target as dense arrays.

    Args:
        similarity: Rows of table `similarity`, of one measure, one target and these seeds; read piece by piece.
        seeds: Names of the seeds, in the order that the arrays are to have.
    """
    rows = similarity.lazy()
    layers = streamed(rows.select("layer", "layer_label", "layer_index").unique()).sort("layer_index", "layer")
    axes = streamed(rows.select("condition", "strength", "draw").unique())
    strengths = axes.filter(pl.col("condition") == ADVERSARIAL)["strength"].unique().sort().to_numpy()
    ladder = axes["strength"].unique().sort().to_numpy()
    names = layers["layer"].to_list()
    adversarial, noise = (
        ArrayBuilder("similarity", levels, names, seeds, axes.filter(pl.col("condition") == condition)["draw"])
        for condition, levels in ((ADVERSARIAL, strengths), (NOISE, ladder))
    )
    for piece in by_seeds(rows, "seed_id", "condition", "strength", "draw", "layer", "similarity"):
        for condition, cells in ((ADVERSARIAL, adversarial), (NOISE, noise)):
            cells.add(piece.filter(pl.col("condition") == condition))
    noise_cells, places = noise.dense(), np.searchsorted(ladder, strengths)
    at_strengths = Dense(noise_cells.values[places], noise_cells.rows[places])
    return SimilarityArrays(layers, strengths, ladder, adversarial.dense(), noise_cells, at_strengths)


class ArrayBuilder:
    """One condition of a table as an array, filled piece by piece.

    Args:
        column: The column to read.
        strengths: Strengths of the condition, ascending.
        layers: Names of the layers.
        seeds: Names of the seeds.
        draws: The draws that occur, in any order.
    """

    def __init__(
        self, column: str, strengths: Floats, layers: Sequence[str], seeds: Sequence[str], draws: pl.Series
    ) -> None:
        self._column, self._strengths, self._draws = column, strengths, draws.unique().sort().to_numpy()
        self._layers, self._seeds = pl.Enum(layers), pl.Enum(seeds)
        self._shape = (len(strengths), len(layers), len(seeds), max(1, len(self._draws)))
        self._values = np.full(int(np.prod(self._shape)), np.nan)
        self._is_filled = np.zeros(self._values.shape, np.bool_)
        self._n_rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Fill the cells of some rows."""
        strength = np.searchsorted(self._strengths, frame["strength"].to_numpy())
        draw = np.searchsorted(self._draws, frame["draw"].to_numpy())
        layer, seed = _codes(frame["layer"], self._layers), _codes(frame["seed_id"], self._seeds)
        cell = np.ravel_multi_index((strength, layer, seed, draw), self._shape)
        self._values[cell] = frame[self._column].cast(pl.Float64).to_numpy()
        self._is_filled[cell] = True
        self._n_rows += len(cell)

    def dense(self) -> Dense:
        """The array, from all rows that were added.

        Raises:
            ValueError: Two rows for one cell.
        """
        rows = self._is_filled.reshape(self._shape).sum(axis=(2, 3))
        if rows.sum() != self._n_rows:
            raise ValueError(
                f"`{self._column}` must have one row per cell, got: {self._n_rows} rows in {rows.sum()} cells"
            )
        return Dense(self._values.reshape(self._shape), rows)


def _codes(names: pl.Series, categories: pl.Enum) -> Ints:
    """Position of each name among the categories."""
    codes: Ints = names.cast(categories).to_physical().to_numpy().astype(np.int64)
    return codes
