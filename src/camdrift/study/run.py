"""A study from images to report, in reading order."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from camdrift.engine import dispatch
from camdrift.engine.engine import LOCAL, Engine, engine_of
from camdrift.engine.local import _run_chunks
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.images.selection import Selection, select_images
from camdrift.models.classifier import Classifier
from camdrift.models.memory import within_memory
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.denoised import Denoised
from camdrift.pipeline.full_precision import in_full_precision
from camdrift.pipeline.plan import Examination, Plan, checked, study_plan
from camdrift.pipeline.preflight import preflight
from camdrift.pipeline.settings import Settings
from camdrift.storage.remote_directory import is_url
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.finishing import _complete, _finish
from camdrift.study.record import new_folder, run_record
from camdrift.study.resumption import check_stored, check_undamaged, run_directory
from camdrift.study.study import Study, study_in
from camdrift.tables.words import REPORT


def run(
    classifier: Classifier,
    images: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    *,
    out: str | PathLike[str] | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    on_start: Callable[[Path | str], None] | None = None,
    command: str | None = None,
    surrogate: Classifier | None = None,
    engine: str | Engine = LOCAL,
    address: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Study:
    """Study a classifier and return the finished study.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: A folder, a file, a glob, a text file of paths, a list of paths, WebDataset shards, or
            `hf-dataset:NAME`; None for the twenty ImageNet photographs that foolbox ships.
        out: Run directory: a folder, or a URL that fsspec can write to, such as s3://BUCKET/run; None for a new folder
            under `runs/`.
        settings: Options of the study; or give them by name:
        **options: Fields of `Settings`: attack, adversarial, strengths, targets, explanations, similarities, layers,
            limit, sample, rng_seed, noise_draws, noise_ladder, gallery, chunk_size, batch_size, denoised.
        resume: Continue the run in `out`.
        overwrite: Replace the run in `out`.
        on_progress: Called whenever there is something to show.
        on_start: Called once with the run directory's path or URL, before the first chunk.
        command: The command line, for the record.
        surrogate: The model that the attack sees, to study how adversarial examples transfer to `classifier`; it
            takes images of the same size and knows the same classes.
        engine: `local` computes in this process; `ray` in workers, on this machine or a Ray cluster.
        address: HOST:PORT of the Ray cluster, or `auto`; None for workers on this machine alone.
        workers: Number of workers; None for a number that suits the machines.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    chosen = _transfer(_settings(settings, options), surrogate)
    return carry_out(
        classifier,
        images,
        out=out,
        settings=chosen,
        resume=resume,
        overwrite=overwrite,
        on_progress=on_progress,
        on_start=on_start,
        command=command,
        surrogate=surrogate,
        extension=Extension(examinations=(Denoised(),) if chosen.denoised else ()),
        engine=engine_of(engine, address, workers),
    )


@dataclass(frozen=True)
class Extension:
    """What a run does beyond a study.

    Attributes:
        kind: Its name, for the record: a run is only resumed as what it was begun.
        examinations: Tables that are made chunk by chunk.
        finish: Writes further tables, once those of the study are there.
    """

    kind: str = "study"
    examinations: tuple[Examination, ...] = ()
    finish: Callable[[Plan, RunDirectory], None] | None = None


