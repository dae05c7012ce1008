"""The tables of detectors and of denoised references."""

from typing import Final

import polars as pl

from camdrift.tables.table import table

DENOISED: Final = table(
    "denoised",
    "seed x condition x strength x draw x layer (camdrift run --denoised, camdrift reproduce)",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "clean, adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation; 0 for clean"),
    ("draw", pl.Int64, "noise draw, from 0; 0 for clean and adversarial"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name (the paper's on VGG-16, else the layer's own)"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("similarity", pl.Float64, "cosine of the attributions of image and median-filtered copy, for the image's class"),
    ("undefined_reason", pl.String, "zero_map_image, zero_map_denoised or non_finite_map where similarity is null"),
)
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
)

ROC: Final = table(
    "roc",
    "corner of the ROC curve of a row of `detection` (camdrift detect, camdrift reproduce)",
    *_DETECTOR,
    ("false_positive_rate", pl.Float64, "share of the other images that the detector takes for adversarial"),
    ("true_positive_rate", pl.Float64, "share of the adversarial images that it takes for adversarial"),
)
