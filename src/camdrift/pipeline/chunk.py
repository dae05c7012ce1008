"""One chunk of seeds from files to rows: read, attack, draw noise, explain, compare."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import polars as pl
from numpy.typing import NDArray

from camdrift.coverage.growth import newly_covered
from camdrift.errors import ImageError
from camdrift.images.places import ImageFile
from camdrift.models.memory import within_memory
from camdrift.models.replicas import replicated
from camdrift.pipeline.attacking import attack, classify_clean, show_surrogate
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.failures import naming, noting
from camdrift.pipeline.focus import FocusCollector
from camdrift.pipeline.gallery import HeatmapCollector, deviations, header, numbered, picture_arrays, share, spanning
from camdrift.pipeline.maps import ExplainedChunk, explain_all
from camdrift.pipeline.noise import matched_draws
from camdrift.pipeline.perturbing import NaturalChanges
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.receivers import MapReceiver
from camdrift.pipeline.seeds import AdversarialSeed, CleanSeed, LeftOut, NoisySeed, ReadSeed, Seed, further, in_hand
from camdrift.pipeline.variants import describe_perturbations
from camdrift.tables.arrays import Flags
from camdrift.tables.study import SEEDS, VARIANTS
from camdrift.tables.words import FAILED, NO_ADVERSARIAL, UNREADABLE

AdvanceStage = Callable[[str, int, int], None]

# Chunk-internal table: `growth.newly_covered`, merged into the tables `newly_covered` and `coverage` at the end.
GROWTH: Final = "growth"
# The tables of every chunk.
CHUNK_TABLES: Final = ("seeds", "variants", "similarity", "focus", "floor", "ceiling", GROWTH)
# Chunk-internal table: seconds by stage, and in all.
TIMINGS: Final = "timings"


@dataclass(frozen=True)
class ChunkResult:
    """Tables of one chunk (a study's, `ceiling`, `GROWTH`, extra tables), warnings, and its part of the gallery."""

    tables: dict[str, pl.DataFrame]
    warnings: tuple[str, ...]
    gallery: dict[str, NDArray[Any]]


def study_chunk(plan: Plan, files: Sequence[ImageFile], advance: AdvanceStage) -> ChunkResult:
    """Everything that a study learns from some seed images.

    Args:
        plan: The plan of the study.
        files: The chunk's images.
        advance: Called with (stage, seeds done, successes) of this chunk as it goes on.
    """
    clock = plan.clock
    warnings = list[str]()
    seeds = noisy_seeds(plan, files, advance, warnings.append)
    noisy = in_hand(seeds)
    rest, successes = len(seeds) - len(noisy), len(noisy)
    heatmaps, focus = _collector(plan, noisy), FocusCollector(plan, noisy)
    receivers: dict[str, MapReceiver] = {"focus": focus} | ({} if heatmaps is None else {"gallery": heatmaps})
    results = explain_all(plan, noisy, receivers, lambda count: advance("explain", rest + count, successes))
    final = further(seeds, partial(_check_variants, results))
    analysed_seeds = in_hand(final)
    names = [seed.seed_id for seed in analysed_seeds]
    with clock("coverage"):
        growth = _growth(plan, seeds, results, names)
    with clock("focus"):
        focus_table = focus.table()
    tables = {
        "seeds": SEEDS.frame([seed.row() for seed in final]),
        "variants": VARIANTS.frame() if results.outcomes is None else results.outcomes.variant_table(names),
        "similarity": results.similarity.filter(pl.col("seed_id").is_in(names)),
        "focus": focus_table.filter(pl.col("seed_id").is_in(names)),
        "floor": results.floor.filter(pl.col("seed_id").is_in(names) & pl.col("other_seed_id").is_in(names)),
        "ceiling": results.ceiling.filter(pl.col("seed_id").is_in(names)),
        GROWTH: growth,
    }
    for extra in plan.design.extra_tables:
        with clock(extra.table):
            tables[extra.table] = extra(plan, analysed_seeds, lambda count: advance("examine", rest + count, successes))
    with clock("gallery"):
        gallery = _gallery(plan, noisy, tables, heatmaps)
    return ChunkResult(tables, tuple(warnings), gallery)


def fit_chunk(
    plan: Plan, files: Sequence[ImageFile], advance: AdvanceStage, warn: Callable[[str], None]
) -> tuple[Plan, ChunkResult]:
    """`study_chunk`, begun anew with half as many images per pass whenever memory runs out.

    Args:
        plan: The plan of the study.
        files: The chunk's images.
        advance: As for `study_chunk`.
        warn: Called with a line about every change, and about what the attack left behind.

    Returns:
        The plan with as many images per pass as there was room for, and the chunk's result.

    Raises:
        UserError: A single image is too much, or the model or the attack fails or ends the program.
    """
    clock = Clock()
    with_clock = replace(plan, clock=clock)
    callers: list[BaseException] = []
    advance, warn = noting(advance, callers), noting(warn, callers)
    with naming(files, callers), clock("total"), replicated(*plan.classifiers, batch_size=plan.batch_size):
        batch_size, result = within_memory(
            plan.batch_size, lambda size: study_chunk(with_clock.with_batch_size(size), files, advance), warn
        )
    result.tables[TIMINGS] = pl.DataFrame({"stage": list(clock.seconds), "seconds": list(clock.seconds.values())})
    plan.clock.add({stage: seconds for stage, seconds in clock.seconds.items() if stage != "total"})
    for text in result.warnings:
        warn(text)
    return plan.with_batch_size(batch_size), result


def noisy_seeds(
    plan: Plan, files: Sequence[ImageFile], advance: AdvanceStage, warn: Callable[[str], None]
) -> list[NoisySeed | LeftOut]:
    """The chunk's seeds, read, attacked and with their noise, in the order of the files.

    Args:
        plan: The plan of the study.
        files: The chunk's images.
        advance: As for `study_chunk`.
        warn: Called with every remark of the attack.
    """
    clock = plan.clock

    def advance_attack(count: int, successes: int) -> None:
        advance("attack", count - successes, successes)

    clean = clean_seeds(plan, files)
    with clock("attack"):
        adversarial = further(clean, partial(attack, plan, advance=advance_attack, warn=warn))
    with clock("noise"):
        return further(adversarial, partial(_add_noise, plan))


def clean_seeds(plan: Plan, files: Sequence[ImageFile]) -> list[CleanSeed | LeftOut]:
    """The chunk's seeds, read and classified, in the order of the files.

    Args:
        plan: The plan of the study.
        files: The chunk's images.
    """
    with plan.clock("read"):
        seeds = [_read(plan, file) for file in files]
    with plan.clock("attack"):
        return further(further(seeds, partial(classify_clean, plan)), partial(show_surrogate, plan))


def _read(plan: Plan, file: ImageFile) -> ReadSeed | LeftOut:
    seed = Seed(file, plan.label(file))
    try:
        image = plan.read(file)
    except ImageError as error:
        return LeftOut(seed, UNREADABLE, error.message)
    return ReadSeed(**vars(seed), sha256=image.sha256, pixels=image.pixels.to(plan.classifier.device))


def _add_noise(plan: Plan, seeds: Sequence[AdversarialSeed]) -> list[NoisySeed]:
    count = plan.settings.noise_draws
    keys = [(seed.seed_id, draw) for seed in seeds for draw in range(count)]
    perturbations = [seed.perturbation for seed in seeds for _ in range(count)]
    flat = matched_draws(perturbations, keys, rng_seed=plan.settings.rng_seed)
    noise = [tuple(flat[start : start + count]) for start in range(0, len(flat), count)]
    descriptions = describe_perturbations(
        [seed.pixels for seed in seeds], [seed.perturbation for seed in seeds], [draws[0] for draws in noise]
    )
    return [
        NoisySeed(**vars(seed), noise=draws, description=description)
        for seed, draws, description in zip(seeds, noise, descriptions, strict=True)
    ]


def _check_variants(results: ExplainedChunk, seeds: Sequence[NoisySeed]) -> list[NoisySeed | LeftOut]:
    """The seeds that are analysed; those with logits that are not finite for one of their variants are left out."""
    failures = results.failures()
    return [LeftOut(seed, FAILED, failures[seed.seed_id]) if seed.seed_id in failures else seed for seed in seeds]


def _growth(
    plan: Plan, seeds: Sequence[NoisySeed | LeftOut], results: ExplainedChunk, names: Collection[str]
) -> pl.DataFrame:
    """The table `GROWTH`: clean images of all seeds that have not failed, variants of the seeds with these names."""
    stages = [seed.seed if isinstance(seed, LeftOut) and seed.status == NO_ADVERSARIAL else seed for seed in seeds]
    clean = [stage for stage in stages if isinstance(stage, CleanSeed)]
    variants: dict[str, dict[tuple[str, float], Flags]] = {name: {} for name in names}
    noisy = in_hand(seeds)
    for variant, flags in ({} if results.outcomes is None else results.outcomes.covered).items():
        name = noisy[variant.position].seed_id
        if name in variants:
            variants[name][variant.condition, variant.strength] = flags
    return newly_covered(
        [seed.seed_id for seed in clean],
        [seed.covered for seed in clean],
        [variants.get(seed.seed_id, {}) for seed in clean],
        plan.settings.strengths,
    )


def _collector(plan: Plan, seeds: Sequence[NoisySeed]) -> HeatmapCollector | None:
    """The collector of heatmaps; None for a study without a gallery."""
    settings = plan.settings
    return None if settings.gallery == 0 else HeatmapCollector(len(seeds), layers=plan.layers, settings=settings)


def _gallery(
    plan: Plan, seeds: Sequence[NoisySeed], tables: dict[str, pl.DataFrame], heatmaps: HeatmapCollector | None
) -> dict[str, NDArray[Any]]:
    """Pictures of the chunk's candidates for the study's gallery."""
    ranking = deviations(tables["seeds"], tables["similarity"], settings=plan.settings)
    candidates = spanning(ranking, share(plan.settings.gallery, plan.design.chunk + 1))
    positions = {seed.seed_id: position for position, seed in enumerate(seeds)}
    arrays = header(candidates, plan.settings)
    if heatmaps is None:
        return arrays
    for place, position in enumerate(positions[seed_id] for seed_id in candidates):
        seed = seeds[position]
        pictures = picture_arrays(seed.pixels, seed.perturbation, seed.noise[0])
        arrays |= numbered(place, {**pictures, **heatmaps.arrays(position)})
    for changes in plan.design.extra_tables:
        if isinstance(changes, NaturalChanges):
            pictures_after = changes.pictures(plan, [seeds[positions[seed_id]] for seed_id in candidates])
            for place, own in enumerate(pictures_after):
                arrays |= numbered(place, own)
    return arrays
