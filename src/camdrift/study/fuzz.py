"""A fuzzing campaign from seeds to tables, in reading order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.coverage.base import neuron_layout
from camdrift.coverage.criteria import Criterion, features_for, make_criterion
from camdrift.coverage.profile import Profile
from camdrift.engine.progress import Progress
from camdrift.errors import ImageError, UserError
from camdrift.fuzzing.budget import PASSES, parse_budget
from camdrift.fuzzing.constraints import parse_constraint
from camdrift.fuzzing.design import CampaignDesign, FuzzSeed
from camdrift.fuzzing.frameworks import ChosenFramework, Setup, parse_frameworks
from camdrift.fuzzing.names import PREDICTION
from camdrift.fuzzing.oracles import Oracle, make_oracle
from camdrift.fuzzing.settings import FuzzKeywords, FuzzSettings, settings_of
from camdrift.images.pixels import read_image
from camdrift.images.places import ImageFile, display_path
from camdrift.images.selection import select_images
from camdrift.masking import public, without_home
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.plan import checked, folder_labels
from camdrift.storage.campaign_directory import CampaignDirectory
from camdrift.storage.measurement import write_profile
from camdrift.storage.remote_directory import local_folder
from camdrift.study import provenance
from camdrift.study.campaign import Campaign
from camdrift.study.launch import ImageSource, Launch, LaunchKeywords, fresh_folder, launch_from, spelled_out
from camdrift.study.measurement import profile_remarks
from camdrift.study.profiling import NamedProfile, profile_of
from camdrift.study.record import model_record
from camdrift.study.trials import CampaignRunner, PlannedTrial
from camdrift.tables.file_names import PROFILE
from camdrift.tables.table import Row

_DEFAULT: Final = "foolbox (20 ImageNet photographs)"
_PATHS: Final = "paths"
_BOUNDARIES: Final = "nbc"
# Frameworks that walk through their corpus from the first entry to the last, and keep some mutants.
_WALKERS: Final = ("deephunter", "keep-all", "keep-random", "margin", "gini")
_FUZZED, _LEFT_OUT, _UNREADABLE = "fuzzed", "left_out", "unreadable"


class CampaignKeywords(LaunchKeywords, FuzzKeywords, total=False):
    """The keywords of `camdrift.fuzz`: a launch, and the options of a campaign."""


@dataclass(frozen=True)
class _Seeds:
    """The seed images of a campaign.

    Attributes:
        rows: Their rows of the table `starts`.
        starts: Those that are fuzzed.
        images: Images of those, (3, height, width) each.
    """

    rows: list[Row]
    starts: list[FuzzSeed]
    images: list[NDArray[np.float32]]


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
    images, specs = record["images"], [model["loaded_from"] for model in (record["model"], *record["models"])]
    if images == _PATHS or None in specs:
        raise UserError(
            f"`resume` must come with images and model, got: {directory.path}, which was begun in Python",
            "camdrift.fuzz(classifier, images, out=..., resume=True) goes on with it",
        )
    (model, weights), *others = specs
    models = {
        "model": model,
        "weights": None if weights is None else Path(weights),
        "others": tuple(spec for spec, _ in others),
    }
    return Recorded(None if images == _DEFAULT else images, settings_of(record["settings"]), models)


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
    seeds = _seeds(classifier, oracle, select_images(images, limit=settings.limit).files, settings.batch_size)
    design = _design(classifier, oracle, seeds, criterion, settings)
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
        CampaignRunner(directory, setup, _plans(frameworks, settings.trials), launch).run(record, seeds.rows)
    return Campaign(directory)


def _design(
    classifier: Classifier, oracle: Oracle, seeds: _Seeds, criterion: Criterion, settings: FuzzSettings
) -> CampaignDesign:
    """What all trials share."""
    return CampaignDesign(
        classifier=classifier,
        starts=seeds.starts,
        oracle=oracle,
        constraint=parse_constraint(settings.constraint),
        budget=parse_budget(settings.budget),
        operators=settings.mutators,
        criterion=criterion,
        batch_size=settings.batch_size,
        rng_seed=settings.rng_seed,
        as_released=settings.as_released,
    )


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
    spec = settings.criterion or ("nc" if profile is None else "kmnc")
    if settings.as_released and spec == _BOUNDARIES:
        spec = f"{_BOUNDARIES}(as_released=True)"
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


def _remarks(seeds: _Seeds, reference: NamedProfile, criterion: str) -> tuple[str, ...]:
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


def _seeds(classifier: Classifier, oracle: Oracle, files: Sequence[ImageFile], batch_size: int) -> _Seeds:
    """Read the seeds, and leave out those that fail from the start."""
    labels = folder_labels(classifier, files)
    rows, starts, images = list[Row](), list[FuzzSeed](), list[NDArray[np.float32]]()
    for batch in batches(files, batch_size):
        read: list[tuple[Row, torch.Tensor]] = []
        for file in batch:
            label = _label(classifier, file, labels)
            row: Row = {"seed_id": file.seed_id, "path": without_home(display_path(file.path)), "label": label}
            rows.append(row)
            try:
                picture = read_image(file, **classifier.geometry)
            except ImageError as error:
                row |= {"status": _UNREADABLE, "reason": error.message}
                continue
            row["sha256"] = picture.sha256
            read.append((row, picture.pixels))
        if not read:
            continue
        pixels = torch.stack([image for _, image in read]).to(classifier.device)
        logits = [model(pixels) for model in (classifier, *oracle.others)]
        probabilities, classes = logits[0].softmax(1).max(1)
        for place, (row, image) in enumerate(read):
            row |= {"clean_class": int(classes[place]), "clean_probability": float(probabilities[place])}
            seed_class = row["label"] if oracle.name == PREDICTION and row["label"] is not None else row["clean_class"]
            reason = oracle.objection([each[place] for each in logits], seed_class)
            row |= {"status": _LEFT_OUT, "reason": reason} if reason else {"status": _FUZZED}
            if not reason:
                starts.append(FuzzSeed(row["seed_id"], seed_class))
                images.append(image.cpu().numpy())
    if not starts:
        reasons = sorted({row["reason"] for row in rows})
        raise UserError(
            f"`images` must hold a seed that can be fuzzed, got: {len(rows)} images and none ({'; '.join(reasons)})",
            "are the labels those of the model? `camdrift run` on the same images shows what it predicts",
        )
    return _Seeds(rows, starts, images)


def _label(classifier: Classifier, file: ImageFile, labels: Mapping[str, int]) -> int | None:
    if file.folder is not None and file.folder in labels:
        return labels[file.folder]
    return file.label if file.place.counts(classifier.classes) else None


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
