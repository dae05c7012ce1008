"""Coverage criteria in words, and the tables of what they say of a folder of images."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from camdrift.tables.table import Table, table

# What each criterion counts or measures, by name. `coverage/criteria.py` makes them.
CRITERION_WORDS: Final[Mapping[str, str]] = {
    "nc": "neurons whose output, scaled over layer and image, lies above a threshold",
    "kmnc": "sections hit, of k between each neuron's extremes over the profile",
    "nbc": "neurons beyond their extremes over the profile, each side by itself",
    "snac": "neurons above their highest output over the profile",
    "tknc": "neurons among the k strongest of their layer",
    "tknp": "patterns: which neurons are the k strongest of every layer",
    "nlc": "spread of each layer's outputs: norm of their covariance",
    "cc": "images further than a threshold from every one before",
    "lsa": "mean surprise: -ln of a kernel density of the predicted class",
    "dsa": "mean surprise: distance to the predicted class over that to the next class",
    "mdsa": "mean surprise: Mahalanobis distance to the predicted class",
    "lsc": "sections hit, of k over the profile's own LSA",
    "dsc": "sections hit, of k over the profile's own DSA",
    "mdsc": "sections hit, of k over the profile's own MDSA",
}
# Stands for every criterion, and for two in another form beside their plain one.
ALL: Final = "all"
EVERY_CRITERION: Final = (*CRITERION_WORDS, "nbc(reachable=True)", "nlc(standardised=True)")

_READING: Final = (
    ("value", pl.Float64, "value; null where it has none"),
    ("covered", pl.Int64, "what is covered; images with a value for lsa, dsa and mdsa; null for nlc"),
    ("total", pl.Int64, "what could be covered; images for lsa, dsa and mdsa; null for nlc, tknp and cc"),
)
_REASON: Final = ("undefined_reason", pl.String, "why value is null, or not over all images; else null")

CRITERIA_TABLE: Final = table(
    "criteria",
    "coverage criterion",
    ("criterion", pl.String, "the criterion with its settings, such as kmnc(k=1000)"),
    *_READING,
    ("n_images", pl.Int64, "images measured"),
    _REASON,
)
CRITERIA_LAYERS: Final = table(
    "criteria_layers",
    "coverage criterion x layer, of criteria that are sums over layers",
    ("criterion", pl.String, "the criterion with its settings"),
    ("layer", pl.String, "name of the layer; softmax for the class probabilities"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    *_READING,
    _REASON,
)
MEASUREMENT_TABLES: Final[Mapping[str, Table]] = {each.name: each for each in (CRITERIA_TABLE, CRITERIA_LAYERS)}
