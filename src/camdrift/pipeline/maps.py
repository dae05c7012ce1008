"""Maps of a chunk's images: explain every variant, compare it with its seed, write down the results."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from camdrift.coverage.neurons import NeuronObserver, NeuronRecord
from camdrift.explanations.attribution import explain
from camdrift.explanations.similarity import LayerSimilarities, compare_layers, unrelated_pairs
from camdrift.models.memory import batches
from camdrift.pipeline.ceiling import ceiling
from camdrift.pipeline.clean_maps import explain_clean, of_positions, target_classes
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.receivers import MapReceiver, TargetMaps
from camdrift.pipeline.seeds import NoisySeed, stack, variant_columns
from camdrift.pipeline.variants import Variant, measure_variant, plan_variants
from camdrift.tables.arrays import Flags
from camdrift.tables.crossed import crossed
from camdrift.tables.further import CEILING
from camdrift.tables.study import FLOOR, SIMILARITY
from camdrift.tables.table import Row
from camdrift.tensors import Explanation, Maps


@dataclass(frozen=True)
class VariantOutcome:
    """A variant as the model classifies it.

    Attributes:
        variant: The variant.
        row: Its row of the table `variants`.
        is_finite: Are its logits finite?
        covered: The neurons that it covers; None if coverage does not count it.
    """

    variant: Variant
    row: Row
    is_finite: bool
    covered: Flags | None


@dataclass(frozen=True)
class ExplainedChunk:
    """The results of explaining every variant of a chunk's seeds.

    Attributes:
        similarity: Rows of the table `similarity`.
        floor: Rows of the table `floor`.
        ceiling: Rows of the table `ceiling`.
        variants: The variants, in the order in which they were explained.
    """

    similarity: pl.DataFrame
    floor: pl.DataFrame
    ceiling: pl.DataFrame
    variants: tuple[VariantOutcome, ...]

    def failures(self) -> dict[str, str]:
        """The reason, by `seed_id`, for every seed with a variant whose logits are not finite."""
        return {
            outcome.row["seed_id"]: (
                f"the model returned NaN or infinity for the {outcome.variant.condition} image "
                f"at strength {outcome.variant.strength:g}"
            )
            for outcome in self.variants
            if not outcome.is_finite
        }


def explain_all(
    plan: Plan, seeds: Sequence[NoisySeed], receivers: Mapping[str, MapReceiver], advance: Callable[[int], None]
) -> ExplainedChunk:
    """The results of explaining every variant of some seeds.

    Args:
        plan: The plan of the study.
        seeds: Seeds of the chunk.
        receivers: Get all maps, by the stage that their time counts for.
        advance: Called with the number of seeds done.
    """
    if not seeds:
        return ExplainedChunk(SIMILARITY.frame(), FLOOR.frame(), CEILING.frame(), ())
    clock = plan.clock
    with clock("explain"):
        clean = explain_clean(plan, seeds)
    with clock("compare"):
        floor = _floor(plan, seeds, clean)
    with clock("ceiling"):
        ceiling_rows = ceiling(plan, seeds, clean)
    for stage, receiver in receivers.items():
        with clock(stage):
            receiver.add_clean(_target_maps(clean))
    variants = _variants(plan, seeds)
    tables: list[pl.DataFrame] = []
    outcomes: list[VariantOutcome] = []
    for number, batch in enumerate(batches(variants, plan.batch_size)):
        advance(number * plan.batch_size * len(seeds) // len(variants))
        with clock("explain"):
            explanation, neurons = _explain(plan, seeds, batch)
        with clock("compare"):
            tables += _compare(plan, seeds, batch, clean, explanation)
            outcomes += _outcomes(seeds, batch, explanation, neurons)
        for stage, receiver in receivers.items():
            with clock(stage):
                receiver.add_variants(batch, _target_maps(explanation))
    order = ["position", "condition", "strength", "draw", "target_index", "measure_index", "layer_index"]
    similarity = pl.concat(tables).sort(order).select(SIMILARITY.schema.names())
    return ExplainedChunk(similarity, floor, ceiling_rows, tuple(outcomes))


def _variants(plan: Plan, seeds: Sequence[NoisySeed]) -> list[Variant]:
    settings = plan.settings
    return plan_variants(
        len(seeds),
        strengths=settings.strengths,
        noise_strengths=settings.noise_strengths,
        draws=settings.noise_draws,
    )


def _target_maps(explanation: Explanation) -> TargetMaps:
    """The maps to look at: the first explanation's, of a representation its length over channels."""
    maps = TargetMaps(explanation.maps, explanation.same_as)
    return TargetMaps(tuple(maps.each(_as_maps)), explanation.same_as)


def _as_maps(attributions: Mapping[str, Tensor]) -> Mapping[str, Maps]:
    is_map = next(iter(attributions.values())).ndim == 3
    return attributions if is_map else {name: value.norm(dim=1) for name, value in attributions.items()}