def carry_out(
    classifier: Classifier,
    images: str | PathLike[str] | Sequence[str | PathLike[str]] | None,
    *,
    out: str | PathLike[str] | None,
    settings: Settings,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    on_start: Callable[[Path | str], None] | None = None,
    command: str | None = None,
    surrogate: Classifier | None = None,
    extension: Extension | None = None,
    engine: Engine | None = None,
) -> Study:
    """A study and what `extension` adds to it; everything else as in `run`."""
    extension = extension or Extension()
    _check_resume(out, resume=resume, overwrite=overwrite)
    clock, show = Clock(), on_progress or _silent
    with clock("total"):
        selection = select_images(
            images, limit=settings.limit, per_class=settings.per_class, rng_seed=settings.rng_seed
        )
        files = selection.files
        examinations = (*extension.examinations, *in_full_precision(checked(classifier, "classifier")))
        plan = study_plan(classifier, files, settings, clock, surrogate=surrogate, examinations=examinations)
        record = run_record(plan, files, images, command=command, kind=extension.kind)
        if not resume:
            plan, record["preflight"] = _preflight(plan, selection)
    path = new_folder(record) if out is None else str(out) if is_url(out) else Path(out)
    with run_directory(path, record, settings, resume=resume, overwrite=overwrite) as directory:
        with clock("total"):
            if resume and directory.read_record()["status"] == "done":
                check_undamaged(directory)
                return _reported(study_in(directory))
            if resume:
                record["preflight"] = directory.read_record().get("preflight")
            again = check_stored(plan, files, directory)
            directory.write_record(record)
            if on_start is not None:
                on_start(directory.place)
            warnings = (record["preflight"] or {}).get("warnings", ())
            show(Progress("preflight", 0, len(files), 0, (*warnings, *again)))
            with classifier.numerics():
                plan, record["engine"] = _compute(engine or Engine(), plan, files, directory, show)
            record["arguments"]["effective"]["batch_size"] = plan.batch_size
            _finish(plan, directory, show)
            if extension.finish is not None:
                with clock("statistics"):
                    extension.finish(plan, directory)
        _complete(record, directory, clock)
        return _reported(study_in(directory))


def _preflight(plan: Plan, selection: Selection) -> tuple[Plan, dict[str, Any]]:
    """What was seen of some clean images and of how they were chosen, for the record; as many a pass as had room."""
    told = list[str]()
    with plan.clock("preflight"):
        look = lambda size: preflight(replace(plan, batch_size=size), selection.files)  # noqa: E731
        size, seen = within_memory(plan.batch_size, look, told.append)
    warnings = [*selection.remarks, *seen.warnings, *told]
    return replace(plan, batch_size=size), {**asdict(seen), "warnings": warnings}


def _reported(study: Study) -> Study:
    if not (study.path / REPORT).is_file():
        study.report()
    return study


def _silent(progress: Progress) -> None:
    """Shows nothing."""


def _settings(settings: Settings | None, options: dict[str, Any]) -> Settings:
    if settings is not None and options:
        raise UserError(f"`settings` must come alone, got also: {', '.join(options)}")
    unknown = [name for name in options if name not in Settings.names()]
    if unknown:
        raise UserError(f"no such option: {', '.join(unknown)}", f"options: {', '.join(Settings.names())}")
    return settings or Settings(**options)


def _transfer(settings: Settings, surrogate: Classifier | None) -> Settings:
    """The settings with the surrogate's spec, for the record."""
    if surrogate is None:
        if settings.surrogate is not None:
            raise UserError(
                f"`surrogate` must be a camdrift classifier, got: {settings.surrogate}",
                "run(..., surrogate=camdrift.load_model(SPEC))",
            )
        return settings
    return replace(settings, surrogate=checked(surrogate, "surrogate").spec)


def _check_resume(out: str | PathLike[str] | None, *, resume: bool, overwrite: bool) -> None:
    if resume and (overwrite or out is None):
        got = "--resume and --overwrite" if overwrite else "--resume without --out"
        raise UserError(
            f"`resume` must come with a run directory and without `overwrite`, got: {got}",
            "--resume --out RUN continues a run, --overwrite --out RUN starts again",
        )


def _compute(
    engine: Engine, plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress
) -> tuple[Plan, dict[str, Any]]:
    """Have the chunks computed that are missing; the plan afterwards, and the engine for the record."""
    if engine.name == LOCAL:
        return _run_chunks(plan, files, directory, on_progress), engine.as_record()
    return dispatch.compute(engine, plan, files, directory, on_progress)
