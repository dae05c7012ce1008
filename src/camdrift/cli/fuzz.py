"""The command that fuzzes: fuzz."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.progress import show_progress
from camdrift.cli.records import Criteria, Ending
from camdrift.cli.studies import ImagesArgument
from camdrift.cli.terminal import command_line, print_json, print_table, print_text
from camdrift.engine.engine import Engine
from camdrift.engine.interruption import resuming
from camdrift.errors import escaped
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch
from camdrift.tables.file_names import REPORT

if TYPE_CHECKING:
    from camdrift.study.campaign import Campaign

_BATCH: Final = FuzzSettings.batch_size
# Folder of the study in a campaign's directory.
_STUDY: Final = "study"


@takes_options("fuzz")
def fuzz_command(images: ImagesArgument = None, *, options: Options) -> None:
    """Fuzz a classifier: mutate seed images for a budget, and trace every failure to its seed and its mutations."""
    campaign = _campaign(images, options)
    ending = options.record(Ending)
    if ending.study:
        _study(campaign, options)
    _end(campaign, options)
    if ending.open:
        campaign.explore()


def _campaign(images: str | None, options: Options) -> "Campaign":
    common, models = options.record(Settings), options.record(Models)
    settings = options.record(
        FuzzSettings, limit=common.limit, rng_seed=common.rng_seed, batch_size=common.batch_size or _BATCH
    )
    launch = options.record(Launch, engine=options.record(Engine), command=command_line())
    with show_progress(Console(stderr=True), _how_to_go_on) as watch:
        if launch.resume and images is None:
            from camdrift.study.fuzz import recorded

            before = recorded(launch)
            images, settings, models = before.images, before.settings, replace(models, **before.models)
        watch.say(f"loading {models.model}")
        launch = replace(launch, on_progress=watch, on_start=watch.start)
        from camdrift.study.fuzz import fuzz

        return fuzz(
            models.classifier(),
            images,
            models=models.other_classifiers(),
            profile=options.record(Criteria).profile,
            settings=settings,
            **vars(launch),
        )


def _study(campaign: "Campaign", options: Options) -> None:
    """Study the closest failure of each seed layer by layer, in the campaign's folder."""
    if campaign.failures_list is None:
        return
    from camdrift.study.fuzz import recorded
    from camdrift.study.run import run

    before = recorded(Launch(out=campaign.path))
    models = replace(options.record(Models), **before.models)
    with show_progress(Console(stderr=True)) as watch:
        settings = Settings(adversarial=str(campaign.failures_list), limit=before.settings.limit)
        out = campaign.path / _STUDY
        run(models.classifier(), before.images, settings=settings, out=out, overwrite=True, on_progress=watch)


def _end(campaign: "Campaign", options: Options) -> None:
    heads = ("framework", "trials", "failures", "failing seeds", "seed and class", "passes")
    finals = campaign.growth.group_by("framework", "trial", maintain_order=True).last()
    medians = finals.group_by("framework", maintain_order=True).median()
    rows = [
        [
            row["framework"],
            str(finals.filter(framework=row["framework"]).height),
            *(f"{row[name]:g}" for name in ("failures", "failing_seeds", "seed_classes")),
            f"{row['passes']:,.0f}",
        ]
        for row in medians.to_dicts()
    ]
    if options.record(Ending).json:
        counts = [dict(zip(heads, row, strict=True)) for row in rows]
        sentences = campaign.summary().splitlines()
        print_json(
            {
                "run": str(campaign.path),
                "headline": campaign.headline(),
                "sentences": sentences,
                "counts": counts,
                "pages": [str(campaign.path / REPORT)],
            }
        )
        return
    pages = [path for path in (campaign.path / _STUDY / REPORT, campaign.path / REPORT) if path.is_file()]
    print_text(campaign.summary())
    typer.echo()
    print_table(heads, rows)
    typer.echo()
    if campaign.failures_list is not None:
        typer.echo(escaped(str(campaign.failures_list)))
    typer.echo(escaped("\n".join(map(str, pages))))


def _how_to_go_on(path: Path | str) -> str:
    return f"stopped; checkpoints are kept, to go on: {resuming(sys.argv[1:], path)}"
