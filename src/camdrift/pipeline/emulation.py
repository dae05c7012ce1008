"""The images of a reproduction: what the released code makes of every seed, and the controls beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.coverage.neurons import NeuronObserver
from camdrift.explanations.attribution import explain
from camdrift.explanations.similarity import compare_layers
from camdrift.models.memory import batches
from camdrift.paper.defects import accumulated_strengths, jet_direction, truncated
from camdrift.pipeline.noise import channel_noise, matched_noise, spectrum_noise
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import Seed, known, stack
from camdrift.tables.reproduction import EMULATION
from camdrift.tables.words import ADVERSARIAL, CHANNEL_NOISE, NOISE, SPECTRUM_NOISE, UNPERTURBED
from camdrift.tensors import PIXELS, Image, Maps

EMULATED_TARGETS: Final = ("own", "seed")
Score = Literal["logit", "probability"]
SCORES: Final[tuple[Score, ...]] = ("logit", "probability")
COSINE: Final = "cosine"
JET: Final = "jet"

_MapsByLayer = Mapping[str, Maps]
# Similarity per layer, by (target, score of the clean image, metric).
_Readings = dict[tuple[str, str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Mixture:
    """How one image is made: seed + perturbation * P + strength * R, clipped, perhaps stored in 8 bits.

    Attributes:
        condition: adversarial, noise or a control.
        strength: Nominal strength.
        attack_factor: Factor on the base perturbation P.
        noise_factor: Factor on the noise R.
        draw: Noise draw.
        is_accumulated: Is it made as the released loop does, where that makes a difference?
        is_truncated: Is it stored in 8 bits by cutting off?
    """

    condition: str
    strength: float
    attack_factor: float
    noise_factor: float
    draw: int = 0
    is_accumulated: bool = False
    is_truncated: bool = False

    @property
    def image_key(self) -> tuple[Any, ...]:
        """Recipes of the same key make the same image."""
        noise = (self.condition, self.draw) if self.noise_factor else None
        return (self.attack_factor, self.noise_factor, noise, self.is_truncated)

    @property
    def is_control(self) -> bool:
        """Is it one that the released code has nothing to do with?"""
        return self.draw > 0 or self.condition not in (ADVERSARIAL, NOISE)


def mixtures(strengths: Sequence[float], noise_strengths: Sequence[float]) -> list[Mixture]:
    """Every image that a reproduction makes of one seed.

    The released loop knows the study's strengths only: noise further up the ladder, which the gain needs, lies
    around the seed in both readings.
    """
    effective = accumulated_strengths(strengths)
    found = []
    for is_truncated in (False, True):
        found += [Mixture(ADVERSARIAL, s, s, 0.0, is_truncated=is_truncated) for s in strengths]
        found += [Mixture(NOISE, s, 0.0, s, is_truncated=is_truncated) for s in noise_strengths]
        released = {"is_accumulated": True, "is_truncated": is_truncated}
        found += [Mixture(ADVERSARIAL, s, effective[s].adversarial, 0.0, **released) for s in strengths]
        bases = {s: effective[s].noise_base if s in effective else 0.0 for s in noise_strengths}
        found += [Mixture(NOISE, s, bases[s], s, **released) for s in noise_strengths]
    for s in noise_strengths:
        found += [Mixture(NOISE, s, 0.0, s, draw=1), *(Mixture(c, s, 0.0, s) for c in (SPECTRUM_NOISE, CHANNEL_NOISE))]
    return [*found, Mixture(UNPERTURBED, 0.0, 0.0, 0.0)]


@dataclass(frozen=True)
class Emulation:
    """The examination that fills table `emulation`."""

    table: str = EMULATION.name

    def __call__(self, plan: Plan, seeds: Sequence[Seed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of some analysed seeds."""
        parts = [EMULATION.frame()]
        wanted = mixtures(plan.settings.strengths, plan.settings.noise_strengths)
        for number, seed in enumerate(seeds):
            advance(number)
            parts.append(_rows(plan, seed, wanted))
        return pl.concat(parts)


def make_image(seed: Image, perturbation: Image, noise: Image | None, recipe: Mixture) -> Image:
    """The image of a recipe, in pixel space.

    Args:
        seed: Seed image in pixel space.
        perturbation: Base perturbation P, pixel units.
        noise: The recipe's noise R, pixel units; None if it has none.
        recipe: What to mix.
    """
    image = seed + recipe.attack_factor * perturbation
    if noise is not None:
        image = image + recipe.noise_factor * noise
    if not recipe.is_truncated:
        return image.clamp(PIXELS.lower, PIXELS.upper)
    stored = truncated(image.double().cpu().numpy())
    return torch.as_tensor(stored, device=seed.device).to(seed.dtype) / 255


@dataclass(frozen=True)
class _Seen:
    """What one image gave: its columns of the table, and its similarities."""

    columns: dict[str, Any]
    similarity: _Readings


def _rows(plan: Plan, seed: Seed, wanted: Sequence[Mixture]) -> pl.DataFrame:
    """All rows of one seed; recipes of the same image share its pass."""
    distinct = {recipe.image_key: recipe for recipe in wanted}
    # An image that any recipe wants in the released reading is compared in all readings.
    full = {recipe.image_key for recipe in wanted if not recipe.is_control}
    clean = _Clean(plan, seed)
    seen: dict[tuple[Any, ...], _Seen] = {}
    for batch in batches(list(distinct), plan.batch_size):
        images = [_image(plan, seed, distinct[key]) for key in batch]
        seen |= dict(zip(batch, clean.compare(images, [key in full for key in batch]), strict=True))
    return pl.concat([_recipe_rows(plan, seed, recipe, seen[recipe.image_key]) for recipe in wanted])


