"""Every image of a study held against a denoised copy of itself: what can be read without the clean image.

NoiseCAM (arXiv 2303.06151) asks whether the layers tell adversarial from noisy images. Similarities to the seed's maps
answer with the clean image at hand, which whoever has to judge an image does not have; these do without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from camdrift.explanations.attribution import explain
from camdrift.explanations.similarity import LayerSimilarities, compare_layers
from camdrift.models.memory import batches
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import Seed, known, stack
from camdrift.pipeline.settings import Settings
from camdrift.pipeline.variants import Variant
from camdrift.tables.detection import DENOISED
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, ZERO_MAP_DENOISED, ZERO_MAP_IMAGE
from camdrift.tensors import Image, Images, perturbed

WINDOW: Final = 3


@dataclass(frozen=True)
class Denoised:
    """The examination that fills table `denoised`.

    Map of an image against the map of its median-filtered copy, both explained for the class that the model predicts
    for the image itself. Neither the clean image nor its class takes part; a clean image is a row like any other.
    """

    table: str = DENOISED.name

    def __call__(self, plan: Plan, seeds: Sequence[Seed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of some analysed seeds."""
        kinds = _kinds(plan.settings)
        images = [Variant(position, *kind) for position in range(len(seeds)) for kind in kinds]
        parts = [DENOISED.frame()]
        for number, batch in enumerate(batches(images, plan.batch_size)):
            advance(number * plan.batch_size // len(kinds))
            parts.append(_rows(plan, seeds, batch))
        return pl.concat(parts)


def median_filtered(images: Images) -> Images:
    """Each channel of each image with every pixel replaced by the median of the 3 x 3 pixels around it.

    At the borders the image is mirrored, its outermost pixels repeated (scipy's mode `reflect`).

    Args:
        images: Batch in pixel space.

    Returns:
        A batch of the same shape, on the same device, in pixel space.
    """
    filtered = median_filter(images.cpu().numpy(), size=(1, 1, WINDOW, WINDOW), mode="reflect")
    return torch.as_tensor(filtered, device=images.device)


def _kinds(settings: Settings) -> list[tuple[str, float, int]]:
    """Condition, strength and draw of every image of one seed, in the order of the table."""
    noise = [(NOISE, strength, draw) for strength in settings.strengths for draw in range(settings.noise_draws)]
    return [(CLEAN, 0.0, 0), *((ADVERSARIAL, strength, 0) for strength in settings.strengths), *noise]


def _image(seed: Seed, variant: Variant) -> Image:
    pixels = known(seed.pixels)
    return pixels if variant.condition == CLEAN else perturbed(pixels, seed.delta(variant), variant.strength)


def _rows(plan: Plan, seeds: Sequence[Seed], batch: Sequence[Variant]) -> pl.DataFrame:
    """The rows of a batch of images: one pass for them, one for their copies."""
    images = stack(_image(seeds[v.position], v) for v in batch)
    first = plan.explainers[:1]
    seen = explain(plan.classifier, images, [None], layers=plan.layers, explainers=first)
    own = seen.logits.argmax(1)
    copies = explain(plan.classifier, median_filtered(images), [own], layers=plan.layers, explainers=first)
    comparison = compare_layers(copies.maps[0], seen.maps[0], plan.size, metric=plan.measures[0].metric)
    infos = {info.name: info for info in plan.classifier.layer_infos}
    layers, count = len(plan.layers), len(batch)
    columns: dict[str, Any] = {
        "seed_id": [seeds[v.position].file.seed_id for v in batch for _ in range(layers)],
        "condition": [v.condition for v in batch for _ in range(layers)],
        "strength": np.repeat([v.strength for v in batch], layers),
        "draw": np.repeat([v.draw for v in batch], layers),
        "layer": list(plan.layers) * count,
        "layer_label": [infos[name].label for name in plan.layers] * count,
        "layer_index": np.tile(np.arange(layers), count),
        "similarity": pl.Series(comparison.similarity.T.ravel(), dtype=pl.Float64, nan_to_null=True),
        "undefined_reason": _reasons(comparison).T.ravel().tolist(),
    }
    return DENOISED.frame(columns)


def _reasons(comparison: LayerSimilarities) -> NDArray[np.object_]:
    """Why a similarity is undefined, (layers, batch); None where it is defined. The copy is the reference."""
    reasons = comparison.reasons()
    undefined = np.isnan(comparison.similarity) & comparison.are_finite
    reasons[undefined & comparison.seed_is_zero] = ZERO_MAP_DENOISED
    reasons[undefined & comparison.variant_is_zero] = ZERO_MAP_IMAGE
    return reasons
