"""The focus in words: sentences whose every number comes from table `focus`."""

from typing import Any

import numpy as np
import polars as pl

from camdrift.figures.focus import MEASURES
from camdrift.figures.scope import Scope, span
from camdrift.report.material import Material
from camdrift.report.numbers import between, fraction
from camdrift.statistics.focus import focus_medians, median_interval
from camdrift.tables.reading import Tables, collected, scan
from camdrift.tables.run_json import Record, effective
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, NOISE, count, strength_text

_OF = {"seed": "", "own": " for each image's own class", "label": " for the true class"}


def focus_section(material: Material) -> dict[str, Any]:
    """Values of template `focus`."""
    sentences = [] if material.nothing else focus_sentences(material.tables, material.record, material.scope)
    return {"focus": sentences, "measures": MEASURES}


def focus_sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    """The layers whose centre moves most and whose change follows the perturbation most, with intervals and n."""
    if not scope.targets:
        return []
    at = (pl.col("strength") == scope.reference) & (pl.col("target") == scope.targets[0])
    focus = collected(scan(tables, "focus").filter(at))
    rng_seed = int(effective(record).get("rng_seed") or 0)
    sentences = [_centre(focus, scope, rng_seed), _correlation(focus, scope, rng_seed)]
    return [sentence for sentence in sentences if sentence]


def _centre(focus: pl.DataFrame, scope: Scope, rng_seed: int) -> str:
    rows = _well_measured(focus, "centroid_shift")
    if not rows:
        return ""
    attack, noise, n = _both(focus, rows[0], rng_seed)
    return (
        f"At strength {strength_text(scope.reference)} the centre of the map{_OF.get(scope.targets[0], '')} moves most "
        f"at {rows[0]['layer_label']}: by {attack} of the image's side under the attack, by {noise} under noise of the "
        f"same size ({n})."
    )


def _correlation(focus: pl.DataFrame, scope: Scope, rng_seed: int) -> str:
    rows = _well_measured(focus, "perturbation_correlation")
    if not rows:
        return ""
    attack, noise, n = _both(focus, rows[0], rng_seed)
    text = (
        f"The map's change follows the perturbation most at {rows[0]['layer_label']}: a correlation of {attack} under "
        f"the attack, {noise} under noise"
    )
    middle = float(np.median([row["median"] for row in rows]))
    others = f"; the median of {count(len(rows), 'layer')} is {fraction(middle, 2)}" if len(rows) > 1 else ""
    return f"{text} ({n}){others}."


def _well_measured(focus: pl.DataFrame, measure: str) -> list[Row]:
    """Medians under the attack, largest first, of the layers with at least half as many seeds as the best."""
    rows = focus_medians(focus).filter(measure=measure, condition=ADVERSARIAL)
    enough = rows.filter(pl.col("n") > 0, 2 * pl.col("n") >= pl.col("n").max())
    return enough.sort(pl.col("median"), -pl.col("layer_index"), descending=True).to_dicts()


def _both(focus: pl.DataFrame, row: Row, rng_seed: int) -> tuple[str, str, str]:
    """The median under the attack and under noise at one layer, each with its interval, and n."""
    words, counts = [], []
    for condition in (ADVERSARIAL, NOISE):
        values = focus.filter(condition=condition, layer=row["layer"]).sort("seed_id")[row["measure"]]
        samples = values.drop_nulls().to_numpy()
        middle = float(np.median(samples)) if samples.size else None
        interval = between(*(median_interval(values, rng_seed=rng_seed) or (None, None)))
        words.append(" ".join(filter(None, [fraction(middle, 2), interval])))
        counts.append(samples.size)
    return words[0], words[1], f"n = {span(counts)}"
