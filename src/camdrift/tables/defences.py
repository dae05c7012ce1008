"""The tables of defences: what they keep, and at which layer the network comes back."""

from typing import Final

import polars as pl

from camdrift.tables.table import table

# Stages of a defence's evaluation.
CLEAN_STAGE: Final = "clean"
STATIC_STAGE: Final = "static"
NOISE_STAGE: Final = "noise"
ADAPTIVE_STAGE: Final = "adaptive"
# The defence that every other one is held against.
UNDEFENDED: Final = "none"
# What stands wherever a number of a defence stands whose adaptive attack is missing.
STATIC_ONLY: Final = "static only"
# Why there is no radius.
ABSTAINED: Final = "abstained: no class has a majority that is sure"
# Columns of table `restoration` that the noise of the run gives.
GAINS_LEFT: Final = (
    "gain",
    "gain_censored",
    "residual_gain",
    "residual_gain_low",
    "residual_gain_high",
    "residual_gain_censored",
    "residual_gain_low_censored",
    "residual_gain_high_censored",
)
# Why a restoration is undefined.
NOTHING_MOVED: Final = "no map that the attack moves"

_COMMAND: Final = "(camdrift defend)"
_DEFENCE: Final = ("defence", pl.String, "the purifier with its settings; none for the network without one")
_LAYER: Final = (
    ("layer", pl.String, "dotted name of the layer"),
    ("layer_label", pl.String, "display name"),
    ("layer_index", pl.Int64, "position in execution order, from 0"),
)
_STRENGTH: Final = ("strength", pl.Float64, "factor s on the base perturbation; 0 for clean")

DEFENCES_TABLE: Final = table(
    "defences",
    f"defence x stage x strength {_COMMAND}",
    _DEFENCE,
    (
        "stage",
        pl.String,
        "clean; static: the run's attack, which does not know the defence; noise: matched noise; adaptive: the worst "
        "case of each image over the static attack and attacks that know the defence",
    ),
    ("attack", pl.String, "the attacks, separated by semicolons; null for clean and noise"),
    _STRENGTH,
    ("eps", pl.Float64, "bound on the attack's perturbation at strength 1, in pixel units; null if it has none"),
    ("norm", pl.String, "norm of that bound; null if it has none"),
    ("correct", pl.Int64, "images whose prediction is that of the clean image without a defence"),
    ("n", pl.Int64, "images; those that the network predicts otherwise than their label are left out"),
    ("share", pl.Float64, "their share"),
    ("low", pl.Float64, "lower end of its Wilson 95 % interval"),
    ("high", pl.Float64, "upper end of its Wilson 95 % interval"),
    ("seconds", pl.Float64, "seconds per image: of the purifier, or of the attack"),
    ("steps", pl.Int64, "steps of the attack, where its spec says so"),
    ("restarts", pl.Int64, "restarts of the attack, where its spec says so"),
    ("eot", pl.Int64, "draws of a random purifier whose logits the attack averages; null for one that is not random"),
    ("rng_seed", pl.Int64, "seed of every random draw"),
    summary="What defences keep: clean, under the static attack, under attacks that know them.",
    is_replaced=True,
)

RESTORATION: Final = table(
    "restoration",
    f"defence x layer x strength x subset {_COMMAND}",
    _DEFENCE,
    *_LAYER,
    _STRENGTH,
    ("returned", pl.Boolean, "images whose prediction returned to the clean one, or did not; null: all of them"),
    ("deviation_attacked", pl.Float64, "median deviation of the attacked image's map from the clean one"),
    ("deviation_purified", pl.Float64, "the same of the attacked image behind the purifier"),
    ("deviation_clean_purified", pl.Float64, "the same of the clean image behind the purifier: what it does by itself"),
    ("deviation_noise", pl.Float64, "the same of the image with matched noise"),
    ("deviation_noise_purified", pl.Float64, "the same of that image behind the purifier"),
    ("restoration", pl.Float64, "1 - deviation_purified / deviation_attacked: 1 is back at the clean map, 0 no gain"),
    ("low", pl.Float64, "lower end of its bootstrap 95 % interval over seed images"),
    ("high", pl.Float64, "upper end of its bootstrap 95 % interval over seed images"),
    ("ceiling", pl.Float64, "1 - deviation_clean_purified / deviation_attacked: no more can be expected"),
    ("restoration_noise", pl.Float64, "1 - deviation_noise_purified / deviation_noise"),
    ("n", pl.Int64, "images with all maps"),
    ("undefined_reason", pl.String, "why restoration is null"),
    ("gain", pl.Float64, "noise-equivalent gain of the attack on these images; a bound where censored"),
    ("gain_censored", pl.String, "above: gain is a lower bound; below: an upper bound; null: measured"),
    (
        "residual_gain",
        pl.Float64,
        "L2 norm of the noise that moves the layer's map as far as it still is behind the purifier, over the attack's",
    ),
    ("residual_gain_low", pl.Float64, "lower end of its bootstrap 95 % interval over seed images"),
    ("residual_gain_high", pl.Float64, "upper end of its bootstrap 95 % interval over seed images"),
    ("residual_gain_censored", pl.String, "the same as gain_censored for residual_gain"),
    ("residual_gain_low_censored", pl.String, "the same for the lower end of its interval"),
    ("residual_gain_high_censored", pl.String, "the same for the upper end of its interval"),
    summary="At which layer a purified image's map comes back, and how much of the attack's leverage is left.",
    is_replaced=True,
    additions=GAINS_LEFT,
)

