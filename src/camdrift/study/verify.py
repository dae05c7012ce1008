"""A finished run held against itself and against a second computation of some of its seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from random import Random
from typing import Any, Final

import polars as pl

from camdrift.attacks.registry import is_function
from camdrift.engine.progress import Progress
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.images.selection import select_images
from camdrift.models.classifier import Classifier
from camdrift.models.loading import is_factory, load_model
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.plan import Plan, parts, study_plan
from camdrift.pipeline.settings import Settings
from camdrift.storage.integrity import disagreements, read_whole
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.record import identity, run_record
from camdrift.study.study import open_study
from camdrift.tables.reading import collected, scan
from camdrift.tables.words import count

TOLERANCE: Final = 1e-4
_KEYS: Final = ("seed_id", "condition", "strength", "draw", "target", "explanation", "metric", "layer")
_SEED: Final = ("sha256", "status", "clean_class", "adversarial_class")
_WEIGHTS: Final = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Verification:
    """What was found of a run.

    Attributes:
        place: The run directory's path or URL.
        checked: What was checked, in words.
        skipped: What was not, and why.
        problems: What differs; empty for a run that is as it was written.
    """

    place: Path | str
    checked: tuple[str, ...]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """All of it, a line each."""
        return [
            *(f"checked: {text}" for text in self.checked),
            *(f"not checked: {text}" for text in self.skipped),
            *(f"differs: {text}" for text in self.problems),
            f"{self.place}: {count(len(self.problems), 'difference') if self.problems else 'nothing differs'}",
        ]


@dataclass(frozen=True)
class _Again:
    """What it takes to compute the chunks of a run once more."""

    plan: Plan
    chunks: Sequence[Sequence[ImageFile]]


def verify(
    run: str | PathLike[str],
    model: str | Classifier | None = None,
    images: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    device: str | None = None,
    sample: int = 8,
    rng_seed: int = 0,
    trust: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Check the tables of a finished run, and compute some of its seeds again.

    Seeds are drawn by whole chunks, since an attack may share what it knows within one (DLFuzz its neuron coverage).
    Nothing is written.

    Args:
        run: The run directory.
        model: Spec or classifier; None for the spec in `run.json`.
        images: As for `run`; None for those in `run.json`.
        weights: Weights for the spec; None for those in `run.json`.
        device: auto, cpu, cuda or cuda:N; None for the one in `run.json`.
        sample: Compute at least so many seeds again, or all that there are; 0 for none.
        rng_seed: Seed of the draw.
        trust: Also run Python code that the run's record names: the factory of its model, the function of its attack.
            Whoever may write to the run directory decides what that is.
        on_progress: Called whenever there is something to show.

    Raises:
        StoreError: No run there, or one that is not complete.
        UserError: `sample` is negative.
    """
    if sample < 0:
        raise UserError(f"`sample` must be at least 0, got: {sample}")
    study = open_study(run)
    record = study.record
    tables, problems = read_whole(RunDirectory.open(study.path))
    problems += disagreements(tables, record)
    known = len(record.get("files") or {})
    checked = [f"checksums of {known} files"] if known else []
    checked += [f"schemas and counts of {len(tables)} tables"]
    skipped = [] if known else ["checksums: the camdrift that wrote this run noted none"]
    if sample == 0:
        skipped.append("similarities: no seed was to be computed again")
    elif not {"seeds", "similarity"} <= tables.keys():
        skipped.append("similarities: their table or that of the seeds cannot be read")
    else:
        try:
            again = _again(record, model, images, weights, device, trust=trust)
        except UserError as error:
            skipped.append(f"similarities: {error}")
        else:
            text, found = _recomputed(again, tables, sample, Random(rng_seed), on_progress)
            checked.append(text)
            problems += found
    return Verification(study.place, tuple(checked), tuple(skipped), tuple(problems))


def _refuse_code(record: Mapping[str, Any], attack: str, model: Any) -> None:
    """Raises `UserError` if the record names code that nobody has asked for by its name."""
    surrogate = record["surrogate"]
    specs = [] if model is not None else [str(record["arguments"]["effective"]["model"])]
    specs += [] if surrogate is None else [str(surrogate["spec"])]
    named = [spec for spec in specs if is_factory(spec)]
    named += [attack] if is_function(attack) else []
    if named:
        raise UserError(
            f"the run names Python code, which is not run unasked: {', '.join(named)}",
            "--trust runs it; --model SPEC names a model's factory yourself",
        )


