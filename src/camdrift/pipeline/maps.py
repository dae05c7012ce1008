"""Maps of a chunk's images: explain every variant, hold it against its seed, write down what was seen."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from camdrift.coverage.neurons import NeuronObserver, NeuronRecord
from camdrift.explanations.attribution import OfTarget, explain
from camdrift.explanations.similarity import LayerSimilarities, compare_layers, unrelated_pairs
from camdrift.models.memory import batches
from camdrift.pipeline.plan import MapReceiver, Plan
from camdrift.pipeline.seeds import Seed, known, stack
from camdrift.pipeline.variants import Variant, measure_variant, plan_variants
from camdrift.tables.study import FLOOR, SIMILARITY
from camdrift.tables.words import FAILED
from camdrift.tensors import Classes, Explanation, Maps, perturbed


def explain_all(
    plan: Plan, seeds: Sequence[Seed], receivers: Mapping[str, MapReceiver], advance: Callable[[int], None]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The similarity and floor tables of the analysed seeds; fills their variant rows.

    Args:
        plan: What the chunks share.
        seeds: The chunk's analysed seeds.
        receivers: Get all maps, by the stage that their time counts for.
        advance: Called with the number of seeds done.
    """
    if not seeds:
        return SIMILARITY.frame(), FLOOR.frame()
    settings, clock = plan.settings, plan.clock
    clean = _clean_maps(plan, seeds)
    with clock("compare"):
        floor = _floor(plan, seeds, clean)
    for stage, receiver in receivers.items():
        with clock(stage):
            receiver.add_clean(_shown(clean))
    variants = plan_variants(
        len(seeds),
        strengths=settings.strengths,
        noise_strengths=settings.noise_strengths,
        draws=settings.noise_draws,
    )
    tables: list[pl.DataFrame] = []
    for number, batch in enumerate(batches(variants, plan.batch_size)):
        advance(number * plan.batch_size * len(seeds) // len(variants))
        images = stack(
            perturbed(known(seeds[v.position].pixels), seeds[v.position].delta(v), v.strength) for v in batch
        )
        with clock("explain"):
            seen, record = _explain(plan, images, [seeds[v.position] for v in batch], batch)
        with clock("compare"):
            tables.extend(_compare(plan, seeds, batch, clean, seen))
            _note_variants(seeds, batch, seen, record)
        for stage, receiver in receivers.items():
            with clock(stage):
                receiver.add_variants(batch, _shown(seen.attributions))
    order = ["position", "condition", "strength", "draw", "target_index", "measure_index", "layer_index"]
    similarity = pl.concat(tables).sort(order).select(SIMILARITY.schema.names())
    return similarity, floor


def _wanted(plan: Plan, seeds: Sequence[Seed]) -> list[Classes | None]:
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


def _clean_maps(plan: Plan, seeds: Sequence[Seed]) -> list[OfTarget]:
    """For each target, the attributions of the clean images by explanation and layer, first axis seeds."""
    parts = []
    with plan.clock("explain"):
        for batch in batches(seeds, plan.batch_size):
            images = stack(known(seed.pixels) for seed in batch)
            seen = explain(
                plan.classifier, images, _wanted(plan, batch), layers=plan.layers, explainers=plan.explainers
            )
            parts.append(seen.attributions)
    return [
        {
            explainer.spec: {
                name: torch.cat([part[target][explainer.spec][name] for part in parts]) for name in plan.layers
            }
            for explainer in plan.explainers
        }
        for target in range(len(plan.settings.targets))
    ]


def _shown(attributions: Sequence[OfTarget]) -> list[dict[str, Maps]]:
    """For each target the maps to look at: the first explanation's, of a representation its length over channels."""
    done: dict[int, dict[str, Maps]] = {}
    for of_target in attributions:
        first = next(iter(of_target.values()))
        is_map = next(iter(first.values())).ndim == 3
        if id(of_target) not in done:
            done[id(of_target)] = first if is_map else {name: value.norm(dim=1) for name, value in first.items()}
    return [done[id(of_target)] for of_target in attributions]


def _explain(
    plan: Plan, images: Tensor, seeds: Sequence[Seed], batch: Sequence[Variant]
) -> tuple[Explanation, NeuronRecord | None]:
    """The explanation of a batch of variants, with its neurons if coverage counts any of them."""
    counted = any(v.strength in plan.settings.strengths and v.draw == 0 for v in batch)
    observer = NeuronObserver(plan.classifier) if counted else None
    seen = explain(
        plan.classifier,
        images,
        _wanted(plan, seeds),
        layers=plan.layers,
        explainers=plan.explainers,
        observer=observer,
    )
    return seen, observer.record(seen.logits) if observer is not None else None


def _compare(
    plan: Plan,
    seeds: Sequence[Seed],
    batch: Sequence[Variant],
    clean: Sequence[OfTarget],
    seen: Explanation,
) -> Iterator[pl.DataFrame]:
    positions = torch.tensor([v.position for v in batch], device=plan.classifier.device)
    done: dict[tuple[int, int], list[LayerSimilarities]] = {}
    for index, target in enumerate(plan.settings.targets):
        # Where no prediction has changed, two targets share their maps and need comparing once.
        found = seen.attributions[index]
        key = (id(found), id(clean[index]) if target == "label" else 0)
        if key not in done:
            own = {name: _of_positions(part, positions) for name, part in clean[index].items()}
            done[key] = [
                compare_layers(own[explanation], found[explanation], plan.size, metric=metric)
                for explanation, metric in plan.measures
            ]
        taken = [i for i, v in enumerate(batch) if target != "label" or seeds[v.position].row["label"] is not None]
        for measure, comparison in enumerate(done[key]):
            yield _similarity_rows(plan, seeds, [batch[i] for i in taken], (index, measure), comparison, taken)


def _of_positions(attributions: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    return {name: part[positions] for name, part in attributions.items()}


def _similarity_rows(
    plan: Plan,
    seeds: Sequence[Seed],
    batch: Sequence[Variant],
    place: tuple[int, int],
    comparison: LayerSimilarities,
    taken: Sequence[int],
) -> pl.DataFrame:
    infos = {info.name: info for info in plan.classifier.layer_infos}
    layers, count = len(plan.layers), len(batch)
    target_index, measure_index = place
    explanation, metric = plan.measures[measure_index]
    columns: dict[str, Any] = {
        "seed_id": np.repeat([seeds[v.position].file.seed_id for v in batch], layers).tolist(),
        "condition": np.repeat([v.condition for v in batch], layers).tolist(),
        "strength": np.repeat([v.strength for v in batch], layers),
        "draw": np.repeat([v.draw for v in batch], layers),
        "target": [plan.settings.targets[target_index]] * (layers * count),
        "explanation": [explanation] * (layers * count),
        "metric": [metric] * (layers * count),
        "layer": list(plan.layers) * count,
        "layer_label": [infos[name].label for name in plan.layers] * count,
        "layer_index": np.tile(np.arange(layers), count),
        "similarity": pl.Series(comparison.similarity[:, taken].T.ravel(), dtype=pl.Float64, nan_to_null=True),
        "undefined_reason": comparison.reasons()[:, taken].T.ravel().tolist(),
    }
    order = {
        "position": pl.Series(np.repeat([v.position for v in batch], layers), dtype=pl.Int64),
        "target_index": pl.Series([target_index] * (layers * count), dtype=pl.Int64),
        "measure_index": pl.Series([measure_index] * (layers * count), dtype=pl.Int64),
    }
    return SIMILARITY.frame(columns).with_columns(**order)


def _floor(plan: Plan, seeds: Sequence[Seed], clean: Sequence[OfTarget]) -> pl.DataFrame:
    pairs = unrelated_pairs(len(seeds))
    if not pairs:
        return FLOOR.frame()
    device = plan.classifier.device
    mine, other = (torch.tensor(side, device=device) for side in zip(*pairs, strict=True))
    rows = []
    for (target, found), measure in itertools.product(zip(plan.settings.targets, clean, strict=True), plan.measures):
        a, b = (_of_positions(found[measure.explanation], side) for side in (mine, other))
        values = compare_layers(a, b, plan.size, metric=measure.metric).similarity
        for column, (i, j) in enumerate(pairs):
            if target == "label" and None in (seeds[i].row["label"], seeds[j].row["label"]):
                continue
            names = {
                "seed_id": seeds[i].file.seed_id,
                "other_seed_id": seeds[j].file.seed_id,
                "target": target,
                **measure._asdict(),
            }
            for layer, value in zip(plan.layers, values[:, column].tolist(), strict=True):
                rows.append({**names, "layer": layer, "similarity": None if np.isnan(value) else value})
    return FLOOR.frame(rows)


def _note_variants(
    seeds: Sequence[Seed], batch: Sequence[Variant], seen: Explanation, record: NeuronRecord | None
) -> None:
    probabilities, classes = seen.logits.softmax(1).max(1)
    finite = torch.isfinite(seen.logits).all(1).tolist()
    covered = None if record is None else record.covered().cpu().numpy()
    for row, v in enumerate(batch):
        seed = seeds[v.position]
        if not finite[row] and seed.perturbation is not None:
            where = f"{v.condition} image at strength {v.strength:g}"
            seed.row |= {
                "status": FAILED,
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
                **measure_variant(known(seed.pixels), seed.delta(v), v.strength),
            }
        )