def _image(plan: Plan, seed: Seed, recipe: Mixture) -> Image:
    noise = _noise(plan, seed, recipe) if recipe.noise_factor else None
    return make_image(known(seed.pixels), known(seed.perturbation), noise, recipe)


def _noise(plan: Plan, seed: Seed, recipe: Mixture) -> Image:
    delta, rng_seed, seed_id = known(seed.perturbation), plan.settings.rng_seed, seed.file.seed_id
    if recipe.condition == SPECTRUM_NOISE:
        return spectrum_noise(delta, rng_seed=rng_seed, seed_id=seed_id)
    if recipe.condition == CHANNEL_NOISE:
        return channel_noise(delta, rng_seed=rng_seed, seed_id=seed_id)
    return matched_noise(delta, rng_seed=rng_seed, seed_id=seed_id, draw=recipe.draw)


class _Clean:
    """One seed's clean maps in every reading, to hold its images against."""

    def __init__(self, plan: Plan, seed: Seed) -> None:
        self.plan, self.seed = plan, seed
        image = known(seed.pixels)[None]
        self.maps = {s: explain(plan.classifier, image, [None], layers=plan.layers, scores=s).maps[0] for s in SCORES}
        self.pictures = {s: self._pictures(maps, 0) for s, maps in self.maps.items()}

    def compare(self, images: Sequence[Image], full: Sequence[bool]) -> Iterator[_Seen]:
        """What each image gives, explained for its own class and for the seed's.

        Args:
            images: Images of the seed.
            full: For each, is it wanted in every reading, or as the equations say only?
        """
        batch = stack(images)
        observer = NeuronObserver(self.plan.classifier)
        clean_class = torch.full((len(images),), self.seed.clean_class, device=batch.device)
        seen = explain(self.plan.classifier, batch, [None, clean_class], layers=self.plan.layers, observer=observer)
        covered = observer.record(seen.logits).covered().cpu().numpy()
        cosines = {
            (t, s): self._cosines(maps, s) for t, maps in zip(EMULATED_TARGETS, seen.maps, strict=True) for s in SCORES
        }
        for row, found in enumerate(seen.logits.argmax(1).tolist()):
            is_flipped = found != self.seed.clean_class
            difference = (images[row] - known(self.seed.pixels)).double()
            columns = {
                "is_flipped": is_flipped,
                "realised_l2": float(torch.linalg.vector_norm(difference)),
                "n_gained": int((covered[row] & ~known(self.seed.covered)).sum()),
            }
            scores = SCORES if full[row] else SCORES[:1]
            readings: _Readings = {(t, s, COSINE): cosines[t, s][:, row] for t in EMULATED_TARGETS for s in scores}
            if full[row]:
                readings |= self._jets(seen.maps, row, is_flipped=is_flipped)
            yield _Seen(columns, readings)

    def _cosines(self, maps: _MapsByLayer, score: Score) -> NDArray[np.float64]:
        """Cosines of the clean maps and a batch's, (layers, batch)."""
        layers = self.plan.layers
        batch = len(maps[layers[0]])
        clean = {name: self.maps[score][name].expand(batch, -1, -1) for name in layers}
        return compare_layers(clean, {name: maps[name] for name in layers}, self.plan.size).similarity

    def _jets(self, maps: Sequence[_MapsByLayer], row: int, *, is_flipped: bool) -> _Readings:
        """Similarities of the pictures of one image of a batch; both targets agree unless its class has changed."""
        own = self._pictures(maps[0], row)
        pictures = dict(zip(EMULATED_TARGETS, (own, self._pictures(maps[1], row) if is_flipped else own), strict=True))
        return {
            (target, score, JET): np.array([float(a @ b) for a, b in zip(clean, mine, strict=True)])
            for target, mine in pictures.items()
            for score, clean in self.pictures.items()
        }

    def _pictures(self, maps: _MapsByLayer, row: int) -> list[NDArray[np.float32]]:
        """Pictures of one image's maps as unit vectors, in the order of the layers."""
        rows = (maps[name][row].double().cpu().numpy() for name in self.plan.layers)
        return [jet_direction(attribution, self.plan.size) for attribution in rows]


def _recipe_rows(plan: Plan, seed: Seed, recipe: Mixture, seen: _Seen) -> pl.DataFrame:
    """The rows of one recipe: every reading of its image."""
    infos = {info.name: info for info in plan.classifier.layer_infos}
    keys, layers = list(seen.similarity), len(plan.layers)
    values = np.concatenate([seen.similarity[key] for key in keys])
    target, score, metric = ([key[i] for key in keys for _ in range(layers)] for i in range(3))
    columns: dict[str, Any] = {
        "seed_id": seed.file.seed_id,
        "condition": recipe.condition,
        "strength": recipe.strength,
        "draw": recipe.draw,
        "is_accumulated": recipe.is_accumulated,
        "is_truncated": recipe.is_truncated,
        **seen.columns,
    }
    return EMULATION.frame(
        {name: [value] * len(values) for name, value in columns.items()}
        | {
            "target": target,
            "clean_score": score,
            "metric": metric,
            "layer": list(plan.layers) * len(keys),
            "layer_label": [infos[name].label for name in plan.layers] * len(keys),
            "layer_index": list(range(layers)) * len(keys),
            "similarity": pl.Series(values, nan_to_null=True),
        }
    )
