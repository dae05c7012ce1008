"""Natural changes of every seed beside the attack: the same strengths, noise of their statistics, the same maps.

A natural change is an attack by contract: a seed goes in, an image of the same shape comes out. Its difference to the
seed takes the place of the base perturbation, and all that follows is what a study does with an attack (method
section 3), on the same seeds. It need not change a prediction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.explanations.attribution import explain_batch
from camdrift.masking import public
from camdrift.models.memory import batches
from camdrift.perturbations.base import Perturbation
from camdrift.perturbations.making import make_perturbation
from camdrift.pipeline.clean_maps import target_classes
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.gallery import display_heatmaps
from camdrift.pipeline.maps import as_maps, explain_all
from camdrift.pipeline.noise import matched_draws
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, stack
from camdrift.pipeline.settings import Settings
from camdrift.tables.perturbations import NATURAL, PERTURBED
from camdrift.tables.words import ADVERSARIAL, TARGET_ORDER
from camdrift.tensors import Images, perturbed

# The columns by which what the network says of an image meets its maps.
_IMAGE: Final = ("seed_id", "condition", "strength", "draw")


@dataclass(frozen=True)
class NaturalChanges:
    """The extra table `perturbed`.

    Attributes:
        specs: The natural changes, each complete and once.
    """

    specs: tuple[str, ...]
    table: str = PERTURBED.name

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds."""
        parts, own = [PERTURBED.frame()], _plan_of_changes(plan)
        for number, spec in enumerate(self.specs):
            show = partial(_advance, advance, number * len(seeds), len(self.specs))
            parts.append(_rows(own, _changed(own, make_perturbation(spec), seeds), spec, show))
        return pl.concat(parts)

    def pictures(self, plan: Plan, seeds: Sequence[NoisySeed]) -> list[dict[str, NDArray[np.uint8]]]:
        """For each seed its pictures after every change, and their heatmaps, by the keys of the gallery.

        Args:
            plan: The plan of the study.
            seeds: Seeds of the gallery.
        """
        arrays: list[dict[str, NDArray[np.uint8]]] = [{} for _ in seeds]
        own = _plan_of_changes(plan)
        strength = min(plan.settings.strengths, key=lambda value: abs(value - 1))
        for number, spec in enumerate(self.specs):
            places = range(len(seeds))
            for part in batches(places, plan.batch_size):
                batch = _changed(own, make_perturbation(spec), [seeds[place] for place in part])
                images = stack(perturbed(seed.pixels, seed.perturbation, strength) for seed in batch)
                for place, its in zip(part, _pictures(own, batch, images), strict=True):
                    arrays[place] |= {f"change/{number}{key}": array for key, array in its.items()}
        return arrays


def natural_changes(specs: Sequence[str], size: int) -> NaturalChanges:
    """The natural changes that specs name, each tried on a picture.

    Args:
        specs: The specs; two that mean the same are one.
        size: Height and width of the pictures.

    Raises:
        UserError: A change cannot be made, fails, or changes nothing.
    """
    perturbations = {each.spec: each for each in map(make_perturbation, specs)}
    for perturbation in perturbations.values():
        perturbation.check(size)
    return NaturalChanges(tuple(perturbations))


def change_passes(settings: Settings) -> int:
    """Return the number of images that go through the network for one seed, for all natural changes."""
    own = _settings_of_changes(settings)
    return len(settings.perturb) * (1 + len(own.strengths) + len(own.noise_strengths))


def changes_of(plan: Plan) -> tuple[str, ...]:
    """The natural changes of a study, complete; none for a study without."""
    tables = [table for table in plan.design.extra_tables if isinstance(table, NaturalChanges)]
    return tables[0].specs if tables else ()


def _settings_of_changes(settings: Settings) -> Settings:
    """The settings with the headline's target alone, one draw of the noise, and a longer ladder."""
    target = next(target for target in TARGET_ORDER if target in settings.targets)
    # Noise also at the reciprocals of the ladder: most natural changes move a map less far than noise of their size.
    ladder = (*settings.noise_ladder, *(1 / strength for strength in settings.noise_ladder))
    return replace(settings, targets=(target,), noise_draws=1, noise_ladder=ladder)


def _plan_of_changes(plan: Plan) -> Plan:
    """The plan with the settings of natural changes and the first measure alone."""
    design = replace(plan.design, settings=_settings_of_changes(plan.settings))
    first = plan.measures[0]
    explainers = tuple(explainer for explainer in plan.explainers if explainer.spec == first.explanation)
    return replace(plan, design=design, explainers=explainers, measures=(first,), clock=Clock())


def _changed(plan: Plan, perturbation: Perturbation, seeds: Sequence[NoisySeed]) -> list[NoisySeed]:
    """The seeds with a natural change in place of the attack's perturbation, and with its noise."""
    rng_seed = plan.settings.rng_seed
    changes = [perturbation.of_image(seed.pixels, rng_seed=rng_seed, seed_id=seed.seed_id) for seed in seeds]
    noise = matched_draws(changes, [(seed.seed_id, 0) for seed in seeds], rng_seed=rng_seed)
    return [
        replace(seed, perturbation=change, noise=(draw,))
        for seed, change, draw in zip(seeds, changes, noise, strict=True)
    ]


def _advance(advance: Callable[[int], None], before: int, total: int, count: int) -> None:
    """Tell how many seeds are done, each of which counts in parts."""
    advance((before + count) // total)


def _rows(plan: Plan, seeds: Sequence[NoisySeed], spec: str, advance: Callable[[int], None]) -> pl.DataFrame:
    """The rows of one natural change; without seeds for which the network returns NaN or infinity."""
    chunk = explain_all(plan, seeds, {}, advance)
    if chunk.outcomes is None:
        return PERTURBED.frame()
    failures = chunk.failures()
    names = [seed.seed_id for seed in seeds if seed.seed_id not in failures]
    answers = chunk.outcomes.variant_table(names)
    rows = chunk.similarity.join(answers, on=_IMAGE, how="inner", maintain_order="left")
    is_change = pl.col("condition") == ADVERSARIAL
    condition = pl.when(is_change).then(pl.lit(NATURAL)).otherwise("condition")
    words = {"condition": condition, "perturbation": pl.lit(public(spec))}
    return PERTURBED.frame(rows.drop("draw").with_columns(**words).to_dict())


def _pictures(plan: Plan, seeds: Sequence[NoisySeed], images: Images) -> list[dict[str, Any]]:
    """Every image as bytes, and its heatmaps, by the ends of the gallery's keys."""
    explanation = explain_batch(
        plan.classifier, images, target_classes(plan, seeds), layers=plan.layers, explainers=plan.explainers
    )
    maps = as_maps(explanation.maps[0])
    heatmaps = [display_heatmaps(maps[name]).cpu().numpy() for name in plan.layers]
    pictures = (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [
        {"": np.ascontiguousarray(picture)} | {f"/map/{index}": layer[place] for index, layer in enumerate(heatmaps)}
        for place, picture in enumerate(pictures)
    ]
