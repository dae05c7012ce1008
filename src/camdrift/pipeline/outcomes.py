"""What the network says of a chunk's variants, and how far their maps lie from those of the seeds.

While the network works, all of it stays where it computes; it is read once, at the end of the chunk.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.neurons import NeuronRecord
from camdrift.explanations.similarity import layer_similarities
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, variant_columns
from camdrift.pipeline.variants import VARIANT_MEASURES, Variant, VariantBatch, measure_variants
from camdrift.tables.arrays import Flags
from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL
from camdrift.tensors import Logits

# By target, measure, and the three values of `measure_layers`.
Comparisons = Float[Tensor, "targets measures 3 layers batch"]


class OutcomeCollector:
    """Collects the outcomes of a chunk's variants, batch by batch."""

    def __init__(self, plan: Plan, seeds: Sequence[NoisySeed]) -> None:
        self._plan, self._seeds = plan, seeds
        self._variants: list[Variant] = []
        self._counted: list[Variant] = []
        self._outcomes: list[Tensor] = []
        self._comparisons: list[Tensor] = []
        self._covered: list[Tensor] = []

    def add(self, batch: VariantBatch, logits: Logits, neurons: NeuronRecord | None, comparisons: Comparisons) -> None:
        """Take a batch of variants, as the network answers for them."""
        probabilities, classes = logits.softmax(1).max(1)
        answers = [classes.double(), probabilities.double(), torch.isfinite(logits).all(1).double()]
        self._variants += batch.variants
        self._outcomes.append(torch.cat([torch.stack(answers), measure_variants(batch)]))
        self._comparisons.append(comparisons)
        if neurons is not None:
            rows = [row for row, variant in enumerate(batch.variants) if variant.draw == 0]
            is_covered = neurons.covered()
            self._covered.append(is_covered if len(rows) == len(batch.variants) else is_covered[rows])
            self._counted += [batch.variants[row] for row in rows]

    def read(self) -> "Outcomes":
        """All outcomes, on the host."""
        return Outcomes(
            self._plan,
            self._seeds,
            self._variants,
            torch.cat(self._outcomes, 1).cpu().numpy(),
            torch.cat(self._comparisons, -1).cpu().numpy(),
            dict(zip(self._counted, torch.cat(self._covered).cpu().numpy(), strict=True)) if self._covered else {},
        )


class Outcomes:
    """The outcomes of a chunk's variants, as columns of its tables.

    Attributes:
        covered: The neurons that each variant covers which coverage counts.
    """

    def __init__(
        self,
        plan: Plan,
        seeds: Sequence[NoisySeed],
        variants: Sequence[Variant],
        answers: NDArray[np.float64],
        comparisons: NDArray[np.float64],
        covered: dict[Variant, Flags],
    ) -> None:
        self._plan, self._seeds, self._names = plan, seeds, [seed.seed_id for seed in seeds]
        self._variants, self._answers, self._comparisons = variants, answers, comparisons
        self.covered = covered

    def failures(self) -> dict[str, str]:
        """The reason, by `seed_id`, for every seed with a variant whose logits are not finite."""
        return {
            self._names[variant.position]: (
                f"the model returned NaN or infinity for the {variant.condition} image at strength {variant.strength:g}"
            )
            for variant, is_finite in zip(self._variants, self._answers[2], strict=True)
            if not is_finite
        }

    def variant_table(self, names: Collection[str]) -> pl.DataFrame:
        """The table `variants` of the seeds with these names, sorted."""
        variants = self._variants
        keys = [(self._names[v.position], v.condition != ADVERSARIAL, v.strength, v.draw) for v in variants]
        places = [i for i in sorted(range(len(keys)), key=keys.__getitem__) if keys[i][0] in names]
        classes = self._answers[0, places].astype(np.int64)
        clean = np.array([self._seeds[variants[i].position].clean_class for i in places], dtype=np.int64)
        return VARIANTS.frame(
            {
                **self._keys(places),
                "predicted_class": classes,
                "probability": self._answers[1, places],
                "is_flipped": classes != clean,
                **dict(zip(VARIANT_MEASURES, self._answers[3:, places], strict=True)),
            }
        )

    def similarity_table(self) -> pl.DataFrame:
        """The table `similarity` of all seeds, by seed and variant, then as targets, measures and layers come."""
        plan, variants = self._plan, self._variants
        keys = [(v.position, v.condition, v.strength, v.draw) for v in variants]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        # By variant, target, measure and layer.
        similarities = layer_similarities(np.moveaxis(self._comparisons[..., order], (2, 4), (0, 1)))
        values = {"similarity": similarities.similarity, "undefined_reason": similarities.reasons()}
        has_class = np.array([self._seeds[variants[i].position].label is not None for i in order])
        is_row = np.stack([has_class | (target != "label") for target in plan.settings.targets], 1)
        shape = similarities.similarity.shape
        places = np.argwhere(np.broadcast_to(is_row[..., None, None], shape)).T
        columns = {name: pl.Series(values=column) for name, column in self._keys(order).items()}
        measures = [measure._asdict() for measure in plan.measures]
        return SIMILARITY.frame(
            {
                **{name: column[places[0]] for name, column in columns.items()},
                "target": pl.Series(plan.settings.targets)[places[1]],
                **{name: pl.Series([m[name] for m in measures])[places[2]] for name in measures[0]},
                **{name: pl.Series([*column])[places[3]] for name, column in plan.layer_columns.items()},
                "similarity": pl.Series(values=values["similarity"][*places], nan_to_null=True),
                "undefined_reason": pl.Series(values["undefined_reason"][*places].tolist(), dtype=pl.String()),
            }
        )

    def _keys(self, rows: Sequence[int]) -> dict[str, list[Any]]:
        """Columns that name some of the variants."""
        return variant_columns(self._seeds, [self._variants[row] for row in rows])
