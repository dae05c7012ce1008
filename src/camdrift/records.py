"""Tables of a study: every column with its type and meaning, documented once, here.

A value that does not exist is null, never NaN, 0 or an empty string.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

SCHEMA_VERSION: Final = 4

CLEAN: Final = "clean"
ADVERSARIAL: Final = "adversarial"
NOISE: Final = "noise"
# Controls, in table `emulation` only.
SPECTRUM_NOISE: Final = "spectrum_noise"
CHANNEL_NOISE: Final = "channel_noise"
UNPERTURBED: Final = "unperturbed"

ANALYSED: Final = "analysed"
NO_ADVERSARIAL: Final = "no_adversarial"
UNREADABLE: Final = "unreadable"
FAILED: Final = "failed"

ZERO_MAP_SEED: Final = "zero_map_seed"
ZERO_MAP_VARIANT: Final = "zero_map_variant"
NON_FINITE_MAP: Final = "non_finite_map"
# In table `denoised`, where an image is held against its own copy.
ZERO_MAP_IMAGE: Final = "zero_map_image"
ZERO_MAP_DENOISED: Final = "zero_map_denoised"

HOLDS: Final = "holds"
ARTEFACT: Final = "artefact"
FAILS: Final = "fails"
UNDECIDED: Final = "undecided"

CENSORED_ABOVE: Final = "above"
CENSORED_BELOW: Final = "below"

DEFAULT_STRENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
DEFAULT_NOISE_LADDER: Final = (8.0, 16.0, 32.0)
TARGETS: Final = ("own", "seed", "label")
DEFAULT_TARGETS: Final = ("own", "seed")

# What a detector holds an image's maps against: the clean image's maps, or those of its own denoised copy.
SEED_REFERENCE: Final = "seed"
DENOISED_REFERENCE: Final = "denoised"


# pl.DataType and pl.Schema, which beartype refuses because polars prints them in two ways.
PolarsType = Any
PolarsSchema = Any


@dataclass(frozen=True)
class Column:
    """One column: its name, its polars type, and what it says."""

    name: str
    dtype: PolarsType
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table: its name, what a row stands for, and its columns in order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> PolarsSchema:
        """Column names and types, as polars wants them."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def frame(self, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None) -> pl.DataFrame:
        """A data frame of this table from rows, or from columns, with exactly its columns and types.

        Args:
            rows: A list of rows, or a mapping of column name to values; columns left out are null.

        Raises:
            ValueError: A column this table does not have.
        """
        data = rows if rows is not None else []
        names = set(data) if isinstance(data, Mapping) else {name for row in data for name in row}
        if unknown := sorted(names - set(self.schema)):
            raise ValueError(f"table `{self.name}` has no column {unknown}, got: {sorted(names)}")
        if not isinstance(data, Mapping):
            return pl.DataFrame(list(data), schema=self.schema, orient="row")
        given = pl.DataFrame(dict(data), schema_overrides={n: t for n, t in self.schema.items() if n in data})
        missing = [pl.lit(None, dtype=t).alias(n) for n, t in self.schema.items() if n not in data]
        return given.with_columns(missing).select(self.schema.names())


def _table(name: str, row: str, *columns: tuple[str, Any, str]) -> Table:
    return Table(name, row, tuple(Column(n, t() if isinstance(t, type) else t, m) for n, t, m in columns))


SEEDS: Final = _table(
    "seeds",
    "seed image",
    ("seed_id", pl.String, "name of the seed image: its path below the folder that was studied"),
    ("path", pl.String, "file it was read from"),
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
    ("survives_uint8", pl.Boolean, "does the adversarial image still fool the model when rounded to 8 bits?"),
)

VARIANTS: Final = _table(
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
)

