"""The tables that every run directory has, and the list of them."""

from typing import Final

import polars as pl

from camdrift.tables.table import table

# The columns that tell one measure from another.
MEASURE: Final = ("explanation", "metric")

SEEDS: Final = table(
    "seeds",
    "seed image",
    ("seed_id", pl.String, "name of the seed image: its path below the studied folder, `shard/member` or `split/row`"),
    ("path", pl.String, "file it was read from; a member follows its shard, a row its data set"),
    ("sha256", pl.String, "checksum of the file; null if the file could not be read"),
    ("label", pl.Int64, "index of the true class, where known"),
    ("clean_class", pl.Int64, "class that the model predicts for the unperturbed image"),
    ("clean_probability", pl.Float64, "its softmax probability"),
    ("status", pl.String, "analysed, no_adversarial, unreadable or failed"),
    ("reason", pl.String, "why, unless analysed"),
    ("adversarial_class", pl.Int64, "class predicted at strength 1 (perturbed, clipped)"),
    ("adversarial_probability", pl.Float64, "its softmax probability"),
    ("iterations", pl.Int64, "perturbation steps the attack spent on this seed"),
    ("perturbation_mean", pl.Float64, "mean of the base perturbation, in pixel units (images in [0, 1])"),
    ("perturbation_std", pl.Float64, "its standard deviation over all entries"),
    ("perturbation_l2", pl.Float64, "its L2 norm"),
    ("perturbation_linf", pl.Float64, "its largest absolute entry"),
    ("relative_l2", pl.Float64, "its L2 norm over the L2 norm of the seed image; null if that is 0"),
    ("noise_mean", pl.Float64, "mean of the first noise draw before clipping"),
    ("noise_std", pl.Float64, "standard deviation of the first noise draw before clipping"),
    ("survives_uint8", pl.Boolean, "does the adversarial image still fool the network when rounded to 8 bits?"),
    ("target_class", pl.Int64, "class that the attack was to reach; null if any other than the clean one would do"),
    ("within_threat", pl.Boolean, "does the perturbation keep the attack's bound, after clipping? null if it has none"),
    summary="One row per seed image.",
)

VARIANTS: Final = table(
    "variants",
    "perturbed image: seed x condition x strength x draw",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("draw", pl.Int64, "noise draw, from 0; 0 for adversarial"),
    ("predicted_class", pl.Int64, "class that the model predicts"),
    ("probability", pl.Float64, "its softmax probability"),
    ("is_flipped", pl.Boolean, "does the prediction differ from that of the clean image?"),
    ("realised_l2", pl.Float64, "L2 norm of perturbed minus seed image, after clipping"),
    ("realised_linf", pl.Float64, "largest absolute difference, after clipping"),
    ("clipped_fraction", pl.Float64, "share of entries that clipping to [0, 1] changed"),
    summary="One row per perturbed image.",
)

SIMILARITY: Final = table(
    "similarity",
    "seed x condition x strength x draw x target x explanation x metric x layer",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("draw", pl.Int64, "noise draw, from 0; 0 for adversarial"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name (the paper's on VGG-16, else the layer's own)"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    (
        "similarity",
        pl.Float64,
        "the metric of the seed's and the variant's attribution, 1 if they are the same; null if undefined",
    ),
    (
        "undefined_reason",
        pl.String,
        "zero_map_seed, zero_map_variant, constant_map or non_finite_map where similarity is null",
    ),
    summary="One row per perturbed image, target and layer.",
)

FOCUS: Final = table(
    "focus",
    "seed x condition x strength x target x layer, strengths of the study and first draws alone",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name (the paper's on VGG-16, else the layer's own)"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    (
        "centroid_shift",
        pl.Float64,
        "distance between the centres of mass of the seed's and the variant's map, in sides of the image; this and all "
        "that follow null if either map is all zero or not finite",
    ),
    (
        "spread_change",
        pl.Float64,
        "root mean square distance from the map's own centre, variant minus seed, in sides of the image",
    ),
    (
        "entropy_change",
        pl.Float64,
        "entropy of the map over that of an even map, variant minus seed, in [-1, 1]; null for a map of one cell",
    ),
    (
        "top_overlap",
        pl.Float64,
        "Dice overlap of the largest fifth of the cells of both maps, in [0, 1]; about 0.2 by chance",
    ),
    (
        "perturbation_correlation",
        pl.Float64,
        "Pearson correlation over the cells of the map's change and the local root mean square of the perturbation "
        "after clipping; null where one of them is the same everywhere",
    ),
    summary="One row per perturbed image of the study's strengths, target and layer: how its map's focus moved.",
)

FOCUS_MEASURES: Final = tuple(column.name for column in FOCUS.columns[7:])

