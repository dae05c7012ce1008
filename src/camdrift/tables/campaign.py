"""The tables of a fuzzing campaign."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from camdrift.tables.table import Table, table

_FRAMEWORK: Final = ("framework", pl.String, "Framework of the trial, as a spec.")
_TRIAL: Final = ("trial", pl.Int64, "Number of the trial, from 0 on; each has its own random numbers.")
_SEED: Final = ("seed_id", pl.String, "Name of the seed image.")
_OPERATOR: Final = ("operator", pl.String, "Operator of the last mutation; null for a seed.")
_PARAMETERS: Final = ("parameters", pl.String, "The last mutation as a spec, such as `rotate(degrees=3.5)`.")
_PARENT: Final = ("parent", pl.Int64, "Entry of the corpus that it was made of; null for a seed.")
_PASSES: Final = ("passes", pl.Int64, "Passes spent by then: 1 an image forward, 3 with the gradient, per model.")
_ITERATION: Final = ("iteration", pl.Int64, "Iteration that made it, from 1 on; 0 for a seed.")
_MOVED: Final = (
    "is_moved",
    pl.Boolean,
    "Was the picture moved? Then it keeps its label by convention only.",
)

STARTS: Final = table(
    "starts",
    "seed image of the campaign",
    _SEED,
    ("path", pl.String, "Path of its file."),
    ("sha256", pl.String, "Checksum of its file."),
    ("label", pl.Int64, "Its true class; null where unknown."),
    ("clean_class", pl.Int64, "The model's prediction."),
    ("clean_probability", pl.Float64, "Softmax probability of the prediction."),
    ("status", pl.String, "`fuzzed`, `left_out` (wrong at the start) or `unreadable`."),
    ("reason", pl.String, "Reason why it is not fuzzed; null otherwise."),
)

FAILURES_TABLE: Final = table(
    "failures",
    "failure: a valid mutant that the oracle objects to",
    _FRAMEWORK,
    _TRIAL,
    ("failure", pl.Int64, "Number of the failure in its trial, from 0 on."),
    _SEED,
    _PARENT,
    _OPERATOR,
    _PARAMETERS,
    ("chain", pl.List(pl.String), "All mutations from the seed to it, as specs."),
    ("streams", pl.List(pl.UInt64), "Seed of the random pixels of each mutation of the chain."),
    ("clean_class", pl.Int64, "Class that the seed has."),
    ("wrong_class", pl.Int64, "Class that the model sees; null where the oracle needs none."),
    ("probability", pl.Float64, "Softmax probability of the predicted class."),
    (
        "alone",
        pl.Int64,
        "Of three or more models the one that no other agrees with, 0 for `--model`; else null.",
    ),
    ("l2", pl.Float64, "L2 norm of its distance from the seed, moved as the picture was; pixel units."),
    ("linf", pl.Float64, "Largest change of an entry against the same."),
    ("changed", pl.Float64, "Share of entries that differ from the same, 0 to 1."),
    ("constraint_use", pl.Float64, "How much of the constraint it uses: 1 is all."),
    _MOVED,
    ("gain", pl.Float64, "What it added to the campaign's criterion at that moment; null without one."),
    ("is_new", pl.Boolean, "Is it the trial's first of its seed and wrong class, among moved or unmoved pictures?"),
    ("survives_uint8", pl.Boolean, "Does it fail as 8 bits store it? Null where it is not new."),
    ("image", pl.String, "File of its image below the run directory; null where it is not new."),
    ("onset", pl.String, "Layer from which on its map lies beyond matched noise; null: see `onset_reason`."),
    ("onset_index", pl.Int64, "Place of that layer, from 0 on."),
    ("onset_reason", pl.String, "Why there is no such layer: `not new`, `moved`, `within noise`, `undefined`."),
    _ITERATION,
    _PASSES,
)

GROWTH_TABLE: Final = table(
    "growth",
    "hundredth of the budget",
    _FRAMEWORK,
    _TRIAL,
    ("mark", pl.Int64, "Hundredths of the budget, 0 to 100; the row shows the first iteration that reaches them."),
    _PASSES,
    ("iterations", pl.Int64, "Iterations by then."),
    ("seconds", pl.Float64, "Wall time by then, without what others did; not repeatable."),
    ("criterion", pl.Float64, "Value of the campaign's criterion over all valid mutants and the seeds."),
    ("corpus", pl.Int64, "Entries of the corpus, seeds included."),
    ("mutants", pl.Int64, "Valid mutants that were judged."),
    ("failures", pl.Int64, "Failures."),
    ("failing_seeds", pl.Int64, "Seeds with at least one failure."),
    ("seed_classes", pl.Int64, "Different pairs of seed and wrong class."),
    ("class_pairs", pl.Int64, "Different pairs of clean and wrong class."),
    ("unmoved_seed_classes", pl.Int64, "Different pairs of seed and wrong class, of failures that were not moved."),
)

CORPUS: Final = table(
    "corpus",
    "entry of a trial's corpus",
    _FRAMEWORK,
    _TRIAL,
    ("entry", pl.Int64, "Number of the entry, seeds first."),
    _SEED,
    _PARENT,
    _OPERATOR,
    _PARAMETERS,
    ("stream", pl.UInt64, "Seed of the random pixels of the last mutation."),
    _MOVED,
    ("reason", pl.String, "Why it is kept: seed, coverage, chance, everything, or the network's uncertainty."),
    ("gain", pl.Float64, "What it added to the campaign's criterion; null without one."),
    ("times", pl.Int64, "How often it was chosen as a parent."),
    _ITERATION,
    _PASSES,
)

MUTATORS: Final = table(
    "mutators",
    "operator of a trial",
    _FRAMEWORK,
    _TRIAL,
    _OPERATOR,
    ("tried", pl.Int64, "Mutants that it made."),
    ("valid", pl.Int64, "Those that the constraint allows, and that were judged."),
    ("kept", pl.Int64, "Those that joined the corpus."),
    ("failures", pl.Int64, "Failures among them."),
)

FRAMEWORKS_TABLE: Final = table(
    "frameworks",
    "framework and count of failures",
    _FRAMEWORK,
    (
        "count",
        pl.String,
        "What is counted: `failures`, `failing_seeds`, `seed_classes`, `class_pairs`, `unmoved_seed_classes`.",
    ),
    ("trials", pl.Int64, "Finished trials."),
    ("median", pl.Float64, "Median over the trials."),
    ("low", pl.Float64, "Lower end of its bootstrap 95 % interval over trials; null for one trial."),
    ("high", pl.Float64, "Upper end."),
    ("least", pl.Int64, "Smallest count."),
    ("most", pl.Int64, "Largest count."),
)

PAIRS: Final = table(
    "pairs",
    "pair of frameworks and count of failures",
    _FRAMEWORK,
    ("other", pl.String, "The other framework."),
    ("count", pl.String, "What is counted."),
    ("a12", pl.Float64, "Vargha-Delaney A12: chance that a trial of the first finds more, half the ties included."),
    ("p_value", pl.Float64, "Mann-Whitney U test, two-sided."),
    ("p_holm", pl.Float64, "The same with Holm's correction over all pairs of this count."),
)

CLUSTERS: Final = table(
    "clusters",
    "layer, clean class and wrong class of new failures",
    ("layer", pl.String, "Layer from which on maps lie beyond matched noise; null where they stay within it."),
    ("layer_index", pl.Int64, "Place of the layer, from 0 on."),
    ("clean_class", pl.Int64, "Class of the seeds."),
    ("wrong_class", pl.Int64, "Class that the model sees."),
    ("failures", pl.Int64, "New failures of all frameworks and trials in it."),
    ("seeds", pl.Int64, "Seeds among them."),
    ("share", pl.Float64, "Share of all new failures that were examined."),
    ("low", pl.Float64, "Lower end of its bootstrap 95 % interval over seeds."),
    ("high", pl.Float64, "Upper end."),
    ("example", pl.String, "File of the failure in its middle: the median distance from its seed."),
)

CAMPAIGN_TABLES: Final[Mapping[str, Table]] = {
    each.name: each
    for each in (STARTS, FAILURES_TABLE, GROWTH_TABLE, CORPUS, MUTATORS, FRAMEWORKS_TABLE, PAIRS, CLUSTERS)
}
# Counts of failures by which frameworks are compared.
FAILURE_COUNTS: Final = ("failures", "failing_seeds", "seed_classes", "class_pairs", "unmoved_seed_classes")
