"""Attacks that know a defence: they see the purifier inside the classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import polars as pl
import torch

from camdrift.attacks.base import Attack, SeedBatch
from camdrift.attacks.dlfuzz import DLFuzz
from camdrift.coverage.neurons import NeuronRecord, observe
from camdrift.defences.base import Defence
from camdrift.defences.defended import defended, majority_classes
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.defending import Evaluation, Example, image_rows
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import stack
from camdrift.tables.defences import ADAPTIVE_STAGE, DEFENDED_IMAGES
from camdrift.tensors import Attacked, Images, Logits, perturbed


@dataclass(frozen=True)
class Knowing:
    """An attack, and the defence that it knows.

    Attributes:
        attack: The attack.
        defence: The purifier.
    """

    attack: Attack
    defence: Defence

    def __post_init__(self) -> None:
        if self.defence.is_random and isinstance(self.attack, DLFuzz):
            raise UserError(
                f"`adaptive` {self.attack.spec} must not meet a random defence, got: {self.defence.spec}",
                "DLFuzz follows neurons, which change from draw to draw; --adaptive pgd averages the draws",
            )


def adaptive_chunk(
    plan: Plan, examples: Sequence[Example], knowing: Knowing, evaluation: Evaluation, advance: Callable[[int], None]
) -> pl.DataFrame:
    """Rows of table `defended_images` of an attack that knows the defence.

    A verdict comes from draws that the attack has not seen. Where the attack breaks down there is none.

    Args:
        plan: The plan of the run.
        examples: The chunk's images.
        knowing: The attack and the defence.
        evaluation: How defences are judged.
        advance: Called with the number of seeds done.
    """
    if not examples:
        return DEFENDED_IMAGES.frame()
    defence, rng_seed, before = knowing.defence, evaluation.rng_seed, perf_counter()
    victim = defended(plan.classifier, defence, draws=evaluation.draws, role="attack", rng_seed=rng_seed)
    results = knowing.attack(
        victim,
        _batch_of(victim, examples, plan.batch_size, knowing, rng_seed),
        batch_size=plan.batch_size,
        advance=lambda count, _: advance(count),
    )
    images = stack(_image(each, result) for each, result in zip(examples, results, strict=True))
    seconds, classes = (perf_counter() - before) / len(examples), list[int]()
    for places in batches(range(len(images)), plan.batch_size):
        part = images[places[0] : places[-1] + 1]
        classes += majority_classes(plan.classifier, defence, part, draws=evaluation.draws, rng_seed=rng_seed)
    return image_rows(
        examples,
        images,
        [None if result.is_failure else c for result, c in zip(results, classes, strict=True)],
        defence=defence.spec,
        stage=ADAPTIVE_STAGE,
        attack=knowing.attack.spec,
        strength=1.0,
        within_threat=_containment(knowing.attack, examples, images),
        fault=[result.reason if result.is_failure else None for result in results],
        seconds=seconds,
    )


def _batch_of(
    victim: Classifier, examples: Sequence[Example], batch_size: int, knowing: Knowing, rng_seed: int
) -> SeedBatch:
    """The seeds as the attack gets them, with what the defended classifier makes of them.

    Neurons are there for attacks that follow them alone.
    """
    images = stack(each.seed.pixels for each in examples)
    logits, values = list[Logits](), list[torch.Tensor]()
    for places in batches(range(len(images)), batch_size):
        part = images[places[0] : places[-1] + 1]
        if isinstance(knowing.attack, DLFuzz):
            outputs, neurons = observe(victim, part)
            values.append(neurons.values)
        else:
            with torch.no_grad():
                outputs = victim(part)
        logits.append(outputs)
    return SeedBatch(
        images=images,
        logits=torch.cat(logits),
        neurons=NeuronRecord({}, torch.cat(values) if values else images.new_zeros((len(images), 0))),
        seed_ids=[each.seed.seed_id for each in examples],
        rng_seed=rng_seed,
    )


def _image(example: Example, result: Attacked) -> torch.Tensor:
    seed = example.seed.pixels
    return seed if result.base_perturbation is None else perturbed(seed, result.base_perturbation.to(seed))


def _containment(attack: Attack, examples: Sequence[Example], images: Images) -> list[bool | None]:
    """Does each change keep the attack's bound? None for an attack without one."""
    if attack.threat is None:
        return [None] * len(examples)
    return [*attack.threat.contained(images - stack(each.seed.pixels for each in examples)).tolist()]
