"""Verification of a finished run: against itself, and against a second computation of some of its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from random import Random
from typing import Final, Unpack

import polars as pl

from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.models.classifier import Classifier
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.perturbing import changes_of
from camdrift.storage.integrity import disagreements, read_whole
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.launch import ImageSource, check_known, spelled_out
from camdrift.study.recomputation import LoadingKeywords, Recomputation, recomputation, with_changes
from camdrift.study.study import open_study
from camdrift.tables.perturbations import PERTURBED
from camdrift.tables.reading import collected, scan
from camdrift.tables.study import SIMILARITY
from camdrift.tables.words import count

TOLERANCE: Final = 1e-4
_KEYS: Final = ("perturbation", "seed_id", "condition", "strength", "draw", "target", "explanation", "metric", "layer")
_SEED: Final = ("sha256", "status", "clean_class", "adversarial_class")
_NOT_WANTED: Final = "similarities: no seed was to be computed again"


@dataclass(frozen=True)
class Verification:
    """The result of checking a run.

    Attributes:
        place: The run directory's path or URL.
        checked: Every check that was made, in words.
        skipped: Every check that was not, and why.
        problems: Everything that differs; empty for a run that is as it was written.
    """

    place: Path | str
    checked: tuple[str, ...]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Was everything checked that was asked for?"""
        return all(text == _NOT_WANTED for text in self.skipped)

    def lines(self) -> list[str]:
        """Return all of it, a line each."""
        return [
            *(f"checked: {text}" for text in self.checked),
            *(f"not checked: {text}" for text in self.skipped),
            *(f"differs: {text}" for text in self.problems),
            f"{self.place}: {count(len(self.problems), 'difference') if self.problems else 'nothing differs'}",
        ]


@spelled_out()
def verify(
    run: str | PathLike[str],
    model: str | Classifier | None = None,
    images: ImageSource = None,
    *,
    sample: int = 8,
    rng_seed: int = 0,
    trust: bool = False,
    on_progress: OnProgress | None = None,
    **loading: Unpack[LoadingKeywords],
) -> Verification:
    """Check the tables of a finished run, and compute some of its seeds again.

    Seeds are drawn by whole chunks, since an attack may share what it knows within one (DLFuzz its neuron coverage).
    Nothing is written.

    Args:
        run: The run directory.
        model: Spec or classifier; None for the spec in `run.json`.
        images: As for `run`; None for those in `run.json`.
        sample: Compute at least so many seeds again, or all that there are; 0 for none.
        rng_seed: Seed of the draw.
        trust: Also run Python code that the run's record names: the factory of its model, the function of its attack.
            Whoever may write to the run directory decides what that is.
        on_progress: Called whenever there is something to show.
        **loading: In place of what `run.json` says:
        weights: Weights for the spec; None for those in `run.json`.
        device: auto, cpu, cuda or cuda:N; None for the one in `run.json`.

    Raises:
        StoreError: There is no run, or one that is not complete.
        UserError: `sample` is negative.
    """
    check_known(loading, tuple(LoadingKeywords.__annotations__))
    if sample < 0:
        raise UserError(f"`sample` must be at least 0, got: {sample}")
    study = open_study(run)
    tables, problems = read_whole(RunDirectory.open(study.path))
    problems += disagreements(tables, study.record)
    n_files = len(study.record.get("files") or {})
    checks = [f"checksums of {n_files} files"] if n_files else []
    checks += [f"schemas and counts of {len(tables)} tables"]
    gaps = [] if n_files else ["checksums: the camdrift that wrote this run noted none"]
    if sample == 0:
        gaps.append(_NOT_WANTED)
    elif not {"seeds", "similarity"} <= tables.keys():
        gaps.append("similarities: their table or that of the seeds cannot be read")
    else:
        try:
            computation = recomputation(study.record, model, images, loading, trust=trust)
        except UserError as error:
            gaps.append(f"similarities: {error}")
        else:
            try:
                computation = with_changes(computation, study.record, trust=trust)
            except UserError as error:
                gaps.append(f"natural changes: {error}")
            answers, differences = _recompute(computation, tables, sample, Random(rng_seed), on_progress)
            checks += answers
            problems += differences
    return Verification(study.place, tuple(checks), tuple(gaps), tuple(problems))


