"""A study from images to report, in reading order."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Unpack

from camdrift.attacks.library import REMARK
from camdrift.attacks.registry import reach_warning
from camdrift.attacks.stored import StoredImages
from camdrift.engine import chunks, local
from camdrift.engine.engine import LOCAL, RAY, Engine
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import StoreError, UserError
from camdrift.images.places import ImageFile
from camdrift.images.selection import Selection, select_images
from camdrift.images.sources import limit_images
from camdrift.models.classifier import Classifier
from camdrift.models.memory import within_memory
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.denoised import Denoised
from camdrift.pipeline.failures import naming
from camdrift.pipeline.full_precision import in_full_precision
from camdrift.pipeline.lime import Lime, lime_passes
from camdrift.pipeline.perturbing import change_passes, natural_changes
from camdrift.pipeline.plan import ExtraTable, Plan, checked, study_plan
from camdrift.pipeline.preflight import MOST_PREFLIGHT_IMAGES, preflight
from camdrift.pipeline.settings import Settings
from camdrift.report.processes import prepared
from camdrift.storage.remote_directory import is_url
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.extension import told
from camdrift.study.finishing import complete_study, finish_study
from camdrift.study.launch import ImageSource, Launch, StudyKeywords, launch_from, settings_from, spelled_out
from camdrift.study.presence import check_present, present_images
from camdrift.study.record import new_folder, run_record
from camdrift.study.resumption import (
    check_stored,
    check_undamaged,
    chunk_seconds,
    continued,
    is_begun,
    run_directory,
    told_again,
)
from camdrift.study.runs import write_index
from camdrift.study.study import Study, study_in
from camdrift.tables.file_names import REPORT


@spelled_out(Launch, Settings)
def run(
    classifier: Classifier,
    images: ImageSource = None,
    *,
    settings: Settings | None = None,
    surrogate: Classifier | None = None,
    **options: Unpack[StudyKeywords],
) -> Study:
    """Study a classifier and return the finished study.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: A folder, a file, a glob, a text file of paths, a list of paths, WebDataset shards, `hf-dataset:NAME`,
            or a data set of the protocol of maite; None for the twenty ImageNet photographs that foolbox ships.
        settings: Options of the study; or give fields of `Settings` by name.
        surrogate: The model that the attack sees, to study how adversarial examples transfer to `classifier`; it
            takes images of the same size and knows the same classes.
        **options: Fields of `Settings`, and of the launch:
        out: Run directory: a folder, or a URL that fsspec can write to, such as s3://BUCKET/run; None for a new folder
            under `runs/`.
        name: Name of the run directory under `runs/`, in place of `out`.
        resume: Continue the run in `out`; one that is complete takes more images, of a larger `limit` or of a folder
            that has more now, until it equals a fresh study of all of them.
        overwrite: Replace the run in `out`.
        progress: Show percent and time left, on standard error or below a notebook's cell; False for silence.
        on_progress: Called whenever there is something to show, in place of that.
        on_start: Called once with the run directory's path or URL, before the first chunk.
        command: The command line, for the record.
        engine: `local` computes in this process; `ray` in workers, on this machine or a Ray cluster.
        address: HOST:PORT of the Ray cluster, or `auto`; None for workers on this machine alone.
        workers: Number of workers; None for a number that suits the machines.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    launch, own = launch_from(options)
    settings = _with_surrogate(settings_from(settings, own), surrogate)
    kind = RunKind(extra_tables=_extra_tables(settings, checked(classifier, "classifier").size))
    return run_study(classifier, images, settings, launch, kind=kind, surrogate=surrogate)


def _extra_tables(settings: Settings, size: int) -> tuple[ExtraTable, ...]:
    """The tables that a user may ask for beside those of a study of images of some size."""
    tables = list[ExtraTable]()
    if settings.denoised:
        tables.append(Denoised())
    if settings.lime:
        tables.append(Lime(settings.lime_design))
    if settings.perturb:
        tables.append(natural_changes(settings.perturb, size))
    return tuple(tables)


