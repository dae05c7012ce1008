"""Measures of a study: explanations and metrics, which of them go together, and the tables of the first pair.

A new explanation or metric is a function in `explanations/` and a row here.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

import polars as pl

from camdrift.errors import UserError
from camdrift.tables.reading import Stored, collected
from camdrift.tables.study import MEASURE

# Names of all rows below, for completion.
ExplanationName = Literal[
    "gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam", "ablationcam", "activation"
]
MapMetricName = Literal["cosine", "pearson", "spearman", "ssim", "topk-iou", "emd", "centroid", "relative-error"]
MetricName = MapMetricName | Literal["cka"]

ACTIVATION: Final = "activation"
# Captum's layer attributions are named `captum:CLASS`, with settings if wanted.
CAPTUM: Final = "captum"
# `activation` goes with this metric whether that was asked for or not (Khalooei 2022).
RELATIVE_ERROR: Final = "relative-error"

# An explanation is computed from activations and the gradients of one backward pass, which all of this kind share;
# from activations alone; or from passes of its own.
GRADIENTS: Final = "gradients"
ACTIVATIONS: Final = "activations"
PASSES: Final = "passes"

# A metric compares maps, representations, or both.
MAPS: Final = "maps"
REPRESENTATIONS: Final = "representations"


class ExplanationRow(NamedTuple):
    """One explanation.

    Attributes:
        name: Its name in `--explain` and in the column `explanation`.
        title: Its name for a reader.
        formula: Its map, from the activation A and the gradient G of the explained class's logit.
        source: The publication.
        kind: `GRADIENTS`, `ACTIVATIONS` or `PASSES`.
        function: Place of its function below `camdrift.explanations`.
    """

    name: ExplanationName
    title: str
    formula: str
    source: str
    kind: str
    function: str


class MetricRow(NamedTuple):
    """One metric.

    Attributes:
        name: Its name in `--similarity` and in the column `metric`.
        title: Its name for a reader.
        meaning: The number that it takes from two maps.
        range: Its smallest and its largest value.
        resolution: Size at which maps are compared.
        operands: `MAPS`, `REPRESENTATIONS` or both.
        function: Place of its function below `camdrift.explanations`.
    """

    name: MetricName
    title: str
    meaning: str
    range: str
    resolution: str
    operands: tuple[str, ...]
    function: str


_EXPLANATION_ROWS: Final = (
    ExplanationRow(
        "gradcam", "Grad-CAM", "sum_k mean(G_k) A_k", "Selvaraju 2017", GRADIENTS, "gradient.grad_cam"
    ),
    ExplanationRow(
        "gradcam++", "Grad-CAM++", "sum_k w_k A_k, w_k = sum_ij ReLU(G_ij) / (2 + G_ij sum A_k)", "Chattopadhay 2018",
        GRADIENTS, "gradient.grad_cam_pp"
    ),
    ExplanationRow(
        "xgradcam", "XGrad-CAM", "sum_k w_k A_k, w_k = sum_ij G_ij A_ij / sum A_k", "Fu 2020",
        GRADIENTS, "gradient.xgrad_cam"
    ),
    ExplanationRow(
        "hirescam", "HiResCAM", "sum_k G_k A_k, cell by cell", "Draelos 2020", GRADIENTS, "gradient.hires_cam"
    ),
    ExplanationRow(
        "layercam", "LayerCAM", "sum_k ReLU(G_k) A_k, cell by cell", "Jiang 2021", GRADIENTS, "gradient.layer_cam"
    ),
    ExplanationRow(
        "eigencam", "Eigen-CAM", "A projected on its first right singular vector", "Muhammad 2020",
        ACTIVATIONS, "representation.eigen_cam"
    ),
    ExplanationRow(
        "ablationcam", "Ablation-CAM", "sum_k w_k A_k, w_k = (y - y without channel k) / abs(y)", "Ramaswamy 2020",
        PASSES, "ablation.ablation_cam"
    ),
    ExplanationRow(
        ACTIVATION, "activation", "none: the representation A itself, as layer sustainability analysis uses it",
        "Khalooei 2022", ACTIVATIONS, "representation.activation"
    ),
)  # fmt: skip

_METRIC_ROWS: Final = (
    MetricRow("cosine", "cosine", "cosine", "[0, 1]", "the input's size", (MAPS,), "metrics.cosine"),
    MetricRow(
        "pearson", "Pearson correlation", "Pearson correlation over pixels", "[-1, 1]", "the input's size",
        (MAPS,), "metrics.pearson"
    ),
    MetricRow(
        "spearman", "Spearman correlation", "rank correlation over cells, ties at their mean rank", "[-1, 1]",
        "the layer's size", (MAPS,), "metrics.spearman"
    ),
    MetricRow(
        "ssim", "SSIM", "structural similarity of maps scaled to a peak of 1, range fixed to 1 (Wang 2004)",
        "[-1, 1]", "the input's size", (MAPS,), "metrics.ssim"
    ),
    MetricRow(
        "topk-iou", "overlap of the largest fifth (IoU)", "intersection over union of the largest fifth of the cells",
        "[0, 1]", "the layer's size", (MAPS,), "metrics.topk_iou"
    ),
    MetricRow(
        "emd", "1 \N{MINUS SIGN} earth mover's distance", "1 - earth mover's distance in sides of the image (POT)",
        "[1 - sqrt(2), 1]", "at most 14 x 14", (MAPS,), "metrics.emd"
    ),
    MetricRow(
        "centroid", "1 \N{MINUS SIGN} distance of centres", "1 - distance of the centres of mass in sides of the image",
        "[1 - sqrt(2), 1]", "the layer's size", (MAPS,), "metrics.centroid"
    ),
    MetricRow(
        RELATIVE_ERROR, "1 \N{MINUS SIGN} relative error", "1 - norm of the change over norm of the clean map",
        "up to 1", "the input's size", (MAPS, REPRESENTATIONS), "metrics.relative_error"
    ),
    MetricRow(
        "cka", "CKA", "linear centred kernel alignment, positions as samples; of `activation` alone", "[0, 1]",
        "the layer's size", (REPRESENTATIONS,), "metrics.cka"
    ),
)  # fmt: skip

EXPLANATION_ROWS: Final[Mapping[str, ExplanationRow]] = {row.name: row for row in _EXPLANATION_ROWS}
METRIC_ROWS: Final[Mapping[str, MetricRow]] = {row.name: row for row in _METRIC_ROWS}

EXPLANATIONS: Final = tuple(EXPLANATION_ROWS)
GRADIENT_BASED: Final = tuple(row.name for row in _EXPLANATION_ROWS if row.kind == GRADIENTS)
METRICS: Final = tuple(METRIC_ROWS)
MAP_METRICS: Final = tuple(row.name for row in _METRIC_ROWS if MAPS in row.operands)
REPRESENTATION_METRICS: Final = tuple(row.name for row in _METRIC_ROWS if REPRESENTATIONS in row.operands)


class Measure(NamedTuple):
    """One way to say how far a layer's map has moved.

    Attributes:
        explanation: How the layer is explained: one of `EXPLANATIONS`, or `captum:CLASS`, with settings if wanted.
        metric: How two attributions are compared: one of `METRICS`.
    """

    explanation: str
    metric: str

    @property
    def words(self) -> tuple[str, str]:
        """Both as a reader knows them."""
        explanation, metric = EXPLANATION_ROWS.get(self.explanation), METRIC_ROWS.get(self.metric)
        return explanation.title if explanation else self.explanation, metric.title if metric else self.metric


def measures(explanations: Sequence[str], metrics: Sequence[str]) -> tuple[Measure, ...]:
    """Every explanation with every metric that suits it, in the order of the arguments.

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
    _check_names("explain", explanations, EXPLANATIONS)
    _check_names("similarity", metrics, METRICS)
    pairs = tuple(
        Measure(explanation, metric) for explanation in explanations for metric in _suited(explanation, metrics)
    )
    for metric in metrics:
        if metric not in {pair.metric for pair in pairs}:
            kind = "a map" if metric in MAP_METRICS else f"`{ACTIVATION}`"
            raise UserError(f"`similarity` {metric} must come with {kind} in `explain`, got: {', '.join(explanations)}")
    for explanation in explanations:
        if explanation not in {pair.explanation for pair in pairs}:
            raise UserError(
                f"`explain` {explanation} must come with a metric of maps, got: {', '.join(metrics)}",
                f"metrics of maps: {', '.join(MAP_METRICS)}",
            )
    return pairs


