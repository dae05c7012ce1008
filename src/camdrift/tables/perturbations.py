"""The tables of natural changes: what each does to predictions and maps, on the scale of the attack."""

from typing import Final

import polars as pl

from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.table import Table, table

# Condition of an image that a natural change has changed.
NATURAL: Final = "natural"

_COMMAND: Final = "(camdrift run --perturb)"
_PERTURBATION: Final = ("perturbation", pl.String, "the natural change with its settings")
_CONDITION: Final = (
    "condition",
    pl.String,
    "natural: the change; noise: Gaussian noise with the mean and standard deviation of the change of that image",
)
_STRENGTH: Final = ("strength", pl.Float64, "factor s on the difference of the changed image and the seed")

_KEYS: Final = table("", "", _PERTURBATION, ("seed_id", pl.String, "seed image"), _CONDITION, _STRENGTH).columns
_NAMES: Final = ("seed_id", "condition", "strength", "draw")
_SAID: Final = tuple(column for column in VARIANTS.columns if column.name not in _NAMES)
_COMPARED: Final = tuple(column for column in SIMILARITY.columns if column.name not in _NAMES)

PERTURBED: Final = Table(
    "perturbed",
    f"perturbation x analysed seed x condition x strength x layer {_COMMAND}",
    (*_KEYS, *_SAID, *_COMPARED),
    summary="Every image that a natural change has changed, and noise of its size; only `run --perturb` makes it.",
)

PERTURBATIONS: Final = table(
    "perturbations",
    f"perturbation x condition x strength, over the analysed seed images {_COMMAND}",
    _PERTURBATION,
    _CONDITION,
    _STRENGTH,
    ("n", pl.Int64, "images"),
    ("flipped", pl.Int64, "of these, images whose prediction differs from that of the clean image"),
    ("share", pl.Float64, "their share"),
    ("low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("accuracy", pl.Float64, "share of the images with a label whose prediction is right; null without labels"),
    ("accuracy_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("accuracy_high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("realised_l2", pl.Float64, "median L2 norm of the change after clipping, in pixel units"),
    ("unchanged", pl.Int64, "images in which nothing changes at all"),
    summary="How many predictions natural changes flip.",
)

PERTURBATION_LAYERS: Final = table(
    "perturbation_layers",
    f"perturbation x strength x layer {_COMMAND}",
    _PERTURBATION,
    _STRENGTH,
    ("target", pl.String, "whose class is explained: the headline's"),
    ("layer", pl.String, "dotted name of the layer"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("n", pl.Int64, "changed images with a defined similarity"),
    ("n_undefined", pl.Int64, "changed images without"),
    ("n_pairs", pl.Int64, "images with a similarity changed and noisy; the gain rests on them"),
    ("deviation", pl.Float64, "median deviation of the changed image's map from the clean one"),
    ("noise_deviation", pl.Float64, "the same of noise of the change's statistics"),
    ("gain", pl.Float64, "noise-equivalent gain: noise that moves the layer's map as far, over the change (L2)"),
    ("gain_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("gain_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    ("gain_censored", pl.String, "above: gain is a lower bound; below: an upper bound; null: measured"),
    ("gain_low_censored", pl.String, "the same for the lower end of the interval"),
    ("gain_high_censored", pl.String, "the same for the upper end of the interval"),
    ("gain_undefined_reason", pl.String, "rounding, as in `layers`"),
    summary="How far natural changes move the map of every layer, as the strength of noise that moves it as far.",
)

PERTURBATION_TABLES: Final = (PERTURBATIONS, PERTURBATION_LAYERS, PERTURBED)
