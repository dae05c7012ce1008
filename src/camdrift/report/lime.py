"""LIME of the input in words: a sentence whose every number comes from table `lime`."""

import polars as pl

from camdrift.report.numbers import between, fraction
from camdrift.statistics.focus import median_interval
from camdrift.tables.further import LIME_TABLE
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, count


def lime_sentence(tables: Tables, record: Record) -> str:
    """How far LIME maps of the input move, beside what two designs of masks differ by; empty without the table."""
    if LIME_TABLE.name not in tables or tables[LIME_TABLE.name].is_empty():
        return ""
    table = (
        tables[LIME_TABLE.name]
        .sort("seed_id")
        .with_columns(deviation=1 - pl.col("similarity"), floor=1 - pl.col("floor_similarity"))
    )
    parts = {condition: table.filter(condition=condition) for condition in (CLEAN, ADVERSARIAL, NOISE)}
    values = {
        "attack": parts[ADVERSARIAL]["deviation"],
        "noise": parts[NOISE]["deviation"],
        "floor": parts[CLEAN]["floor"],
    }
    rng_seed = int(effective(record).get("rng_seed") or 0)
    words = {name: _median(column, rng_seed) for name, column in values.items()}
    samples, resolved = table["n_samples"][0], parts[ADVERSARIAL]["is_resolved"].drop_nulls()
    text = (
        f"On the input, the LIME map for the seed's class moves by {words['attack']} under the attack and by "
        f"{words['noise']} under noise of the same size (median deviation, n = {values['attack'].count():,}); two "
        f"designs of {samples:,} masks differ by {words['floor']} on the clean image itself"
    )
    if 2 * int(resolved.sum()) <= len(resolved):
        return (
            f"{text}, so the attack's change is not resolved with {samples:,} samples: it exceeds that in "
            f"{int(resolved.sum()):,} of {count(len(resolved), 'image')}."
        )
    return f"{text}, which the attack's change exceeds in {int(resolved.sum()):,} of {count(len(resolved), 'image')}."


def _median(values: pl.Series, rng_seed: int) -> str:
    """A median with its interval."""
    middle = values.median()
    interval = between(*(median_interval(values, rng_seed=rng_seed) or (None, None)))
    return " ".join(filter(None, [fraction(None if middle is None else float(middle)), interval]))  # type: ignore[arg-type]
