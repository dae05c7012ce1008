"""A chunk of a finished run behind defences: predictions of purified images, and how far their maps lie from home.

The attack is the run's: it does not know the defence. `pipeline/adaptive.py` has those that do.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.defences.base import Defence
from camdrift.defences.defended import majority_classes
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import compare_layers
from camdrift.images.places import ImageFile
from camdrift.models.memory import batches
from camdrift.pipeline.attacking import raw_attack
from camdrift.pipeline.chunk import clean_seeds
from camdrift.pipeline.noise import matched_draws
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import CleanSeed, in_hand, stack
from camdrift.tables.arrays import Floats
from camdrift.tables.crossed import crossed
from camdrift.tables.defences import (
    CLEAN_STAGE,
    DEFENDED_IMAGES,
    NOISE_STAGE,
    PURIFIED_MAPS,
    STATIC_STAGE,
    UNDEFENDED,
)
from camdrift.tensors import Image, Images, perturbed

# Columns of `purified_maps` by the stage of their images: of purified ones, and of those as they are.
_PURIFIED: Final = {STATIC_STAGE: "purified", CLEAN_STAGE: "clean_purified", NOISE_STAGE: "noise_purified"}
_AS_THEY_ARE: Final = {STATIC_STAGE: "attacked", NOISE_STAGE: "noise"}


@dataclass(frozen=True)
class Example:
    """A seed image with what the run's attack made of it, whether or not it fools the network.

    Attributes:
        seed: The seed, which the network predicts as it is labelled, if it is labelled.
        perturbation: Base perturbation; zero where the attack found none.
        noise: Noise of the same statistics.
        is_fooled: Does the attacked image fool the network without a defence?
    """

    seed: CleanSeed
    perturbation: Image
    noise: Image
    is_fooled: bool = False

    def image(self, stage: str, strength: float = 1.0) -> Image:
        """The clean image, the attacked one or the noisy one."""
        if stage == CLEAN_STAGE:
            return self.seed.pixels
        return perturbed(self.seed.pixels, self.noise if stage == NOISE_STAGE else self.perturbation, strength)


@dataclass(frozen=True)
class DefendedChunk:
    """What a chunk says of defences.

    Attributes:
        images: Rows of table `defended_images`.
        maps: Rows of table `purified_maps`.
        pictures: By seed, then by key: `clean`, `attacked`, and the attacked picture behind each defence.
    """

    images: pl.DataFrame
    maps: pl.DataFrame
    pictures: dict[str, dict[str, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Evaluation:
    """How defences are judged.

    Attributes:
        defences: The purifiers.
        draws: Draws of a random purifier: in an attack, and in a verdict.
        rng_seed: Seed of every random draw.
    """

    defences: tuple[Defence, ...]
    draws: int
    rng_seed: int


def clean_examples(plan: Plan, files: Sequence[ImageFile], seed_ids: Collection[str]) -> list[Example]:
    """Some seeds of a chunk as they are, without what the run's attack makes of them.

    Args:
        plan: The plan of the run.
        files: The chunk's images.
        seed_ids: Names of the seeds.
    """
    seeds = in_hand(clean_seeds(plan, [file for file in files if file.seed_id in seed_ids]))
    zeros = [torch.zeros_like(seed.pixels) for seed in seeds]
    return [Example(seed, zero, zero) for seed, zero in zip(seeds, zeros, strict=True)]


def examples_of(plan: Plan, files: Sequence[ImageFile], warn: Callable[[str], None]) -> list[Example]:
    """The seeds of a chunk that a defence is judged on, attacked again as in the run.

    Left out are images that cannot be read, that are predicted otherwise than their label, and those on which the
    attack broke down.

    Args:
        plan: The plan of the run.
        files: The chunk's images.
        warn: Called with every remark of the attack.
    """
    seeds = in_hand(clean_seeds(plan, files))
    pairs = [
        (seed, result)
        for seed, result in zip(seeds, raw_attack(plan, seeds, warn) if seeds else [], strict=True)
        if not result.is_failure and seed.label in (None, seed.clean_class)
    ]
    deltas = [
        torch.zeros_like(seed.pixels) if result.base_perturbation is None else result.base_perturbation.to(seed.pixels)
        for seed, result in pairs
    ]
    noise = matched_draws(deltas, [(seed.seed_id, 0) for seed, _ in pairs], rng_seed=plan.settings.rng_seed)
    examples = [Example(seed, delta, draw) for (seed, _), delta, draw in zip(pairs, deltas, noise, strict=True)]
    classes = _predictions(plan, [each.image(STATIC_STAGE) for each in examples])
    return [
        replace(each, is_fooled=prediction != each.seed.clean_class)
        for each, prediction in zip(examples, classes, strict=True)
    ]


def _predictions(plan: Plan, images: Sequence[Image]) -> list[int]:
    classes: list[int] = []
    for batch in batches(images, plan.batch_size):
        with torch.no_grad():
            classes += plan.classifier(stack(batch)).argmax(1).tolist()
    return classes


def reference_strength(plan: Plan) -> float:
    """The strength at which maps are compared: of the run's the one nearest to 1."""
    return min(plan.settings.strengths, key=lambda strength: abs(strength - 1))