SIMILARITY: Final = _table(
    "similarity",
    "seed x condition x strength x draw x target x layer",
    ("seed_id", pl.String, "seed image"),
    ("condition", pl.String, "adversarial or noise"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("draw", pl.Int64, "noise draw, from 0; 0 for adversarial"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("layer_label", pl.String, "display name (the paper's on VGG-16, else the layer's own)"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
    (
        "similarity",
        pl.Float64,
        "cosine of the seed's and the variant's attribution, in [0, 1]; null if undefined",
    ),
    ("undefined_reason", pl.String, "zero_map_seed, zero_map_variant or non_finite_map where similarity is null"),
)

FOCUS: Final = _table(
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
)

FOCUS_MEASURES: Final = tuple(column.name for column in FOCUS.columns[7:])

FLOOR: Final = _table(
    "floor",
    "pair of different seeds x target x layer",
    ("seed_id", pl.String, "seed image"),
    ("other_seed_id", pl.String, "the unrelated seed image that it is held against"),
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("layer", pl.String, "dotted name of the convolution"),
    ("similarity", pl.Float64, "cosine of the two clean attributions; null if either is all zero"),
)

LAYERS: Final = _table(
    "layers",
    "target x strength x layer",
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
    ("gain", pl.Float64, "noise-equivalent gain: noise that moves the layer as far, over the attack (L2)"),
    ("gain_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("gain_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
    (
        "gain_censored",
        pl.String,
        "above: gain is a lower bound ('> g'); below: an upper bound; null: measured",
    ),
    ("gain_low_censored", pl.String, "the same for the lower end of the interval"),
    ("gain_high_censored", pl.String, "the same for the upper end of the interval"),
    ("rank", pl.Int64, "rank by gain among the layers, 1 = highest; ties share the smallest"),
    ("rank_low", pl.Int64, "lower end of its bootstrap 95 % interval"),
    ("rank_high", pl.Int64, "upper end of its bootstrap 95 % interval"),
)

COUNTS: Final = _table(
    "counts",
    "target x strength x number of compromised layers",
    ("target", pl.String, "whose class is explained: own, seed or label"),
    ("strength", pl.Float64, "factor s on the base perturbation"),
    ("n_compromised", pl.Int64, "number of compromised layers, 0 to all (undefined ones do not count)"),
    ("n_seeds", pl.Int64, "adversarial examples that compromise so many"),
)

COVERAGE: Final = _table(
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
)

EMULATION: Final = _table(
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

LADDER: Final = _table(
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

CLAIMS: Final = _table(
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

CONTROLS: Final = _table(
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
)

DENOISED: Final = _table(
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

DETECTION: Final = _table(
    "detection",
    "reference x run trained on x run tested on x negative x target x strength (camdrift detect, camdrift reproduce)",
    *_DETECTOR,
    ("n_seeds", pl.Int64, "seed images behind it"),
    ("n_images", pl.Int64, "images judged, adversarial and not"),
    ("auc", pl.Float64, "P(score of an adversarial image > score of another) + half the ties, out of fold"),
    ("auc_low", pl.Float64, "lower end of its bootstrap 95 % interval"),
    ("auc_high", pl.Float64, "upper end of its bootstrap 95 % interval"),
)

ROC: Final = _table(
    "roc",
    "corner of the ROC curve of a row of `detection` (camdrift detect, camdrift reproduce)",
    *_DETECTOR,
    ("false_positive_rate", pl.Float64, "share of the other images that the detector takes for adversarial"),
    ("true_positive_rate", pl.Float64, "share of the adversarial images that it takes for adversarial"),
)

_STUDY_TABLES: Final = (SEEDS, VARIANTS, SIMILARITY, FOCUS, FLOOR, LAYERS, COUNTS, COVERAGE, CONTROLS)
TABLES: Final = {t.name: t for t in _STUDY_TABLES}
# Tables that only some run directories have.
FURTHER_TABLES: Final = {t.name: t for t in (EMULATION, LADDER, CLAIMS, DENOISED, DETECTION, ROC)}


@dataclass(frozen=True)
class LayerInfo:
    """A layer of a classifier, as `camdrift layers` prints it.

    Attributes:
        name: Dotted module name; `name:2` for the second call of a module that runs several times.
        label: Display name.
        kind: Type of the module.
        shape: (channels, height, width) of the activation.
        tap: Where the activation is taken, in words.
        note: Why the layer is left out by default; empty if it is taken.
    """

    name: str
    label: str
    kind: str
    shape: tuple[int, ...]
    tap: str
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the caller's callback.

    Attributes:
        stage: What is being done: attack, explain, write, statistics, report.
        seeds_done: Seeds finished, unreadable ones included.
        seeds_total: Seeds of the study.
        successes: Adversarial examples so far.
    """

    stage: str
    seeds_done: int
    seeds_total: int
    successes: int
