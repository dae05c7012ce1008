"""Studies side by side: every two of them against each other, layer by layer, as tables, figures and one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack

import polars as pl

from camdrift.comparison.alignment import AUTO, WAYS, Way
from camdrift.comparison.changes import side_changes
from camdrift.comparison.directory import ComparisonDirectory
from camdrift.comparison.pairs import Contrasts, OnCross, OnPair
from camdrift.comparison.photos import side_photos
from camdrift.comparison.sides import Side, sides_of
from camdrift.comparison.tables import Common, common_to, flips_table, outcomes_table, profiles, sides_table
from camdrift.errors import UserError
from camdrift.masking import with_home, without_home
from camdrift.report.comparison import comparison_files
from camdrift.report.contrasts import comparison_sentences
from camdrift.report.perturbations import change_name
from camdrift.report.side_changes import side_change_sentences
from camdrift.report.standing import comparison_headline, outcome_sentences
from camdrift.storage.remote_directory import local_folder
from camdrift.study import provenance
from camdrift.study.launch import check_known, fresh_folder, spelled_out
from camdrift.study.study import Study, open_study
from camdrift.tables.comparison import COMPARISON_TABLES, CROSSED
from camdrift.tables.measures import ExplanationName, MetricName
from camdrift.tables.run_json import effective
from camdrift.tables.words import Target


@dataclass(frozen=True)
class Comparison:
    """Studies side by side; a side is one study by one explanation and one metric.

    Attributes:
        path: Folder of the comparison.
        sides: One row per side.
        profiles: One row per side, target, strength and layer: the runs' own numbers.
        differences: One row per pair of sides, target, strength and aligned layer.
        agreement: One row per pair of sides, target, strength and quantity that layers are ranked by.
        trends: One row per side, target and strength: how gains go with depth.
        flips: One row per side, condition, strength and draw: how many predictions change.
        outcomes: One row per pair of sides of different runs: whom the attack fools, of the images that both attacked.
        perturbations: One row per run, natural change that all runs share, condition and strength: predictions flipped;
            empty without `run --perturb`.
        perturbation_layers: One row per run, natural change that all runs share, strength and layer: its gain.
        crossed: One row per pair of sides, quantity, target, strength and layer: parts of their difference; empty
            without `cross`.
        notes: Sentences on what was left out.
    """

    path: Path
    sides: pl.DataFrame
    profiles: pl.DataFrame
    differences: pl.DataFrame
    agreement: pl.DataFrame
    trends: pl.DataFrame
    flips: pl.DataFrame
    outcomes: pl.DataFrame
    perturbations: pl.DataFrame
    perturbation_layers: pl.DataFrame
    crossed: pl.DataFrame
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.sides['side'])}; {self.path})"

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """All tables by name."""
        return {name: getattr(self, name) for name in COMPARISON_TABLES}

    def summary(self) -> str:
        """Return the main result and the findings in a few sentences with intervals and n."""
        changes = side_change_sentences(self.tables)
        sentences = [*outcome_sentences(self.tables), *comparison_sentences(self.tables), *changes, *self.notes]
        return "\n".join([f"{comparison_headline(self.tables)}.", *sentences])


class MeasureKeywords(TypedDict, total=False):
    """Targets, explanations and metrics to compare by, where not all."""

    targets: Sequence[Target] | None
    explanations: Sequence[ExplanationName | str] | None
    similarities: Sequence[MetricName] | None


class CompareKeywords(MeasureKeywords, total=False):
    """What to compare by, and whether perturbations change sides."""

    cross: bool
    trust: bool
    on_cross: OnCross | None


@spelled_out()
def compare(
    *runs: Study | str | PathLike[str],
    out: str | PathLike[str] | None = None,
    align: Way = AUTO,
    models: Sequence[str | None] | None = None,
    overwrite: bool = False,
    n_bootstrap: int = 1000,
    on_pair: OnPair | None = None,
    **options: Unpack[CompareKeywords],
) -> Comparison:
    """Compare studies layer by layer, and write tables, figures and a page.

    Every run is compared by every measure (explanation and metric) that it holds, so that one run with several of them
    can be compared with itself. Two runs are compared on the images that have an adversarial example in both, image by
    image, and on all their images where they share fewer than two.

    Args:
        runs: Finished studies or their run directories.
        out: Folder for the comparison; None for a new one under `runs/`.
        align: How layers of different networks are paired: auto (by name if at least half of the names are shared, else
            by depth), name, depth.
        models: Names for the runs' models, one per run; None for their specs.
        overwrite: Replace the comparison in `out`.
        n_bootstrap: Number of resamples of the images.
        on_pair: Called after every pair of sides with the number of pairs so far and the number of all pairs.
        **options: What to compare by, and how:
        targets: Whose class is explained; None for all that the runs have in common.
        explanations: Explanations to compare by; None for all that the runs hold.
        similarities: Metrics to compare by; None for all.
        cross: Also show every model the perturbations of the others: `crossed` then holds which part of a difference
            is the model's, and which the attack's. Runs are attacked again, as `verify` does.
        trust: With `cross`, also run Python code that a record names.
        on_cross: With `cross`, called with what is done, in words, and how many of how many seeds.

    Raises:
        UserError: Fewer than two sides, nothing in common, nothing analysed in one of them.
        StoreError: A run that is not complete or of another schema, a folder that cannot be written.
    """
    check_known(options, tuple(CompareKeywords.__annotations__))
    if align not in WAYS:
        raise UserError(f"`align` must be one of {', '.join(WAYS)}, got: {align}")
    folder = None if out is None else local_folder("out", out)
    studies = [run if isinstance(run, Study) else open_study(run) for run in runs]
    for study in studies:
        study.check_fit()
    sides = sides_of(studies, models, explanations=options.get("explanations"), metrics=options.get("similarities"))
    common = common_to(sides, options.get("targets"))
    record = _record(studies, sides, common, align)
    path = folder or fresh_folder("compare", record["made"])
    directory = ComparisonDirectory(path, overwrite=overwrite)
    directory.check_free()
    rng_seed = int(effective(studies[0].record)["rng_seed"])
    contrasts = Contrasts(sides, common, by=align, rng_seed=rng_seed, n_bootstrap=n_bootstrap).tables(on_pair)
    own = {"sides": sides_table(sides), "profiles": profiles(sides, common), "flips": flips_table(sides)}
    own["outcomes"] = outcomes_table(sides)
    own["crossed"] = _crossed(sides, common, options)
    changes = side_changes(sides, common.strengths)
    own |= {"perturbations": changes.flips, "perturbation_layers": changes.layers}
    comparison = Comparison(path, **own, **contrasts, notes=_notes(common, changes.dropped))
    links = {run: directory.link(Path(with_home(run))) for run in comparison.sides["run"]}
    photos = side_photos(sides, comparison.tables)
    files = list(comparison_files(comparison.tables, record, links, comparison.notes, photos))
    directory.write(comparison.tables, record, files)
    return comparison


def _crossed(sides: Sequence[Side], common: Common, options: CompareKeywords) -> pl.DataFrame:
    """The table `crossed`; empty where it is not asked for."""
    if not options.get("cross"):
        return CROSSED.frame()
    # It needs torch, which no other part of a comparison does.
    from camdrift.comparison.crossing import crossings

    return crossings(sides, common, trust=options.get("trust", False), on_cross=options.get("on_cross"))


def _notes(common: Common, changes: Sequence[str]) -> tuple[str, ...]:
    words = [*common.dropped, *(f"natural change {change_name(spec)}" for spec in changes)]
    return (f"Left out, since not all runs have it: {', '.join(words)}.",) if words else ()


def _record(studies: Sequence[Study], sides: Sequence[Side], common: Common, align: str) -> dict[str, Any]:
    return {
        "camdrift": provenance.camdrift_version(),
        "kind": "comparison",
        "made": provenance.now(),
        "runs": [without_home(str(study.path)) for study in studies],
        "sides": [side.name for side in sides],
        "targets": list(common.targets),
        "strengths": list(common.strengths),
        "dropped": list(common.dropped),
        "align": align,
        "versions": provenance.versions(),
    }
