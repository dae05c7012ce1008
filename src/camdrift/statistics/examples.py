"""Failures of a campaign that stand for all of them."""

from typing import Final

import polars as pl

MOST_EXAMPLES: Final = 12


def telling_rows(failures: pl.DataFrame, most: int = MOST_EXAMPLES) -> list[int]:
    """Row numbers of the failures that a page shows first.

    They are the closest of each seed, then the closest of each seed's next wrong class, and so on. Closest means: not
    moved before moved, then by L2 norm.

    Args:
        failures: Table `failures`.
        most: How many at most.
    """
    closeness = ("is_moved", "l2", "row")
    stored = failures.with_row_index("row").filter(pl.col("image").is_not_null()).sort(closeness)
    pairs = stored.unique(("seed_id", "wrong_class"), keep="first", maintain_order=True)
    turns = pairs.with_columns(turn=pl.int_range(pl.len()).over("seed_id"))
    rows: list[int] = turns.sort("turn", *closeness)["row"].head(most).to_list()
    return rows


def example_rows(failures: pl.DataFrame, clusters: pl.DataFrame, most: int = MOST_EXAMPLES) -> list[int]:
    """Row numbers of the middles of the first clusters, in their order.

    Args:
        failures: Table `failures`.
        clusters: Table `clusters`.
        most: How many at most.
    """
    places = {image: row for row, image in enumerate(failures["image"].to_list()) if image is not None}
    return [places[image] for image in clusters["example"].head(most).to_list() if image in places]
