"""The questions about coverage in numbers: rows of the table `meaning` without their verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.statistics.bootstrap import Ints, percentile_interval
from camdrift.statistics.estimates import holm
from camdrift.statistics.naturalness import evenness, evenness_null, frechet, kid
from camdrift.statistics.placement import placements
from camdrift.statistics.suites import Association, middle_range, permutation_p
from camdrift.statistics.trials import a12, mann_whitney_p
from camdrift.streams import stream_seed
from camdrift.tables.arrays import Flags, Floats
from camdrift.tables.meaning import (
    FAILURES_QUESTION,
    GUIDANCE_QUESTION,
    IMPARTIALITY_QUESTION,
    LAYERS_QUESTION,
    NATURALNESS_QUESTION,
)
from camdrift.tables.table import Row

Ends = tuple[float, float]
NO_INTERVAL: Final[Ends] = (np.nan, np.nan)
# Frameworks that mutate as DeepHunter does, so that they differ from it in what they keep alone.
GUIDED: Final = "deephunter"
GUIDANCE_CONTROLS: Final = ("random", "keep-all", "keep-random", "margin", "gini")
# Other mutants, so that a difference from a control is not one of guidance.
OTHERS: Final = ("dlfuzz", "tensorfuzz", "deepxplore")
UNIQUE_COUNT: Final = "seed_classes"
_REPLICATES: Final = 2000
# Fewer failures say nothing of the layers where they take hold.
FEWEST_FAILURES: Final = 8
ALL_LAYERS: Final = "all layers"


def meaning_row(question: str, setting: str, measure: str, estimate: float, n: int, **others: Any) -> Row:
    """A row of the table `meaning`; NaN becomes null.

    Args:
        question: One of `QUESTION_WORDS`.
        setting: What it is about.
        measure: What the estimate is.
        estimate: Its value; NaN where it has none.
        n: Number behind it.
        **others: `criterion`, `interval`, `null`, `p_value`, `p_holm`, and `reason` where there is no value.
    """
    low, high = others.pop("interval", NO_INTERVAL)
    null_low, null_high = others.pop("null", NO_INTERVAL)
    reason = others.pop("reason", None)
    row: Row = {
        "question": question,
        "criterion": None,
        "setting": setting,
        "measure": measure,
        "estimate": estimate,
        "low": low,
        "high": high,
        "null_low": null_low,
        "null_high": null_high,
        "p_value": None,
        "p_holm": None,
        "n": n,
        "undefined_reason": reason if np.isnan(estimate) else None,
        **others,
    }
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}


def with_holm(rows: Sequence[Row]) -> list[Row]:
    """The rows with Holm's correction over criteria; of guidance, impartiality and layers over their settings."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        is_whole = row["question"] in (GUIDANCE_QUESTION, IMPARTIALITY_QUESTION)
        is_layer = row["question"] == LAYERS_QUESTION and row["setting"] != ALL_LAYERS
        setting = "" if is_whole or is_layer else row["setting"]
        criterion = row.get("criterion") if is_layer else None
        groups.setdefault((row["question"], setting, row["measure"], criterion), []).append(place)
    results = [dict(row) for row in rows]
    for places in groups.values():
        values = np.array([np.nan if (p := rows[place].get("p_value")) is None else p for place in places])
        for place, value in zip(places, holm(values), strict=True):
            results[place]["p_holm"] = None if np.isnan(value) else float(value)
    return results


def failure_rows(results: Sequence[Association], is_failure: Flags) -> list[Row]:
    """Rows on the correlation of coverage and failures over suites.

    Args:
        results: The correlations.
        is_failure: Which images of the pool fail.
    """
    reason = "coverage or failures are the same in every suite"
    if not is_failure.any() or is_failure.all():
        reason = f"{'every' if is_failure.any() else 'no'} image of the pool fails"
    return [
        meaning_row(
            FAILURES_QUESTION,
            each.kind,
            f"spearman, {each.outcome}",
            each.estimate,
            len(is_failure),
            criterion=each.criterion,
            interval=each.interval,
            null=each.null,
            p_value=each.p_value,
            reason=reason,
        )
        for each in results
    ]


def guidance_rows(growth: pl.DataFrame, criterion: str | None, *, rng_seed: int) -> list[Row]:
    """Rows on the guided framework against each control, by pairs of seed and wrong class over trials.

    Args:
        growth: Table `growth`.
        criterion: The campaign's criterion.
        rng_seed: Seed of the bootstrap over trials.
    """
    finals = growth.group_by("framework", "trial", maintain_order=True).last()
    values = {
        name.partition("(")[0]: part[UNIQUE_COUNT].to_numpy().astype(np.float64)
        for (name,), part in finals.group_by("framework", maintain_order=True)
    }
    own, rows = values.get(GUIDED), []
    for name in GUIDANCE_CONTROLS:
        other = values.get(name)
        size = 0 if own is None or other is None else min(len(own), len(other))
        estimate, interval, p_value = np.nan, NO_INTERVAL, np.nan
        if own is None:
            reason = f"no trial of {GUIDED}, the framework that differs from the controls in its guidance alone"
        elif other is None:
            reason = f"the control {name} is missing"
        else:
            reason = "one trial: no statement about differences"
        if own is not None and other is not None and size > 1:
            rng = np.random.default_rng(stream_seed(rng_seed, name, "a12"))
            estimate, interval = a12(own.tolist(), other.tolist()), _a12_interval(own, other, rng)
            p_value = mann_whitney_p(own, other)
        setting = f"{GUIDED} against {name}"
        more = {"criterion": criterion, "interval": interval, "p_value": p_value, "reason": reason}
        rows.append(meaning_row(GUIDANCE_QUESTION, setting, "a12", estimate, size, **more))
    for name in (name for name in OTHERS if name in values):
        reason = "it makes other mutants than the controls do, so that a difference is not one of guidance alone"
        setting = f"{name} against the controls"
        rows.append(meaning_row(GUIDANCE_QUESTION, setting, "a12", np.nan, 0, criterion=criterion, reason=reason))
    return rows


