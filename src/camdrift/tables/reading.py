"""Reading tables that may be too large for memory: lazily, and piece by piece.

A piece holds all rows of some seeds, or all rows with some value. What is computed of a seed or a value therefore comes
from the same rows in the same order, however large the table is. A small table is one piece.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from camdrift.errors import StoreError

# Polars raises these for files that it cannot read or write: it panics over some of them.
POLARS_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
DISK_ERRORS: Final = (OSError, *POLARS_ERRORS)
# Rows of one piece; about 200 MB of a table with eight columns of names.
MOST_ROWS: Final = 2**20

AnyFrame = pl.DataFrame | pl.LazyFrame
# Tables of a study or a comparison by name.
Tables = Mapping[str, pl.DataFrame]


class Stored(Mapping[str, pl.DataFrame]):
    """Tables by name, each read when it is first asked for; `scan` gives one without reading it.

    Args:
        scans: Each table, not read yet.
    """

    def __init__(self, scans: Mapping[str, pl.LazyFrame]) -> None:
        self.scans = dict(scans)
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._read:
            self._read[name] = collected(self.scans[name])
        return self._read[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.scans,)  # another process reads what it needs

    def __contains__(self, name: object) -> bool:
        # The method of `Mapping` would read the table.
        return name in self.scans

    def __iter__(self) -> Iterator[str]:
        return iter(self.scans)

    def __len__(self) -> int:
        return len(self.scans)


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the kind of the error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def scan(tables: Mapping[str, pl.DataFrame], name: str) -> pl.LazyFrame:
    """One of the tables, not read yet."""
    return tables.scans[name] if isinstance(tables, Stored) else tables[name].lazy()


def collected(rows: pl.LazyFrame, *, is_streamed: bool = False) -> pl.DataFrame:
    """The result of a query.

    Args:
        rows: The query.
        is_streamed: Hold no more than parts of the table at once; the order of rows and of sums is then not fixed.

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
    """Yield a table in pieces. A piece holds all rows of its seeds, in their order; its seeds are neighbours by name.

    A table whose seeds lie in the order of their names, as in a run directory, is read once in all.

    Args:
        rows: A table with a column `seed_id`.
        columns: Names of the columns to read; none for all.
    """
    total, lazy = height(rows), rows.lazy()
    if total <= MOST_ROWS:
        yield collected(lazy.select(columns) if columns else lazy)
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
    """Yield a table in pieces. A piece holds the rows with one combination of values of some columns, in their order.

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