def _recompute(
    computation: Recomputation,
    tables: Mapping[str, pl.DataFrame],
    sample: int,
    random: Random,
    on_progress: OnProgress | None,
) -> tuple[list[str], list[str]]:
    """Compute some chunks again; return a sentence on each table of similarities, and a line on every difference."""
    chunks = _some_chunks(computation.chunks, sample, random)
    total, n_seeds, differences = sum(map(len, chunks)), 0, list[str]()
    names = [SIMILARITY.name, *(PERTURBED.name for _ in changes_of(computation.plan)[:1] if PERTURBED.name in tables)]
    n_rows, n_wrong = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for files in chunks:

        def advance(stage: str, seeds: int, successes: int, base: int = n_seeds) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, base + seeds, total, successes))

        with computation.numerics():
            _, result = fit_chunk(computation.plan, files, advance, _no_matter)
        is_here = pl.col("seed_id").is_in([file.seed_id for file in files])
        others = _other_seeds(collected(scan(tables, "seeds").filter(is_here)), result.tables["seeds"])
        differences += others.values()
        for name in names:
            before = collected(scan(tables, name).filter(is_here))
            lines = _other_rows(before, result.tables[name], without=list(others))
            differences += lines
            n_rows[name] += before.height
            n_wrong[name] += len(others) + len(lines)
        n_seeds += len(files)
    return [_sentence(name, n_rows[name], total, is_equal=not n_wrong[name]) for name in names], differences


def _sentence(name: str, n_rows: int, n_seeds: int, *, is_equal: bool) -> str:
    """What was computed again of a table."""
    cause = " under natural changes" if name == PERTURBED.name else ""
    result = "equal" if is_equal else "compared"
    return f"{n_rows:,} similarities{cause} of {n_seeds:,} seed images computed again, {result} within {TOLERANCE:g}"


def _no_matter(warning: str) -> None:
    """Fewer images per pass change how long it takes."""


def _some_chunks(chunks: Sequence[Sequence[ImageFile]], sample: int, random: Random) -> list[Sequence[ImageFile]]:
    """Draw chunks until they hold enough seeds; they come in their order."""
    order = list(range(len(chunks)))
    random.shuffle(order)
    indexes: list[int] = []
    while order and sum(len(chunks[index]) for index in indexes) < sample:
        indexes.append(order.pop())
    return [chunks[index] for index in sorted(indexes)]


def _other_seeds(before: pl.DataFrame, now: pl.DataFrame) -> dict[str, str]:
    """A line, by name, on every seed whose file, status or classes differ."""
    both = before.select("seed_id", *_SEED).join(now.select("seed_id", *_SEED), on="seed_id", how="full", coalesce=True)
    lines = {}
    for row in both.sort("seed_id").iter_rows(named=True):
        differing = [name for name in _SEED if row[name] != row[f"{name}_right"]]
        if differing:
            words = (f"{name} {row[name]} is stored, now {row[f'{name}_right']}" for name in differing)
            lines[row["seed_id"]] = f"seed {row['seed_id']}: {', '.join(words)}"
    return lines


def _other_rows(before: pl.DataFrame, now: pl.DataFrame, *, without: Sequence[str]) -> list[str]:
    """A line on every seed with similarities that differ by more than the tolerance, except the seeds in `without`."""
    keys = [name for name in _KEYS if name in before.columns]
    both = before.join(now, on=keys, how="full", coalesce=True, suffix="_now", nulls_equal=True)
    both = both.filter(~pl.col("seed_id").is_in(without)).with_columns(
        by=(pl.col("similarity") - pl.col("similarity_now")).abs(),
        lone=pl.col("similarity").is_null() != pl.col("similarity_now").is_null(),
        absent=pl.col("layer_label").is_null() | pl.col("layer_label_now").is_null(),
    )
    wrong = both.filter((pl.col("by") > TOLERANCE) | pl.col("lone") | pl.col("absent"))
    lines = []
    for (seed_id,), part in wrong.group_by("seed_id", maintain_order=True):
        first = part.sort("by", descending=True, nulls_last=False).row(0, named=True)
        places = [first.get("perturbation"), first["condition"], f"strength {first['strength']:g}"]
        places += [f"target {first['target']}", f"layer {first['layer']}"]
        where = ", ".join(filter(None, places))
        values = f"{_number(first['similarity'])} is stored, now {_number(first['similarity_now'])}"
        lines.append(f"seed {seed_id}: {part.height:,} similarities differ (most: {where}: {values})")
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6f}"
