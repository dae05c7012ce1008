"""Perturbations of one run on the model of another: what of a difference is the model's, and what the attack's.

With D(m, p) the deviation of a layer of model m under the perturbation that was found for model p, two runs differ by
D(b, b) - D(a, a). On the way from a to b either the maps change first and then the attack, or the other way round. The
part of each is the mean over both ways (Shapley's value of two players), so that both add up to the difference:

    maps   = ((D(b, a) - D(a, a)) + (D(b, b) - D(a, b))) / 2
    attack = ((D(a, b) - D(a, a)) + (D(b, b) - D(b, a))) / 2
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from os import PathLike
from typing import Any, Final

import numpy as np
import polars as pl
import scipy.stats

from camdrift.comparison.pairs import OnCross
from camdrift.comparison.sides import Side, sides_of
from camdrift.comparison.tables import Common, common_to
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.models.replicas import replicated
from camdrift.pipeline.chunk import noisy_seeds
from camdrift.pipeline.maps import explain_all
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.seeds import NoisySeed, in_hand
from camdrift.study.launch import ImageSource
from camdrift.study.recomputation import recomputation
from camdrift.study.study import Study, open_study
from camdrift.tables.comparison import BY_DEVIATION, CROSSED, FLIPPED
from camdrift.tables.reading import AnyFrame, collected
from camdrift.tables.study import MEASURE
from camdrift.tables.words import ADVERSARIAL, ANALYSED
from camdrift.tensors import Image

_KEYS: Final = ("quantity", "target", "strength", "layer", "layer_label", "layer_index")
_CELLS: Final = ("aa", "ab", "ba", "bb")
_PARTS: Final = {
    "difference": pl.col("bb") - pl.col("aa"),
    "maps": (pl.col("ba") - pl.col("aa") + pl.col("bb") - pl.col("ab")) / 2,
    "attack": (pl.col("ab") - pl.col("aa") + pl.col("bb") - pl.col("ba")) / 2,
}


@dataclass(frozen=True)
class _Bench:
    """A run's model, ready to be shown perturbations.

    Attributes:
        study: The run.
        plan: Its plan.
        seeds: Its analysed seeds by name, with their perturbations.
    """

    study: Study
    plan: Plan
    seeds: Mapping[str, NoisySeed]

    def answers(self, perturbations: Mapping[str, Image], show: Callable[[int], None]) -> dict[str, pl.DataFrame]:
        """The tables `similarity` and `variants` of these seeds under other perturbations."""
        device = self.plan.classifier.device
        seeds = [replace(self.seeds[name], perturbation=its.to(device)) for name, its in perturbations.items()]
        with self.plan.classifier.numerics(), replicated(self.plan.classifier, batch_size=self.plan.batch_size):
            result = explain_all(self.plan, seeds, {}, show, conditions=(ADVERSARIAL,))
        assert result.outcomes is not None
        return {"similarity": result.similarity, "variants": result.outcomes.variant_table(list(perturbations))}


def cross(
    *runs: Study | str | PathLike[str],
    classifiers: Sequence[Classifier | None] | None = None,
    images: ImageSource = None,
    trust: bool = False,
    on_cross: OnCross | None = None,
) -> pl.DataFrame:
    """Show every model the perturbations of the other runs, and return the parts of every difference.

    Perturbations are computed again as `verify` does; nothing is written.

    Args:
        runs: Finished studies or their run directories, of models that take the same pixels.
        classifiers: The model of each run; None for those of the records.
        images: Seed images; None for those of the records.
        trust: Also run Python code that a record names.
        on_cross: Called with what is done, in words, and how many of how many seeds.

    Returns:
        One row per pair of sides, quantity (`deviation`, `flipped`), target, strength and layer, as the table `crossed`
        of a comparison: the difference with its 95 % interval, and its parts `maps` and `attack`, which add up to it.

    Raises:
        UserError: A run cannot be computed again, or two take other pixels or share no seeds or layers.
    """
    studies = [run if isinstance(run, Study) else open_study(run) for run in runs]
    sides = sides_of(studies)
    return crossings(sides, common_to(sides), classifiers=classifiers, images=images, trust=trust, on_cross=on_cross)


def crossings(
    sides: Sequence[Side],
    common: Common,
    *,
    classifiers: Sequence[Classifier | None] | None = None,
    images: ImageSource = None,
    trust: bool = False,
    on_cross: OnCross | None = None,
) -> pl.DataFrame:
    """Return the table `crossed` of every two sides by one measure; other arguments as for `cross`.

    What a run's own model makes of its own perturbations is taken from its tables.

    Args:
        sides: The sides.
        common: Targets and strengths of all of them.
        classifiers: The model of each run, in the order in which the sides first name it.
        images: Seed images.
        trust: Is code of the records run?
        on_cross: Called with what is done.
    """
    show = on_cross or (lambda *_: None)
    studies = list({side.study.path: side.study for side in sides}.values())
    models = list(classifiers) if classifiers is not None else [None] * len(studies)
    benches = {
        study.path: _bench(study, model, images, trust=trust, show=show)
        for study, model in zip(studies, models, strict=True)
    }
    parts = [CROSSED.frame()]
    tables: dict[tuple[Any, Any], dict[str, pl.DataFrame]] = {}
    for one, other in combinations(sides, 2):
        a, b = benches[one.study.path], benches[other.study.path]
        if a is b or any(one.words[name] != other.words[name] for name in MEASURE):
            continue
        names = _shared(a, b)
        for first, second in ((a, b), (b, a)):
            key = first.study.path, second.study.path
            if key not in tables:
                title = f"perturbations of {second.study.path.name} on {first.study.path.name}"
                perturbations = {name: second.seeds[name].perturbation for name in names}
                tables[key] = first.answers(perturbations, partial(_told, show, title, len(names)))
        cells = {
            "aa": _cell(one, similarity=a.study.scan("similarity"), variants=a.study.variants, names=names),
            "ab": _cell(one, **tables[a.study.path, b.study.path], names=names),
            "ba": _cell(one, **tables[b.study.path, a.study.path], names=names),
            "bb": _cell(other, similarity=b.study.scan("similarity"), variants=b.study.variants, names=names),
        }
        parts.append(_rows(cells, common, side_a=one.name, side_b=other.name))
    return pl.concat(parts)


def _told(show: OnCross, title: str, total: int, done: int) -> None:
    show(title, done, total)


def _bench(study: Study, model: Classifier | None, images: ImageSource, *, trust: bool, show: OnCross) -> _Bench:
    """A run's model with its seeds, attacked again."""
    computation = recomputation(study.record, model, images, {}, trust=trust)
    plan, stored, seeds = computation.plan, _classes(study), dict[str, NoisySeed]()
    chunks = [chunk for chunk in computation.chunks if any(file.seed_id in stored for file in chunk)]
    total = sum(map(len, chunks))
    with computation.numerics(), replicated(*plan.classifiers, batch_size=plan.batch_size):
        for chunk in chunks:
            show(f"perturbations of {study.path.name}", len(seeds), total)
            found = in_hand(noisy_seeds(plan, chunk, lambda *_: None, lambda _: None))
            seeds |= {seed.seed_id: seed for seed in found if seed.seed_id in stored}
    classes = {name: (seed.sha256, seed.clean_class, seed.adversarial_class) for name, seed in seeds.items()}
    for name, before in stored.items():
        if classes.get(name) != before:
            raise UserError(
                f"`cross` must find the perturbations of the run again, got: another adversarial example of {name} in "
                f"{study.path}",
                "computed on another device, or by other versions? `camdrift verify` says more",
            )
    return _Bench(study, plan, seeds)


