"""Every image of a study compared with a denoised copy of itself: a reading that needs no clean image.

NoiseCAM (arXiv 2303.06151) asks whether the layers tell adversarial from noisy images. Similarities to the seed's maps
answer with the clean image at hand, which whoever has to judge an image does not have; these do without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import LayerSimilarities, compare_layers
from camdrift.models.memory import batches
from camdrift.pipeline.clean_maps import explaining
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, stack, variant_columns
from camdrift.pipeline.settings import Settings
from camdrift.pipeline.variants import Variant
from camdrift.tables.crossed import crossed
from camdrift.tables.further import DENOISED
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, ZERO_MAP_DENOISED, ZERO_MAP_IMAGE
from camdrift.tensors import Images

WINDOW: Final = 3


@dataclass(frozen=True)
class Denoised:
    """The extra table `denoised`.

    It compares the map of an image with the map of its median-filtered copy, both explained for the class that the
    model predicts for the image itself. Neither the clean image nor its class takes part; a clean image is a row like
    any other.
    """

    table: str = DENOISED.name

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds."""
        kinds = _kinds(plan.settings)
        variants = [Variant(position, *kind) for position in range(len(seeds)) for kind in kinds]
        parts = [DENOISED.frame()]
        rows = lambda classifier, batch: _rows(replace(plan, classifier=classifier), seeds, batch)  # noqa: E731
        with explaining(plan, rows, [*batches(variants, plan.batch_size)]) as results:
            for number, part in enumerate(results):
                advance(number * plan.batch_size // len(kinds))
                parts.append(part)
        return pl.concat(parts)


def median_filtered(images: Images) -> Images:
    """Images in which every value is the median of the 3 x 3 pixels around it, channel by channel.

    Borders mirror the image and repeat its outermost pixels (scipy's mode `reflect`).

    Args:
        images: Batch in pixel space.

    Returns:
        A batch of the same shape, on the same device, in pixel space.
    """
    medians = median_filter(images.cpu().numpy(), size=(1, 1, WINDOW, WINDOW), mode="reflect")
    return torch.as_tensor(medians, device=images.device)


def _kinds(settings: Settings) -> list[tuple[str, float, int]]:
    """Condition, strength and draw of every image of one seed, in the order of the table."""
    noise = [(NOISE, strength, draw) for strength in settings.strengths for draw in range(settings.noise_draws)]
    return [(CLEAN, 0.0, 0), *((ADVERSARIAL, strength, 0) for strength in settings.strengths), *noise]


def _rows(plan: Plan, seeds: Sequence[NoisySeed], batch: Sequence[Variant]) -> pl.DataFrame:
    """The rows of a batch of images: one pass for them, one for their copies."""
    images = stack(seeds[v.position].image(v) for v in batch)
    first = plan.explainers[:1]
    originals = explain_batch(plan.classifier, images, [None], layers=plan.layers, explainers=first)
    own = originals.logits.argmax(1)
    copies = explain_batch(plan.classifier, median_filtered(images), [own], layers=plan.layers, explainers=first)
    comparison = compare_layers(copies.maps[0], originals.maps[0], plan.size, metric=plan.measures[0].metric)
    values = {"similarity": comparison.similarity.T, "undefined_reason": _reasons(comparison).T}
    return DENOISED.frame(crossed(variant_columns(seeds, batch), plan.layer_columns, values))


def _reasons(comparison: LayerSimilarities) -> NDArray[np.object_]:
    """The reason of every undefined similarity, else None: (layers, batch). The copy stands for the seed."""
    reasons = comparison.reasons()
    is_undefined = np.isnan(comparison.similarity) & comparison.are_finite
    reasons[is_undefined & comparison.seed_is_zero] = ZERO_MAP_DENOISED
    reasons[is_undefined & comparison.variant_is_zero] = ZERO_MAP_IMAGE
    return reasons