def _explain(
    plan: Plan, seeds: Sequence[NoisySeed], batch: Sequence[Variant]
) -> tuple[Explanation, NeuronRecord | None]:
    """The explanation of a batch of variants, with its neurons if coverage counts any of them."""
    is_counted = any(v.strength in plan.settings.strengths and v.draw == 0 for v in batch)
    observer = NeuronObserver(plan.classifier) if is_counted else None
    explanation = explain(
        plan.classifier,
        stack(seeds[v.position].image(v) for v in batch),
        target_classes(plan, [seeds[v.position] for v in batch]),
        layers=plan.layers,
        explainers=plan.explainers,
        observer=observer,
    )
    return explanation, observer.record(explanation.logits) if observer is not None else None


def _compare(
    plan: Plan,
    seeds: Sequence[NoisySeed],
    batch: Sequence[Variant],
    clean: Explanation,
    explanation: Explanation,
) -> Iterator[pl.DataFrame]:
    """Yield rows of the table `similarity`, with the columns that sort them, for every target and measure."""
    positions = torch.tensor([v.position for v in batch], device=plan.classifier.device)
    comparisons: dict[tuple[int, int], list[LayerSimilarities]] = {}
    for index, target in enumerate(plan.settings.targets):
        # Where no prediction has changed, two targets share their maps and need comparing once.
        key = (explanation.same_as[index], clean.same_as[index])
        if key not in comparisons:
            maps = explanation.attributions[index]
            seed_maps = {spec: of_positions(part, positions) for spec, part in clean.attributions[index].items()}
            comparisons[key] = [
                compare_layers(seed_maps[spec], maps[spec], plan.size, metric=metric) for spec, metric in plan.measures
            ]
        rows = [i for i, v in enumerate(batch) if target != "label" or seeds[v.position].label is not None]
        variants = [batch[i] for i in rows]
        for number, (measure, comparison) in enumerate(zip(plan.measures, comparisons[key], strict=True)):
            values = {"similarity": comparison.similarity, "undefined_reason": comparison.reasons()}
            columns = crossed(
                variant_columns(seeds, variants),
                plan.layer_columns,
                {name: array[:, rows].T for name, array in values.items()},
                target=target,
                **measure._asdict(),
            )
            yield SIMILARITY.frame(columns).with_columns(
                position=pl.Series(np.repeat([v.position for v in variants], len(plan.layers)), dtype=pl.Int64),
                target_index=pl.lit(index),
                measure_index=pl.lit(number),
            )


def _floor(plan: Plan, seeds: Sequence[NoisySeed], clean: Explanation) -> pl.DataFrame:
    """Rows of the table `floor`: similarities of clean maps of unrelated seeds."""
    pairs = unrelated_pairs(len(seeds))
    if not pairs:
        return FLOOR.frame()
    device = plan.classifier.device
    sides = [torch.tensor(side, device=device) for side in zip(*pairs, strict=True)]
    targets = zip(plan.settings.targets, clean.attributions, strict=True)
    tables = []
    for (target, attributions), measure in itertools.product(targets, plan.measures):
        first, second = (of_positions(attributions[measure.explanation], side) for side in sides)
        values = compare_layers(first, second, plan.size, metric=measure.metric).similarity
        rows = [n for n, pair in enumerate(pairs) if target != "label" or None not in [seeds[i].label for i in pair]]
        keys = {
            "seed_id": [seeds[pairs[n][0]].seed_id for n in rows],
            "other_seed_id": [seeds[pairs[n][1]].seed_id for n in rows],
        }
        columns = {"similarity": values[:, rows].T}
        tables.append(FLOOR.frame(crossed(keys, {"layer": plan.layers}, columns, target=target, **measure._asdict())))
    return pl.concat(tables, rechunk=True)


def _outcomes(
    seeds: Sequence[NoisySeed], batch: Sequence[Variant], explanation: Explanation, neurons: NeuronRecord | None
) -> Iterator[VariantOutcome]:
    """Yield how the model classifies each variant of a batch, and which neurons it covers."""
    probabilities, classes = explanation.logits.softmax(1).max(1)
    is_finite = torch.isfinite(explanation.logits).all(1).tolist()
    is_covered = None if neurons is None else neurons.covered().cpu().numpy()
    for number, v in enumerate(batch):
        seed, prediction = seeds[v.position], int(classes[number])
        row = {
            "seed_id": seed.seed_id,
            "condition": v.condition,
            "strength": v.strength,
            "draw": v.draw,
            "predicted_class": prediction,
            "probability": float(probabilities[number]),
            "is_flipped": prediction != seed.clean_class,
            **measure_variant(seed.pixels, seed.delta(v), v.strength),
        }
        flags = is_covered[number] if is_covered is not None and v.draw == 0 else None
        yield VariantOutcome(v, row, is_finite[number], flags)
