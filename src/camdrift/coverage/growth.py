"""Growth of neuron coverage, seed by seed."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from camdrift.tables.arrays import Flags
from camdrift.tables.further import NEWLY_COVERED
from camdrift.tables.study import COVERAGE
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE


def newly_covered(
    seed_ids: Sequence[str],
    clean: Sequence[Flags],
    variants: Sequence[dict[tuple[str, float], Flags]],
    strengths: Sequence[float],
) -> pl.DataFrame:
    """The neurons that each seed of a chunk adds to coverage, per condition and strength: table `newly_covered`.

    "Earlier" means earlier in the chunk here, and earlier in the study once `merged`. One rule holds for every
    condition: a seed contributes its clean image and, if it has one, its variant.

    Args:
        seed_ids: Readable seeds in order.
        clean: Covered neurons of each clean image.
        variants: For each seed its variants' covered neurons by (condition, strength); empty without success.
        strengths: Strengths of the study.
    """
    keys = [(CLEAN, 0.0), *((c, s) for c in (ADVERSARIAL, NOISE) for s in strengths)]
    so_far = {key: np.zeros_like(clean[0]) for key in keys} if clean else {}
    rows: list[dict[str, Any]] = []
    for seed_id, own, by_key in zip(seed_ids, clean, variants, strict=True):
        for key in keys:
            both = own | by_key[key] if key in by_key else own
            new = np.flatnonzero(both & ~so_far[key])
            so_far[key] |= both
            rows.append({"seed_id": seed_id, "condition": key[0], "strength": key[1], "neurons": new.tolist()})
    return NEWLY_COVERED.frame(rows)


def merged(chunks: Iterable[pl.DataFrame], total: int) -> pl.DataFrame:
    """The neurons that each seed adds to those of all earlier seeds of the study, however that is cut into chunks.

    Args:
        chunks: `newly_covered` of every chunk, in order.
        total: Neurons of the model.
    """
    so_far: dict[tuple[str, float], Flags] = {}
    rows = []
    for seed_id, condition, strength, neurons in (row for chunk in chunks for row in chunk.iter_rows()):
        flags = so_far.setdefault((condition, strength), np.zeros(total, dtype=np.bool_))
        rows.append((seed_id, condition, strength, [neuron for neuron in neurons if not flags[neuron]]))
        flags[neurons] = True
    return pl.DataFrame(rows, schema=NEWLY_COVERED.schema, orient="row")


def coverage_growth(chunks: Iterable[pl.DataFrame], total: int) -> pl.DataFrame:
    """The `coverage` table: covered neurons after each readable seed of the study.

    Args:
        chunks: `newly_covered` of every chunk, in order, or what is merged of them.
        total: Neurons of the model.
    """
    so_far: dict[tuple[str, float], Flags] = {}
    steps: dict[str, int] = {}
    parts = [COVERAGE.frame()]
    for chunk in chunks:
        rows = []
        for seed_id, condition, strength, neurons in chunk.iter_rows():
            flags = so_far.setdefault((condition, strength), np.zeros(total, dtype=np.bool_))
            flags[neurons] = True
            step = steps.setdefault(seed_id, len(steps) + 1)
            rows.append((step, seed_id, condition, strength, int(flags.sum()), total))
        columns = zip(*rows, strict=True) if rows else [[] for _ in COVERAGE.columns]
        parts.append(COVERAGE.frame(dict(zip(COVERAGE.schema.names(), map(list, columns), strict=True))))
    return pl.concat(parts)