def _a12_interval(own: Floats, other: Floats, rng: np.random.Generator) -> Ends:
    draws = [rng.choice(each, size=(_REPLICATES, len(each))) for each in (own, other)]
    above = (draws[0][:, :, None] > draws[1][:, None]) + 0.5 * (draws[0][:, :, None] == draws[1][:, None])
    return middle_range(above.mean((1, 2)))


def mean_over_seeds(values: Floats, seeds: Ints, rng: np.random.Generator) -> tuple[float, Ends]:
    """Mean of some images with its bootstrap interval over seeds; NaN for no image, no interval for one seed.

    Args:
        values: One an image; NaN where undefined, which are left out.
        seeds: Place of each image's seed.
        rng: Random numbers.
    """
    is_defined = ~np.isnan(values)
    values, seeds = values[is_defined], seeds[is_defined]
    if not len(values):
        return np.nan, NO_INTERVAL
    names, places = np.unique(seeds, return_inverse=True)
    if len(names) == 1:
        return float(values.mean()), NO_INTERVAL
    totals, counts = np.bincount(places, values), np.bincount(places)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_REPLICATES)
    interval = percentile_interval((draws @ totals) / (draws @ counts))
    return float(values.mean()), (float(interval.low), float(interval.high))


def distance_rows(setting: str, one: Floats, clean: Floats, seeds: tuple[Ints, Ints]) -> list[Row]:
    """Rows on the distance of features of some images from those of clean ones.

    Args:
        setting: The kind of images.
        one: Features of the images (images, features); empty without a judge.
        clean: Those of clean images.
        seeds: Seeds of both.
    """
    features = clean.shape[1] if clean.ndim == 2 else 0
    size = min(len(one), len(clean))
    no_judge = "no judge: --judge SPEC names another model"
    few = no_judge if not features else "fewer than two images"
    close = no_judge if not features else f"{size:,} images for {features:,} features: a covariance needs more"
    distance = frechet(one, clean) if features and size > features else np.nan
    discrepancy = kid(one, clean, seeds) if features and size > 1 else np.nan
    return [
        meaning_row(NATURALNESS_QUESTION, setting, "kid", discrepancy, len(one), reason=few),
        meaning_row(NATURALNESS_QUESTION, setting, "frechet", distance, len(one), reason=close),
    ]


def impartiality_row(setting: str, classes: Ints, clean: Ints, n_classes: int, *, rng_seed: int) -> Row:
    """The row on how evenly the wrong classes of some failures are spread.

    Args:
        setting: The kind of failures.
        classes: Wrong class of each.
        clean: Predicted classes of the clean seeds, of which suites as large are drawn.
        n_classes: Number of classes.
        rng_seed: Seed of the draws.
    """
    if not len(classes):
        return meaning_row(IMPARTIALITY_QUESTION, setting, "evenness", np.nan, 0, reason="no failure")
    rng = np.random.default_rng(stream_seed(rng_seed, setting, "evenness"))
    estimate = evenness(np.bincount(classes, minlength=n_classes))
    null = evenness_null(np.bincount(clean, minlength=n_classes), len(classes), _REPLICATES, rng)
    more = {"null": middle_range(null), "p_value": permutation_p(estimate, null), "reason": "one class"}
    return meaning_row(IMPARTIALITY_QUESTION, setting, "evenness", estimate, len(classes), **more)


def layer_rows(
    criterion: str, gains: Floats, onsets: Ints, layers: Sequence[str], draws: Mapping[str, int]
) -> list[Row]:
    """Rows on the gain of failures in the layer where they take hold.

    Args:
        criterion: Name of the criterion.
        gains: What each failure adds to each layer's coverage (failures, layers).
        onsets: Place of the layer where each takes hold.
        layers: Names of the layers.
        draws: `permutations` and `rng_seed`.
    """
    if len(onsets) < FEWEST_FAILURES:
        reason = f"{len(onsets)} failures take hold in a layer: {FEWEST_FAILURES} are the fewest that tell anything"
        more = {"criterion": criterion, "reason": reason}
        return [meaning_row(LAYERS_QUESTION, ALL_LAYERS, "correlation", np.nan, len(onsets), **more)]
    rng = np.random.default_rng(stream_seed(draws["rng_seed"], criterion, "onsets"))
    return [
        meaning_row(
            LAYERS_QUESTION,
            ALL_LAYERS if each.layer is None else layers[each.layer],
            "correlation",
            each.estimate,
            each.n,
            criterion=criterion,
            null=each.null,
            p_value=each.p_value,
            reason="all failures take hold in one layer, or add the same to it",
        )
        for each in placements(gains, onsets, draws["permutations"], rng)
    ]
