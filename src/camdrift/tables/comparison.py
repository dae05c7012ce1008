"""The tables of a comparison of studies."""

from typing import Final

import polars as pl

from camdrift.tables.further import FLIPS
from camdrift.tables.perturbations import PERTURBATION_LAYERS, PERTURBATIONS
from camdrift.tables.table import Column, Table, table

BY_GAIN: Final = "gain"
BY_DEVIATION: Final = "deviation"
FLIPPED: Final = "flipped"

# Why a number of a comparison is null.
CENSORED: Final = "censored"
NO_GAIN: Final = "no_gain"
OTHER_METRIC: Final = "other_metric"
TOO_FEW: Final = "too_few"
CONSTANT_RANKING: Final = "constant_ranking"

SIDES: Final = table(
    "sides",
    "side of a comparison: run x explanation x metric",
    ("side", pl.String, "name of the side, made of what differs among the sides"),
    ("run", pl.String, "run directory"),
    ("model", pl.String, "spec of the model, or what it was called"),
    ("head", pl.String, "kind of the head in the place of the model's last layer; null for its own"),
    ("weights", pl.String, "SHA-256 of the model's weights, in hex; null if the run has none"),
    ("attack", pl.String, "spec of the attack with all its settings"),
    ("surrogate", pl.String, "spec of the model that the attack saw; null if it saw the studied one"),
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("n_layers", pl.Int64, "layers of the study"),
    ("n_seeds", pl.Int64, "seed images of the run"),
    ("n_attacked", pl.Int64, "of these, images that the attack ran on: analysed or without an adversarial example"),
    ("n_analysed", pl.Int64, "of these, images with an adversarial example"),
    ("success", pl.Float64, "share of the attacked images that have an adversarial example"),
    ("success_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("success_high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("relative_l2", pl.Float64, "median over the analysed images of the base perturbation's L2 norm over the image's"),
    ("linf", pl.Float64, "median over the analysed images of the base perturbation's largest absolute entry"),
)

PROFILES: Final = table(
    "profiles",
    "side x target x strength x layer; the numbers are those of the runs",
    ("side", pl.String, "name of the side"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("layer", pl.String, "dotted name of the layer"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("relative_depth", pl.Float64, "place among the study's layers over the last place: 0 the first, 1 the last"),
    ("n", pl.Int64, "adversarial variants with a defined similarity"),
    ("n_undefined", pl.Int64, "adversarial variants without"),
    ("adversarial_mean", pl.Float64, "mean similarity under the attack"),
    ("noise_mean", pl.Float64, "mean similarity under noise"),
    ("floor", pl.Float64, "mean similarity of clean attributions of different seeds"),
    ("compromised_fraction", pl.Float64, "share of adversarial variants below the threshold"),
    ("compromised_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("compromised_high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("auc", pl.Float64, "P(adversarial similarity < noisy similarity of the same seed) + half the ties"),
    ("auc_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("auc_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    ("gain", pl.Float64, "noise-equivalent gain; a bound where censored"),
    ("gain_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("gain_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    ("gain_censored", pl.String, "above: gain is a lower bound; below: an upper bound; null: measured"),
    ("gain_low_censored", pl.String, "the same for the lower end of the interval"),
    ("gain_high_censored", pl.String, "the same for the upper end of the interval"),
    ("rank", pl.Int64, "rank by gain among the layers of the study, 1 = highest, as in `layers`"),
    ("rank_low", pl.Int64, "lower end of its bootstrap 95 % interval"),
    ("rank_high", pl.Int64, "upper end of its bootstrap 95 % interval"),
)

_PAIR: Final = (
    ("side_a", pl.String, "first side"),
    ("side_b", pl.String, "second side"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("aligned_by", pl.String, "how layers were paired: name, or depth (nearest relative depth)"),
    (
        "paired",
        pl.Boolean,
        "true: both sides on the same images, those with an adversarial example in both (same seed_id and checksum), "
        "image by image; false: fewer than two such images, so all images of either side, as independent samples",
    ),
    ("n_a", pl.Int64, "images of the first side behind the row"),
    ("n_b", pl.Int64, "images of the second side behind the row"),
)

DIFFERENCES: Final = table(
    "differences",
    "pair of sides x target x strength x aligned layer",
    *_PAIR,
    ("layer_a", pl.String, "layer of the first side"),
    ("layer_b", pl.String, "layer of the second side that it is aligned with"),
    ("layer_label_a", pl.String, "display name of the first"),
    ("layer_label_b", pl.String, "display name of the second"),
    ("relative_depth", pl.Float64, "mean of the two layers' relative depths"),
    ("deviation_a", pl.Float64, "mean deviation of the first side over its images behind the row"),
    ("deviation_b", pl.Float64, "mean deviation of the second side"),
    ("difference", pl.Float64, "mean of the difference of deviations, second minus first side"),
    ("difference_low", pl.Float64, "lower end of its 95 % t interval (paired) or Welch interval (not paired)"),
    ("difference_high", pl.Float64, "upper end of that interval"),
    (
        "difference_undefined_reason",
        pl.String,
        "where difference or its interval is null: other_metric (deviations on different scales), too_few (images)",
    ),
    (
        "log2_gain_ratio",
        pl.Float64,
        "binary logarithm of the second side's gain over the first's, on these images",
    ),
    (
        "log2_gain_ratio_low",
        pl.Float64,
        "lower end of its bootstrap 95 % interval; null where the ladder sets no bound",
    ),
    ("log2_gain_ratio_high", pl.Float64, "upper end; null where there is no bound"),
    (
        "log2_gain_ratio_undefined_reason",
        pl.String,
        "censored (a gain is a bound only) or no_gain where log2_gain_ratio is null",
    ),
)

AGREEMENT: Final = table(
    "agreement",
    "pair of sides, or side and itself, x target x strength x quantity that layers are ranked by",
    *_PAIR,
    ("ranked_by", pl.String, "gain or (mean) deviation"),
    ("n_layers", pl.Int64, "aligned layers that both sides rank"),
    (
        "tau",
        pl.Float64,
        "Kendall's tau-b of the two rankings: 1 the same order, 0 unrelated, -1 reversed; of a side and itself: the "
        "median tau of two bootstrap replicates, which is what the same study on other images would reach",
    ),
    ("tau_low", pl.Float64, "lower end of its bootstrap 95 % interval over images; null where one side has one alone"),
    ("tau_high", pl.Float64, "upper end of that interval"),
    (
        "undefined_reason",
        pl.String,
        "where tau is null: too_few (layers, or images of a side and itself), constant_ranking (all layers tied)",
    ),
)

TRENDS: Final = table(
    "trends",
    "side x target x strength: how gains go with depth",
    ("side", pl.String, "name of the side"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("n", pl.Int64, "images behind it"),
    ("n_layers", pl.Int64, "layers with a gain"),
    ("tau", pl.Float64, "Kendall's tau-b of gain and depth: 1 if the gain grows from every layer to the next"),
    ("tau_low", pl.Float64, "lower end of its bootstrap 95 % interval over images; null of one alone"),
    ("tau_high", pl.Float64, "upper end of that interval"),
)

SIDE_FLIPS: Final = Table(
    FLIPS.name,
    "side x condition x strength x draw: the runs' own tables `flips`",
    (Column("side", pl.String(), "name of the side"), *FLIPS.columns),
)

SIDE_OUTCOMES: Final = table(
    "outcomes",
    "pair of sides of different runs: whom the attack fools, on the images that both runs attacked (same seed_id and "
    "checksum), if there are two or more",
    ("side_a", pl.String, "first side"),
    ("side_b", pl.String, "second side"),
    ("n", pl.Int64, "images that both attacked"),
    ("both", pl.Int64, "of these, images with an adversarial example in both"),
    ("only_a", pl.Int64, "images with one in the first alone"),
    ("only_b", pl.Int64, "images with one in the second alone"),
    ("neither", pl.Int64, "images without one in either"),
    ("share_a", pl.Float64, "share of the images with an adversarial example in the first"),
    ("share_b", pl.Float64, "the same of the second"),
    ("difference", pl.Float64, "share_b - share_a"),
    ("difference_low", pl.Float64, "lower end of its 95 % interval (Newcombe 1998, paired data, method 10)"),
    ("difference_high", pl.Float64, "upper end"),
    ("p", pl.Float64, "of McNemar's exact test that the shares are the same, two-sided; not corrected"),
)

_SIDE: Final = Column("side", pl.String(), "name of the first side of a run")

SIDE_PERTURBATIONS: Final = Table(
    PERTURBATIONS.name,
    "run x natural change of all runs x condition x strength; empty without `run --perturb`",
    (
        _SIDE,
        Column(
            "shared", pl.Boolean(), "true: over the images analysed in all runs; false: fewer than two, so the run's"
        ),
        *PERTURBATIONS.columns,
    ),
)

SIDE_PERTURBATION_LAYERS: Final = Table(
    PERTURBATION_LAYERS.name,
    "run x natural change of all runs x strength x layer: the runs' own tables `perturbation_layers`",
    (_SIDE, *PERTURBATION_LAYERS.columns),
)

CROSSED: Final = table(
    "crossed",
    "pair of sides x quantity x target x strength x layer of the same name; empty without `compare --cross`",
    ("side_a", pl.String, "first side"),
    ("side_b", pl.String, "second side"),
    ("quantity", pl.String, "deviation (of a layer) or flipped (predictions that the perturbation changes)"),
    ("target", pl.String, "whose class is explained: own, seed or label; null for flipped"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("layer", pl.String, "dotted name of the layer; null for flipped"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("n", pl.Int64, "images that both sides analysed and that have all four values"),
    ("value_aa", pl.Float64, "mean over them of the first model's quantity under its own perturbations"),
    ("value_ab", pl.Float64, "of the first model's under the second side's perturbations"),
    ("value_ba", pl.Float64, "of the second model's under the first side's perturbations"),
    ("value_bb", pl.Float64, "of the second model's under its own perturbations"),
    ("difference", pl.Float64, "value_bb - value_aa; what follows adds up to it"),
    ("difference_low", pl.Float64, "lower end of its 95 % t interval; null of one image"),
    ("difference_high", pl.Float64, "upper end"),
    ("maps", pl.Float64, "part of the other model: ((ba - aa) + (bb - ab)) / 2"),
    ("maps_low", pl.Float64, "lower end of its 95 % t interval"),
    ("maps_high", pl.Float64, "upper end"),
    ("attack", pl.Float64, "part of the other perturbations: ((ab - aa) + (bb - ba)) / 2"),
    ("attack_low", pl.Float64, "lower end of its 95 % t interval"),
    ("attack_high", pl.Float64, "upper end"),
)

_TABLES: Final = (
    SIDES,
    PROFILES,
    DIFFERENCES,
    AGREEMENT,
    TRENDS,
    SIDE_FLIPS,
    SIDE_OUTCOMES,
    SIDE_PERTURBATIONS,
    SIDE_PERTURBATION_LAYERS,
    CROSSED,
)
COMPARISON_TABLES: Final = {t.name: t for t in _TABLES}