FLOOR: Final = table(
    "floor",
    "pair of different seeds x target x explanation x metric x layer",
    ("seed_id", pl.String, "seed image"),
    ("other_seed_id", pl.String, "the unrelated seed image that it is held against"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("layer", pl.String, "dotted name of the convolution"),
    ("similarity", pl.Float64, "the metric of the two clean attributions; null if undefined"),
    summary="One row per pair of different seeds, target and layer.",
)

LAYERS: Final = table(
    "layers",
    "explanation x metric x target x strength x layer",
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name (the paper's on VGG-16, else the layer's own)"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    ("n", pl.Int64, "adversarial variants with a defined similarity"),
    ("n_undefined", pl.Int64, "adversarial variants without"),
    ("n_noise", pl.Int64, "noisy variants (all draws) with a defined similarity"),
    ("n_noise_undefined", pl.Int64, "noisy variants without"),
    (
        "n_pairs",
        pl.Int64,
        "seeds with both an adversarial and a noisy similarity; paired statistics rest on them",
    ),
    ("adversarial_mean", pl.Float64, "mean similarity under the attack"),
    ("adversarial_median", pl.Float64, "median similarity under the attack"),
    ("adversarial_std", pl.Float64, "sample standard deviation of the similarity under the attack"),
    ("noise_mean", pl.Float64, "mean similarity under noise"),
    ("noise_median", pl.Float64, "median similarity under noise"),
    ("noise_std", pl.Float64, "sample standard deviation of the similarity under noise"),
    ("floor", pl.Float64, "mean similarity of clean attributions of different seeds: what a lost map scores"),
    ("n_floor", pl.Int64, "pairs of seeds behind the floor"),
    (
        "ceiling",
        pl.Float64,
        "mean similarity of clean attributions and the same computed again with other rounding: what nothing scores",
    ),
    ("ceiling_least", pl.Float64, "the least of these similarities"),
    ("n_ceiling", pl.Int64, "seeds behind the ceiling"),
    ("threshold", pl.Float64, "tau: median similarity under noise; below it a layer is compromised"),
    ("compromised_fraction", pl.Float64, "share of adversarial variants below the threshold"),
    ("compromised_low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("compromised_high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("auc", pl.Float64, "P(adversarial similarity < noisy similarity of the same seed) + half the ties"),
    ("auc_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("auc_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    ("difference_mean", pl.Float64, "mean of noisy minus adversarial similarity, per seed"),
    ("difference_low", pl.Float64, "lower end of its 95 % t interval"),
    ("difference_high", pl.Float64, "upper end of its 95 % t interval"),
    ("wilcoxon_p", pl.Float64, "two-sided Wilcoxon signed-rank p of that difference"),
    ("wilcoxon_p_holm", pl.Float64, "the same, Holm-corrected over the layers of this target and strength"),
    ("gain", pl.Float64, "noise-equivalent gain: noise that moves the layer's map as far, over the attack (L2)"),
    ("gain_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("gain_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    (
        "gain_censored",
        pl.String,
        "above: gain is a lower bound ('> g'); below: an upper bound; null: measured",
    ),
    ("gain_low_censored", pl.String, "the same for the lower end of the interval"),
    ("gain_high_censored", pl.String, "the same for the upper end of the interval"),
    (
        "gain_undefined_reason",
        pl.String,
        "rounding: the median deviation under attack or noise does not exceed 1 - ceiling, or the maps are nothing but "
        "rounding; there is no gain and no rank",
    ),
    (
        "rank",
        pl.Int64,
        "rank by gain among the layers, 1 = highest; ties, which bounds make, go by the lower end of the interval and "
        "then share the smallest; null below 6 images, or below half of those of the best measured layer",
    ),
    ("rank_low", pl.Int64, "lower end of its bootstrap 95 % interval"),
    ("rank_high", pl.Int64, "upper end of its bootstrap 95 % interval"),
    summary="One row per target, strength and layer: the statistics.",
    additions=("ceiling", "ceiling_least", "n_ceiling", "gain_undefined_reason"),
)

COUNTS: Final = table(
    "counts",
    "explanation x metric x target x strength x number of compromised layers",
    ("explanation", pl.String, "how a layer is explained: gradcam, ..."),
    ("metric", pl.String, "how two attributions are compared: cosine, ..."),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("n_compromised", pl.Int64, "number of compromised layers, 0 to all (undefined ones do not count)"),
    ("n_seeds", pl.Int64, "adversarial examples that compromise so many"),
    summary="One row per target, strength and number of compromised layers.",
)

COVERAGE: Final = table(
    "coverage",
    "seeds so far x condition x strength",
    ("step", pl.Int64, "readable seeds so far, from 1"),
    ("seed_id", pl.String, "the seed that was added in this step"),
    (
        "condition",
        pl.String,
        "clean, adversarial or noise; the last two count clean seeds and their variants",
    ),
    ("strength", pl.Float64, "factor s; 0 for clean"),
    ("covered", pl.Int64, "neurons covered so far"),
    ("total", pl.Int64, "neurons of the model"),
    summary="One row per seed so far, condition and strength.",
)

CONTROLS: Final = table(
    "controls",
    "control x quantity x target x strength x layer",
    ("control", pl.String, "which control"),
    ("quantity", pl.String, "what was measured"),
    ("target", pl.String, "whose class is explained; null if it does not matter"),
    ("strength", pl.Float64, "factor s; null if all"),
    ("layer", pl.String, "dotted name of the convolution; null if all"),
    ("value", pl.Float64, "the quantity"),
    ("low", pl.Float64, "lower end of its 95 % interval"),
    ("high", pl.Float64, "upper end of its 95 % interval"),
    ("n", pl.Int64, "seed images behind it"),
    ("expected", pl.Float64, "what it should be if nothing is wrong; null if nothing is expected"),
    summary="One row per control, quantity, target, strength and layer.",
)

_TABLES: Final = (SEEDS, VARIANTS, SIMILARITY, FOCUS, FLOOR, LAYERS, COUNTS, COVERAGE, CONTROLS)
TABLES: Final = {t.name: t for t in _TABLES}
