"""Medians over the seeds of the measures of focus: NumPy's quartiles, and resamples written out."""

import numpy as np
import polars as pl
import pytest

from camdrift.statistics.focus import focus_medians, median_interval
from camdrift.tables.study import FOCUS, FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, NOISE


class TestMedians:
    @pytest.fixture(scope="class")
    @classmethod
    def table(cls):
        rng = np.random.default_rng(0)
        rows = [
            {"seed_id": f"s{i}", "condition": condition, "strength": 1.0, "target": "own", "layer": layer}
            | {"layer_label": layer, "layer_index": index, "centroid_shift": None if i == index else rng.random()}
            | {"top_overlap": rng.random()}
            for i in range(9)
            for condition in (ADVERSARIAL, NOISE)
            for index, layer in enumerate("ab")
        ]
        return FOCUS.frame(rows)

    def test_quartiles_are_numpys(self, table):
        found = focus_medians(table)
        assert found["measure"].unique(maintain_order=True).to_list() == list(FOCUS_MEASURES)
        for row in found.filter(pl.col("measure").is_in(["centroid_shift", "top_overlap"])).iter_rows(named=True):
            values = table.filter(layer=row["layer"], condition=row["condition"])[row["measure"]]
            quartiles = np.quantile(values.drop_nulls().to_numpy(), [0.25, 0.5, 0.75])
            assert [row["lower"], row["median"], row["upper"]] == pytest.approx(quartiles.tolist())
            assert (row["n"], row["n_undefined"]) == (9 - values.null_count(), values.null_count())
        nothing = found.filter(measure="spread_change").row(0, named=True)
        assert (nothing["n"], nothing["n_undefined"], nothing["median"]) == (0, 9, None)

    def test_the_interval_is_that_of_medians_of_resampled_seeds(self, table):
        values = table.filter(layer="a", condition=NOISE).sort("seed_id")["centroid_shift"]
        low, high = median_interval(values, rng_seed=3)
        rng = np.random.default_rng(1)
        sample = np.array([np.nan if v is None else v for v in values])
        medians = [np.nanmedian(sample[rng.integers(0, 9, 9)]) for _ in range(20_000)]
        assert (low, high) == pytest.approx(tuple(np.quantile(medians, [0.025, 0.975])), abs=0.05)
        assert {low, high} <= {(a + b) / 2 for a in sample for b in sample}
        assert median_interval(values, rng_seed=3) == (low, high)

    def test_two_seeds_have_an_interval(self):
        """Medians of resamples are either value or the mean of both; undefined seeds do not count."""
        assert median_interval(pl.Series([0.2, None, None, None, 0.4]), rng_seed=0) == (0.2, 0.4)

    def test_one_seed_has_no_interval(self):
        assert median_interval(pl.Series([0.3, None]), rng_seed=0) is None
        assert median_interval(pl.Series([], dtype=pl.Float64), rng_seed=0) is None
