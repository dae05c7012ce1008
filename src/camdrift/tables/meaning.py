"""Is coverage meaningful in a campaign? The table of what was asked and what came out, and its words."""

from typing import Final

import polars as pl

from camdrift.tables.table import Table, table

# The questions, in the order in which they are told.
FAILURES_QUESTION: Final = "failures"
GUIDANCE_QUESTION: Final = "guidance"
REWARD_QUESTION: Final = "reward"
PUSH_QUESTION: Final = "push"
NATURALNESS_QUESTION: Final = "naturalness"
IMPARTIALITY_QUESTION: Final = "impartiality"
LAYERS_QUESTION: Final = "layers"
QUESTION_WORDS: Final = {
    FAILURES_QUESTION: "Does coverage predict failures beyond size and strength?",
    GUIDANCE_QUESTION: "Does guidance by coverage help?",
    REWARD_QUESTION: "What does coverage reward?",
    PUSH_QUESTION: "Does an attack that is pushed to more neurons succeed less?",
    NATURALNESS_QUESTION: "How natural are the images?",
    IMPARTIALITY_QUESTION: "Are failures spread over classes?",
    LAYERS_QUESTION: "Does coverage rise in the layer where failures take hold?",
}
# Kinds of suites: of one composition, or of any.
WITHIN, MIXED = "within strata", "mixed strata"

MEANING: Final = table(
    "meaning",
    "question, criterion, setting and measure",
    ("question", pl.String, f"What is asked: {', '.join(f'`{name}`' for name in QUESTION_WORDS)}."),
    ("criterion", pl.String, "Coverage criterion with its settings; null where the question is about none."),
    (
        "setting",
        pl.String,
        f"`{WITHIN}` or `{MIXED}` (failures); a pair of frameworks (guidance); a kind of image (reward, naturalness, "
        "impartiality); the weight of diversity (push); a layer, or `all layers` (layers).",
    ),
    (
        "measure",
        pl.String,
        "What `estimate` is: `spearman, failure rate`, `spearman, unique failures`, `a12`, `gain`, `success`, "
        "`coverage`, `ssim`, `l2`, `judge agreement`, `kid`, `frechet`, `evenness`, `correlation`.",
    ),
    ("estimate", pl.Float64, "Its value; null where it has none."),
    ("low", pl.Float64, "Lower end of its 95 % interval: bootstrap over seeds, or over trials (guidance)."),
    ("high", pl.Float64, "Upper end."),
    (
        "null_low",
        pl.Float64,
        "2.5 % quantile of the measure where there is nothing: failures permuted within strata (failures), clean "
        "predictions of as many images (impartiality), onsets permuted (layers); least of the repeats without "
        "diversity (push).",
    ),
    ("null_high", pl.Float64, "97.5 % quantile of the same; largest of the repeats (push)."),
    ("p_value", pl.Float64, "Two-sided p against the same; Mann-Whitney (guidance)."),
    ("p_holm", pl.Float64, "The same with Holm's correction over the rows of this question, setting and measure."),
    ("n", pl.Int64, "Images, pairs of trials (guidance) or failures (layers) behind it."),
    ("verdict", pl.String, "The result in a sentence; null where the row has none of its own."),
    ("undefined_reason", pl.String, "Why `estimate` is null; else null."),
)
MEANING_TABLES: Final[dict[str, Table]] = {MEANING.name: MEANING}
