"""Chunks computed in this process, one after the other."""

from collections.abc import Sequence

import polars as pl

from camdrift.engine.progress import OnProgress, Progress
from camdrift.images.places import ImageFile
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.plan import Plan, parts
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.words import ANALYSED


def _run_chunks(plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress) -> Plan:
    """Compute and store the chunks that are missing; the plan, with as many images per pass as memory had room for."""
    done = directory.chunks_done()
    finished, successes = 0, 0
    for index, part in enumerate(parts(files, plan.settings)):
        if index not in done:

            def advance(stage: str, seeds: int, found: int, base: tuple[int, int] = (finished, successes)) -> None:
                on_progress(Progress(stage, base[0] + seeds, len(files), base[1] + found))

            def warn(text: str, base: tuple[int, int] = (finished, successes)) -> None:
                on_progress(Progress("attack", base[0], len(files), base[1], (text,)))

            plan, result = fit_chunk(plan, part, advance, warn)
            with plan.clock("write"):
                directory.write_chunk(index, result.tables, result.gallery)
        finished += len(part)
        successes += directory.read_chunk(index, "seeds").filter(pl.col("status") == ANALYSED).height
        on_progress(Progress("write", finished, len(files), successes))
    return plan