def _classes(study: Study) -> dict[str, tuple[str, int, int]]:
    """Checksum, clean class and adversarial class of every analysed seed, by name."""
    rows = study.seeds.filter(pl.col("status") == ANALYSED).sort("seed_id")
    columns = rows.select("seed_id", "sha256", "clean_class", "adversarial_class")
    return {name: (checksum, clean, other) for name, checksum, clean, other in columns.iter_rows()}


def _shared(a: _Bench, b: _Bench) -> list[str]:
    """Names of the seeds that both runs analysed; raises `UserError` if the models cannot be shown the same."""
    if a.plan.classifier.geometry != b.plan.classifier.geometry:
        sizes = " and ".join(str(bench.plan.classifier.geometry) for bench in (a, b))
        raise UserError(
            f"`cross` must have models that take the same pixels, got: {sizes}", "leave it out to compare them"
        )
    names = [name for name, seed in a.seeds.items() if name in b.seeds and b.seeds[name].sha256 == seed.sha256]
    if not names:
        raise UserError(f"`cross` must have seeds that both runs analysed, got: none in {a.study.path}, {b.study.path}")
    return names


def _cell(side: Side, *, similarity: AnyFrame, variants: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """One value per seed, quantity, target, strength and layer: deviations by a side's measure, and flips."""
    is_one = (pl.col("condition") == ADVERSARIAL) & pl.col("seed_id").is_in(list(names))
    rows = collected(side.rows(similarity.lazy()).filter(is_one))
    deviations = rows.select(
        "seed_id",
        pl.lit(BY_DEVIATION).alias("quantity"),
        *_KEYS[1:],
        (1 - pl.col("similarity")).alias("value"),
    )
    flips = variants.filter(is_one).select(
        "seed_id",
        pl.lit(FLIPPED).alias("quantity"),
        *(pl.lit(None, deviations.schema[name]).alias(name) for name in ("target",)),
        "strength",
        *(pl.lit(None, deviations.schema[name]).alias(name) for name in _KEYS[3:]),
        pl.col("is_flipped").cast(pl.Float64).alias("value"),
    )
    return pl.concat([flips, deviations])


def _rows(cells: Mapping[str, pl.DataFrame], common: Common, **names: str) -> pl.DataFrame:
    """Rows of the table `crossed` of one pair: means over the seeds that have all four values."""
    keys = ["seed_id", *_KEYS]
    values = {cell: pl.col("value").alias(cell) for cell in _CELLS}
    both = cells["aa"].select(*keys, values["aa"])
    for cell in _CELLS[1:]:
        both = both.join(cells[cell].select(*keys, values[cell]), on=keys, nulls_equal=True, maintain_order="left")
    is_asked = pl.col("strength").is_in(list(common.strengths)) & pl.col("target").is_in(
        [*common.targets, None], nulls_equal=True
    )
    both = both.filter(is_asked).drop_nulls(list(_CELLS)).with_columns(**_PARTS)
    if both.filter(pl.col("quantity") == BY_DEVIATION).is_empty():
        raise UserError(f"`cross` must have layers of the same name in both runs, got: none in {names}")
    parts = [*_CELLS, *_PARTS]
    means = both.group_by(_KEYS, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n"),
        *(pl.col(name).mean() for name in parts),
        *(pl.col(name).std().alias(f"{name}_std") for name in _PARTS),
    )
    n = means["n"].to_numpy()
    quantile = scipy.stats.t.ppf(0.975, np.maximum(n - 1, 1)) / np.sqrt(n)
    ends: dict[str, pl.Series] = {}
    for name in _PARTS:
        half = pl.Series(quantile) * means[f"{name}_std"]
        ends |= {f"{name}_low": means[name] - half, f"{name}_high": means[name] + half}
    sides = {name: pl.lit(value) for name, value in names.items()}
    cells_by_name = {f"value_{cell}": means[cell] for cell in _CELLS}
    table = means.with_columns(**sides, **cells_by_name, **ends)
    order = ["quantity", "target", "strength", "layer_index"]
    return table.select(CROSSED.schema.names()).sort(order, nulls_last=False, maintain_order=True)
