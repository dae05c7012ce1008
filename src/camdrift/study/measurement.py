"""Coverage criteria of a folder of images, measured without attack or fuzzing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from torch import Tensor

from camdrift.coverage.base import CoverageReading, CoverageState, Criterion, neuron_layout
from camdrift.coverage.criteria import Background, MissingProfileError, criterion_of, features_for
from camdrift.coverage.profile import FEWEST_IMAGES, Profile
from camdrift.errors import UserError
from camdrift.images.files import images_checksum
from camdrift.models.classifier import Classifier
from camdrift.pipeline.plan import checked
from camdrift.specs import parse_spec, parse_specs
from camdrift.storage.measurement import check_measurement_folder, write_measurement
from camdrift.storage.remote_directory import is_url
from camdrift.study import provenance
from camdrift.study.launch import ImageSource
from camdrift.study.profiling import NamedProfile, profile_of
from camdrift.study.record import device_record, model_record
from camdrift.study.suites import Observation, OnImages, Suite, suite_of
from camdrift.tables.criteria import ALL, CRITERIA_LAYERS, CRITERIA_TABLE, CRITERION_WORDS, EVERY_CRITERION
from camdrift.tables.table import Row
from camdrift.tables.words import count

# Criteria that fall with the number of images of the profile.
_BOUNDED: Final = ("nbc", "snac")
_NO_PROFILE: Final = "no profile"
_KIND: Final = "coverage"


@dataclass(frozen=True)
class CoverageMeasurement:
    """What coverage criteria say of some images.

    Attributes:
        criteria: A row per criterion, table `criteria`.
        layers: A row per criterion and layer, table `criteria_layers`.
        profile: The profile that they were measured against; None for none.
        remarks: What a person should know before trusting the numbers, a line each.
        record: Model, images, versions.
        path: The folder of the tables; None if they were not written.
    """

    criteria: pl.DataFrame
    layers: pl.DataFrame
    profile: Profile | None
    remarks: tuple[str, ...]
    record: dict[str, Any]
    path: Path | None


def measure_coverage(
    classifier: Classifier,
    images: ImageSource | Tensor,
    *,
    criteria: str | Sequence[str] = ALL,
    profile: Profile | ImageSource | Tensor = None,
    limit: int | None = None,
    batch_size: int = 0,
    out: str | PathLike[str] | None = None,
    on_images: OnImages | None = None,
) -> CoverageMeasurement:
    """What coverage criteria say of some images, from one forward pass in float32.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: Whatever `camdrift.run` takes, or a tensor (images, 3, height, width) in pixel space.
        criteria: One or more of `nc`, `kmnc`, `nbc`, `snac`, `tknc`, `tknp`, `nlc`, `cc`, `lsa`, `dsa`, `mdsa`, `lsc`,
            `dsc`, `mdsc`, with settings if wanted: `kmnc(k=100)`; or `all`.
        profile: Ordinary images, such as some of the training set, which bound the neurons and hold what is no
            surprise: as `images`, the file `profile.npz` of an earlier measurement, or its `profile`.
        limit: Most images to measure, spread over the list; the profile is whole.
        batch_size: Images read and observed at once; 0 for a number that suits the device. It changes no number.
        out: Folder for tables, record and profile; a measurement there is replaced, and its profile taken again
            where it is of the same weights and images. None to write nothing.
        on_images: Called with what is done (`profile` or `images`), images done and all images.

    Raises:
        UserError: Images or criteria that cannot be measured, or a profile is missing.

    Example:
        >>> import torch, camdrift
        >>> conv, head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(144, 2)
        >>> net = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head)
        >>> images = torch.linspace(0, 1, 10 * 3 * 8 * 8).reshape(10, 3, 8, 8)
        >>> classifier = camdrift.wrap(net, size=8)
        >>> measurement = camdrift.measure_coverage(classifier, images, criteria=["nbc", "tknp"], profile=images)
        >>> measurement.criteria.row(0)
        ('nbc', 0.0, 0, 12, 10, None)
    """
    show = on_images or (lambda _, done, total: None)
    folder, begin = _folder(out), provenance.now()
    background = Background(neuron_layout(checked(classifier, "classifier")))
    specs = _specs(criteria)
    without = _without_profile(specs, background)
    if without and profile is None and ALL not in criteria:
        criterion_of(min(without), background)  # which says what is missing
    suite = suite_of(images, limit)
    reference = profile_of(
        classifier, profile, features_for(specs, background.layout), folder=folder, batch_size=batch_size, show=show
    )
    background = Background(background.layout, reference.profile)
    measurable = [spec for spec in specs if profile is not None or spec not in without]
    observation = Observation(classifier, suite, batch_size, lambda done, total: show("images", done, total))
    tables = _tables(specs, {spec: criterion_of(spec, background) for spec in measurable}, observation)
    remarks = (
        *reference.remarks,
        *observation.remarks(),
        *profile_remarks(specs, reference.profile, observation.checksums, observation.images),
    )
    record = {**_record(classifier, suite, observation, reference, begin), "remarks": list(remarks)}
    if folder is not None:
        write_measurement(folder, tables, record)
    rows, layer_rows = tables[CRITERIA_TABLE.name], tables[CRITERIA_LAYERS.name]
    return CoverageMeasurement(rows, layer_rows, reference.profile, remarks, record, folder)


def _tables(
    specs: Sequence[str], criteria: Mapping[str, Criterion], observation: Observation
) -> dict[str, pl.DataFrame]:
    """The tables of the images that are observed, in the order of the specs; one without a criterion has no value."""
    states = {spec: criterion.start() for spec, criterion in criteria.items()}
    for batch in observation:
        for state in states.values():
            state.fold(batch, np.ones(len(batch), np.bool_))
    names = {spec: criteria[spec].name if spec in criteria else spec for spec in specs}
    rows = [_row(names[spec], states.get(spec), observation.images) for spec in specs]
    layer_rows = [row for spec, state in states.items() for row in _layer_rows(names[spec], state)]
    return {CRITERIA_TABLE.name: CRITERIA_TABLE.frame(rows), CRITERIA_LAYERS.name: CRITERIA_LAYERS.frame(layer_rows)}


def _folder(out: str | PathLike[str] | None) -> Path | None:
    if is_url(out):
        raise UserError(f"`out` must be a folder of this machine, got: {out}", "copy it there afterwards")
    if out is not None:
        check_measurement_folder(Path(out))
    return None if out is None else Path(out)


def _specs(criteria: str | Sequence[str]) -> list[str]:
    """Every spec once, with `all` spelled out."""
    words = parse_specs(criteria) if isinstance(criteria, str) else tuple(criteria)
    if not words:
        raise UserError("`criteria` must name one or more, got: none", f"{ALL} stands for every one")
    return list(dict.fromkeys(spec for word in words for spec in (EVERY_CRITERION if word == ALL else (word,))))


def _without_profile(specs: Sequence[str], background: Background) -> set[str]:
    """Those criteria that cannot be measured without a profile; raises `UserError` for what is wrong in any."""
    missing = set()
    for spec in specs:
        try:
            criterion_of(spec, background)
        except MissingProfileError:
            missing.add(spec)
    return missing


def _row(name: str, state: CoverageState | None, images: int) -> Row:
    reading = CoverageReading(None, undefined_reason=_NO_PROFILE) if state is None else state.reading()
    return {"criterion": name, "n_images": images, **vars(reading)}


def _layer_rows(name: str, state: CoverageState) -> list[Row]:
    layers = enumerate(state.by_layer().items())
    return [{"criterion": name, "layer": layer, "layer_index": i, **vars(reading)} for i, (layer, reading) in layers]


def profile_remarks(
    specs: Sequence[str], profile: Profile | None, checksums: Collection[str], images: int
) -> list[str]:
    """What a person should know of a profile beside the images that are measured.

    Args:
        specs: Criteria.
        profile: The profile.
        checksums: Checksums of the files of the images.
        images: Number of images.
    """
    if profile is None:
        return []
    remarks = []
    names = [name for name in _BOUNDED if any(parse_spec(spec).name == name for spec in specs)]
    if names and profile.images < FEWEST_IMAGES:
        words = " and ".join(name.upper() for name in names)
        remarks.append(
            f"the profile has {count(profile.images, 'image')}: {words} fall as it grows, so use "
            f"{FEWEST_IMAGES:,} or more"
        )
    both = len({*checksums} & {*profile.checksums})
    if both:
        remarks.append(
            f"{both:,} of {count(images, 'image')} are in the profile too: they cannot leave its bounds, "
            "and are no surprise"
        )
    return remarks


def _record(
    classifier: Classifier, suite: Suite, observation: Observation, reference: NamedProfile, begin: str
) -> dict[str, Any]:
    """The record of a measurement, as its file holds it."""
    profile = reference.profile
    return {
        "camdrift": provenance.camdrift_version(),
        "kind": _KIND,
        "started": begin,
        "finished": provenance.now(),
        "model": model_record(classifier),
        "images": {
            "source": suite.words,
            "n": observation.images,
            "sha256": images_checksum(observation.checksums) if observation.checksums else None,
        },
        "profile": None if profile is None else {"source": reference.words, "n": profile.images, **profile.origin},
        "definitions": dict(CRITERION_WORDS),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        **device_record(classifier.device),
    }
