"""The tables of detectors."""

from typing import Final

import polars as pl

from camdrift.tables.table import table

# The columns that tell one detector from another.
_DETECTOR: Final = (
    ("reference", pl.String, "seed: similarity to the clean image, which is needed; denoised: to a denoised copy"),
    ("trained_on", pl.String, "attack of the run whose images the detector learnt from"),
    ("tested_on", pl.String, "attack of the run whose images it judged; no seed image is on both sides"),
    ("negative", pl.String, "what adversarial images are told from: noise (of the same strength) or clean"),
    ("target", pl.String, "whose class is explained: own, seed or label; own for reference denoised"),
    ("strength", pl.Float64, "factor s on the base perturbation; null: all strengths together"),
)

DETECTION: Final = table(
    "detection",
    "reference x run trained on x run tested on x negative x target x strength (camdrift detect, camdrift reproduce)",
    *_DETECTOR,
    ("n_seeds", pl.Int64, "seed images behind it"),
    ("n_images", pl.Int64, "images judged, adversarial and not"),
    ("auc", pl.Float64, "P(score of an adversarial image > score of another) + half the ties, out of fold"),
    ("auc_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("auc_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    summary="What detectors can do; read anew each time, since `detect` and `reproduce` replace it.",
    is_replaced=True,
)

ROC: Final = table(
    "roc",
    "corner of the ROC curve of a row of `detection` (camdrift detect, camdrift reproduce)",
    *_DETECTOR,
    ("false_positive_rate", pl.Float64, "share of the other images that the detector takes for adversarial"),
    ("true_positive_rate", pl.Float64, "share of the adversarial images that it takes for adversarial"),
    summary="ROC curves of the detectors; read anew each time as `detection`.",
    is_replaced=True,
)

DETECTION_TABLES: Final = (DETECTION, ROC)