@dataclass(frozen=True)
class RunKind:
    """A kind of run: what it does beyond a study.

    Attributes:
        name: Its name, for the record: a run is only resumed as what it was begun.
        extra_tables: Tables that are made chunk by chunk.
        finish: Writes further tables, once those of the study are there.
    """

    name: str = "study"
    extra_tables: tuple[ExtraTable, ...] = ()
    finish: Callable[[Plan, RunDirectory], None] | None = None


_STUDY: Final = RunKind()
# Times that a chunk is computed which somebody removes or spoils before it is merged.
_TRIES: Final = 3


def run_study(
    classifier: Classifier,
    images: ImageSource,
    settings: Settings,
    launch: Launch,
    *,
    kind: RunKind = _STUDY,
    surrogate: Classifier | None = None,
) -> Study:
    """Run a study of some kind, or what is left of one, and return it with its report.

    Args:
        classifier: As in `run`.
        images: As in `run`.
        settings: Options of the study.
        launch: How it is started.
        kind: What it does beyond a study.
        surrogate: As in `run`.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    with launch.displayed() as audible:
        study = _run_study(classifier, images, settings, audible, kind, surrogate)
    if launch.is_among_runs:
        with suppress(Exception):  # the run is complete, whatever else lies beside it
            write_index()
    return study


def _run_study(
    classifier: Classifier,
    images: ImageSource,
    settings: Settings,
    launch: Launch,
    kind: RunKind,
    surrogate: Classifier | None,
) -> Study:
    """Run a study with whoever listens to it."""
    clock = Clock()
    if launch.resume and launch.out is not None and not is_begun(launch.out):
        launch = replace(launch, resume=False)
    with clock("total"):
        selection = select_images(
            images, limit=settings.limit, per_class=settings.per_class, rng_seed=settings.rng_seed
        )
        extra_tables = (*kind.extra_tables, *in_full_precision(checked(classifier, "classifier")))
        plan = study_plan(classifier, selection.files, settings, clock, surrogate=surrogate, extra_tables=extra_tables)
        record = run_record(plan, selection.files, images, command=launch.command, kind=kind.name)
        if launch.engine.name == LOCAL:  # others say how many threads their workers have had when they are done
            record["engine"] = local.record_of(launch.engine)
        if not launch.resume:
            plan, record["preflight"] = _preflight(plan, selection)
            record["timings"] = {"preflight": clock.seconds["preflight"]}
    path = _path(launch, record)
    with ExitStack() as stack:
        place = run_directory(path, record, plan, selection.files, resume=launch.resume, overwrite=launch.overwrite)
        directory = stack.enter_context(place)
        if launch.resume and directory.read_record()["status"] == "done":
            check_undamaged(directory)
        else:
            with clock("total"):
                if launch.resume:
                    plan = _continued(plan, record, directory, selection)
                plan = _fill(directory, plan, selection.files, record, launch)
                stack.enter_context(prepared())
                _finish(directory, plan, launch, kind)
            complete_study(record, directory, clock)
        return _with_report(study_in(directory))


def _continued(plan: Plan, record: dict[str, Any], directory: RunDirectory, selection: Selection) -> Plan:
    """The plan of a run that goes on; a study that has grown looks at its images first."""
    if directory.read_run().get("extension") and not directory.read_run().get("preflight"):
        plan, record["preflight"] = _preflight(plan, selection)
    return continued(plan, record, directory)


def _path(launch: Launch, record: dict[str, Any]) -> Path | str:
    """Path or URL of the run directory."""
    if launch.out is None:
        return new_folder(record)
    return str(launch.out) if is_url(launch.out) else Path(launch.out)


def _fill(
    directory: RunDirectory,
    plan: Plan,
    files: Sequence[ImageFile],
    record: dict[str, Any],
    launch: Launch,
) -> Plan:
    """Compute the missing chunks; complete the record on the way, and return the plan afterwards."""
    repeats = check_stored(plan, files, directory)
    for index in directory.chunks_done():
        plan.clock.add(chunk_seconds(directory, index))
    directory.write_record(record)
    launch.begin(directory.place)
    warnings = (record["preflight"] or {}).get("warnings", ())
    launch.show(Progress("preflight", 0, len(files), 0, (*told(record), *warnings, *repeats)))
    present = present_images(files)

    def show(progress: Progress) -> None:
        launch.show(_noted(progress, record, directory))

    plan, record["engine"] = _compute(launch.engine, plan, files, directory, show)
    check_present(plan, files, present, directory)
    record["arguments"]["effective"]["batch_size"] = plan.batch_size
    return plan


def _finish(directory: RunDirectory, plan: Plan, launch: Launch, kind: RunKind) -> None:
    """Write every final table."""
    finish_study(plan, directory, launch.show)
    if kind.finish is not None:
        with plan.clock("statistics"):
            kind.finish(plan, directory)


def _noted(progress: Progress, record: dict[str, Any], directory: RunDirectory) -> Progress:
    """Progress with every warning about the attack once; the record keeps them, also if the run is stopped."""
    before = (record["preflight"] or {}).get("warnings", [])
    remarks = [text for text in progress.warnings if text.startswith(REMARK)]
    if news := [text for text in dict.fromkeys(remarks) if text not in before]:
        record["preflight"] = {**(record["preflight"] or {}), "warnings": [*before, *news]}
        directory.write_record(record)
    others = [text for text in progress.warnings if text not in remarks]
    return replace(progress, warnings=(*others, *news))


def _preflight(plan: Plan, selection: Selection) -> tuple[Plan, dict[str, Any]]:
    """Look at some clean images.

    Returns:
        The plan with the batch size that fits in memory, and what was observed, for the record.
    """
    retreats = list[str]()
    with plan.clock("preflight"):
        observe = lambda size: preflight(plan.with_batch_size(size), selection.files)  # noqa: E731
        with naming(limit_images(selection.files, MOST_PREFLIGHT_IMAGES)):
            size, observation = within_memory(plan.batch_size, observe, retreats.append)
    reach = [] if isinstance(plan.attack, StoredImages) else filter(None, [reach_warning(plan.attack.spec)])
    warnings = [*selection.remarks, *observation.warnings, *retreats, *reach, *_cost(plan.settings)]
    return plan.with_batch_size(size), {**asdict(observation), "warnings": warnings}


def _cost(settings: Settings) -> list[str]:
    """What LIME and natural changes will take, in a line each, before they begin."""
    own = 1 + len(settings.strengths) + len(settings.noise_strengths) * settings.noise_draws
    passes = {
        "LIME shows": lime_passes(settings.lime_design) if settings.lime else 0,
        "natural changes show": change_passes(settings),
    }
    own_words = f"beside the {own:,} of the study itself"
    return [f"{what} the model {number:,} images a seed, {own_words}" for what, number in passes.items() if number]


def _with_report(study: Study) -> Study:
    if not (study.path / REPORT).is_file():
        study.report()
    return study


def _with_surrogate(settings: Settings, surrogate: Classifier | None) -> Settings:
    """The settings with the surrogate's spec, for the record."""
    if surrogate is None:
        if settings.surrogate is not None:
            raise UserError(
                f"`surrogate` must be a camdrift classifier, got: {settings.surrogate}",
                "run(..., surrogate=camdrift.load_model(SPEC))",
            )
        return settings
    return replace(settings, surrogate=checked(surrogate, "surrogate").spec)


def _compute(
    engine: Engine, plan: Plan, files: Sequence[ImageFile], directory: RunDirectory, on_progress: OnProgress
) -> tuple[Plan, dict[str, Any]]:
    """Compute the chunks that are missing; return the plan afterwards, and the engine for the record.

    Raises:
        StoreError: Chunks that were stored are gone again.
    """
    compute, indexes = {LOCAL: local.compute, RAY: chunks.compute}[engine.name], range(plan.design.chunks)
    for _ in range(_TRIES):
        with plan.classifier.numerics():
            plan, entry = compute(engine, plan, files, directory, on_progress)
        reasons = directory.lost_chunks(indexes)
        if not reasons:
            return plan, entry
        on_progress(Progress("write", 0, len(files), 0, tuple(told_again(reasons))))
    index, reason = next(iter(reasons.items()))
    raise StoreError(
        f"chunk {index:05d} of {directory.place} is lost again each time it is stored: {reason}",
        "does something clean up that folder? --resume with the same --out computes it again",
    )
