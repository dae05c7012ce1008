"""A fuzzing campaign from seeds to tables, in reading order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Unpack

import torch

from camdrift.coverage.base import neuron_layout
from camdrift.coverage.criteria import Criterion, features_for, make_criterion
from camdrift.coverage.profile import Profile
from camdrift.engine.progress import Progress
from camdrift.errors import UserError
from camdrift.fuzzing.budget import PASSES
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.frameworks import ChosenFramework, Setup, parse_frameworks
from camdrift.fuzzing.oracles import make_oracle
from camdrift.fuzzing.settings import FuzzKeywords, FuzzSettings, settings_of
from camdrift.images.selection import select_images
from camdrift.masking import public
from camdrift.models.classifier import Classifier
from camdrift.pipeline.plan import checked
from camdrift.storage.campaign_directory import CampaignDirectory
from camdrift.storage.measurement import write_profile
from camdrift.storage.remote_directory import local_folder
from camdrift.study import provenance
from camdrift.study.campaign import Campaign
from camdrift.study.campaign_setup import CampaignSeeds, campaign_design, read_seeds
from camdrift.study.launch import ImageSource, Launch, LaunchKeywords, fresh_folder, launch_from, spelled_out
from camdrift.study.measurement import profile_remarks
from camdrift.study.profiling import NamedProfile, profile_of
from camdrift.study.record import model_record
from camdrift.study.trial_jobs import CampaignTask, campaign_task
from camdrift.study.trial_slices import PlannedTrial
from camdrift.study.trials import CampaignRunner
from camdrift.tables.file_names import PROFILE

_DEFAULT: Final = "foolbox (20 ImageNet photographs)"
_PATHS: Final = "paths"
_BOUNDARIES: Final = "nbc"
# Frameworks that walk through their corpus from the first entry to the last, and keep some mutants.
_WALKERS: Final = ("deephunter", "keep-all", "keep-random", "margin", "gini")


class CampaignKeywords(LaunchKeywords, FuzzKeywords, total=False):
    """The keywords of `camdrift.fuzz`: a launch, and the options of a campaign."""


@spelled_out(Launch, FuzzSettings)
def fuzz(
    classifier: Classifier,
    images: ImageSource = None,
    *,
    models: Sequence[Classifier] = (),
    profile: Profile | ImageSource = None,
    settings: FuzzSettings | None = None,
    **options: Unpack[CampaignKeywords],
) -> Campaign:
    """Fuzz a classifier: mutate seed images again and again, and keep what guides the search to failures.

    Every framework gets the same seeds, oracle, constraint and budget. `as_released` switches published defects on.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: Seed images, as `run` takes them.
        models: One or two further classifiers of the same classes and input size, for the oracle `disagree`.
        profile: Ordinary images, the file of a profile, or a profile, for the criteria that measure against it: see
            `measure_coverage`.
        settings: Options of the campaign; or give fields of `FuzzSettings` by name.
        **options: Fields of `FuzzSettings`, and of the launch, as in `run`.

    Raises:
        UserError: Input or options that cannot be fuzzed.

    Example:
        >>> campaign = camdrift.fuzz(classifier, "photos/", frameworks="deephunter")  # doctest: +SKIP
        >>> campaign.failures.filter("is_new").select("seed_id", "wrong_class")  # doctest: +SKIP
    """
    launch, own = launch_from(options)
    if settings is None:
        settings = FuzzSettings(**own)
    elif own:
        raise UserError(f"`settings` must come alone, got also: {', '.join(own)}")
    with launch.displayed() as audible, torch.no_grad(), checked(classifier, "classifier").numerics():
        return _fuzz(classifier, images, tuple(models), profile, settings, audible)


@dataclass(frozen=True)
class Recorded:
    """What a campaign was begun with.

    Attributes:
        images: Its seed images, as the command takes them.
        settings: Its options.
        models: Fields of the command's models by name.
    """

    images: str | None
    settings: FuzzSettings
    models: dict[str, Any]


def recorded(launch: Launch) -> Recorded:
    """Return what the campaign in a run directory was begun with.

    Raises:
        UserError: There is none, or it was begun in Python with what has no name.
    """
    directory = CampaignDirectory(local_folder("out", launch.out or ""))
    record = directory.read_record()
    specs = [model["loaded_from"] for model in (record["model"], *record["models"])]
    if record["images"] == _PATHS or None in specs:
        raise UserError(
            f"`run` must name its images and its model, got: {directory.path}, which was begun in Python",
            "camdrift.fuzz(classifier, images, out=..., resume=True) goes on with it, and "
            "camdrift.coverage_meaning(run, classifier, images=...) asks about coverage",
        )
    (model, weights), *others = specs
    models = {
        "model": model,
        "weights": None if weights is None else Path(weights),
        "others": tuple(spec for spec, _ in others),
    }
    return Recorded(image_source(record), settings_of(record["settings"]), models)


def image_source(record: Mapping[str, Any]) -> str | None:
    """Return the seed images that the record of a campaign names; None for the default.

    Raises:
        UserError: They have no name.
    """
    images: str = record["images"]
    if images == _PATHS:
        raise UserError(
            "`images` must come with a campaign that was begun in Python, got: none",
            "images= takes what the campaign was given",
        )
    return None if images == _DEFAULT else images


def _fuzz(
    classifier: Classifier,
    images: ImageSource,
    models: Sequence[Classifier],
    profile: Profile | ImageSource,
    settings: FuzzSettings,
    launch: Launch,
) -> Campaign:
    """Read what there is to fuzz, and run the trials, or what is left of them."""
    oracle = make_oracle(settings.oracle, classifier, models)
    frameworks = parse_frameworks(settings.frameworks, oracle=oracle.name)
    begin = provenance.now()
    directory = CampaignDirectory(_path(launch, classifier.spec, begin))
    if not launch.resume:
        directory.check_free(overwrite=launch.overwrite)
    elif directory.is_done and not directory.is_going_on:
        return Campaign(directory)
    criterion, reference = _criterion(classifier, profile, settings, launch, directory)
    seeds = read_seeds(classifier, oracle, select_images(images, limit=settings.limit).files, settings.batch_size)
    design = campaign_design(classifier, oracle, seeds.starts, criterion, settings)
    _check_budget(design)
    record = {**_record(design, settings, images, launch.command), "profile": reference.words, "started": begin}
    setup = Setup(design, seeds.images, reference.profile)
    remarks = (*_remarks(seeds, reference, criterion.name), *_short_budgets(design, frameworks))
    with directory.writing():
        if launch.resume and directory.is_going_on:
            record = _continued(directory.read_record(), record)
        else:
            directory.begin(record)
            if reference.profile is not None:
                write_profile(directory.trials / PROFILE, reference.profile.arrays())
        launch.begin(directory.path)
        launch.show(Progress("start", 0, 1, 0, warnings=remarks, unit=PASSES))
        cells = _plans(frameworks, settings.trials)
        spec = _criterion_spec(settings, has_profile=reference.profile is not None)

        def task() -> CampaignTask:
            return campaign_task(directory, setup, (classifier, *models), settings, spec, cells)

        CampaignRunner(directory, setup, cells, launch).run(record, seeds.rows, task)
    return Campaign(directory)


def _plans(frameworks: Sequence[ChosenFramework], trials: int) -> list[PlannedTrial]:
    """All trials, in the order in which they run."""
    cells = [(framework, number) for framework in frameworks for number in range(trials)]
    return [PlannedTrial(place, *cell) for place, cell in enumerate(cells)]


def _criterion(
    classifier: Classifier,
    profile: Profile | ImageSource,
    settings: FuzzSettings,
    launch: Launch,
    directory: CampaignDirectory,
) -> tuple[Criterion, NamedProfile]:
    """The campaign's criterion, and the profile that it measures against."""
    spec = _criterion_spec(settings, has_profile=profile is not None)
    if profile is None:
        return make_criterion(spec, classifier), NamedProfile()
    reference = profile_of(
        classifier,
        profile,
        features_for([spec], neuron_layout(classifier)),
        folder=directory.trials if launch.resume and directory.is_going_on else None,
        batch_size=settings.batch_size,
        show=lambda stage, images, total: launch.show(Progress(stage, images, total, 0, unit="profile images")),
    )
    return make_criterion(spec, classifier, reference.profile), reference


