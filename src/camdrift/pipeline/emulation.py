"""The images of a reproduction: those that the released code makes of every seed, and the controls beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.coverage.neurons import NeuronObserver
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import compare_layers
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas
from camdrift.paper.defects import accumulated_strengths, jet_direction, truncated
from camdrift.pipeline.noise import channel_noise, matched_noise, spectrum_noise
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, stack
from camdrift.tables.crossed import crossed
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
    """The mixture of one image: seed + attack_factor * P + noise_factor * R, clipped, perhaps stored in 8 bits.

    Attributes:
        condition: adversarial, noise or a control.
        strength: Nominal strength.
        attack_factor: Factor on the base perturbation P.
        noise_factor: Factor on the noise R.
        draw: Noise draw.
        is_accumulated: Does it follow the released loop, where that makes a difference?
        is_truncated: Is the image stored in 8 bits by cutting off?
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
        """Mixtures of the same key make the same image."""
        noise = (self.condition, self.draw) if self.noise_factor else None
        return (self.attack_factor, self.noise_factor, noise, self.is_truncated)

    @property
    def is_control(self) -> bool:
        """Is the released code without such an image?"""
        return self.draw > 0 or self.condition not in (ADVERSARIAL, NOISE)


def mixtures(strengths: Sequence[float], noise_strengths: Sequence[float]) -> list[Mixture]:
    """Every mixture of a reproduction, for one seed.

    The released loop knows the study's strengths only: noise further up the ladder, which the gain needs, lies
    around the seed in both readings.
    """
    effective = accumulated_strengths(strengths)
    result = []
    for is_truncated in (False, True):
        result += [Mixture(ADVERSARIAL, s, s, 0.0, is_truncated=is_truncated) for s in strengths]
        result += [Mixture(NOISE, s, 0.0, s, is_truncated=is_truncated) for s in noise_strengths]
        as_released = {"is_accumulated": True, "is_truncated": is_truncated}
        result += [Mixture(ADVERSARIAL, s, effective[s].adversarial, 0.0, **as_released) for s in strengths]
        bases = {s: effective[s].noise_base if s in effective else 0.0 for s in noise_strengths}
        result += [Mixture(NOISE, s, bases[s], s, **as_released) for s in noise_strengths]
    for s in noise_strengths:
        result += [Mixture(NOISE, s, 0.0, s, draw=1), *(Mixture(c, s, 0.0, s) for c in (SPECTRUM_NOISE, CHANNEL_NOISE))]
    return [*result, Mixture(UNPERTURBED, 0.0, 0.0, 0.0)]


