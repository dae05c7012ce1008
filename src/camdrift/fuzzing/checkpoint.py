"""A trial as tables, arrays and plain numbers, and a trial that takes them up again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.fuzzing.constraints import NO_LEAK
from camdrift.fuzzing.corpus import Entry
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.trial import Spending, Trial
from camdrift.specs import parse_spec
from camdrift.tables.campaign import FAILURES_TABLE, GROWTH_TABLE

_COLUMNS: Final[dict[str, Any]] = {
    "seed": pl.Int64,
    "parent": pl.Int64,
    "mutation": pl.String,
    "stream": pl.UInt64,
    "matrix": pl.List(pl.Float64),
    "leak": pl.List(pl.Float64),
    "uncertainty": pl.Float64,
    "gain": pl.Float64,
    "reason": pl.String,
    "iteration": pl.Int64,
    "passes": pl.Int64,
    "times": pl.Int64,
}
_ENTRIES: Final = pl.Schema(_COLUMNS)
_NUMBERS: Final[dict[str, Any]] = {"operator": pl.String, "numbers": pl.List(pl.Int64)}
_TALLY: Final = pl.Schema(_NUMBERS)
_SEPARATOR: Final = "~"


class Saved(NamedTuple):
    """A trial for a checkpoint: tables and arrays by name, and plain numbers."""

    tables: dict[str, pl.DataFrame]
    arrays: dict[str, NDArray[Any]]
    counts: dict[str, Any]


def save(trial: Trial) -> Saved:
    """Return all of a trial's state but its images."""
    entries = [_row(entry) for entry in trial.corpus.entries]
    tally = [{"operator": name, "numbers": numbers} for name, numbers in trial.tally.items()]
    parts = {"guidance": trial.guidance.arrays(), "state": trial.state}
    if trial.measure is not None:
        parts["measure"] = dict(trial.measure.arrays())
    arrays = {f"{part}{_SEPARATOR}{name}": values for part, each in parts.items() for name, values in each.items()}
    tables = {
        "entries": pl.DataFrame(entries, schema=_ENTRIES, orient="row"),
        "tally": pl.DataFrame(tally, schema=_TALLY, orient="row"),
        "failures": FAILURES_TABLE.frame(trial.failures),
        "growth": GROWTH_TABLE.frame(trial.growth),
    }
    counts = {**asdict(trial.counts), "entries": len(entries), "failing": len(trial.failing)}
    return Saved(tables, arrays, counts)


def take_up_again(
    trial: Trial, tables: Mapping[str, pl.DataFrame], arrays: Mapping[str, NDArray[Any]], counts: Mapping[str, Any]
) -> None:
    """Let a new trial go on from a state; what its images hold beyond that goes."""
    parts: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in arrays.items():
        part, _, own = name.partition(_SEPARATOR)
        parts.setdefault(part, {})[own] = np.asarray(values)
    trial.guidance.restore(parts.get("guidance", {}))
    trial.state.update({name: values.copy() for name, values in parts.get("state", {}).items()})
    if trial.measure is not None:
        trial.measure.restore(parts.get("measure", {}))
    trial.corpus.entries[:] = [_entry(row) for row in tables["entries"].to_dicts()]
    trial.tally.update({row["operator"]: row["numbers"] for row in tables["tally"].to_dicts()})
    trial.failures[:] = tables["failures"].to_dicts()
    trial.growth[:] = tables["growth"].to_dicts()
    trial.corpus.images.truncate(counts["entries"])
    trial.failing.truncate(counts["failing"])
    trial.counts = Spending(**{name: counts[name] for name in asdict(trial.counts)})


def _row(entry: Entry) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in _ENTRIES if name not in ("mutation", "stream", "matrix", "leak")}
    mutation = entry.mutation
    row["mutation"], row["stream"] = (None, None) if mutation is None else (mutation.spec, mutation.stream)
    row["matrix"] = None if entry.matrix is None else list(entry.matrix)
    row["leak"] = None if entry.leak == NO_LEAK else list(entry.leak)
    return row


def _entry(row: dict[str, Any]) -> Entry:
    spec, stream = row.pop("mutation"), row.pop("stream")
    matrix: Sequence[float] | None = row.pop("matrix")
    affine = None if matrix is None else (matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5])
    # Checkpoints of before lack it.
    share, largest = row.pop("leak", None) or NO_LEAK
    mutation = None if spec is None else mutation_of(spec, stream)
    return Entry(**row, mutation=mutation, matrix=affine, leak=(share, largest))


def mutation_of(spec: str, stream: int) -> Mutation:
    """Return the mutation that has a spec, with the seed of its random pixels."""
    parts = parse_spec(spec)
    return Mutation(parts.name, parts.settings, stream)
