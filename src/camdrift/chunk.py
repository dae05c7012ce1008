"""One chunk of seeds from files to rows: read, attack, draw noise, explain, compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift import records
from camdrift.attacks import Attack
from camdrift.clock import Clock
from camdrift.compare import Comparison, compare_layers, unrelated_pairs
from camdrift.coverage import NeuronObserver, NeuronRecord, observe
from camdrift.errors import ImageError
from camdrift.explain import explain
from camdrift.gallery import Gallery
from camdrift.growth import newly_covered
from camdrift.images import ImageFile, read_image
from camdrift.models import Classifier
from camdrift.noise import matched_noise
from camdrift.records import ADVERSARIAL, NOISE
from camdrift.settings import Settings
from camdrift.tensors import Classes, Explanation, Image, Logits, Maps, perturbed
from camdrift.variants import Variant, describe_perturbation, measure_variant, plan_variants, rounded

_T = TypeVar("_T")

Advance = Callable[[str, int, int], None]

# Chunk-internal table: `growth.newly_covered`, merged into the `coverage` table at the end.
GROWTH: Final = "growth"


@dataclass(frozen=True)
class Plan:
    """What every chunk of a study shares.

    Attributes:
        classifier: The model.
        attack: The attack.
        settings: The study's options.
        layers: Names of the layers, in execution order.
        labels: Class index of each folder; empty where folders are no classes.
        batch_size: Images per pass.
        clock: Counts the time of the stages.
    """

    classifier: Classifier
    attack: Attack
    settings: Settings
    layers: tuple[str, ...]
    labels: Mapping[str, int]
    batch_size: int
    clock: Clock

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return (self.classifier.size, self.classifier.size)


@dataclass
class _Seed:
    """One seed of the chunk, from its file to its rows."""

    file: ImageFile
    row: dict[str, Any]
    pixels: Image | None = None
    clean_class: int = -1
    covered: NDArray[np.bool_] | None = None
    perturbation: Image | None = None
    noise: list[Image] = field(default_factory=list)
    variant_rows: list[dict[str, Any]] = field(default_factory=list)
    variants_covered: dict[tuple[str, float], NDArray[np.bool_]] = field(default_factory=dict)

    def fail(self, status: str, reason: str) -> None:
        self.row |= {"status": status, "reason": reason}
        self.pixels = self.perturbation = None

    def delta(self, variant: Variant) -> Image:
        """The base perturbation or the noise draw that `variant` scales."""
        if variant.condition == ADVERSARIAL:
            assert self.perturbation is not None
            return self.perturbation
        return self.noise[variant.draw]


@dataclass(frozen=True)
class ChunkResult:
    """Tables of one chunk (seeds, variants, similarity, floor and `GROWTH`), and its part of the gallery."""

    tables: dict[str, pl.DataFrame]
    gallery: dict[str, NDArray[Any]]


def study_chunk(plan: Plan, files: Sequence[ImageFile], advance: Advance) -> ChunkResult:
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
        logits, neurons = _look(plan, [seed for seed in seeds if seed.pixels is not None])
        _judge_clean(seeds, logits, neurons)
        _attack(plan, seeds, logits, neurons, lambda done, found: advance("attack", done - found, found))
    analysed = [seed for seed in seeds if seed.perturbation is not None]
    with clock("noise"):
        for seed in analysed:
            _draw_noise(plan, seed)
    gallery = Gallery(plan.settings.strengths)
    rest = len(seeds) - len(analysed)
    similarity, floor = _explain_all(
        plan, analysed, gallery, lambda done: advance("explain", rest + done, len(analysed))
    )
    with clock("coverage"):
        growth = _growth(plan, [seed for seed in seeds if seed.pixels is not None])
    kept = {seed.file.seed_id for seed in analysed if seed.row["status"] == records.ANALYSED}
    tables = {
        "seeds": records.SEEDS.frame([seed.row for seed in seeds]),
        "variants": records.VARIANTS.frame(_sorted_variants(analysed)),
        "similarity": similarity.filter(pl.col("seed_id").is_in(kept)),
        "floor": floor.filter(pl.col("seed_id").is_in(kept) & pl.col("other_seed_id").is_in(kept)),
        GROWTH: growth,
    }
    return ChunkResult(tables, gallery.arrays(kept))


def _read(plan: Plan, file: ImageFile) -> _Seed:
    row = {"seed_id": file.seed_id, "path": str(file.path), "label": _label(plan, file)}
    model = plan.classifier
    seed = _Seed(file, row)
    try:
        read = read_image(file, size=model.size, resize=model.resize, interpolation=model.interpolation)
    except ImageError as error:
        seed.fail(records.UNREADABLE, error.message)
        return seed
    seed.pixels = read.pixels.to(model.device)
    row["sha256"] = read.sha256
    return seed


def _label(plan: Plan, file: ImageFile) -> int | None:
    if file.label is not None:
        return file.label if plan.classifier.classes == 1000 else None
    return plan.labels.get(file.folder) if file.folder is not None else None


def _look(plan: Plan, seeds: Sequence[_Seed]) -> tuple[Logits, NeuronRecord]:
    """Logits and neurons of the clean images."""
    device = plan.classifier.device
    total = sum(group.neurons for group in plan.classifier.neuron_groups)
    logits = [torch.empty((0, plan.classifier.classes), device=device)]
    values = [torch.empty((0, total), device=device)]
    for batch in _batches(seeds, plan.batch_size):
        seen, record = observe(plan.classifier, _stack(seed.pixels for seed in batch))
        logits.append(seen)
        values.append(record.values)
    return torch.cat(logits), NeuronRecord({}, torch.cat(values))


def _judge_clean(seeds: Sequence[_Seed], logits: Logits, neurons: NeuronRecord) -> None:
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
            seed.fail(records.FAILED, "the model returned NaN or infinity for the clean image")


def _attack(
    plan: Plan,
    seeds: Sequence[_Seed],
    logits: Logits,
    neurons: NeuronRecord,
    advance: Callable[[int, int], None],
) -> None:
    finite = torch.isfinite(logits).all(1)
    attacked = [seed for seed in seeds if seed.pixels is not None]
    if not attacked:
        return
    results = plan.attack(
        plan.classifier,
        _stack(seed.pixels for seed in attacked),
        logits[finite],
        NeuronRecord({}, neurons.values[finite]),
        seed_ids=[seed.file.seed_id for seed in attacked],
        rng_seed=plan.settings.rng_seed,
        batch_size=plan.batch_size,
        advance=advance,
    )
    for seed, result in zip(attacked, results, strict=True):
        seed.perturbation = result.base_perturbation
        seed.row |= {"iterations": result.iterations, "status": records.ANALYSED}
        if result.base_perturbation is None:
            reason = f"no adversarial example in {result.iterations} iterations"
            seed.row |= {"status": records.NO_ADVERSARIAL, "reason": reason}
    _judge_adversarial(plan, [seed for seed in attacked if seed.perturbation is not None])


def _judge_adversarial(plan: Plan, seeds: Sequence[_Seed]) -> None:
    """Check every success on the clipped image, and once more on the image as 8 bits would store it."""
    for batch in _batches(seeds, plan.batch_size):
        images = _stack(perturbed(_known(seed.pixels), _known(seed.perturbation)) for seed in batch)
        with torch.no_grad():
            probabilities, classes = plan.classifier(images).softmax(1).max(1)
            stored = plan.classifier(rounded(images)).argmax(1)
        for row, seed in enumerate(batch):
            found = int(classes[row])
            if found == seed.clean_class:
                seed.perturbation = None
                reason = "the attack reported an example that does not change the prediction"
                seed.row |= {"status": records.NO_ADVERSARIAL, "reason": reason}
                continue
            seed.row |= {
                "adversarial_class": found,
                "adversarial_probability": float(probabilities[row]),
                "survives_uint8": int(stored[row]) != seed.clean_class,
            }


def _draw_noise(plan: Plan, seed: _Seed) -> None:
    delta, settings = _known(seed.perturbation), plan.settings
    seed.noise = [
        matched_noise(delta, rng_seed=settings.rng_seed, seed_id=seed.file.seed_id, draw=draw)
        for draw in range(settings.noise_draws)
    ]
    seed.row |= describe_perturbation(_known(seed.pixels), delta, seed.noise[0])


def _explain_all(
    plan: Plan, seeds: Sequence[_Seed], gallery: Gallery, advance: Callable[[int], None]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The similarity and floor tables of the analysed seeds; fills their variant rows and the gallery."""
    if not seeds:
        return records.SIMILARITY.frame(), records.FLOOR.frame()
    settings, clock = plan.settings, plan.clock
    clean = _clean_maps(plan, seeds)
    with clock("compare"):
        floor = _floor(plan, seeds, clean)
    for position, seed in enumerate(seeds[: gallery.size]):
        gallery.add_clean(position, seed.file.seed_id, _known(seed.pixels), clean[0], plan.layers)
    variants = plan_variants(
        len(seeds),
        strengths=settings.strengths,
        noise_strengths=settings.noise_strengths,
        draws=settings.noise_draws,
    )
    tables: list[pl.DataFrame] = []
    for number, batch in enumerate(_batches(variants, plan.batch_size)):
        advance(number * plan.batch_size * len(seeds) // len(variants))
        images = _stack(
            perturbed(_known(seeds[v.position].pixels), seeds[v.position].delta(v), v.strength) for v in batch
        )
        with clock("explain"):
            seen, record = _explain(plan, images, [seeds[v.position] for v in batch], batch)
        with clock("compare"):
            tables.extend(_compare(plan, seeds, batch, clean, seen))
            _note_variants(seeds, batch, seen, record)
        for row, variant in enumerate(batch):
            gallery.add_variant(variant, row, images, seen.maps[0], plan.layers)
    order = ["position", "condition", "strength", "draw", "target_index", "layer_index"]
    similarity = pl.concat(tables).sort(order).select(records.SIMILARITY.schema.names())
    return similarity, floor


def _wanted(plan: Plan, seeds: Sequence[_Seed]) -> list[Classes | None]:
    """The classes to explain, one set per target. Seeds without a label stand in with their own class."""
    device = plan.classifier.device
    clean = [seed.clean_class for seed in seeds]
    labels = [seed.clean_class if seed.row["label"] is None else int(seed.row["label"]) for seed in seeds]
    sets = {
        "own": None,
        "seed": torch.tensor(clean, device=device),
        "label": torch.tensor(labels, device=device),
    }
    return [sets[target] for target in plan.settings.targets]


def _clean_maps(plan: Plan, seeds: Sequence[_Seed]) -> list[dict[str, Maps]]:
    """For each target, the maps of the clean images by layer, shape (seeds, h, w)."""
    parts = []
    with plan.clock("explain"):
        for batch in _batches(seeds, plan.batch_size):
            images = _stack(seed.pixels for seed in batch)
            parts.append(explain(plan.classifier, images, _wanted(plan, batch), layers=plan.layers).maps)
    return [
        {name: torch.cat([part[target][name] for part in parts]) for name in plan.layers}
        for target in range(len(plan.settings.targets))
    ]


def _explain(
    plan: Plan, images: Tensor, seeds: Sequence[_Seed], batch: Sequence[Variant]
) -> tuple[Explanation, NeuronRecord | None]:
    """The explanation of a batch of variants, with its neurons if coverage counts any of them."""
    counted = any(v.strength in plan.settings.strengths and v.draw == 0 for v in batch)
    observer = NeuronObserver(plan.classifier) if counted else None
    seen = explain(plan.classifier, images, _wanted(plan, seeds), layers=plan.layers, observer=observer)
    return seen, observer.record(seen.logits) if observer is not None else None


def _compare(
    plan: Plan,
    seeds: Sequence[_Seed],
    batch: Sequence[Variant],
    clean: Sequence[dict[str, Maps]],
    seen: Explanation,
) -> Iterator[pl.DataFrame]:
    positions = torch.tensor([v.position for v in batch], device=plan.classifier.device)
    done: dict[tuple[int, int], Comparison] = {}
    for index, target in enumerate(plan.settings.targets):
        # Where no prediction has changed, two targets share their maps and need comparing once.
        key = (id(seen.maps[index]), id(clean[index]) if target == "label" else 0)
        if key not in done:
            own = {name: maps[positions] for name, maps in clean[index].items()}
            done[key] = compare_layers(own, seen.maps[index], plan.size)
        taken = [
            i for i, v in enumerate(batch) if target != "label" or seeds[v.position].row["label"] is not None
        ]
        yield _similarity_rows(plan, seeds, [batch[i] for i in taken], (index, target), done[key], taken)


def _similarity_rows(
    plan: Plan,
    seeds: Sequence[_Seed],
    batch: Sequence[Variant],
    target: tuple[int, str],
    comparison: Comparison,
    taken: Sequence[int],
) -> pl.DataFrame:
    infos = {info.name: info for info in plan.classifier.layer_infos}
    layers, count = len(plan.layers), len(batch)
    columns: dict[str, Any] = {
        "seed_id": np.repeat([seeds[v.position].file.seed_id for v in batch], layers).tolist(),
        "condition": np.repeat([v.condition for v in batch], layers).tolist(),
        "strength": np.repeat([v.strength for v in batch], layers),
        "draw": np.repeat([v.draw for v in batch], layers),
        "target": [target[1]] * (layers * count),
        "layer": list(plan.layers) * count,
        "layer_label": [infos[name].label for name in plan.layers] * count,
        "layer_index": np.tile(np.arange(layers), count),
        "similarity": pl.Series(
            comparison.similarity[:, taken].T.ravel(), dtype=pl.Float64, nan_to_null=True
        ),
        "undefined_reason": comparison.reasons()[:, taken].T.ravel().tolist(),
    }
    order = {
        "position": pl.Series(np.repeat([v.position for v in batch], layers), dtype=pl.Int64),
        "target_index": pl.Series([target[0]] * (layers * count), dtype=pl.Int64),
    }
    return records.SIMILARITY.frame(columns).with_columns(**order)


def _floor(plan: Plan, seeds: Sequence[_Seed], clean: Sequence[dict[str, Maps]]) -> pl.DataFrame:
    pairs = unrelated_pairs(len(seeds))
    if not pairs:
        return records.FLOOR.frame()
    device = plan.classifier.device
    mine, other = (torch.tensor(side, device=device) for side in zip(*pairs, strict=True))
    rows = []
    for target, maps in zip(plan.settings.targets, clean, strict=True):
        a = {name: part[mine] for name, part in maps.items()}
        b = {name: part[other] for name, part in maps.items()}
        values = compare_layers(a, b, plan.size).similarity
        for column, (i, j) in enumerate(pairs):
            if target == "label" and None in (seeds[i].row["label"], seeds[j].row["label"]):
                continue
            names = {
                "seed_id": seeds[i].file.seed_id,
                "other_seed_id": seeds[j].file.seed_id,
                "target": target,
            }
            for layer, value in zip(plan.layers, values[:, column].tolist(), strict=True):
                rows.append({**names, "layer": layer, "similarity": None if np.isnan(value) else value})
    return records.FLOOR.frame(rows)


def _note_variants(
    seeds: Sequence[_Seed], batch: Sequence[Variant], seen: Explanation, record: NeuronRecord | None
) -> None:
    probabilities, classes = seen.logits.softmax(1).max(1)
    finite = torch.isfinite(seen.logits).all(1).tolist()
    covered = None if record is None else record.covered().cpu().numpy()
    for row, v in enumerate(batch):
        seed = seeds[v.position]
        if not finite[row] and seed.perturbation is not None:
            where = f"{v.condition} image at strength {v.strength:g}"
            seed.row |= {
                "status": records.FAILED,
                "reason": f"the model returned NaN or infinity for the {where}",
            }
        found, probability = int(classes[row]), float(probabilities[row])
        if covered is not None and v.draw == 0:
            seed.variants_covered[v.condition, v.strength] = covered[row]
        seed.variant_rows.append(
            {
                "seed_id": seed.file.seed_id,
                "condition": v.condition,
                "strength": v.strength,
                "draw": v.draw,
                "predicted_class": found,
                "probability": probability,
                "is_flipped": found != seed.clean_class,
                **measure_variant(_known(seed.pixels), seed.delta(v), v.strength),
            }
        )


def _sorted_variants(seeds: Sequence[_Seed]) -> list[dict[str, Any]]:
    order = {ADVERSARIAL: 0, NOISE: 1}
    rows = [row for seed in seeds if seed.row["status"] == records.ANALYSED for row in seed.variant_rows]
    return sorted(
        rows, key=lambda row: (row["seed_id"], order[row["condition"]], row["strength"], row["draw"])
    )


def _growth(plan: Plan, seeds: Sequence[_Seed]) -> pl.DataFrame:
    ids = [seed.file.seed_id for seed in seeds]
    clean = [_known(seed.covered) for seed in seeds]
    return newly_covered(ids, clean, [seed.variants_covered for seed in seeds], plan.settings.strengths)


def _stack(images: Any) -> Tensor:
    return torch.stack(list(images))


def _known(value: _T | None) -> _T:
    assert value is not None
    return value


def _batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
