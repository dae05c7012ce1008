"""The command about coverage criteria: coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.records import Criteria, Ending
from camdrift.cli.studies import ImagesArgument
from camdrift.cli.terminal import command_line, print_json, print_table, print_text
from camdrift.errors import UserError, escaped
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch, fresh_folder
from camdrift.study.provenance import now
from camdrift.tables.file_names import REPORT

if TYPE_CHECKING:
    from camdrift.study.measurement import CoverageMeasurement

_HEADS: Final = ("criterion", "value", "covered", "of")


@takes_options("coverage")
def coverage_command(images: ImagesArgument = None, *, options: Options) -> None:
    """Measure coverage criteria of images, without attack or fuzzing: a table, and the same as Parquet files."""
    if options.record(Criteria).meaning:
        _ask(images, options)
        return
    criteria, settings = options.record(Criteria), options.record(Settings)
    launch, models = options.record(Launch, command=command_line()), options.record(Models)
    out = launch.out or fresh_folder("coverage", now())
    with Console(stderr=True).status(f"loading {models.model}") as status:
        # Here and not above: torch takes seconds to import.
        from camdrift.study.measurement import measure_coverage

        measurement = measure_coverage(
            models.classifier(),
            images,
            criteria=criteria.criteria,
            profile=criteria.profile,
            limit=settings.limit,
            batch_size=settings.batch_size,
            out=out,
            on_images=lambda stage, done, total: status.update(f"{stage}: {done:,} of {total:,}"),
        )
    _print(measurement, is_json=options.record(Ending).json)


def _ask(run: str | None, options: Options) -> None:
    """Ask a campaign whether coverage is meaningful there."""
    criteria, launch, models = options.record(Criteria), options.record(Launch), options.record(Models)
    if run is None:
        raise UserError("`meaning` must come with a run of camdrift fuzz, got: none", "name its folder")
    if launch.out is not None:
        raise UserError(f"`meaning` must come without `out`, got: {launch.out}", "the answers are written into the run")
    with Console(stderr=True).status(f"reading {run}") as status:
        # Here and not above: torch takes seconds to import.
        from camdrift.study.campaign import open_campaign
        from camdrift.study.fuzz import recorded
        from camdrift.study.meaning import coverage_meaning

        campaign = open_campaign(run)
        before = recorded(Launch(out=campaign.path))
        models = replace(models, **before.models)
        status.update(f"loading {models.model}")
        judge = None if criteria.judge is None else replace(models, model=criteria.judge, weights=None).classifier()
        meaning = coverage_meaning(
            campaign,
            [models.classifier(), *models.other_classifiers()],
            criteria=criteria.criteria,
            profile=criteria.profile,
            judge=judge,
            on_stage=lambda stage, done, total: status.update(f"{stage}: {done:,} of {total:,}"),
        )
    rows, page = meaning.meaning.to_dicts(), str(campaign.path / REPORT)
    if options.record(Ending).json:
        print_json({"run": str(campaign.path), "meaning": rows, "remarks": meaning.remarks, "pages": [page]})
        return
    print_text("\n".join([*meaning.lines(), *meaning.remarks]))
    typer.echo(escaped(page))


def _print(measurement: "CoverageMeasurement", *, is_json: bool) -> None:
    rows = measurement.criteria.to_dicts()
    if is_json:
        print_json({"criteria": rows, "remarks": measurement.remarks, "folder": str(measurement.path)})
        return
    print_table(_HEADS, [_cells(row) for row in rows])
    typer.echo()
    print_text("\n".join([*_reasons(rows), *measurement.remarks]))
    typer.echo(escaped(str(measurement.path)))


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each reason with the criteria that have no value for it, a line each."""
    reasons = dict.fromkeys(row["undefined_reason"] for row in rows if row["undefined_reason"])
    names = {reason: [row["criterion"] for row in rows if row["undefined_reason"] == reason] for reason in reasons}
    return [f"{reason}: {', '.join(criteria)}" for reason, criteria in names.items()]


def _cells(row: Mapping[str, Any]) -> list[str]:
    counts = ["" if row[name] is None else f"{row[name]:,}" for name in ("covered", "total")]
    return [row["criterion"], "-" if row["value"] is None else f"{row['value']:.4g}", *counts]
