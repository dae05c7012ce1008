"""The tables of a reproduction of the paper."""

from typing import Final

import polars as pl

from camdrift.tables.table import table

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
    summary="Every image of a reproduction in every reading; only `reproduce` makes it.",
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
    summary="One row per set of defects, strength and layer; only `reproduce` makes it.",
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
    summary="One row per claim of the paper; only `reproduce` makes it.",
)

REPRODUCTION_TABLES: Final = (EMULATION, LADDER, CLAIMS)
