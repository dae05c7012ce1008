"""LIME of every seed clean, attacked and noisy, at strength 1: one map an image, beside the layers'."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from torch import Tensor

from camdrift.explanations.lime import LimeMasks, draw_masks, lime_masks, lime_similarity, masked_values, segments_of
from camdrift.explanations.lime_design import LimeDesign, parse_lime
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed
from camdrift.pipeline.variants import Variant
from camdrift.streams import stream_seed
from camdrift.tables.arrays import Floats
from camdrift.tables.further import LIME_TABLE
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, ZERO_MAP_SEED, ZERO_MAP_VARIANT

STRENGTH: Final = 1.0
_CONDITIONS: Final = (CLEAN, ADVERSARIAL, NOISE)
# The second design is for the clean image alone: how far two designs lie apart is LIME's own floor.
LIMES_PER_SEED: Final = len(_CONDITIONS) + 1


@dataclass(frozen=True)
class Lime:
    """The extra table `lime`.

    Attributes:
        spec: The design.
    """

    spec: str
    table: str = LIME_TABLE.name

    def __call__(self, plan: Plan, seeds: Sequence[NoisySeed], advance: Callable[[int], None]) -> pl.DataFrame:
        """The rows of the analysed seeds."""
        design, rows = parse_lime(self.spec), list[Row]()
        designs: dict[tuple[int, int], LimeMasks] = {}
        for position, seed in enumerate(seeds):
            advance(position)
            rows += _rows(plan, seed, design, designs)
        return LIME_TABLE.frame(rows)


def lime_passes(spec: str) -> int:
    """Return the number of images that go through the network for one seed."""
    return LIMES_PER_SEED * parse_lime(spec).samples


def _rows(plan: Plan, seed: NoisySeed, design: LimeDesign, designs: dict[tuple[int, int], LimeMasks]) -> list[Row]:
    """The rows of one seed: clean, attacked, noisy."""
    segments = segments_of(seed.pixels, design)
    n_segments = int(segments.max()) + 1
    areas = segments.flatten().bincount(minlength=n_segments).numpy().astype(np.float64)

    def coefficients(condition: str, number: int = 0) -> Floats:
        """The map of one image by one of the two designs, for the seed's class."""
        key = n_segments, number
        if key not in designs:
            designs[key] = _masks(design, n_segments, f"lime {n_segments} {number}", plan.settings.rng_seed)
        image, value = seed.image(Variant(0, condition, STRENGTH)), _target(seed.clean_class, design)
        masks, size = designs[key].masks, plan.batch_size
        return designs[key].coefficients(masked_values(plan.classifier, image, segments, masks, value, batch_size=size))

    maps = {condition: coefficients(condition) for condition in _CONDITIONS}
    floors = _similarities(maps[CLEAN], coefficients(CLEAN, 1), areas)
    rows = []
    for condition in _CONDITIONS:
        values = _similarities(maps[CLEAN], maps[condition], areas)
        similarity, floor = values["similarity"], floors["similarity"]
        is_known = similarity is not None and floor is not None
        rows.append(
            {
                "seed_id": seed.seed_id,
                "condition": condition,
                "strength": 0.0 if condition == CLEAN else STRENGTH,
                "draw": 0,
                "n_segments": n_segments,
                "n_samples": design.samples,
                **values,
                **{f"floor_{name}": value for name, value in floors.items()},
                "is_resolved": similarity < floor if is_known and condition != CLEAN else None,
                "coefficients": maps[condition].tolist(),
                "undefined_reason": _reason(maps[CLEAN], maps[condition]),
            }
        )
    return rows


def _masks(design: LimeDesign, segments: int, purpose: str, rng_seed: int) -> LimeMasks:
    """One design of masks: the same for every seed with as many segments."""
    masks = draw_masks(segments, design.samples, np.random.default_rng(stream_seed(rng_seed, "", purpose)))
    return lime_masks(masks, alpha=design.alpha * design.samples, kernel=design.kernel)


def _target(index: int, design: LimeDesign) -> Callable[[Tensor], Tensor]:
    if design.target == "logit":
        return lambda logits: logits[:, index]
    return lambda logits: logits.softmax(1)[:, index]


def _similarities(one: Floats, other: Floats, areas: Floats) -> dict[str, Any]:
    """Similarity of two maps with their signs, and of what speaks for the class alone; None where undefined."""
    pairs = {"similarity": (one, other), "positive": (np.maximum(one, 0), np.maximum(other, 0))}
    values = {name: lime_similarity(*pair, areas) for name, pair in pairs.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _reason(clean: Floats, other: Floats) -> str | None:
    return ZERO_MAP_SEED if not clean.any() else None if other.any() else ZERO_MAP_VARIANT
