"""The tables that only some run directories have, on request or since some version; and the tables of every run.

A new table is declared here or in `study.py`, with an attribute of `RunTables`.
"""

from typing import Final, Literal, overload

import polars as pl

from camdrift.tables.defences import (
    CERTIFIED,
    DEFENCE_TABLES,
    DEFENCES_TABLE,
    DEFENDED_IMAGES,
    PURIFIED_MAPS,
    RESTORATION,
    SANITY,
)
from camdrift.tables.detection import DETECTION, DETECTION_TABLES, DETECTORS_TABLE, ROC
from camdrift.tables.perturbations import (
    PERTURBATION_LAYERS,
    PERTURBATION_TABLES,
    PERTURBATIONS,
    PERTURBED,
)
from camdrift.tables.reproduction import CLAIMS, EMULATION, LADDER, REPRODUCTION_TABLES
from camdrift.tables.study import (
    CONTROLS,
    COUNTS,
    COVERAGE,
    FLOOR,
    FOCUS,
    LAYERS,
    SEEDS,
    SIMILARITY,
    TABLES,
    VARIANTS,
)
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

LIME_TABLE: Final = table(
    "lime",
    "analysed seed x condition, at strength 1 and draw 0 (camdrift run --lime)",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "clean, adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation: 1; 0 for clean"),
    ("draw", pl.Int64, "noise draw: 0"),
    ("n_segments", pl.Int64, "segments of the clean image, which all conditions share"),
    ("n_samples", pl.Int64, "masks, which all conditions share"),
    ("similarity", pl.Float64, "cosine of the LIME maps of this and of the clean image, for the seed's class, signed"),
    ("positive", pl.Float64, "the same of what speaks for the class alone; null where nothing does"),
    ("floor_similarity", pl.Float64, "LIME's own floor: the clean image by other masks against itself, signed"),
    ("floor_positive", pl.Float64, "the same of what speaks for the class alone"),
    (
        "is_resolved",
        pl.Boolean,
        "does the map lie further from the clean one than another design of masks? null for clean",
    ),
    ("coefficients", pl.List(pl.Float64), "the map: one number per segment, numbered from the top left of a grid"),
    ("undefined_reason", pl.String, "zero_map_seed or zero_map_variant where similarity is null"),
    summary="LIME of every image on its input; only `run --lime` makes it.",
)

