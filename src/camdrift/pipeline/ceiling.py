"""The numerical ceiling: clean maps of a few seeds, computed again with other rounding, against themselves.

In exact arithmetic a map is the same each time: similarity 1. In floating point it is known up to rounding, which deep
networks may magnify, and a similarity that lies no lower than that of the same map computed twice says nothing.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.explanations.base import Explainer
from camdrift.explanations.similarity import compare_layers
from camdrift.pipeline.clean_maps import explain_clean, of_positions
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed
from camdrift.tables.crossed import crossed
from camdrift.tables.further import CEILING
from camdrift.tables.words import ROUNDING
from camdrift.tensors import Activations, Explanation, Images, Maps

# Seeds of a study, if its chunks can spare so many; and the share of a chunk's images that may be explained again.
CEILING_SEEDS: Final = 8
_SHARE: Final = 0.02
# One unit in the last place of a number in each precision. Images that much darker are rounded anew in every layer,
# whatever the batch, the device and the kernel; on VGG-16 their maps differ as much as those of another kernel do.
_UNIT: Final = {"fp32": 2.0**-23, "tf32": 2.0**-10, "bf16": 2.0**-7}
# A map whose peak is a smaller part of what its terms amount to is the rounding of a sum that is 0: seen were 2e-9 to
# 2e-7 behind instance norm, 1e-2 and more elsewhere.
_CANCELLED: Final = 1e-5


def ceiling(plan: Plan, seeds: Sequence[NoisySeed], clean: Explanation) -> pl.DataFrame:
    """Rows of the table `ceiling`: similarities of clean maps and the same maps with other rounding.

    Args:
        plan: The plan of the study.
        seeds: Seeds of the chunk.
        clean: The explanation of their clean images.
    """
    places = _places(plan, len(seeds))
    some = [seeds[place] for place in places]
    positions = torch.tensor(places, device=plan.classifier.device)
    again = explain_clean(plan, some, change=lambda images: darkened(images, plan.classifier.precision), further=_TERMS)
    targets = list(zip(plan.settings.targets, clean.attributions, again.attributions, strict=True))
    tables = []
    for (target, first, second), measure in itertools.product(targets, plan.measures):
        spec = measure.explanation
        comparison = compare_layers(
            of_positions(first[spec], positions), second[spec], plan.size, metric=measure.metric
        )
        is_rounding = _are_cancelled(plan, spec, second) & ~np.isnan(comparison.similarity)
        reasons = comparison.reasons()
        reasons[is_rounding] = ROUNDING
        values = {"similarity": np.where(is_rounding, np.nan, comparison.similarity), "undefined_reason": reasons}
        rows = [n for n, seed in enumerate(some) if target != "label" or seed.label is not None]
        columns = crossed(
            {"seed_id": [some[n].seed_id for n in rows]},
            {"layer": plan.layers},
            {name: array[:, rows].T for name, array in values.items()},
            target=target,
            **measure._asdict(),
        )
        tables.append(CEILING.frame(columns))
    return pl.concat(tables, rechunk=True)


def darkened(images: Images, precision: str) -> Images:
    """Images one unit in the last place darker: the same picture, and other rounding in every layer."""
    return images * (1 - _UNIT[precision])


def _places(plan: Plan, n_seeds: int) -> list[int]:
    """Positions of the seeds to explain again, spread over a chunk; one at least."""
    settings = plan.settings
    variants = len(settings.strengths) + len(settings.noise_strengths) * settings.noise_draws
    share = min(plan.chunk_share(CEILING_SEEDS), int(_SHARE * n_seeds * (1 + variants)))
    count = min(n_seeds, max(1, share))
    return [place * n_seeds // count for place in range(count)]


def _terms(activation: Activations, gradient: Activations) -> Maps:
    """sum_k |A_k| mean |G_k|: what the terms of a map of gradients amount to where none cancels another."""
    return (activation.abs() * gradient.abs().mean((2, 3), keepdim=True)).sum(1)


_TERMS: Final = (Explainer("terms", of_gradient=_terms),)


def _are_cancelled(plan: Plan, spec: str, maps: dict[str, dict[str, Maps]]) -> NDArray[np.bool_]:
    """Flags of the maps of gradients that are the rounding of a sum of 0: (layers, images)."""
    explainer = next(explainer for explainer in plan.explainers if explainer.spec == spec)
    shape = (len(plan.layers), len(next(iter(maps[spec].values()))))
    if explainer.of_gradient is None:
        return np.zeros(shape, np.bool_)
    flags = [_peak(maps[spec][name]) <= _CANCELLED * _peak(maps["terms"][name]) for name in plan.layers]
    return np.asarray(torch.stack(flags).cpu().numpy())


def _peak(maps: Maps) -> torch.Tensor:
    return maps.flatten(1).amax(1)
