"""Predictions that the attack changes: their share of all images that were attacked, and the accuracy that is left."""

from typing import Any

import numpy as np
import polars as pl

from camdrift.statistics.estimates import wilson_interval
from camdrift.tables.words import ADVERSARIAL, ANALYSED, NO_ADVERSARIAL


def adversarial_flips(seeds: pl.DataFrame, variants: pl.DataFrame, strength: float) -> dict[str, Any]:
    """Return flips and accuracy under attack at one strength, with Wilson 95 % intervals.

    An image that the attack could not change at strength 1 counts as not flipped up to there, and as right or wrong as
    the clean one. Beyond strength 1 nobody has tried: `n_untried` counts such images.

    Args:
        seeds: Table `seeds`.
        variants: Table `variants`.
        strength: A strength of the study.

    Returns:
        n, flipped, share, low, high, n_untried; n_labelled, right, accuracy, accuracy_low, accuracy_high. A share of
        nothing is None.
    """
    rest = seeds.filter(pl.col("status") == NO_ADVERSARIAL)
    labels = seeds.filter(pl.col("status") == ANALYSED).select("seed_id", "label")
    images = variants.filter(condition=ADVERSARIAL, strength=strength).join(labels, on="seed_id")
    n = images.height + rest.height
    right = pl.concat([images["predicted_class"] == images["label"], rest["clean_class"] == rest["label"]])
    right = right.drop_nulls()
    return {
        "n": n,
        **_share(int(images["is_flipped"].sum()), n, "flipped", "share", "low", "high"),
        "n_untried": rest.height if strength > 1 else 0,
        "n_labelled": len(right),
        **_share(int(right.sum()), len(right), "right", "accuracy", "accuracy_low", "accuracy_high"),
    }


def _share(hits: int, n: int, *names: str) -> dict[str, Any]:
    """A count, its share and the interval of that, under these names; null where there is nothing to count."""
    ends = wilson_interval(np.array([hits]), np.array([n]))
    values = (hits, hits / n, *(float(end[0]) for end in ends)) if n else (0, None, None, None)
    return dict(zip(names, values, strict=True))
