"""The tables of reproductions, of detectors, of denoised references, and of lower precision."""

from typing import Final

import polars as pl

from camdrift.records.study import SIMILARITY
from camdrift.records.table import Table, table

EMULATION: Final = table(
    "emulation",
    "seed x perturbed image x target x class score x metric x layer (camdrift reproduce)",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "adversarial, noise, or a control: spectrum_noise, channel_noise, unperturbed"),
    ("strength", pl.Float64, "nominal strength s; 0 for unperturbed"),
    ("draw", pl.Int64, "noise draw, from 0"),
    ("is_accumulated", pl.Boolean, "made at the strength, or around the base, that the released loop ends up with?"),
    ("is_truncated", pl.Boolean, "stored in 8 bits by cutting off?"),
    ("is_flipped", pl.Boolean, "does the prediction differ from that of the clean image?"),
    ("realised_l2", pl.Float64, "L2 norm of this image minus the seed image"),
    ("n_gained", pl.Int64, "neurons that this image covers and the clean image does not"),
    ("target", pl.String, "whose class is explained: own or seed"),
    ("clean_score", pl.String, "what the clean image is explained through: logit, or probability as released"),
    ("metric", pl.String, "cosine of maps, or jet: cosine of jet-coloured pictures, as released"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("similarity", pl.Float64, "similarity of the clean and this image's map; null if undefined"),
)

LADDER: Final = table(
    "ladder",
    "set of defects x strength x layer (camdrift reproduce)",
    ("defects", pl.String, "none, one defect, all but one, or all"),
    ("strength", pl.Float64, "nominal strength s"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("n", pl.Int64, "adversarial images with a defined similarity"),
    ("mean_similarity", pl.Float64, "mean similarity under the attack"),
    ("noise_similarity", pl.Float64, "mean similarity under noise"),
    ("compromised_fraction", pl.Float64, "share of adversarial images below the threshold; 0 or 1 if it is pooled"),
    ("rank", pl.Int64, "rank by deviation, 1 = lowest mean similarity; ties share the smallest"),
    ("gain", pl.Float64, "noise-equivalent gain; a bound where censored"),
    ("gain_censored", pl.String, "above, below, or null: measured"),
    ("gain_rank", pl.Int64, "rank by gain, 1 = highest; ties share the smallest"),
)

CLAIMS: Final = table(
    "claims",
    "claim of the paper, as far as it can be measured (camdrift reproduce)",
    ("claim", pl.String, "what the paper says"),
    ("subject", pl.String, "the strength or layer it is about; null if it is one number"),
    ("measure", pl.String, "the number that decides it"),
    ("paper", pl.String, "the paper's own figure or word for it"),
    ("as_released", pl.Float64, "that number from the emulated released code"),
    ("corrected", pl.Float64, "that number from the equations"),
    ("corrected_low", pl.Float64, "lower end of its 95 % interval"),
    ("corrected_high", pl.Float64, "upper end of its 95 % interval"),
    ("n", pl.Int64, "seed images behind it"),
    ("holds_from", pl.Float64, "the claim holds from this value ..."),
    ("holds_to", pl.Float64, "... to this one; null: without end"),
    ("verdict", pl.String, "holds, artefact (only as released), fails, undecided"),
)

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

PRECISION: Final = Table(
    "precision",
    "row of `similarity`, computed again in float32, of a few seed images (camdrift run --precision tf32|bf16)",
    SIMILARITY.columns,
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

# Tables that only some run directories have.
FURTHER_TABLES: Final = {t.name: t for t in (EMULATION, LADDER, CLAIMS, DENOISED, PRECISION, DETECTION, ROC)}