CEILING: Final = table(
    "ceiling",
    "seed x target x explanation x metric x layer, of a few seeds",
    ("seed_id", pl.String, "seed image"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("layer", pl.String, "dotted name of the convolution"),
    (
        "similarity",
        pl.Float64,
        "the metric of the clean attribution and the same computed again with other rounding; null if undefined",
    ),
    (
        "undefined_reason",
        pl.String,
        "rounding (the attribution is nothing else), or as in `similarity`, where similarity is null",
    ),
    summary="Clean maps of a few seeds against the same maps computed again with other rounding.",
)

PRECISION: Final = Table(
    "precision",
    "row of `similarity`, computed again in float32, of a few seed images (camdrift run --precision tf32|bf16)",
    SIMILARITY.columns,
    summary="Similarities of a few seed images in float32; only `run --precision tf32` or `bf16` makes it.",
)

FLIPS: Final = table(
    "flips",
    "condition x strength x draw, over the analysed seed images",
    ("condition", pl.String, "clean, adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation; 0 for clean"),
    ("draw", pl.Int64, "noise draw, from 0; 0 for clean and adversarial"),
    ("n", pl.Int64, "images"),
    ("flipped", pl.Int64, "of these, images whose prediction differs from that of the clean image"),
    ("share", pl.Float64, "their share"),
    ("low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("accuracy", pl.Float64, "share of the images with a label whose prediction is right; null without labels"),
    ("accuracy_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("accuracy_high", pl.Float64, "upper end of its Wilson 95 % interval"),
    summary="How many predictions attack and noise change, and the accuracy that is left.",
)

NEWLY_COVERED: Final = table(
    "newly_covered",
    "readable seed x condition x strength",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "clean, adversarial or noise; the last two count clean seeds and their variants"),
    ("strength", pl.Float64, "factor s; 0 for clean"),
    ("neurons", pl.List(pl.Int32), "numbers, from 0, of the neurons that it covers and no earlier seed did"),
    summary="The neurons that each seed adds to coverage; their numbers add up to the table `coverage`.",
)

_FURTHER_TABLES: Final = (
    FLIPS,
    CEILING,
    NEWLY_COVERED,
    *REPRODUCTION_TABLES,
    DENOISED,
    LIME_TABLE,
    *PERTURBATION_TABLES,
    PRECISION,
    *DETECTION_TABLES,
    *DEFENCE_TABLES,
    DETECTORS_TABLE,
)
FURTHER_TABLES: Final = {t.name: t for t in _FURTHER_TABLES}
# The names of all tables, for completion.
TableName = Literal[
    "seeds",
    "variants",
    "similarity",
    "focus",
    "floor",
    "ceiling",
    "layers",
    "counts",
    "coverage",
    "controls",
    "flips",
    "emulation",
    "ladder",
    "claims",
    "denoised",
    "lime",
    "perturbations",
    "perturbation_layers",
    "perturbed",
    "precision",
    "newly_covered",
    "detection",
    "roc",
    "defences",
    "restoration",
    "defended_images",
    "purified_maps",
    "sanity",
    "certified",
    "detectors",
]
# Every table that a run directory may have.
RUN_TABLES: Final = TABLES | FURTHER_TABLES


class StoredTable:
    """A table of a run, as an attribute of the table's name."""

    def __init__(self, table: Table) -> None:
        self.__doc__ = table.summary
        self._table = table

    @overload
    def __get__(self, tables: None, owner: type) -> "StoredTable": ...
    @overload
    def __get__(self, tables: "RunTables", owner: type) -> pl.DataFrame: ...
    def __get__(self, tables: "RunTables | None", owner: type) -> "StoredTable | pl.DataFrame":
        if tables is None:
            return self
        frame = tables._read(self._table)
        if not self._table.is_replaced:
            vars(tables)[self._table.name] = frame  # which Python then finds before it asks here
        return frame


class RunTables:
    """The tables of a run as attributes, each read when it is first asked for."""

    seeds = StoredTable(SEEDS)
    variants = StoredTable(VARIANTS)
    similarity = StoredTable(SIMILARITY)
    focus = StoredTable(FOCUS)
    floor = StoredTable(FLOOR)
    ceiling = StoredTable(CEILING)
    layers = StoredTable(LAYERS)
    counts = StoredTable(COUNTS)
    coverage = StoredTable(COVERAGE)
    controls = StoredTable(CONTROLS)
    flips = StoredTable(FLIPS)
    emulation = StoredTable(EMULATION)
    ladder = StoredTable(LADDER)
    claims = StoredTable(CLAIMS)
    denoised = StoredTable(DENOISED)
    lime = StoredTable(LIME_TABLE)
    perturbations = StoredTable(PERTURBATIONS)
    perturbation_layers = StoredTable(PERTURBATION_LAYERS)
    perturbed = StoredTable(PERTURBED)
    precision = StoredTable(PRECISION)
    newly_covered = StoredTable(NEWLY_COVERED)
    detection = StoredTable(DETECTION)
    roc = StoredTable(ROC)
    defences = StoredTable(DEFENCES_TABLE)
    restoration = StoredTable(RESTORATION)
    defended_images = StoredTable(DEFENDED_IMAGES)
    purified_maps = StoredTable(PURIFIED_MAPS)
    sanity = StoredTable(SANITY)
    certified = StoredTable(CERTIFIED)
    detectors = StoredTable(DETECTORS_TABLE)

    def _read(self, table: Table) -> pl.DataFrame:
        """Return a table; whoever holds a run says how."""
        raise NotImplementedError