def defend_chunk(
    plan: Plan, examples: Sequence[Example], evaluation: Evaluation, advance: Callable[[int], None], *, n_pictures: int
) -> DefendedChunk:
    """Predictions and maps of a chunk behind every defence, and predictions without any.

    Args:
        plan: The plan of the run.
        examples: The chunk's images.
        evaluation: How defences are judged.
        advance: Called with the number of seeds done.
        n_pictures: Seeds whose pictures are kept, of those that the attack fools.
    """
    images, maps = [DEFENDED_IMAGES.frame()], [PURIFIED_MAPS.frame()]
    with_pictures = [each.seed.seed_id for each in examples if each.is_fooled][:n_pictures]
    pictures: dict[str, dict[str, NDArray[np.uint8]]] = {name: {} for name in with_pictures}
    count = 0
    for batch in batches(examples, plan.batch_size):
        home = _Home(plan, batch, evaluation)
        images.append(home.predictions(None))
        for defence in evaluation.defences:
            images.append(home.predictions(defence))
            maps.append(home.maps(defence, images[-1]))
        for name, picture in home.pictures(set(with_pictures)):
            pictures[name] |= picture
        count += len(batch)
        advance(count)
    return DefendedChunk(pl.concat(images), pl.concat(maps), pictures)


class _Home:
    """A batch of examples, and where their clean maps lie.

    The same images go through the same passes with a defence and without, so that one which changes nothing changes no
    bit.
    """

    def __init__(self, plan: Plan, batch: Sequence[Example], evaluation: Evaluation) -> None:
        self._plan, self._batch, self._evaluation = plan, batch, evaluation
        self._reference = reference_strength(plan)
        self._fooled = [each for each in batch if each.is_fooled]
        self._clean = self._maps_of(self._images(self._fooled, CLEAN_STAGE)) if self._fooled else {}
        self._unpurified = {
            column: self._deviations(self._images(self._fooled, stage))
            for stage, column in (_AS_THEY_ARE.items() if self._fooled else ())
        }

    def _images(self, examples: Sequence[Example], stage: str, strength: float | None = None) -> Images:
        return stack(each.image(stage, self._reference if strength is None else strength) for each in examples)

    def _purified(self, defence: Defence | None, images: Images, examples: Sequence[Example], stage: str) -> Images:
        if defence is None:
            return images
        keys = [f"{each.seed.seed_id} {stage}" for each in examples]
        with torch.no_grad():
            return defence.purify(images, keys, rng_seed=self._evaluation.rng_seed)

    def _maps_of(self, images: Images) -> Mapping[str, Tensor]:
        classes = torch.tensor([each.seed.clean_class for each in self._fooled], device=images.device)
        plan = self._plan
        return explain_batch(
            plan.classifier, images, [classes], layers=plan.layers, explainers=plan.explainers[:1]
        ).maps[0]

    def _deviations(self, images: Images) -> Floats:
        """How far the maps of images lie from the clean ones: 1 - similarity, (seeds, layers); NaN where undefined."""
        plan = self._plan
        comparison = compare_layers(self._clean, self._maps_of(images), plan.size, metric=plan.measures[0].metric)
        return 1 - comparison.similarity.T

    def predictions(self, defence: Defence | None) -> pl.DataFrame:
        """Rows of table `defended_images`: clean, at every strength of the attack, and with noise."""
        stages = [(CLEAN_STAGE, 0.0), *((STATIC_STAGE, strength) for strength in self._plan.settings.strengths)]
        stages.append((NOISE_STAGE, self._reference))
        return pl.concat([self._stage_rows(defence, stage, strength) for stage, strength in stages])

    def _stage_rows(self, defence: Defence | None, stage: str, strength: float) -> pl.DataFrame:
        images, before = self._images(self._batch, stage, strength), perf_counter()
        if defence is None:
            with torch.no_grad():
                classes = self._plan.classifier(images).argmax(1).tolist()
        else:
            draws, rng_seed = self._evaluation.draws, self._evaluation.rng_seed
            classes = majority_classes(self._plan.classifier, defence, images, draws=draws, rng_seed=rng_seed)
        seconds = (perf_counter() - before) / len(images)
        return image_rows(
            self._batch,
            images,
            classes,
            defence=UNDEFENDED if defence is None else defence.spec,
            stage=stage,
            attack=self._plan.attack.spec if stage == STATIC_STAGE else None,
            strength=strength,
            seconds=seconds,
        )

    def maps(self, defence: Defence, predictions: pl.DataFrame) -> pl.DataFrame:
        """Rows of table `purified_maps`, of the seeds that the attack fools."""
        if not self._fooled:
            return PURIFIED_MAPS.frame()
        values = dict(self._unpurified)
        for stage, column in _PURIFIED.items():
            images = self._images(self._fooled, stage)
            values[column] = self._deviations(self._purified(defence, images, self._fooled, stage))
        static = predictions.filter(pl.col("stage") == STATIC_STAGE, pl.col("strength") == self._reference)
        is_home = dict(static.select("seed_id", "is_correct").iter_rows())
        names = [each.seed.seed_id for each in self._fooled]
        columns: dict[str, list[Any]] = {
            "defence": [defence.spec] * len(names),
            "strength": [self._reference] * len(names),
            "seed_id": names,
            "returned": [is_home[name] for name in names],
        }
        return PURIFIED_MAPS.frame(crossed(columns, self._plan.layer_columns, values))

    def pictures(self, names: set[str]) -> list[tuple[str, dict[str, NDArray[np.uint8]]]]:
        """Pictures of some seeds: clean, attacked, and the attacked one behind every defence."""
        examples = [each for each in self._fooled if each.seed.seed_id in names]
        if not examples:
            return []
        adversarial = self._images(examples, STATIC_STAGE)
        columns = {"clean": self._images(examples, CLEAN_STAGE), "attacked": adversarial}
        for defence in self._evaluation.defences:
            columns[defence.spec] = self._purified(defence, adversarial, examples, STATIC_STAGE)
        return [
            (each.seed.seed_id, {key: _bytes_of(images[place]) for key, images in columns.items()})
            for place, each in enumerate(examples)
        ]


def _bytes_of(image: Image) -> NDArray[np.uint8]:
    """An image as 8 bits store it, (height, width, 3)."""
    return np.ascontiguousarray((image.detach() * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def image_rows(
    examples: Sequence[Example], images: Images, classes: Sequence[int | None], **columns: Any
) -> pl.DataFrame:
    """Rows of table `defended_images`.

    Args:
        examples: The examples.
        images: Their images before the defence.
        classes: Their predictions behind it; None where there is none.
        columns: The other columns, each one value for all rows or one for each.
    """
    change = (images - stack(each.seed.pixels for each in examples)).flatten(1).double()
    clean = [each.seed.clean_class for each in examples]
    rows = {
        "seed_id": [each.seed.seed_id for each in examples],
        "predicted_class": [*classes],
        "is_correct": [None if c is None else c == home for c, home in zip(classes, clean, strict=True)],
        "linf": change.abs().amax(1).tolist(),
        "l2": change.norm(dim=1).tolist(),
    }
    spread = {name: value if isinstance(value, list) else [value] * len(examples) for name, value in columns.items()}
    return DEFENDED_IMAGES.frame({**rows, **spread})
