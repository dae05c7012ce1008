"""The end of a study: tables that need all seeds, the gallery, the record of a run that is complete."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import polars as pl
from numpy.typing import NDArray

from camdrift.coverage.growth import coverage_growth, merged
from camdrift.engine.progress import OnProgress, Progress
from camdrift.images.files import images_checksum
from camdrift.pipeline.chunk import GROWTH, TIMINGS
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.gallery import deviations, header, renumbered, spanning
from camdrift.pipeline.plan import Plan
from camdrift.statistics.controls import study_controls
from camdrift.statistics.flips import flips
from camdrift.statistics.headline import fooling_strength
from camdrift.statistics.layers import compromised_counts, layer_statistics
from camdrift.statistics.perturbations import perturbation_layers, perturbations
from camdrift.storage.integrity import repeated_images
from camdrift.storage.run_directory import RunDirectory
from camdrift.study import provenance
from camdrift.tables.further import CEILING, FLIPS, NEWLY_COVERED
from camdrift.tables.measures import of_first_measure
from camdrift.tables.perturbations import PERTURBATION_LAYERS, PERTURBATIONS, PERTURBED
from camdrift.tables.reading import scan
from camdrift.tables.words import ANALYSED

# Keys and arrays.
_Arrays = Iterator[tuple[str, NDArray[Any]]]


def finish_study(plan: Plan, directory: RunDirectory, on_progress: OnProgress) -> None:
    """Merge the tables of the chunks, and write those that need all seeds."""
    with plan.clock("write"):
        for name in directory.chunk_table_names():
            if name not in (GROWTH, TIMINGS):
                directory.merge_table(name)
    # Beside the statistics: most of it is compression, which needs no interpreter.
    with _beside(directory.write_gallery, _gallery(plan, directory)) as gallery:
        with plan.clock("coverage"):
            total = sum(group.neurons for group in plan.classifier.neuron_groups)
            newly_covered = merged(directory.chunk_tables(GROWTH), total)
            directory.write_table(NEWLY_COVERED.name, newly_covered)
            directory.write_table("coverage", coverage_growth([newly_covered], total))
        seeds = directory.read_table("seeds")
        successes = seeds.filter(pl.col("status") == ANALYSED).height
        on_progress(Progress("statistics", seeds.height, seeds.height, successes, tuple(repeated_images(seeds))))
        with plan.clock("statistics"):
            _write_statistics(directory, rng_seed=plan.settings.rng_seed)
        with plan.clock("write"):
            gallery.result()
    on_progress(Progress("report", seeds.height, seeds.height, successes))


@contextmanager
def _beside(write: Callable[[_Arrays], None], arrays: _Arrays) -> Iterator[Future[None]]:
    """Inside the block a thread writes arrays; one that is not done at its end stops before the next array."""
    is_over = Event()

    def until_over() -> _Arrays:
        for array in arrays:
            if is_over.is_set():
                raise CancelledError
            yield array

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(write, until_over())
        finally:
            is_over.set()


def _write_statistics(directory: RunDirectory, *, rng_seed: int) -> None:
    tables = directory.stored_tables("similarity", "variants", "floor", "seeds")
    similarity, floor = (scan(tables, name) for name in ("similarity", "floor"))
    ceiling = directory.read_table(CEILING.name) if directory.has_table(CEILING.name) else CEILING.frame()
    layers = layer_statistics(similarity, tables["variants"], floor, ceiling, rng_seed=rng_seed)
    directory.write_table(FLIPS.name, flips(tables["variants"], tables["seeds"]))
    directory.write_table("layers", layers)
    directory.write_table("counts", compromised_counts(similarity, layers))
    directory.write_table("controls", study_controls(of_first_measure(tables), rng_seed=rng_seed))
    if directory.has_table(PERTURBED.name):
        images = directory.read_table(PERTURBED.name)
        changes = perturbation_layers(images, floor, ceiling, rng_seed=rng_seed)
        directory.write_table(PERTURBATIONS.name, perturbations(images, tables["seeds"]))
        directory.write_table(PERTURBATION_LAYERS.name, changes)


def _gallery(plan: Plan, directory: RunDirectory) -> _Arrays:
    """Yield keys and arrays of the study's gallery, reading one chunk at a time and no more of it than is needed.

    Its seeds span the deviations at the strength that the page opens at. A chunk, which knows the strength of no
    headline, has chosen its candidates at the one nearest to 1.
    """
    changes = flips(directory.read_table("variants"), directory.read_table("seeds"))
    strength, _, _ = fooling_strength(changes, plan.settings.strengths)
    chunks = zip(directory.chunk_tables("seeds"), directory.chunk_tables("similarity"), strict=True)
    shifts = pl.concat([deviations(*tables, settings=plan.settings, strength=strength) for tables in chunks])
    candidates = [seed_id for gallery in directory.chunk_galleries() for seed_id in gallery["seed_ids"].tolist()]
    names = spanning(shifts, plan.settings.gallery, candidates)
    yield from header(names, plan.settings).items()
    for gallery in directory.chunk_galleries():
        yield from renumbered(gallery, names)


def complete_study(record: dict[str, Any], directory: RunDirectory, clock: Clock) -> None:
    """Mark the run as done: from here on its report is made of what is stored, the record included."""
    seeds = directory.read_table("seeds")
    checksums = seeds["sha256"].drop_nulls().to_list()
    if repeats := repeated_images(seeds):
        preflight = record["preflight"] or {}
        record = {**record, "preflight": {**preflight, "warnings": [*preflight.get("warnings", ()), *repeats]}}
    end = {
        "status": "done",
        "finished": provenance.now(),
        "timings": {stage: round(value, 3) for stage, value in clock.seconds.items()},
        "images": {**record["images"], "sha256": images_checksum(checksums)},
        "files": directory.files(),
    }
    directory.write_record({**record, **end})
    # Only now: a run that is killed before has everything it needs to be resumed.
    directory.drop_chunks()
