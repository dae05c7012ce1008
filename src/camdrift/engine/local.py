"""Chunks computed in this process, one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import torch

from camdrift.engine.engine import Engine
from camdrift.engine.progress import OnProgress, Progress, attacked_seeds
from camdrift.images.places import ImageFile
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.plan import Plan, parts
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.words import ANALYSED


def record_of(engine: Engine) -> dict[str, Any]:
    """The engine for the record, with the threads that torch has in this process."""
    return {**engine.as_record(), "threads": torch.get_num_threads()}


def compute(
    engine: Engine, plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress
) -> tuple[Plan, dict[str, Any]]:
    """Compute and store the chunks that are missing.

    Returns:
        The plan with as many images per pass as there was room for, and the engine for the record.

    Raises:
        UserError: A chunk cannot be computed, or not be stored.
        KeyboardInterrupt: `on_progress` asked to stop.
    """
    seeds_done, successes = 0, 0
    for index, part in enumerate(parts(files, plan.settings)):
        if not directory.has_chunk(index):
            before = Progress("attack", seeds_done, len(files), successes, attacked=seeds_done)
            size = len(part)

            def advance(stage: str, seeds: int, more: int, before: Progress = before, size: int = size) -> None:
                attacked = before.seeds_done + attacked_seeds(stage, seeds, more, size)
                done, successes = before.seeds_done + seeds, before.successes + more
                on_progress(Progress(stage, done, len(files), successes, attacked=attacked))

            def warn(text: str, before: Progress = before) -> None:
                on_progress(replace(before, warnings=(text,)))

            plan, result = fit_chunk(plan.at_chunk(index), part, advance, warn)
            with plan.clock("write"):
                directory.write_chunk(index, result.tables, result.gallery)
        seeds_done += len(part)
        successes += directory.read_chunk(index, "seeds").filter(pl.col("status") == ANALYSED).height
        on_progress(Progress("write", seeds_done, len(files), successes))
    return plan, record_of(engine)