def _criterion_spec(settings: FuzzSettings, *, has_profile: bool) -> str:
    """The spec of the campaign's criterion."""
    spec = settings.criterion or ("kmnc" if has_profile else "nc")
    return f"{_BOUNDARIES}(as_released=True)" if settings.as_released and spec == _BOUNDARIES else spec


def _short_budgets(design: CampaignDesign, frameworks: Sequence[ChosenFramework]) -> list[str]:
    """A warning where a budget ends before a framework that walks through its corpus comes to what it has kept."""
    mutants = max((each.settings["mutants"] for each in frameworks if each.name in _WALKERS), default=0)
    cost = len(design.models) * len(design.starts) * (1 + mutants)
    left = design.budget.passes_left(0)
    if not mutants or left is None or left > cost:
        return []
    return [
        f"the budget of {design.budget.spec} ends before a kept mutant becomes a parent: the seeds alone take {cost:,} "
        "passes, so that frameworks which differ in what they keep find the same"
    ]


def _remarks(seeds: CampaignSeeds, reference: NamedProfile, criterion: str) -> tuple[str, ...]:
    """What a person should know of the profile beside these seeds."""
    if reference.profile is None:
        return ()
    checksums = {row["sha256"] for row in seeds.rows if "sha256" in row}
    return (*reference.remarks, *profile_remarks([criterion], reference.profile, checksums, len(seeds.rows)))


