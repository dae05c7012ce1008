"""The end of a study: tables that need all seeds, the gallery, the record of a run that is done."""

from collections.abc import Iterator
from typing import Any

import polars as pl
from numpy.typing import NDArray

from camdrift.coverage.growth import coverage_growth
from camdrift.engine.progress import OnProgress, Progress
from camdrift.images.files import images_checksum
from camdrift.pipeline.chunk import GROWTH
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.gallery import deviations, header, renumbered, spanning
from camdrift.pipeline.plan import Plan
from camdrift.statistics.controls import study_controls
from camdrift.statistics.layers import compromised_counts, layer_statistics
from camdrift.storage.integrity import repeated_images
from camdrift.storage.run_directory import RunDirectory
from camdrift.study import provenance
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import scan
from camdrift.tables.words import ANALYSED


def _complete(record: dict[str, Any], directory: RunDirectory, clock: Clock) -> None:
    """Mark the run as done: from here on its report is made of what is stored, the record included."""
    seconds = {stage: round(value, 3) for stage, value in clock.seconds.items()}
    seeds = directory.read_table("seeds")
    checksums = seeds["sha256"].drop_nulls().to_list()
    if repeated := repeated_images(seeds):
        seen = record["preflight"] or {}
        record = {**record, "preflight": {**seen, "warnings": [*seen.get("warnings", ()), *repeated]}}
    images = {**record["images"], "sha256": images_checksum(checksums)}
    done = {"status": "done", "finished": provenance.now(), "timings": seconds, "images": images}
    done["files"] = directory.files()
    directory.write_record({**record, **done})
    # Only now: a run that is killed before has everything it needs to be resumed.
    directory.drop_chunks()


def _finish(plan: Plan, directory: RunDirectory, on_progress: OnProgress) -> None:
    """Merge the chunks, and add the tables that need all seeds."""
    total = sum(group.neurons for group in plan.classifier.neuron_groups)
    with plan.clock("write"):
        for name in ("seeds", "variants", "similarity", "focus", "floor", *(e.table for e in plan.examinations)):
            directory.merge_table(name)
        directory.write_gallery(_gallery(plan, directory))
    with plan.clock("coverage"):
        directory.write_table("coverage", coverage_growth(directory.chunk_tables(GROWTH), total))
    seeds = directory.read_table("seeds")
    successes = seeds.filter(pl.col("status") == ANALYSED).height
    on_progress(Progress("statistics", seeds.height, seeds.height, successes, tuple(repeated_images(seeds))))
    with plan.clock("statistics"):
        made, rng_seed = directory.stored_tables("similarity", "variants", "floor"), plan.settings.rng_seed
        similarity, floor = (scan(made, name) for name in ("similarity", "floor"))
        layers = layer_statistics(similarity, made["variants"], floor, rng_seed=rng_seed)
        directory.write_table("layers", layers)
        directory.write_table("counts", compromised_counts(similarity, layers))
        directory.write_table("controls", study_controls(of_first_measure(made), rng_seed=rng_seed))
    on_progress(Progress("report", seeds.height, seeds.height, successes))


def _gallery(plan: Plan, directory: RunDirectory) -> Iterator[tuple[str, NDArray[Any]]]:
    """Keys and arrays of the study's gallery; no more is read from the chunks than it needs, one chunk at a time."""
    chunks = zip(directory.chunk_tables("seeds"), directory.chunk_tables("similarity"), strict=True)
    moved = pl.concat([deviations(*tables, settings=plan.settings) for tables in chunks])
    held = [seed_id for gallery in directory.chunk_galleries() for seed_id in gallery["seed_ids"].tolist()]
    chosen = spanning(moved, plan.settings.gallery, held)
    yield from header(chosen, plan.settings).items()
    for gallery in directory.chunk_galleries():
        yield from renumbered(gallery, chosen)
