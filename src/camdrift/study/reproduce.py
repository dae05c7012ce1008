"""The paper reproduced: one set of seeds, read as the released code computes and as the equations say."""

from dataclasses import replace
from typing import Final, Unpack

import polars as pl

from camdrift.detectors.cross_validation import LEAST_FOLDED_SEEDS
from camdrift.errors import UserError
from camdrift.masking import masked
from camdrift.models.classifier import Classifier
from camdrift.paper.claims import claims
from camdrift.paper.controls import reproduction_controls
from camdrift.paper.ladder import ladder
from camdrift.pipeline.denoised import Denoised
from camdrift.pipeline.emulation import Emulation
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.settings import Settings
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.detect import detection_of, readings
from camdrift.study.launch import (
    PAPER_ATTACK,
    ImageSource,
    Launch,
    StudyKeywords,
    launch_from,
    settings_from,
    spelled_out,
)
from camdrift.study.run import RunKind, run_study
from camdrift.study.study import Study
from camdrift.tables.measures import of_first_measure
from camdrift.tables.study import TABLES

REPRODUCTION: Final = "reproduction"
_DEFAULTS: Final = {"attack": PAPER_ATTACK}


@spelled_out(Launch, Settings)
def reproduce(
    classifier: Classifier,
    images: ImageSource = None,
    *,
    settings: Settings | None = None,
    **options: Unpack[StudyKeywords],
) -> Study:
    """Run the paper on some images, as its released code computes it and as its equations say.

    The run directory is that of a study, with the tables `emulation`, `ladder`, `claims` and `denoised` beside, and
    more rows in `controls`; with four analysed seeds or more also with the tables `detection` and `roc` of `detect`.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: As in `run`.
        settings: Options of the study; or give fields of `Settings` by name. The attack is the paper's,
            `dlfuzz:paper`, if none is named, and `denoised` is always on.
        **options: As in `run`.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    launch, own = launch_from(options)
    settings = settings_from(settings, own, _DEFAULTS)
    if not {"seed", "own"} <= set(settings.targets):
        raise UserError(f"`target` must name own and seed in a reproduction, got: {', '.join(settings.targets)}")
    kind = RunKind(REPRODUCTION, (Emulation(), Denoised()), finish)
    return run_study(classifier, images, replace(settings, denoised=True), launch, kind=kind)


def finish(plan: Plan, directory: RunDirectory) -> None:
    """Write what the tables of a finished study and its extra tables say: ladder, claims, controls, detection."""
    tables = of_first_measure(directory.stored_tables(*TABLES, "denoised"))
    emulation = directory.read_table("emulation")
    rng_seed = plan.settings.rng_seed
    directory.write_table("ladder", ladder(emulation))
    directory.write_table("claims", claims(tables, emulation, rng_seed=rng_seed))
    more = reproduction_controls(emulation, rng_seed=rng_seed)
    directory.write_table("controls", pl.concat([tables["controls"], more]))
    run = readings(masked(plan.attack.spec), tables)
    if run.n_seeds >= LEAST_FOLDED_SEEDS:
        detection = detection_of([run], rng_seed=rng_seed)
        directory.write_table("detection", detection.detection)
        directory.write_table("roc", detection.roc)