def _check_budget(design: CampaignDesign) -> None:
    """Raise `UserError` for a budget that does not outlast the dry run."""
    cost = len(design.models) * len(design.starts)
    left = design.budget.passes_left(0)
    if left is not None and left <= cost:
        raise UserError(
            f"`budget` must allow more than the dry run of {len(design.starts)} seeds, which takes {cost} passes, got: "
            f"{design.budget.spec}",
            "raise --budget, or fuzz fewer images with --limit",
        )


def _record(design: CampaignDesign, settings: FuzzSettings, images: Any, command: str | None) -> dict[str, Any]:
    """The record of a campaign that begins."""
    is_path = isinstance(images, str | Path)
    return {
        "camdrift": provenance.camdrift_version(),
        "kind": "fuzz",
        "command": command,
        "finished": None,
        "images": _DEFAULT if images is None else str(images) if is_path else _PATHS,
        "settings": settings.as_record(),
        "criterion": None if design.criterion is None else design.criterion.name,
        "oracle": design.oracle.name,
        "seeds": [start.seed_id for start in design.starts],
        "layers": list(design.classifier.layers),
        "model": _model(design.classifier),
        "models": [_model(other) for other in design.oracle.others],
        "versions": provenance.versions(),
        "machine": provenance.machine(),
    }


def _model(classifier: Classifier) -> dict[str, Any]:
    place = classifier.loaded_from
    return {**model_record(classifier), "loaded_from": None if place is None else list(place)}


# Entries that must be the same for a campaign to go on.
_SAME: Final = ("settings", "criterion", "profile", "oracle", "seeds", "model", "models")


def _continued(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The record of a campaign that goes on.

    Raises:
        UserError: It is another campaign.
    """
    then, here = public(before), public(now)
    for record in (then, here):  # which changes nothing
        record["settings"] = {**record["settings"], "batch_size": None}
    for name in _SAME:
        if then.get(name) != here.get(name):
            old, new = then.get(name), here.get(name)
            if isinstance(old, dict) and isinstance(new, dict):
                key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
                name, old, new = f"{name}.{key}", old.get(key), new.get(key)
            raise UserError(
                f"`resume` must go on with the same campaign, got: {name} {str(new)[:60]}, before {str(old)[:60]}",
                "another --out starts a new one",
            )
    return before


def _path(launch: Launch, spec: str, begin: str) -> Path:
    if launch.out is not None:
        return local_folder("out", launch.out)
    words = f"fuzz-{Path(spec).name}"
    slug = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words)
    return fresh_folder(slug, begin)