def _again(
    record: Mapping[str, Any], model: Any, images: Any, weights: Any, device: str | None, *, trust: bool
) -> _Again:
    """The run's plan and chunks; raises `UserError` if model or images cannot be had or are others."""
    passed, effective = record["arguments"]["passed"], record["arguments"]["effective"]
    settings = Settings(**{name: passed[name] for name in Settings.names() if name in passed})
    if not trust:
        _refuse_code(record, settings.attack, model)
    settings = replace(settings, batch_size=effective["batch_size"])
    device = device or effective["device"]
    classifier = model if isinstance(model, Classifier) else _loaded(record, model, weights, device)
    source = passed["images"] if images is None else images
    files = select_images(source, limit=settings.limit, per_class=settings.per_class, rng_seed=settings.rng_seed).files
    surrogate = None
    if record["surrogate"] is not None:
        surrogate = load_model(
            record["surrogate"]["spec"],
            weights=_weights_file(record["surrogate"]["weights"]),
            device=str(classifier.device),
            precision=effective["precision"],
        )
    plan = study_plan(classifier, files, settings, Clock(), surrogate=surrogate)
    now = run_record(plan, files, source, command=None, kind=record["kind"])
    both = zip(identity(dict(record)).items(), identity(now).values(), strict=True)
    changed = [f"{name} was {old}, now {new}" for (name, old), new in both if old != new]
    if changed:
        raise UserError(f"this is another study: {'; '.join(changed)}", "give --model, --weights, IMAGES of the run")
    return _Again(plan, parts(files, settings))


def _loaded(record: Mapping[str, Any], spec: str | None, weights: Any, device: str) -> Classifier:
    effective = record["arguments"]["effective"]
    if spec is None:
        spec = str(effective["model"])
        weights = weights or _weights_file(effective["weights"])
    return load_model(spec, weights=weights, device=device, precision=effective["precision"])


def _weights_file(weights: str | None) -> str | None:
    """The recorded weights, if they are a file and no name that the spec stands for."""
    return weights if weights is not None and weights.endswith(_WEIGHTS) else None


def _recomputed(
    again: _Again,
    tables: Mapping[str, pl.DataFrame],
    sample: int,
    random: Random,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[str, list[str]]:
    """What was computed again, in words, and what came out otherwise."""
    chunks = _drawn(again.chunks, sample, random)
    total, done, rows, found = sum(map(len, chunks)), 0, 0, list[str]()
    for files in chunks:

        def advance(stage: str, seeds: int, successes: int, base: int = done) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, base + seeds, total, successes))

        with again.plan.classifier.numerics():
            _, result = fit_chunk(again.plan, files, advance, _no_matter)
        ids = [file.seed_id for file in files]
        stored = {
            name: collected(scan(tables, name).filter(pl.col("seed_id").is_in(ids))) for name in ("seeds", "similarity")
        }
        changed = _other_seeds(stored["seeds"], result.tables["seeds"])
        found += changed.values()
        found += _other_rows(stored["similarity"], result.tables["similarity"], without=list(changed))
        rows += stored["similarity"].height
        done += len(files)
    text = f"{rows:,} similarities of {total:,} seed images computed again, equal within {TOLERANCE:g}"
    return text if not found else text.replace(", equal within", ", compared within"), found


def _no_matter(warning: str) -> None:
    """Fewer images per pass change how long it takes."""


def _drawn(chunks: Sequence[Sequence[ImageFile]], sample: int, random: Random) -> list[Sequence[ImageFile]]:
    """Chunks by lot, until they hold enough seeds; in their order."""
    order = list(range(len(chunks)))
    random.shuffle(order)
    taken: list[int] = []
    while order and sum(len(chunks[index]) for index in taken) < sample:
        taken.append(order.pop())
    return [chunks[index] for index in sorted(taken)]


def _other_seeds(stored: pl.DataFrame, fresh: pl.DataFrame) -> dict[str, str]:
    """Seeds whose file, status or classes differ, and how."""
    both = stored.select("seed_id", *_SEED).join(
        fresh.select("seed_id", *_SEED), on="seed_id", how="full", coalesce=True
    )
    found = {}
    for row in both.sort("seed_id").iter_rows(named=True):
        differing = [name for name in _SEED if row[name] != row[f"{name}_right"]]
        if differing:
            words = (f"{name} {row[name]} is stored, now {row[f'{name}_right']}" for name in differing)
            found[row["seed_id"]] = f"seed {row['seed_id']}: {', '.join(words)}"
    return found


def _other_rows(stored: pl.DataFrame, fresh: pl.DataFrame, *, without: Sequence[str]) -> list[str]:
    """Seeds with similarities that differ by more than the tolerance, one line each; but `without`, told already."""
    both = stored.join(fresh, on=_KEYS, how="full", coalesce=True, suffix="_now", nulls_equal=True)
    both = both.filter(~pl.col("seed_id").is_in(without)).with_columns(
        by=(pl.col("similarity") - pl.col("similarity_now")).abs(),
        lone=pl.col("similarity").is_null() != pl.col("similarity_now").is_null(),
        absent=pl.col("layer_label").is_null() | pl.col("layer_label_now").is_null(),
    )
    wrong = both.filter((pl.col("by") > TOLERANCE) | pl.col("lone") | pl.col("absent"))
    lines = []
    for (seed_id,), part in wrong.group_by("seed_id", maintain_order=True):
        first = part.sort("by", descending=True, nulls_last=False).row(0, named=True)
        where = (
            f"{first['condition']}, strength {first['strength']:g}, target {first['target']}, layer {first['layer']}"
        )
        values = f"{_shown(first['similarity'])} is stored, now {_shown(first['similarity_now'])}"
        lines.append(f"seed {seed_id}: {part.height:,} similarities differ (most: {where}: {values})")
    return lines


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.6f}"
