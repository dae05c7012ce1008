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
from torch import Generator, Tensor

from camdrift.defences.base import Defence, Purify
from camdrift.defences.defended import majority_classes
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import compare_layers
from camdrift.images.places import ImageFile
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas, replicated
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
from camdrift.tensors import Explanation, Image, Images, perturbed

# Columns of `purified_maps` by the stage of their images: of purified ones, and of those as they are.
_PURIFIED: Final = {STATIC_STAGE: "purified", CLEAN_STAGE: "clean_purified", NOISE_STAGE: "noise_purified"}
_AS_THEY_ARE: Final = {STATIC_STAGE: "attacked", NOISE_STAGE: "noise"}
_Pictures = dict[str, NDArray[np.uint8]]


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
    pictures: dict[str, _Pictures]


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
    with replicated(*plan.classifiers, batch_size=plan.batch_size):
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
    with replicated(*plan.classifiers, batch_size=plan.batch_size):
        seeds = in_hand(clean_seeds(plan, files))
        results = raw_attack(plan, seeds, warn) if seeds else []
    pairs = [
        (seed, result)
        for seed, result in zip(seeds, results, strict=True)
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
    look = lambda classifier, batch: classifier(stack(batch)).argmax(1).tolist()  # noqa: E731
    parts = [*batches(images, plan.batch_size)]
    block = replicated(plan.classifier, batch_size=plan.batch_size)
    with torch.no_grad(), block, on_replicas(plan.classifier, look, parts) as results:
        return [prediction for part in results for prediction in part]


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
    names = [each.seed.seed_id for each in examples if each.is_fooled][:n_pictures]
    pictures: dict[str, _Pictures] = {name: {} for name in names}
    count = 0
    for batch in batches(examples, plan.batch_size):
        home = _Home(plan, batch, evaluation)
        home.show(pictures, "clean", home.clean)
        home.show(pictures, "attacked", home.bare.attacked)
        images.append(home.bare.predictions)
        for defence in evaluation.defences:
            behind = home.behind(defence)
            home.show(pictures, defence.spec, behind.attacked)
            images.append(behind.predictions)
            maps.append(home.maps(defence, behind))
        count += len(batch)
        advance(count)
    return DefendedChunk(pl.concat(images), pl.concat(maps), pictures)


@dataclass(frozen=True)
class _Behind:
    """What the network says of a batch behind a defence, or without one.

    Attributes:
        predictions: Rows of table `defended_images`: clean, at every strength of the attack, and with noise.
        deviations: By stage how far the maps of the fooled seeds lie from the clean ones, (seeds, layers).
        attacked: Their attacked images at the strength at which maps are compared, purified.
    """

    predictions: pl.DataFrame
    deviations: Mapping[str, Floats]
    attacked: Images


@dataclass(frozen=True)
class _Reading:
    """What the network says of images of one stage.

    Attributes:
        classes: Their predictions.
        seconds: Seconds of the purifier for each.
        purified: Those whose maps are compared, purified.
        maps: Maps of these by layer; None where there are none.
    """

    classes: Sequence[int]
    seconds: float
    purified: Images
    maps: Mapping[str, Tensor] | None


class _Home:
    """A batch of examples, and where their clean maps lie.

    The same images go through the same passes with a defence and without, so that one which changes nothing changes no
    bit. An image is purified once, and predicted by the pass that explains it if one does.

    Attributes:
        clean: Clean images of the examples that the attack fools: their maps are compared.
        bare: What the network says without a defence.
    """

    def __init__(self, plan: Plan, batch: Sequence[Example], evaluation: Evaluation) -> None:
        self._plan, self._batch, self._evaluation = plan, batch, evaluation
        self._reference = reference_strength(plan)
        self._fooled = [place for place, each in enumerate(batch) if each.is_fooled]
        self._clean_maps: Mapping[str, Tensor] | None = None
        self.clean = stack(each.seed.pixels for each in batch)[self._fooled]
        self.bare = self.behind(None)

    def behind(self, defence: Defence | None) -> _Behind:
        """What the network says of the batch behind a defence; of the images as they are without one."""
        stages = [(CLEAN_STAGE, 0.0), *((STATIC_STAGE, strength) for strength in self._plan.settings.strengths)]
        rows, deviations, attacked = [], dict[str, Floats](), self.clean
        for stage, strength in [*stages, (NOISE_STAGE, self._reference)]:
            images = stack(each.image(stage, strength) for each in self._batch)
            is_compared = stage != STATIC_STAGE or strength == self._reference
            reading = self._read(defence, images, stage, self._fooled if is_compared else [])
            rows.append(
                image_rows(
                    self._batch,
                    images,
                    reading.classes,
                    defence=UNDEFENDED if defence is None else defence.spec,
                    stage=stage,
                    attack=self._plan.attack.spec if stage == STATIC_STAGE else None,
                    strength=strength,
                    seconds=reading.seconds,
                )
            )
            if reading.maps is not None:
                deviations[stage] = self._deviations(reading.maps)
                attacked = reading.purified if stage == STATIC_STAGE else attacked
        return _Behind(pl.concat(rows), deviations, attacked)

    def _read(self, defence: Defence | None, images: Images, stage: str, places: Sequence[int]) -> _Reading:
        """Predictions of the images of a stage, and the maps of those at some places."""
        if defence is None or not defence.is_random:
            before = perf_counter()
            purified = self._purified(defence, images, stage, range(len(images)))
            seconds = (perf_counter() - before) / len(images) if defence else 0.0
            classes, maps = self._passes(purified, places)
            return _Reading(classes, seconds, purified[places], maps)
        timed, draws, rng_seed = _Timed(defence.function), self._evaluation.draws, self._evaluation.rng_seed
        network, in_time = self._plan.classifier, replace(defence, function=timed)
        classes = majority_classes(network, in_time, images, draws=draws, rng_seed=rng_seed)
        purified = self._purified(defence, images[places], stage, places)
        maps = self._explained(purified, places).maps[0] if places else None
        return _Reading(classes, timed.seconds / len(images), purified, maps)

    def _purified(self, defence: Defence | None, images: Images, stage: str, places: Sequence[int]) -> Images:
        if defence is None:
            return images
        keys = [f"{self._batch[place].seed.seed_id} {stage}" for place in places]
        with torch.no_grad():
            return defence.purify(images, keys, rng_seed=self._evaluation.rng_seed)

    def _passes(self, images: Images, places: Sequence[int]) -> tuple[list[int], Mapping[str, Tensor] | None]:
        """Predictions of a batch, and the maps of the images at some places, from one forward pass of each image."""
        classes, others = dict[int, int](), [place for place in range(len(images)) if place not in places]
        if others:
            with torch.no_grad():
                classes |= zip(others, self._plan.classifier(images[others]).argmax(1).tolist(), strict=True)
        if not places:
            return [*classes.values()], None
        explanation = self._explained(images[places], places)
        classes |= zip(places, explanation.logits.argmax(1).tolist(), strict=True)
        return [classes[place] for place in range(len(images))], explanation.maps[0]

    def _explained(self, images: Images, places: Sequence[int]) -> Explanation:
        """The explanation of some images for the classes of their seeds."""
        classes = torch.tensor([self._batch[place].seed.clean_class for place in places], device=images.device)
        plan = self._plan
        return explain_batch(plan.classifier, images, [classes], layers=plan.layers, explainers=plan.explainers[:1])

    def _deviations(self, maps: Mapping[str, Tensor]) -> Floats:
        """How far maps lie from the clean ones: 1 - similarity, (seeds, layers); NaN where undefined."""
        if self._clean_maps is None:
            self._clean_maps = maps  # the first that there are: of clean images without a defence
        comparison = compare_layers(self._clean_maps, maps, self._plan.size, metric=self._plan.measures[0].metric)
        return 1 - comparison.similarity.T

    def maps(self, defence: Defence, behind: _Behind) -> pl.DataFrame:
        """Rows of table `purified_maps`, of the seeds that the attack fools."""
        if not self._fooled:
            return PURIFIED_MAPS.frame()
        values = {column: self.bare.deviations[stage] for stage, column in _AS_THEY_ARE.items()}
        values |= {column: behind.deviations[stage] for stage, column in _PURIFIED.items()}
        static = behind.predictions.filter(pl.col("stage") == STATIC_STAGE, pl.col("strength") == self._reference)
        is_home = dict(static.select("seed_id", "is_correct").iter_rows())
        names = [self._batch[place].seed.seed_id for place in self._fooled]
        columns: dict[str, list[Any]] = {
            "defence": [defence.spec] * len(names),
            "strength": [self._reference] * len(names),
            "seed_id": names,
            "returned": [is_home[name] for name in names],
        }
        return PURIFIED_MAPS.frame(crossed(columns, self._plan.layer_columns, values))

    def show(self, pictures: Mapping[str, _Pictures], key: str, images: Images) -> None:
        """Add images of the fooled seeds to the pictures of those that have some."""
        for place, image in zip(self._fooled, images, strict=True):
            if (name := self._batch[place].seed.seed_id) in pictures:
                pictures[name][key] = _bytes_of(image)


class _Timed:
    """What a purifier does to images, and the seconds that it has taken."""

    def __init__(self, function: Purify) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, images: Images, generator: Generator | None) -> Any:
        before = perf_counter()
        answer = self._function(images, generator)
        self.seconds += perf_counter() - before
        return answer


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
