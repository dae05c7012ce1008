"""Maps of a chunk's images: explain every variant, compare it with its seed, write down the results."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl
import torch
from torch import Tensor

from camdrift.coverage.neurons import NeuronObserver, NeuronRecord
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import compare_layers, measure_layers, unrelated_pairs
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.ceiling import ceiling
from camdrift.pipeline.clean_maps import explain_clean, explaining, of_positions, target_classes
from camdrift.pipeline.outcomes import Comparisons, OutcomeCollector, Outcomes
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.receivers import MapReceiver, TargetMaps
from camdrift.pipeline.seeds import NoisySeed, batch_of
from camdrift.pipeline.variants import Variant, VariantBatch, plan_variants
from camdrift.tables.crossed import crossed
from camdrift.tables.further import CEILING
from camdrift.tables.study import FLOOR, SIMILARITY
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import Explanation, Maps


@dataclass(frozen=True)
class ExplainedChunk:
    """The results of explaining every variant of a chunk's seeds.

    Attributes:
        similarity: Rows of the table `similarity`.
        floor: Rows of the table `floor`.
        ceiling: Rows of the table `ceiling`.
        outcomes: What the network says of the variants; None without seeds.
    """

    similarity: pl.DataFrame
    floor: pl.DataFrame
    ceiling: pl.DataFrame
    outcomes: Outcomes | None = None

    def failures(self) -> dict[str, str]:
        """The reason, by `seed_id`, for every seed with a variant whose logits are not finite."""
        return {} if self.outcomes is None else self.outcomes.failures()


def explain_all(
    plan: Plan,
    seeds: Sequence[NoisySeed],
    receivers: Mapping[str, MapReceiver],
    advance: Callable[[int], None],
    *,
    conditions: Collection[str] = (ADVERSARIAL, NOISE),
) -> ExplainedChunk:
    """The results of explaining every variant of some seeds.

    Args:
        plan: The plan of the study.
        seeds: Seeds of the chunk.
        receivers: Get all maps, by the stage that their time counts for.
        advance: Called with the number of seeds done.
        conditions: Conditions of the variants to explain.
    """
    if not seeds:
        return ExplainedChunk(SIMILARITY.frame(), FLOOR.frame(), CEILING.frame())
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
    variants = [variant for variant in _variants(plan, seeds) if variant.condition in conditions]
    collector = OutcomeCollector(plan, seeds)
    parts = [*batches(variants, plan.batch_size)]
    with explaining(plan, partial(_explain, plan, seeds), parts) as results:
        for number in range(len(parts)):
            advance(number * plan.batch_size * len(seeds) // len(variants))
            with clock("explain"):
                batch, explanation, neurons = next(results)
            with clock("compare"):
                collector.add(batch, explanation.logits, neurons, _compare(plan, batch, clean, explanation))
            for stage, receiver in receivers.items():
                with clock(stage):
                    receiver.add_variants(batch, _target_maps(explanation))
    with clock("compare"):
        outcomes = collector.read()
        return ExplainedChunk(outcomes.similarity_table(), floor, ceiling_rows, outcomes)


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
    return TargetMaps(tuple(maps.each(as_maps)), explanation.same_as)


def as_maps(attributions: Mapping[str, Tensor]) -> Mapping[str, Maps]:
    """By layer one map per image: a representation counts by its length over channels."""
    is_map = next(iter(attributions.values())).ndim == 3
    return attributions if is_map else {name: value.norm(dim=1) for name, value in attributions.items()}


def _explain(
    plan: Plan, seeds: Sequence[NoisySeed], classifier: Classifier, variants: Sequence[Variant]
) -> tuple[VariantBatch, Explanation, NeuronRecord | None]:
    """A batch of variants and its explanation, with its neurons if coverage counts any of them."""
    batch = batch_of(seeds, variants)
    is_counted = any(v.strength in plan.settings.strengths and v.draw == 0 for v in variants)
    observer = NeuronObserver(classifier) if is_counted else None
    explanation = explain_batch(
        classifier,
        batch.images,
        target_classes(plan, [seeds[v.position] for v in batch.variants]),
        layers=plan.layers,
        explainers=plan.explainers,
        observer=observer,
    )
    return batch, explanation, observer.record(explanation.logits) if observer is not None else None


def _compare(plan: Plan, batch: VariantBatch, clean: Explanation, explanation: Explanation) -> Comparisons:
    """The similarities of a batch of variants to their seeds, for every target and measure."""
    positions = torch.tensor([v.position for v in batch.variants], device=plan.classifier.device)
    comparisons: dict[tuple[int, int], Tensor] = {}
    # Where no prediction has changed, two targets share their maps and need comparing once.
    keys = [*zip(explanation.same_as, clean.same_as, strict=True)]
    for index, key in enumerate(keys):
        if key not in comparisons:
            maps = explanation.attributions[index]
            seed_maps = {spec: of_positions(part, positions) for spec, part in clean.attributions[index].items()}
            comparisons[key] = torch.stack(
                [
                    measure_layers(seed_maps[spec], maps[spec], plan.size, metric=metric)
                    for spec, metric in plan.measures
                ]
            )
    return torch.stack([comparisons[key] for key in keys])


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
