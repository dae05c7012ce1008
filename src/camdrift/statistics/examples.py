"""Failures of a campaign that stand for all of them."""

from typing import Final

import polars as pl

MOST_EXAMPLES: Final = 12
# Examples that stand for a seed each; the others stand for mutators first.
_MOST_SEEDS: Final = 6


def telling_rows(failures: pl.DataFrame) -> list[int]:
    """Row numbers of the failures that a page shows, the most telling first, at most `MOST_EXAMPLES`.

    Of up to six seeds the closest failure, then of each mutator, then of each seed and wrong class; none twice.
    Closest: not moved before moved, then by L2 norm.

    Args:
        failures: Table `failures`.
    """
    images = failures.with_row_index("row").filter(pl.col("image").is_not_null()).sort("is_moved", "l2", "row")
    pairs, seeds, mutators = (
        images.unique(key, keep="first", maintain_order=True)["row"].to_list()
        for key in (("seed_id", "wrong_class"), "seed_id", "operator")
    )
    return list(dict.fromkeys([*seeds[:_MOST_SEEDS], *mutators, *seeds, *pairs]))[:MOST_EXAMPLES]


def example_rows(failures: pl.DataFrame, clusters: pl.DataFrame, most: int = MOST_EXAMPLES) -> list[int]:
    """Row numbers of the middles of the first clusters, in their order.

    Args:
        failures: Table `failures`.
        clusters: Table `clusters`.
        most: How many at most.
    """
    places = {image: row for row, image in enumerate(failures["image"].to_list()) if image is not None}
    return [places[image] for image in clusters["example"].head(most).to_list() if image in places]
