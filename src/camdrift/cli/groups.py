"""The groups of the help."""

from typing import Final

# The groups of the help, and the options in each.
GROUPS: Final = {
    "What is studied": (
        "model", "weights", "head", "models", "attack", "adversarial", "surrogate", "surrogate-weights", "limit",
        "sample",
    ),
    "How it is fuzzed": (
        "frameworks", "criterion", "budget", "trials", "constraint", "oracle", "mutators", "as-released", "study",
    ),
    "How": (
        "criteria", "profile", "meaning", "judge", "strengths", "target", "explain", "similarity", "layers",
        "noise-draws", "noise-ladder", "denoised", "lime", "lime-design", "perturb", "rng-seed", "align", "cross",
        "trust",
    ),
    "Where the results go": ("out", "name", "resume", "overwrite", "gallery", "open", "json"),
    "On which machine": (
        "device", "precision", "batch-size", "chunk-size", "engine", "address", "workers",
    ),
}  # fmt: skip