@dataclass(frozen=True)
class Emulation:
    """The extra table `emulation`."""

    table: str = EMULATION.name

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds."""
        parts = [EMULATION.frame()]
        seed_mixtures = mixtures(plan.settings.strengths, plan.settings.noise_strengths)
        rows = lambda classifier, seed: _rows(replace(plan, classifier=classifier), seed, seed_mixtures)  # noqa: E731
        with on_replicas(plan.classifier, rows, seeds) as results:
            for number, part in enumerate(results):
                advance(number)
                parts.append(part)
        return pl.concat(parts)


def make_image(seed: Image, perturbation: Image, noise: Image | None, mixture: Mixture) -> Image:
    """The image of a mixture, in pixel space.

    Args:
        seed: Seed image in pixel space.
        perturbation: Base perturbation P, pixel units.
        noise: The mixture's noise R, pixel units; None if it has none.
        mixture: The factors.
    """
    image = seed + mixture.attack_factor * perturbation
    if noise is not None:
        image = image + mixture.noise_factor * noise
    if not mixture.is_truncated:
        return image.clamp(PIXELS.lower, PIXELS.upper)
    grey_levels = truncated(image.double().cpu().numpy())
    return torch.as_tensor(grey_levels, device=seed.device).to(seed.dtype) / 255


@dataclass(frozen=True)
class _Outcome:
    """The results of one image: its columns of the table, and its similarities."""

    columns: dict[str, Any]
    similarity: _Readings


def _rows(plan: Plan, seed: NoisySeed, seed_mixtures: Sequence[Mixture]) -> pl.DataFrame:
    """All rows of one seed; mixtures of the same image share its pass."""
    distinct = {mixture.image_key: mixture for mixture in seed_mixtures}
    # An image of the released code is compared in all readings, a control in that of the equations.
    full = {mixture.image_key for mixture in seed_mixtures if not mixture.is_control}
    clean = _Clean(plan, seed)
    outcomes: dict[tuple[Any, ...], _Outcome] = {}
    for batch in batches(list(distinct), plan.batch_size):
        images = [_image(plan, seed, distinct[key]) for key in batch]
        outcomes |= dict(zip(batch, clean.compare(images, [key in full for key in batch]), strict=True))
    return _seed_rows(plan, seed, seed_mixtures, outcomes)


def _image(plan: Plan, seed: NoisySeed, mixture: Mixture) -> Image:
    noise = _noise(plan, seed, mixture) if mixture.noise_factor else None
    return make_image(seed.pixels, seed.perturbation, noise, mixture)


def _noise(plan: Plan, seed: NoisySeed, mixture: Mixture) -> Image:
    delta, rng_seed = seed.perturbation, plan.settings.rng_seed
    if mixture.condition == SPECTRUM_NOISE:
        return spectrum_noise(delta, rng_seed=rng_seed, seed_id=seed.seed_id)
    if mixture.condition == CHANNEL_NOISE:
        return channel_noise(delta, rng_seed=rng_seed, seed_id=seed.seed_id)
    return matched_noise(delta, rng_seed=rng_seed, seed_id=seed.seed_id, draw=mixture.draw)


class _Clean:
    """One seed's clean maps in every reading, to compare its images with."""

    def __init__(self, plan: Plan, seed: NoisySeed) -> None:
        self.plan, self.seed = plan, seed
        image = seed.pixels[None]
        self.maps = {
            s: explain_batch(plan.classifier, image, [None], layers=plan.layers, scores=s).maps[0] for s in SCORES
        }
        self.pictures = {s: self._pictures(maps, 0) for s, maps in self.maps.items()}

    def compare(self, images: Sequence[Image], full: Sequence[bool]) -> Iterator[_Outcome]:
        """Yield the results of each image, explained for its own class and for the seed's.

        Args:
            images: Images of the seed.
            full: For each, is it compared in every reading, or as the equations say only?
        """
        batch = stack(images)
        observer = NeuronObserver(self.plan.classifier)
        clean_class = torch.full((len(images),), self.seed.clean_class, device=batch.device)
        targets = [None, clean_class]
        explanation = explain_batch(self.plan.classifier, batch, targets, layers=self.plan.layers, observer=observer)
        is_covered = observer.record(explanation.logits).covered().cpu().numpy()
        pairs = zip(EMULATED_TARGETS, explanation.maps, strict=True)
        cosines = {(t, s): self._cosines(maps, s) for t, maps in pairs for s in SCORES}
        for row, prediction in enumerate(explanation.logits.argmax(1).tolist()):
            is_flipped = prediction != self.seed.clean_class
            difference = (images[row] - self.seed.pixels).double()
            columns = {
                "is_flipped": is_flipped,
                "realised_l2": float(torch.linalg.vector_norm(difference)),
                "n_gained": int((is_covered[row] & ~self.seed.covered).sum()),
            }
            scores = SCORES if full[row] else SCORES[:1]
            readings: _Readings = {(t, s, COSINE): cosines[t, s][:, row] for t in EMULATED_TARGETS for s in scores}
            if full[row]:
                readings |= self._jets(explanation.maps, row, is_flipped=is_flipped)
            yield _Outcome(columns, readings)

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


def _mixture_columns(mixture: Mixture) -> dict[str, Any]:
    """The columns of the table that describe a mixture."""
    return {
        "condition": mixture.condition,
        "strength": mixture.strength,
        "draw": mixture.draw,
        "is_accumulated": mixture.is_accumulated,
        "is_truncated": mixture.is_truncated,
    }


def _seed_rows(
    plan: Plan, seed: NoisySeed, seed_mixtures: Sequence[Mixture], outcomes: Mapping[Any, _Outcome]
) -> pl.DataFrame:
    """The rows of all mixtures of a seed: every reading of each image."""
    keys, similarity = [], []
    for mixture in seed_mixtures:
        outcome = outcomes[mixture.image_key]
        common = {**_mixture_columns(mixture), **outcome.columns}
        for (target, score, metric), values in outcome.similarity.items():
            keys.append({"target": target, "clean_score": score, "metric": metric, **common})
            similarity.append(values)
    columns = {name: [row[name] for row in keys] for name in keys[0]}
    values_by_name = {"similarity": np.stack(similarity)}
    return EMULATION.frame(crossed(columns, plan.layer_columns, values_by_name, seed_id=seed.seed_id))