def _suited(explanation: str, metrics: Sequence[str]) -> list[str]:
    """The metrics that go with an explanation."""
    if explanation != ACTIVATION:
        return [metric for metric in metrics if metric in MAP_METRICS]
    return [metric for metric in REPRESENTATION_METRICS if metric in metrics or metric == RELATIVE_ERROR]


def _check_names(option: str, names: Sequence[str], choices: Sequence[str]) -> None:
    """Raise `UserError` unless the names of an option are some of the choices, each once."""
    if not names or len(set(names)) < len(names):
        raise UserError(f"`{option}` must be one or more names, each once, got: {', '.join(names) or 'none'}")
    for name in names:
        if name in choices or (option == "explain" and name.startswith(f"{CAPTUM}:")):
            continue
        near = get_close_matches(name.lower(), choices, n=1)
        also = f", {CAPTUM}:CLASS" if option == "explain" else ""
        hint = f"did you mean {near[0]}?" if near else ""
        raise UserError(f"`{option}` must be one of {', '.join(choices)}{also}, got: {name}", hint)


def of_first_measure(tables: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    """The tables with the rows of their first measure alone: that of figures, controls, gallery and detectors.

    Args:
        tables: Tables by name; one without measures stays as it is. What is not read yet stays so.
    """
    if isinstance(tables, Stored):
        return Stored({name: first_measure(table) for name, table in tables.scans.items()})
    return {name: collected(first_measure(table.lazy())) for name, table in tables.items()}


def first_measure(table: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the first measure of a table."""
    if not set(MEASURE) <= set(table.collect_schema()):
        return table
    first = collected(table.select(MEASURE).head(1))
    return table.filter(pl.col(name).eq_missing(pl.lit(value)) for name in MEASURE for value in first[name])
