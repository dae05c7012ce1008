"""The paper reproduced: one set of seeds, read as the released code computes and as the equations say."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

import polars as pl

from camdrift.defences.detector import LEAST_FOLDED_SEEDS
from camdrift.engine.engine import LOCAL, Engine, engine_of
from camdrift.engine.progress import OnProgress
from camdrift.errors import UserError
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
from camdrift.study.run import Extension, carry_out
from camdrift.study.study import Study
from camdrift.tables.measures import of_first_measure
from camdrift.tables.study import TABLES

REPRODUCTION: Final = "reproduction"
PAPER_ATTACK: Final = "dlfuzz:paper"


def reproduce(
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
    engine: str | Engine = LOCAL,
    address: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Study:
    """Run the paper on some images, as its released code computes it and as its equations say.

    The run directory is that of a study, with the tables `emulation`, `ladder`, `claims` and `denoised` beside, and
    more rows in `controls`; with four analysed seeds or more also with the tables `detection` and `roc` of `detect`.

    Args:
        classifier: What `load_model` or `wrap` returned.
        images: As in `run`.
        out: Run directory; None for a new folder under `runs/`.
        settings: Options of the study; or give them by name:
        **options: Fields of `Settings`; the attack is the paper's, `dlfuzz:paper`, if none is given, and `denoised`
            is always on.
        resume: Continue the run in `out`.
        overwrite: Replace the run in `out`.
        on_progress: Called whenever there is something to show.
        on_start: Called once with the run directory, before the first chunk.
        command: The command line, for the record.
        engine, address, workers: As in `run`.

    Raises:
        UserError: Input or options that cannot be studied.
    """
    chosen = settings if settings is not None else Settings(**{"attack": PAPER_ATTACK, **options})
    if "seed" not in chosen.targets or "own" not in chosen.targets:
        raise UserError(f"`target` must name own and seed in a reproduction, got: {', '.join(chosen.targets)}")
    chosen = replace(chosen, denoised=True)
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
        extension=Extension(REPRODUCTION, (Emulation(), Denoised()), finish),
        engine=engine_of(engine, address, workers),
    )


def finish(plan: Plan, directory: RunDirectory) -> None:
    """Write what the tables of a finished study and its extra tables say: ladder, claims, controls, detection."""
    tables = of_first_measure(directory.stored_tables(*TABLES, "denoised"))
    emulation = directory.read_table("emulation")
    rng_seed = plan.settings.rng_seed
    directory.write_table("ladder", ladder(emulation))
    directory.write_table("claims", claims(tables, emulation, rng_seed=rng_seed))
    more = reproduction_controls(emulation, rng_seed=rng_seed)
    directory.write_table("controls", pl.concat([tables["controls"], more]))
    run = readings(plan.attack.spec, tables)
    if run.n_seeds >= LEAST_FOLDED_SEEDS:
        found = detection_of([run], rng_seed=rng_seed)
        directory.write_table("detection", found.detection)
        directory.write_table("roc", found.roc)
