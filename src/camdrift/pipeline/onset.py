"""The layer at which a perturbation takes hold in one image: from there on maps lie beyond those of matched noise."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import similarity
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.noise import matched_draws
from camdrift.tables.arrays import Floats
from camdrift.tensors import Image, Images, perturbed

# One of twenty draws of noise lies beyond the other nineteen.
DRAWS: Final = 19
WITHIN_NOISE, UNDEFINED = "within noise", "undefined"


@dataclass(frozen=True)
class Onset:
    """The layer at which a perturbation takes hold.

    Attributes:
        index: Place of the layer among those that are studied; None for none.
        reason: Why there is none; None where there is one.
    """

    index: int | None
    reason: str | None


def onset(
    classifier: Classifier, seed: Image, image: Image, seed_class: int, *, key: str, rng_seed: int, batch_size: int
) -> Onset:
    """The first layer whose map moves further than under every draw of matched noise, as do all layers behind it.

    The class that is explained is the seed's. Noise has the mean and standard deviation of this very perturbation.

    Args:
        classifier: The model.
        seed: Seed image in pixel space.
        image: The image that fails.
        seed_class: Class whose maps are compared.
        key: Name of the pair, for the noise.
        rng_seed: Seed of the study.
        batch_size: Images per pass.
    """
    perturbation = image - seed
    draws = matched_draws([perturbation] * DRAWS, [(key, draw) for draw in range(DRAWS)], rng_seed=rng_seed)
    variants = torch.stack([image, *(perturbed(seed, noise) for noise in draws)])
    values = onset_deviations(classifier, seed, variants, seed_class, batch_size=batch_size)
    return onset_of(values[:, 0], values[:, 1:])


def onset_deviations(
    classifier: Classifier, seed: Image, variants: Images, seed_class: int, *, batch_size: int
) -> Floats:
    """How far the map of each layer moves: 1 - similarity, (layers, variants); NaN where undefined.

    Args:
        classifier: The model.
        seed: Seed image in pixel space.
        variants: Its variants.
        seed_class: Class whose maps are compared.
        batch_size: Images per pass.
    """
    maps: dict[str, list[torch.Tensor]] = {}
    images = torch.cat([seed[None], variants])
    for batch in batches(range(len(images)), batch_size):
        part = images[batch[0] : batch[-1] + 1]
        classes = torch.full((len(part),), seed_class, device=part.device)
        for layer, each in explain_batch(classifier, part, [classes]).maps[0].items():
            maps.setdefault(layer, []).append(each)
    side = (classifier.size, classifier.size)
    rows = []
    for parts in maps.values():
        whole = torch.cat(parts)
        rows.append(1 - similarity(whole[:1].expand(len(variants), -1, -1), whole[1:], side).cpu().numpy())
    return np.stack(rows)


def onset_of(deviation: Floats, noise: Floats) -> Onset:
    """The first layer that leaves the range of noise and, with all defined layers behind it, stays out.

    Args:
        deviation: Of the perturbation, by layer; NaN where undefined.
        noise: Of the draws of noise, (layers, draws).

    Example:
        >>> onset_of(np.array([0.1, 0.5, 0.6]), np.array([[0.2], [0.2], [0.2]])).index
        1
    """
    is_defined = ~np.isnan(deviation) & ~np.isnan(noise).any(1)
    if not is_defined.any():
        return Onset(None, UNDEFINED)
    places = np.flatnonzero(is_defined)
    is_beyond = deviation[places] > noise[places].max(1)
    inside = np.flatnonzero(~is_beyond)
    first = 0 if not len(inside) else int(inside[-1]) + 1
    return Onset(int(places[first]), None) if first < len(places) else Onset(None, WITHIN_NOISE)
