"""From read seeds to adversarial ones: classify the clean images, attack them, judge the results."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from camdrift.attacks.base import SeedBatch
from camdrift.coverage.neurons import NeuronRecord, neuron_count, observe
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import AdversarialSeed, AttackedSeed, CleanSeed, LeftOut, ReadSeed, stack
from camdrift.tables.words import FAILED, NO_ADVERSARIAL
from camdrift.tensors import Attacked, Image, Images, Logits, perturbed, rounded_to_bytes


def classify_clean(plan: Plan, seeds: Sequence[ReadSeed]) -> list[CleanSeed | LeftOut]:
    """The seeds with what the studied model makes of their clean images."""
    logits, neurons = _observe_clean(plan.classifier, seeds, plan.batch_size)
    classes, probabilities, is_finite = judged(logits)
    is_covered = neurons.covered().cpu().numpy()
    reason = "the model returned NaN or infinity for the clean image"
    return [
        CleanSeed(
            **vars(seed),
            clean_class=classes[row],
            clean_probability=probabilities[row],
            covered=is_covered[row],
            logits=logits[row],
            neurons=neurons.values[row],
        )
        if is_finite[row]
        else LeftOut(seed, FAILED, reason)
        for row, seed in enumerate(seeds)
    ]


def show_surrogate(plan: Plan, seeds: Sequence[CleanSeed]) -> list[CleanSeed | LeftOut]:
    """The seeds with logits and neurons of the surrogate, if the attack sees one in place of the studied model."""
    if plan.surrogate is None:
        return [*seeds]
    logits, neurons = _observe_clean(plan.surrogate, seeds, plan.batch_size)
    is_finite = torch.isfinite(logits).all(1).tolist()
    reason = "the surrogate returned NaN or infinity for the clean image"
    return [
        replace(seed, logits=logits[row], neurons=neurons.values[row])
        if is_finite[row]
        else LeftOut(seed, FAILED, reason)
        for row, seed in enumerate(seeds)
    ]


def _observe_clean(classifier: Classifier, seeds: Sequence[ReadSeed], batch_size: int) -> tuple[Logits, NeuronRecord]:
    """Logits and neurons of the clean images."""
    device = classifier.device
    logits = [torch.empty((0, classifier.classes), device=device)]
    values = [torch.empty((0, neuron_count(classifier)), device=device)]
    see = lambda replica, batch: observe(replica, stack(seed.pixels for seed in batch).to(device))  # noqa: E731
    with on_replicas(classifier, see, [*batches(seeds, batch_size)]) as results:
        for batch_logits, neurons in results:
            logits.append(batch_logits)
            values.append(neurons.values)
    return torch.cat(logits), NeuronRecord({}, torch.cat(values))


def attack(
    plan: Plan, seeds: Sequence[CleanSeed], advance: Callable[[int, int], None], warn: Callable[[str], None]
) -> list[AdversarialSeed | LeftOut]:
    """The seeds with their adversarial examples, as far as the attack finds any that fool the studied model.

    Args:
        plan: The plan of the study.
        seeds: The chunk's seeds.
        advance: As for `attacks.base.Attack`.
        warn: Called with every remark of the attack.
    """
    if not seeds:
        return []
    results = raw_attack(plan, seeds, warn, advance)
    attacked_seeds = [
        AttackedSeed(**vars(seed), iterations=result.iterations, target_class=result.target_class)
        for seed, result in zip(seeds, results, strict=True)
    ]
    pairs = list(zip(attacked_seeds, results, strict=True))
    device = plan.classifier.device
    judgements = _judge(
        plan,
        [(seed, r, r.base_perturbation.to(device)) for seed, r in pairs if r.base_perturbation is not None],
    )
    return [
        _without_perturbation(seed, result) if result.base_perturbation is None else next(judgements)
        for seed, result in pairs
    ]


def raw_attack(
    plan: Plan,
    seeds: Sequence[CleanSeed],
    warn: Callable[[str], None],
    advance: Callable[[int, int], None] = lambda count, successes: None,
) -> list[Attacked]:
    """What the attack makes of some seeds, whether or not it fools the studied model.

    Args:
        plan: The plan of the study.
        seeds: The chunk's seeds, one or more.
        warn: Called with every remark of the attack.
        advance: As for `attacks.base.Attack`.
    """
    results = plan.attack(plan.victim, _seed_batch(plan, seeds), batch_size=plan.batch_size, advance=advance)
    for remark in dict.fromkeys(result.remark for result in results if result.remark):
        warn(remark)
    return results


def _seed_batch(plan: Plan, seeds: Sequence[CleanSeed]) -> SeedBatch:
    return SeedBatch(
        images=stack(seed.pixels for seed in seeds).to(plan.victim.device),
        logits=torch.stack([seed.logits for seed in seeds]),
        neurons=NeuronRecord({}, torch.stack([seed.neurons for seed in seeds])),
        seed_ids=[seed.seed_id for seed in seeds],
        rng_seed=plan.settings.rng_seed,
    )


def _without_perturbation(seed: AttackedSeed, result: Attacked) -> LeftOut:
    if result.is_failure:
        return LeftOut(seed, FAILED, result.reason)
    reason = result.reason or f"no adversarial example in {result.iterations} iterations"
    return LeftOut(seed, NO_ADVERSARIAL, reason)


def _judge(
    plan: Plan, perturbations: Sequence[tuple[AttackedSeed, Attacked, Image]]
) -> Iterator[AdversarialSeed | LeftOut]:
    """Judge every perturbation by the clipped image, and once more by the image as 8 bits would store it."""

    def look(
        classifier: Classifier, batch: Sequence[tuple[AttackedSeed, Attacked, Image]]
    ) -> tuple[Images, Logits, list[int]]:
        images = stack(perturbed(seed.pixels, perturbation) for seed, _, perturbation in batch)
        with torch.no_grad():
            return images, classifier(images), classifier(rounded_to_bytes(images)).argmax(1).tolist()

    parts = [*batches(perturbations, plan.batch_size)]
    with on_replicas(plan.classifier, look, parts) as results:
        looks = [*results]
    for batch, (images, logits, byte_classes) in zip(parts, looks, strict=True):
        classes, probabilities, is_finite = judged(logits)
        threat = plan.attack.threat
        pixels = stack(seed.pixels for seed, _, _ in batch)
        within = [None] * len(batch) if threat is None else threat.contained(images - pixels).tolist()
        for row, (seed, result, perturbation) in enumerate(batch):
            prediction = classes[row]
            if not is_finite[row]:
                yield LeftOut(seed, FAILED, "the model returned NaN or infinity for the adversarial image")
            elif not seed.is_fooled(prediction):
                status = FAILED if result.is_failure else NO_ADVERSARIAL
                yield LeftOut(seed, status, result.reason or _not_fooled(seed, prediction))
            else:
                yield AdversarialSeed(
                    **vars(seed),
                    perturbation=perturbation,
                    adversarial_class=prediction,
                    adversarial_probability=probabilities[row],
                    survives_uint8=seed.is_fooled(byte_classes[row]),
                    within_threat=within[row],
                )


def judged(logits: Logits) -> tuple[list[int], list[float], list[bool]]:
    """The predicted class of every image, its probability, and whether its logits are finite: one reading."""
    probabilities, classes = logits.softmax(1).max(1)
    values = torch.stack([classes.double(), probabilities.double(), torch.isfinite(logits).all(1).double()]).tolist()
    return [int(value) for value in values[0]], values[1], [bool(value) for value in values[2]]


def _not_fooled(seed: AttackedSeed, prediction: int) -> str:
    if seed.target_class is None:
        return "the image that the attack made does not change the prediction"
    return f"the image that the attack made is predicted class {prediction}, not the target class {seed.target_class}"
