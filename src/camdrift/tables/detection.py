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

UNSUPERVISED: Final = "unsupervised"
SUPERVISED: Final = "supervised"

DETECTORS_TABLE: Final = table(
    "detectors",
    "detector x setting x run trained on x run tested on x positive x negative x strength (camdrift defend)",
    ("detector", pl.String, "the detector with its settings, such as knn(k=10)"),
    ("setting", pl.String, "unsupervised: no attacked image was needed; supervised: logistic regression over layers"),
    ("trained_on", pl.String, "attack of the run whose images it learnt from; null if unsupervised"),
    ("tested_on", pl.String, "attack of the run whose images it judged; no seed image is on both sides"),
    ("stage", pl.String, "static, or adaptive: images of an attack that knows the detector"),
    ("positive", pl.String, "what is told: adversarial; noise, to see whether noise is taken for an attack"),
    ("negative", pl.String, "what it is told from: clean, or noise of the same strength"),
    ("strength", pl.Float64, "factor s on the base perturbation; null: all strengths together"),
    ("eps", pl.Float64, "bound on the perturbation at that strength, in pixel units; null where there is none"),
    ("auc", pl.Float64, "P(score of a positive > score of a negative) + half the ties"),
    ("auc_low", pl.Float64, "lower end of its 95 % interval over seeds (DeLong, seeds as clusters)"),
    ("auc_high", pl.Float64, "upper end of it"),
    ("tpr_1", pl.Float64, "share of positives above the threshold for 1 % false positives, set on other seeds"),
    ("fpr_1", pl.Float64, "share of negatives above that threshold"),
    ("tpr_5", pl.Float64, "share of positives above the threshold for 5 % false positives, set on other seeds"),
    ("fpr_5", pl.Float64, "share of negatives above that threshold"),
    (
        "undetected",
        pl.Float64,
        "share of seeds that an attack which knows the detector turns into images that fool the network and stay below "
        "the threshold for 5 % false positives; null for static",
    ),
    ("undetected_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("undetected_high", pl.Float64, "upper end of it"),
    ("n_seeds", pl.Int64, "seed images behind it"),
    ("n_positives", pl.Int64, "positives with a score"),
    ("n_negatives", pl.Int64, "negatives with a score"),
    ("n_undefined", pl.Int64, "images without a score"),
    ("undefined_reason", pl.String, "why a value is null; else null"),
    summary="What every detector tells, by strength; read anew each time, since `defend` replaces it.",
    is_replaced=True,
)

DETECTION_TABLES: Final = (DETECTION, ROC)
