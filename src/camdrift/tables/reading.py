"""Tables that may be too large to hold: read where they lie, piece by piece.

A piece holds all rows of some seeds, or all rows with some value, so that what is said of a seed or of a value is
computed from the same rows in the same order however large the table is. A small table is one piece.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from camdrift.errors import StoreError

# What polars raises for files that it cannot read or write: it panics over some of them.
_OF_POLARS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
DISK_ERRORS: Final = (OSError, *_OF_POLARS)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


AnyFrame = pl.DataFrame | pl.LazyFrame
# Tables of a study or a comparison by name.
Tables = Mapping[str, pl.DataFrame]

# AnyFrame of one piece; about 200 MB of a table with eight columns of names.
MOST_ROWS: Final = 2**20


class Stored(Mapping[str, pl.DataFrame]):
    """Tables by name that are read when first asked for; `scan` gives one without reading it.

    Args:
        scans: Where each table lies.
    """

    def __init__(self, scans: Mapping[str, pl.LazyFrame]) -> None:
        self.scans = dict(scans)
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._read:
            self._read[name] = collected(self.scans[name])
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        # A mapping's own would read the table.
        return name in self.scans

    def __iter__(self) -> Iterator[str]:
        return iter(self.scans)

    def __len__(self) -> int:
        return len(self.scans)


def scan(tables: Mapping[str, pl.DataFrame], name: str) -> pl.LazyFrame:
    """One of the tables, not read yet."""
    return tables.scans[name] if isinstance(tables, Stored) else tables[name].lazy()


def collected(rows: pl.LazyFrame, *, is_streamed: bool = False) -> pl.DataFrame:
    """The result of a query.

    Args:
        rows: The query.
        is_streamed: Never hold more than parts of what is read; the order of rows and of sums is then not fixed.

    Raises:
        StoreError: A file cannot be read.
    """
    try:
        return rows.collect(engine="streaming" if is_streamed else "auto")
    except DISK_ERRORS as error:
        raise StoreError(
            f"a table cannot be read: {first_line(error)}", "camdrift verify RUN names the file"
        ) from error


def streamed(rows: pl.LazyFrame) -> pl.DataFrame:
    """The result of a query whose rows need no order: counts, extremes, distinct values; raises as `collected`."""
    return collected(rows, is_streamed=True)


def height(rows: AnyFrame) -> int:
    """Number of rows."""
    return rows.height if isinstance(rows, pl.DataFrame) else int(streamed(rows.select(pl.len())).item())


def distinct(rows: AnyFrame, *columns: str) -> pl.DataFrame:
    """The different values of some columns together, in the order in which they first come."""
    if isinstance(rows, pl.DataFrame):
        return rows.select(columns).unique(maintain_order=True)
    first = rows.select(columns).with_row_index("first").group_by(columns).agg(pl.col("first").min())
    return streamed(first).sort("first").drop("first")


def by_seeds(rows: AnyFrame, *columns: str) -> Iterator[pl.DataFrame]:
    """Some columns, piece by piece: every seed whole, its rows in their order, seeds of one piece next in name.

    A table whose seeds lie in the order of their names, as in a run directory, is read once in all.

    Args:
        rows: A table with a column `seed_id`.
        columns: The columns that are wanted; none for all.
    """
    total, lazy = height(rows), rows.lazy()
    wanted = lazy.select(columns) if columns else lazy
    if total <= MOST_ROWS:
        yield collected(wanted)
        return
    names = streamed(lazy.select("seed_id").unique())["seed_id"].sort()
    seeds = max(1, len(names) * MOST_ROWS // total)
    for start in range(0, len(names), seeds):
        block = names[start : start + seeds]
        # Two comparisons, which a Parquet file answers from the statistics of its row groups.
        within = (pl.col("seed_id") >= pl.lit(block[0])) & (pl.col("seed_id") <= pl.lit(block[-1]))
        part = lazy.filter(within)
        yield collected(part.select(columns) if columns else part)


def by_values(rows: AnyFrame, *columns: str) -> Iterator[pl.DataFrame]:
    """All columns, piece by piece: the rows with one combination of values of some columns, in their order.

    Args:
        rows: A table.
        columns: Columns without nulls.
    """
    if height(rows) <= MOST_ROWS:
        yield collected(rows.lazy())
        return
    for values in distinct(rows, *columns).iter_rows():
        at = [pl.col(name) == pl.lit(value) for name, value in zip(columns, values, strict=True)]
        yield collected(rows.lazy().filter(at))
