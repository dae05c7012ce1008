"""Ranks of layers by gain: which layers have one, and how ties are ordered (method section 3)."""

from typing import Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.statistics.bootstrap import Ints
from camdrift.tables.study import MEASURE
from camdrift.tables.words import CENSORED_ABOVE, CENSORED_BELOW

_Frame = TypeVar("_Frame", pl.DataFrame, pl.LazyFrame)

# Below it a layer has no rank: the 95 % interval of the median of five images is wider than their range.
LEAST_IMAGES: Final = 6
# The columns that tell apart the groups of layers that are ranked together.
RANKING: Final = (*MEASURE, "target", "strength")


def are_too_few(n_pairs: Ints) -> NDArray[np.bool_]:
    """Flags of the layers without a rank, (..., layers): below `LEAST_IMAGES`, or half of the best layer's images.

    Args:
        n_pairs: Images behind each layer's gain; 0 where it has none.
    """
    most = n_pairs.max(axis=-1, keepdims=True, initial=0)
    few: NDArray[np.bool_] = (n_pairs < LEAST_IMAGES) | (2 * n_pairs < most)
    return few


def ranked(layers: _Frame) -> _Frame:
    """Table `layers` with its ranks: 1 the highest gain; ties by the lower end of the interval, then shared.

    Ties occur where gains are bounds. A layer with too few images has neither rank nor interval. Intervals are the
    table's, widened where they do not hold all places that the layer shares.
    """
    n = pl.when(pl.col("gain").is_not_null()).then("n_pairs").fill_null(0)
    has_rank = (n >= LEAST_IMAGES) & (2 * n >= n.max().over(RANKING))
    end, bound = pl.col("gain_low"), pl.col("gain_low_censored")
    end = pl.when(bound == CENSORED_ABOVE).then(float("inf")).when(bound == CENSORED_BELOW).then(0.0).otherwise(end)
    gain = pl.when(has_rank).then("gain")
    place = gain.rank("min", descending=True).over(RANKING)
    low = pl.when(has_rank).then(end.fill_null(-1.0))
    place_in_tie = low.rank("min", descending=True).over(*RANKING, gain)
    rank = (place.cast(pl.Int64) + place_in_tie.cast(pl.Int64) - 1).alias("rank")
    with_ranks = layers.with_columns(rank)
    last = pl.col("rank") + pl.len().over(*RANKING, "rank").cast(pl.Int64) - 1
    ends = {"rank_low": pl.min_horizontal("rank_low", "rank"), "rank_high": pl.max_horizontal("rank_high", last)}
    has_ends = (pl.col("rank").is_not_null() & pl.col("rank_low").is_not_null(), pl.col("rank_high").is_not_null())
    return with_ranks.with_columns(pl.when(*has_ends).then(value).alias(name) for name, value in ends.items())
