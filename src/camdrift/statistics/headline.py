"""The headline of a study: the strength, the class explained and the layer that every word, figure and page opens with.

It is taken at the lowest strength at which at least half of the adversarial examples still fool the network
(method section 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import polars as pl

from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, CENSORED_ABOVE, TARGET_ORDER


class Certainty(StrEnum):
    """How sure it is that a layer comes first: from its rank interval, or why it has none."""

    CLEAR = "clear"
    LIKELY = "likely"
    UNCERTAIN = "uncertain"
    UNKNOWN = "cannot be told"
    TOO_FEW = "too few images"
    ONLY = "only one layer"
    NOTHING = "nothing measured"


@dataclass(frozen=True)
class Headline:
    """The headline of a study.

    Attributes:
        target: Whose class is explained.
        strength: Its strength.
        fooling: Adversarial examples that still fool the network at this strength.
        n: Adversarial examples.
        tops: Rows of table `layers` that share the first rank; where no layer has one, the layer of highest gain.
        rest: The rows of the other layers with a rank, by rank.
        certainty: How sure the first place is.
    """

    target: str
    strength: float
    fooling: int
    n: int
    tops: tuple[Row, ...]
    rest: tuple[Row, ...]
    certainty: Certainty

    @property
    def is_fooling(self) -> bool:
        """Do at least half of the adversarial examples fool the network at this strength?"""
        return self.n > 0 and 2 * self.fooling >= self.n

    @property
    def layer(self) -> str | None:
        """Name of the first layer; None if nothing was measured."""
        return str(self.tops[0]["layer"]) if self.tops else None

    @property
    def n_ranked(self) -> int:
        """Number of layers with a rank."""
        return 0 if self.certainty in (Certainty.TOO_FEW, Certainty.NOTHING) else len(self.tops) + len(self.rest)


def headline_of(layers: pl.DataFrame, flips: pl.DataFrame, strengths: Sequence[float]) -> Headline:
    """The headline of a study.

    Args:
        layers: Table `layers` of one measure, with its ranks.
        flips: Table `flips`.
        strengths: Strengths of the attack.
    """
    present = set(layers["target"])
    target = next((target for target in TARGET_ORDER if target in present), TARGET_ORDER[0])
    strength, fooling, n = fooling_strength(flips, strengths)
    at = layers.filter(pl.col("target") == target, pl.col("strength") == strength)
    ranks = at.filter(pl.col("rank").is_not_null()).sort("rank", "layer_index").to_dicts()
    if not ranks:
        first = _furthest(at, is_one=n == 1)
        return Headline(target, strength, fooling, n, first, (), Certainty.TOO_FEW if first else Certainty.NOTHING)
    tops = tuple(row for row in ranks if row["rank"] == ranks[0]["rank"])
    return Headline(target, strength, fooling, n, tops, tuple(ranks[len(tops) :]), certainty_of(tops[0], len(ranks)))


def _furthest(at: pl.DataFrame, *, is_one: bool) -> tuple[Row, ...]:
    """The layer to look at where none has a rank: of highest gain, of one image the one whose map moves furthest."""
    if is_one:
        rows = at.filter(pl.col("adversarial_mean").is_not_null()).sort("adversarial_mean", "layer_index")
    else:
        rows = at.filter(pl.col("gain").is_not_null())
        rows = rows.sort(-pl.col("gain"), -pl.col("gain_low").fill_null(-1.0), "layer_index")
    return tuple(rows.head(1).to_dicts())


def fooling_strength(flips: pl.DataFrame, strengths: Sequence[float]) -> tuple[float, int, int]:
    """The strength of a headline, the adversarial examples that fool the network at it, and all of them.

    It is the lowest strength at which at least half of them do; where there is none, the one closest to 1.

    Args:
        flips: Table `flips`.
        strengths: Strengths of the attack.
    """
    rows = flips.filter(pl.col("condition") == ADVERSARIAL, pl.col("strength").is_in(list(strengths)), pl.col("n") > 0)
    half = rows.filter(2 * pl.col("flipped") >= pl.col("n")).sort("strength")
    row = (half if half.height else rows.sort((pl.col("strength") - 1).abs(), "strength")).head(1)
    if row.height:
        return float(row["strength"][0]), int(row["flipped"][0]), int(row["n"][0])
    return min(strengths, key=lambda strength: abs(strength - 1), default=1.0), 0, 0


def moves_further(row: Row) -> bool:
    """Does the attack move the map of a layer with a gain further than noise of the same size does?"""
    if row["gain_censored"] is not None:
        return bool(row["gain_censored"] == CENSORED_ABOVE)
    return bool(row["gain"] > 1)


def certainty_of(row: Row, n_ranked: int) -> Certainty:
    """How sure it is that this layer, of so many with a rank, comes first."""
    high = row["rank_high"]
    if n_ranked == 1:
        return Certainty.ONLY
    if high is None or high >= n_ranked:
        return Certainty.UNKNOWN
    if high <= ceil(n_ranked / 10):
        return Certainty.CLEAR
    return Certainty.LIKELY if high <= n_ranked / 3 else Certainty.UNCERTAIN
