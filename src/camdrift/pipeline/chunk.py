"""One chunk of seeds from files to rows: read, attack, draw noise, explain, compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.attacks.base import SeedBatch
from camdrift.coverage.growth import newly_covered
from camdrift.coverage.neurons import NeuronRecord, observe
from camdrift.errors import ImageError
from camdrift.images.places import ImageFile, display_path
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches, within_memory
from camdrift.pipeline.focus import FocusCollector
from camdrift.pipeline.gallery import HeatmapCollector, deviations, header, numbered, picture_arrays, spanning
from camdrift.pipeline.maps import explain_all
from camdrift.pipeline.noise import matched_noise
from camdrift.pipeline.plan import MapReceiver, Plan
from camdrift.pipeline.seeds import Seed, known, stack
from camdrift.pipeline.variants import describe_perturbation, rounded_to_bytes
from camdrift.tables.study import SEEDS, VARIANTS
from camdrift.tables.words import ADVERSARIAL, ANALYSED, FAILED, NO_ADVERSARIAL, NOISE, UNREADABLE
from camdrift.tensors import Attacked, Image, Logits, perturbed

AdvanceStage = Callable[[str, int, int], None]

# Chunk-internal table: `growth.newly_covered`, merged into the `coverage` table at the end.
GROWTH: Final = "growth"


@dataclass(frozen=True)
class ChunkResult:
    """Tables of one chunk: seeds, variants, similarity, focus, floor, `GROWTH`, examinations; part of the gallery."""

    tables: dict[str, pl.DataFrame]
    gallery: dict[str, NDArray[Any]]


def study_chunk(plan: Plan, files: Sequence[ImageFile], advance: AdvanceStage) -> ChunkResult:
    """Everything a study learns from some seed images.

    Args:
        plan: What the chunks share.
        files: The chunk's images.
        advance: Called with (stage, seeds done, successes) of this chunk as it goes on.
    """
    clock = plan.clock
    with clock("read"):
        seeds = [_read(plan, file) for file in files]
    with clock("attack"):
        logits, neurons = _look(plan, plan.classifier, [seed for seed in seeds if seed.pixels is not None])
        _judge_clean(seeds, logits, neurons)
        _attack(plan, seeds, logits, neurons, lambda done, found: advance("attack", done - found, found))
    analysed = [seed for seed in seeds if seed.perturbation is not None]
    with clock("noise"):
        for seed in analysed:
            _draw_noise(plan, seed)
    heatmaps, focus = _collector(plan, len(analysed)), FocusCollector(plan, analysed)
    rest = len(seeds) - len(analysed)
    receivers: dict[str, MapReceiver] = {"focus": focus}
    if heatmaps is not None:
        receivers["gallery"] = heatmaps
    similarity, floor = explain_all(
        plan, analysed, receivers, lambda done: advance("explain", rest + done, len(analysed))
    )
    with clock("coverage"):
        growth = _growth(plan, [seed for seed in seeds if seed.pixels is not None])
    kept = {seed.file.seed_id for seed in analysed if seed.is_analysed}
    with clock("focus"):
        moved = focus.table()
    tables = {
        "seeds": SEEDS.frame([seed.row for seed in seeds]),
        "variants": VARIANTS.frame(_sorted_variants(analysed)),
        "similarity": similarity.filter(pl.col("seed_id").is_in(kept)),
        "focus": moved.filter(pl.col("seed_id").is_in(kept)),
        "floor": floor.filter(pl.col("seed_id").is_in(kept) & pl.col("other_seed_id").is_in(kept)),
        GROWTH: growth,
    }
    for examination in plan.examinations:
        with clock(examination.table):
            rows = examination(plan, analysed, lambda done: advance("examine", rest + done, len(analysed)))
        tables[examination.table] = rows.filter(pl.col("seed_id").is_in(kept))
    with clock("gallery"):
        gallery = _gallery(plan, analysed, tables, heatmaps)
    return ChunkResult(tables, gallery)


def fit_chunk(
    plan: Plan, files: Sequence[ImageFile], advance: AdvanceStage, warn: Callable[[str], None]
) -> tuple[Plan, ChunkResult]:
    """`study_chunk`, begun anew with half as many images per pass whenever memory runs out.

    Args:
        plan: What the chunks share.
        files: The chunk's images.
        advance: As for `study_chunk`.
        warn: Called with a line about every change.

    Returns:
        The plan with as many images per pass as there was room for, and what was learnt.

    Raises:
        UserError: A single image is too much.
    """
    batch_size, result = within_memory(
        plan.batch_size, lambda size: study_chunk(replace(plan, batch_size=size), files, advance), warn
    )
    return replace(plan, batch_size=batch_size), result


def _read(plan: Plan, file: ImageFile) -> Seed:
    row = {"seed_id": file.seed_id, "path": display_path(file.path), "label": plan.label(file)}
    seed = Seed(file, row)
    try:
        read = plan.read(file)
    except ImageError as error:
        seed.fail(UNREADABLE, error.message)
        return seed
    seed.pixels = read.pixels.to(plan.classifier.device)
    row["sha256"] = read.sha256
    return seed


def _look(plan: Plan, classifier: Classifier, seeds: Sequence[Seed]) -> tuple[Logits, NeuronRecord]:
    """Logits and neurons of the clean images."""
    device = classifier.device
    total = sum(group.neurons for group in classifier.neuron_groups)
    logits = [torch.empty((0, classifier.classes), device=device)]
    values = [torch.empty((0, total), device=device)]
    for batch in batches(seeds, plan.batch_size):
        seen, record = observe(classifier, stack(known(seed.pixels) for seed in batch).to(device))
        logits.append(seen)
        values.append(record.values)
    return torch.cat(logits), NeuronRecord({}, torch.cat(values))


def _judge_clean(seeds: Sequence[Seed], logits: Logits, neurons: NeuronRecord) -> None:
    covered = neurons.covered().cpu().numpy()
    probabilities, classes = logits.softmax(1).max(1)
    finite = torch.isfinite(logits).all(1).tolist()
    readable = [seed for seed in seeds if seed.pixels is not None]
    for row, seed in enumerate(readable):
        seed.covered = covered[row]
        seed.clean_class = int(classes[row])
        if finite[row]:
            seed.row |= {"clean_class": seed.clean_class, "clean_probability": float(probabilities[row])}
        else:
            seed.fail(FAILED, "the model returned NaN or infinity for the clean image")


def _attack(
    plan: Plan,
    seeds: Sequence[Seed],
    logits: Logits,
    neurons: NeuronRecord,
    advance: Callable[[int, int], None],
) -> None:
    readable = [seed for seed in seeds if seed.pixels is not None]
    if plan.surrogate is None:
        finite = torch.isfinite(logits).all(1)
    else:
        logits, neurons = _look(plan, plan.surrogate, readable)
        finite = torch.isfinite(logits).all(1)
        for seed, is_finite in zip(readable, finite.tolist(), strict=True):
            if not is_finite:
                seed.fail(FAILED, "the surrogate returned NaN or infinity for the clean image")
    attacked = [seed for seed in readable if seed.pixels is not None]
    if not attacked:
        return
    batch = SeedBatch(
        stack(known(seed.pixels) for seed in attacked).to(plan.victim.device),
        logits[finite],
        NeuronRecord({}, neurons.values[finite]),
        [seed.file.seed_id for seed in attacked],
        plan.settings.rng_seed,
    )
    results = plan.attack(plan.victim, batch, batch_size=plan.batch_size, advance=advance)
    for seed, result in zip(attacked, results, strict=True):
        _take(plan, seed, result)
    _judge_adversarial(plan, [seed for seed in attacked if seed.perturbation is not None])


def _take(plan: Plan, seed: Seed, result: Attacked) -> None:
    """Note down what the attack says of one seed."""
    seed.target_class = result.target_class
    seed.row |= {"iterations": result.iterations, "target_class": result.target_class, "status": ANALYSED}
    if result.base_perturbation is not None:
        seed.perturbation = result.base_perturbation.to(plan.classifier.device)
    elif result.is_failure:
        seed.fail(FAILED, result.reason)
    else:
        reason = result.reason or f"no adversarial example in {result.iterations} iterations"
        seed.row |= {"status": NO_ADVERSARIAL, "reason": reason}


def _judge_adversarial(plan: Plan, seeds: Sequence[Seed]) -> None:
    """Check every success on the clipped image, and once more on the image as 8 bits would store it."""
    for batch in batches(seeds, plan.batch_size):
        images = stack(perturbed(known(seed.pixels), known(seed.perturbation)) for seed in batch)
        with torch.no_grad():
            logits = plan.classifier(images)
            stored = plan.classifier(rounded_to_bytes(images)).argmax(1)
        probabilities, classes = logits.softmax(1).max(1)
        finite = torch.isfinite(logits).all(1).tolist()
        for row, seed in enumerate(batch):
            found = int(classes[row])
            if not finite[row]:
                seed.fail(FAILED, "the model returned NaN or infinity for the adversarial image")
            elif not seed.is_fooled(found):
                seed.perturbation = None
                seed.row |= {"status": NO_ADVERSARIAL, "reason": _not_fooled(seed, found)}
            else:
                seed.row |= {
                    "adversarial_class": found,
                    "adversarial_probability": float(probabilities[row]),
                    "survives_uint8": seed.is_fooled(int(stored[row])),
                    "within_threat": _is_within_threat(plan, seed, images[row]),
                }


def _not_fooled(seed: Seed, found: int) -> str:
    if seed.target_class is None:
        return "the image that the attack made does not change the prediction"
    return f"the image that the attack made is predicted class {found}, not the target class {seed.target_class}"


def _is_within_threat(plan: Plan, seed: Seed, image: Image) -> bool | None:
    threat = plan.attack.threat
    return None if threat is None else threat.contains(image - known(seed.pixels))


def _draw_noise(plan: Plan, seed: Seed) -> None:
    delta, settings = known(seed.perturbation), plan.settings
    seed.noise = [
        matched_noise(delta, rng_seed=settings.rng_seed, seed_id=seed.file.seed_id, draw=draw)
        for draw in range(settings.noise_draws)
    ]
    seed.row |= describe_perturbation(known(seed.pixels), delta, seed.noise[0])


def _sorted_variants(seeds: Sequence[Seed]) -> list[dict[str, Any]]:
    order = {ADVERSARIAL: 0, NOISE: 1}
    rows = [row for seed in seeds if seed.is_analysed for row in seed.variant_rows]
    return sorted(rows, key=lambda row: (row["seed_id"], order[row["condition"]], row["strength"], row["draw"]))


def _growth(plan: Plan, seeds: Sequence[Seed]) -> pl.DataFrame:
    ids = [seed.file.seed_id for seed in seeds]
    clean = [known(seed.covered) for seed in seeds]
    variants = [seed.variants_covered if seed.is_analysed else {} for seed in seeds]
    return newly_covered(ids, clean, variants, plan.settings.strengths)


def _collector(plan: Plan, seeds: int) -> HeatmapCollector | None:
    """Collects heatmaps, if any are to be kept."""
    settings = plan.settings
    if settings.gallery == 0:
        return None
    return HeatmapCollector(seeds, layers=plan.layers, settings=settings)


def _gallery(
    plan: Plan, seeds: Sequence[Seed], tables: dict[str, pl.DataFrame], heatmaps: HeatmapCollector | None
) -> dict[str, NDArray[Any]]:
    """Pictures of the chunk's candidates for the study's gallery."""
    moved = deviations(tables["seeds"], tables["similarity"], settings=plan.settings)
    chosen = spanning(moved, plan.gallery_share)
    positions = {seed.file.seed_id: position for position, seed in enumerate(seeds)}
    arrays = header(chosen, plan.settings)
    if heatmaps is None:
        return arrays
    for place, position in enumerate(positions[seed_id] for seed_id in chosen):
        seed = seeds[position]
        pictures = picture_arrays(known(seed.pixels), known(seed.perturbation), seed.noise[0])
        arrays |= numbered(place, {**pictures, **heatmaps.arrays(position)})
    return arrays
