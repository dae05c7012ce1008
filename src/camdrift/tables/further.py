"""The tables that only some run directories have: those that a run adds on request, and the list of all."""

from typing import Final

import polars as pl

from camdrift.tables.detection import DETECTION_TABLES
from camdrift.tables.reproduction import REPRODUCTION_TABLES
from camdrift.tables.study import SIMILARITY, TABLES
from camdrift.tables.table import Table, table

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
    summary="Every image against its own denoised copy; only `run --denoised` and `reproduce` make it.",
)

PRECISION: Final = Table(
    "precision",
    "row of `similarity`, computed again in float32, of a few seed images (camdrift run --precision tf32|bf16)",
    SIMILARITY.columns,
    summary="Similarities of a few seed images in float32; only `run --precision tf32` or `bf16` makes it.",
)

_FURTHER_TABLES: Final = (*REPRODUCTION_TABLES, DENOISED, PRECISION, *DETECTION_TABLES)
FURTHER_TABLES: Final = {t.name: t for t in _FURTHER_TABLES}
# Every table that a run directory may have.
RUN_TABLES: Final = TABLES | FURTHER_TABLES
