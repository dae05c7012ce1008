"""The list of tables, and what a table does with rows."""

import polars as pl
import pytest

from camdrift.tables.further import FURTHER_TABLES, RUN_TABLES
from camdrift.tables.study import COUNTS, TABLES


def test_a_run_may_have_every_table_once():
    assert list(RUN_TABLES) == [*TABLES, *FURTHER_TABLES]
    assert len(RUN_TABLES) == len(TABLES) + len(FURTHER_TABLES)


def test_columns_left_out_are_null():
    expected = {**dict.fromkeys(COUNTS.schema.names()), "n_seeds": 3}
    for rows in ([{"n_seeds": 3}], {"n_seeds": [3]}):
        frame = COUNTS.frame(rows)
        assert frame.schema == COUNTS.schema
        assert frame.row(0, named=True) == expected


@pytest.mark.parametrize("rows", [[{"n_seeds": 3}, {"n_images": 3}], {"n_images": pl.Series([3])}])
def test_a_column_that_a_table_does_not_have_is_refused(rows):
    with pytest.raises(ValueError, match=r"table `counts` has no column \['n_images'\]"):
        COUNTS.frame(rows)