DEFENDED_IMAGES: Final = table(
    "defended_images",
    f"defence x stage x attack x strength x seed {_COMMAND}",
    _DEFENCE,
    ("stage", pl.String, "clean, static, noise or adaptive; adaptive: of this attack alone"),
    ("attack", pl.String, "the attack; null for clean and noise"),
    _STRENGTH,
    ("seed_id", pl.String, "seed image"),
    ("predicted_class", pl.Int64, "prediction behind the defence; null where the attack broke down"),
    ("is_correct", pl.Boolean, "is it that of the clean image without a defence?"),
    ("linf", pl.Float64, "largest change of an entry, in pixel units"),
    ("l2", pl.Float64, "L2 norm of the change, in pixel units"),
    ("within_threat", pl.Boolean, "does the change keep the attack's bound? null if it has none"),
    ("fault", pl.String, "what was wrong with the attack's gradient; null for nothing"),
    ("seconds", pl.Float64, "seconds of the purifier, or of the attack; those of a batch are shared equally"),
    summary="Predictions behind defences, image by image.",
    is_replaced=True,
)

PURIFIED_MAPS: Final = table(
    "purified_maps",
    f"defence x strength x seed x layer {_COMMAND}",
    _DEFENCE,
    _STRENGTH,
    ("seed_id", pl.String, "seed image, one that the attack fools"),
    *_LAYER,
    ("attacked", pl.Float64, "deviation of the attacked image's map from the clean one, class of the seed; null: none"),
    ("purified", pl.Float64, "of the attacked image behind the purifier"),
    ("clean_purified", pl.Float64, "of the clean image behind the purifier"),
    ("noise", pl.Float64, "of the image with matched noise"),
    ("noise_purified", pl.Float64, "of that image behind the purifier"),
    ("returned", pl.Boolean, "is the purified image predicted as the clean one?"),
    summary="How far maps lie from the clean ones, purified and not, image by image.",
    is_replaced=True,
)

SANITY: Final = table(
    "sanity",
    f"defence x check of its evaluation {_COMMAND}",
    _DEFENCE,
    ("check", pl.String, "the check"),
    ("passed", pl.Boolean, "did it pass? null: it could not be made"),
    ("detail", pl.String, "the numbers behind it"),
    summary="Checks that an evaluation of a defence can fail (Carlini et al., arXiv 1902.06705).",
    is_replaced=True,
)

CERTIFIED: Final = table(
    "certified",
    f"sigma x seed {_COMMAND} --certify",
    ("sigma", pl.Float64, "standard deviation of the noise, in pixel units"),
    ("seed_id", pl.String, "seed image"),
    ("clean_class", pl.Int64, "prediction for the clean image without noise"),
    ("predicted_class", pl.Int64, "class that noisy copies give most often, by draws of its own"),
    ("hits", pl.Int64, "draws that give it"),
    ("draws", pl.Int64, "draws of the noise"),
    ("clean_votes", pl.Int64, "draws that give the clean class"),
    ("p_low", pl.Float64, "lower bound of the probability of predicted_class (Clopper-Pearson, alpha 0.001)"),
    ("radius", pl.Float64, "L2 radius in pixel units within which it cannot change; null for an abstention"),
    ("undefined_reason", pl.String, "why radius is null"),
    summary="Randomised smoothing: the radius within which the smoothed class cannot change.",
    is_replaced=True,
)

DEFENCE_TABLES: Final = (DEFENCES_TABLE, RESTORATION, DEFENDED_IMAGES, PURIFIED_MAPS, SANITY, CERTIFIED)
