"""Measures of a study: which explanations are compared by which metrics, and the tables of the first of them."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

import polars as pl

from camdrift.errors import UserError
from camdrift.tables.reading import Stored, collected
from camdrift.tables.study import MEASURE

ACTIVATION: Final = "activation"
CAPTUM: Final = "captum"

# Computed from activations and the gradients of one backward pass.
GRADIENT_BASED: Final = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
EXPLANATIONS: Final = (*GRADIENT_BASED, "eigencam", "ablationcam", ACTIVATION)

MAP_METRICS: Final = (
    "cosine", "pearson", "spearman", "ssim", "topk-iou", "emd", "centroid", "relative-error",
)  # fmt: skip
REPRESENTATION_METRICS: Final = ("relative-error", "cka")
METRICS: Final = (*MAP_METRICS, "cka")


# As a reader knows them, and what each says.
EXPLANATION_NAMES: Final = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "Eigen-CAM",
    "ablationcam": "Ablation-CAM",
    ACTIVATION: "activation",
}
METRIC_NAMES: Final = {
    "cosine": "cosine",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "ssim": "SSIM",
    "topk-iou": "overlap of the largest fifth (IoU)",
    "emd": "1 \N{MINUS SIGN} earth mover's distance",
    "centroid": "1 \N{MINUS SIGN} distance of centres",
    "relative-error": "1 \N{MINUS SIGN} relative error",
    "cka": "CKA",
}


class Measure(NamedTuple):
    """One way to say how far a layer has moved.

    Attributes:
        explanation: How the layer is explained: one of `EXPLANATIONS`, or `captum:CLASS`, with settings if wanted.
        metric: How two attributions are compared: one of `METRICS`.
    """

    explanation: str
    metric: str

    @property
    def words(self) -> tuple[str, str]:
        """Both as a reader knows them."""
        return EXPLANATION_NAMES.get(self.explanation, self.explanation), METRIC_NAMES.get(self.metric, self.metric)


def measures(explanations: Sequence[str], metrics: Sequence[str]) -> tuple[Measure, ...]:
    """Every explanation with every metric that suits it, in the order given.

    Maps go with all metrics but `cka`, which compares representations. `activation` is a representation: it goes
    with `relative-error`, whether that was asked for or not (Khalooei 2022), and with `cka`.

    Args:
        explanations: Specs of explanations.
        metrics: Names of metrics.

    Raises:
        UserError: An unknown name, one given twice, or one that goes with none of the others.

    Example:
        >>> measures(["gradcam", "activation"], ["cosine"])[-1]
        Measure(explanation='activation', metric='relative-error')
    """
    for name, given, known in (("explain", explanations, EXPLANATIONS), ("similarity", metrics, METRICS)):
        if not given or len(set(given)) < len(given):
            raise UserError(f"`{name}` must be one or more names, each once, got: {', '.join(given) or 'none'}")
        for word in given:
            _check(name, word, known)
    found = [Measure(explanation, metric) for explanation in explanations for metric in _suited(explanation, metrics)]
    for metric in metrics:
        if metric not in {measure.metric for measure in found}:
            kind = f"`{ACTIVATION}`" if metric == "cka" else "a map"
            raise UserError(f"`similarity` {metric} must come with {kind} in `explain`, got: {', '.join(explanations)}")
    for explanation in explanations:
        if explanation not in {measure.explanation for measure in found}:
            raise UserError(
                f"`explain` {explanation} must come with a metric of maps, got: {', '.join(metrics)}",
                f"metrics of maps: {', '.join(MAP_METRICS)}",
            )
    return tuple(found)


def _suited(explanation: str, metrics: Sequence[str]) -> list[str]:
    if explanation != ACTIVATION:
        return [metric for metric in metrics if metric in MAP_METRICS]
    return [metric for metric in REPRESENTATION_METRICS if metric in metrics or metric != "cka"]


def _check(name: str, word: str, known: Sequence[str]) -> None:
    if word in known or (name == "explain" and word.startswith(f"{CAPTUM}:")):
        return
    near = get_close_matches(word.lower(), known, n=1)
    also = f", {CAPTUM}:CLASS" if name == "explain" else ""
    hint = f"did you mean {near[0]}?" if near else ""
    raise UserError(f"`{name}` must be one of {', '.join(known)}{also}, got: {word}", hint)


def of_first_measure(tables: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    """The tables with the rows of their first measure alone: that of figures, controls, gallery and detectors.

    Args:
        tables: Tables by name; one without measures stays as it is. What is not read yet stays so.
    """
    if isinstance(tables, Stored):
        return Stored({name: _first(table) for name, table in tables.scans.items()})
    return {name: collected(_first(table.lazy())) for name, table in tables.items()}


def _first(table: pl.LazyFrame) -> pl.LazyFrame:
    if not set(MEASURE) <= set(table.collect_schema()):
        return table
    first = collected(table.select(MEASURE).head(1))
    return table.filter(pl.col(name).eq_missing(pl.lit(value)) for name in MEASURE for value in first[name])
