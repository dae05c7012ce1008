"""The types of tables: a table has a name, rows that stand for something, and columns with type and meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

# pl.DataType and pl.Schema, which beartype refuses because polars prints them in two ways.
PolarsType = Any
PolarsSchema = Any

Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its name.
        dtype: Its polars type.
        meaning: The meaning of its values, for docs/tables.md.
    """

    name: str
    dtype: PolarsType
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Its name.
        row: What a row stands for, for docs/tables.md.
        columns: Its columns in order.
        summary: One sentence on it, for the attribute of `Study`; empty for tables of no study.
        is_replaced: Does a command after the run replace it, so that it must be read anew each time?
        additions: Columns that runs of before lack; there they are null.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    summary: str = ""
    is_replaced: bool = False
    additions: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> PolarsSchema:
        """Names and types of the columns."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def frame(self, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None) -> pl.DataFrame:
        """A data frame of this table from rows, or from columns, with exactly its columns and types.

        Args:
            rows: A list of rows, or a mapping of column name to values; columns left out are null.

        Raises:
            ValueError: A column that this table does not have.
        """
        data = rows if rows is not None else []
        names = set(data) if isinstance(data, Mapping) else {name for row in data for name in row}
        if unknown := sorted(names - set(self.schema)):
            raise ValueError(f"table `{self.name}` has no column {unknown}, got: {sorted(names)}")
        if not isinstance(data, Mapping):
            return pl.DataFrame(list(data), schema=self.schema, orient="row")
        partial = pl.DataFrame(dict(data), schema_overrides={n: t for n, t in self.schema.items() if n in data})
        missing = [pl.lit(None, dtype=t).alias(n) for n, t in self.schema.items() if n not in data]
        complete = partial.with_columns(missing) if missing else partial
        return complete.select(self.schema.names())

    def completed(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of a run of before with null in the columns of `additions`; other rows as they are."""
        names = rows.collect_schema().names()
        absent = [name for name in self.additions if name not in names]
        if not absent or {*names, *absent} != {*self.schema}:
            return rows
        nulls = [pl.lit(None, dtype=self.schema[name]).alias(name) for name in absent]
        return rows.with_columns(nulls).select(self.schema.names())


def table(
    name: str,
    row: str,
    *columns: tuple[str, Any, str],
    summary: str = "",
    is_replaced: bool = False,
    additions: tuple[str, ...] = (),
) -> Table:
    """A table from its name, what a row stands for, and (name, type, meaning) of each column."""
    typed_columns = tuple(Column(n, t() if isinstance(t, type) else t, m) for n, t, m in columns)
    return Table(name, row, typed_columns, summary, is_replaced, additions)
