"""The commands about finished studies and about several: report, detect, compare, sweep, verify."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from camdrift.cli.options import Options, option, takes_options
from camdrift.cli.progress import show_progress
from camdrift.cli.records import Comparing
from camdrift.cli.terminal import UNTOLD, AsJson, command_line, print_json, print_table, print_text
from camdrift.cli.words import parse_words
from camdrift.engine.display import print_line
from camdrift.engine.engine import Engine
from camdrift.errors import escaped
from camdrift.specs import parse_specs
from camdrift.tables.file_names import COMPARISON_PAGE, REPORT

if TYPE_CHECKING:
    from camdrift.comparison.compare import Comparison
    from camdrift.comparison.sweep import Cell, Sweep
    from camdrift.study.verify import Verification


def _list(help_text: str) -> Any:
    """Return an option of several words, whose default says nothing."""
    return typer.Option(help=help_text, metavar="LIST", show_default=False)


@takes_options("compare")
def compare_command(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `camdrift run` wrote; one alone if it holds several explanations or metrics.",
            metavar="RUN...",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the comparison. Left out: a new folder under runs/.", show_default=False),
    ] = None,
    target: Annotated[str, _list("Whose class is explained. Left out: all that the runs have in common.")] = "",
    explain: Annotated[str, _list("Explanations to compare by. Left out: all that the runs hold.")] = "",
    similarity: Annotated[str, _list("Metrics to compare by. Left out: all.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the comparison in --out.")] = False,
    *,
    options: Options,
) -> None:
    """Compare studies layer by layer: who ranks the layers alike, where gains differ; tables, figures and a page."""
    from camdrift.comparison.compare import compare

    measures: dict[str, Any] = {
        "targets": parse_words(target) or None,
        "explanations": parse_specs(explain) or None,
        "similarities": parse_words(similarity) or None,
    }
    with Console(stderr=True).status("comparing") as status:
        comparison = compare(
            *runs,
            out=out,
            overwrite=overwrite,
            on_pair=lambda number, total: status.update(f"compared {number:,} of {total:,} pairs"),
            on_cross=lambda stage, done, total: status.update(f"{stage}: {done:,} of {total:,}"),
            **measures,
            **vars(options.record(Comparing)),
        )
    _print_comparison(comparison)


@takes_options("sweep")
def sweep_command(
    file: Annotated[
        Path, typer.Argument(help="TOML file with entries [[models]] and [[attacks]].", metavar="FILE.toml")
    ],
    out: Annotated[
        str | None, typer.Option(help="Folder for all runs. Left out: the file's.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start every run again.")] = False,
    *,
    options: Options,
) -> None:
    """Study every model of a file under every attack of it, then compare them; run again, it goes on."""
    engine, console = options.record(Engine), Console(stderr=True)
    with show_progress(console, _how_to_go_on) as display:
        display.start(file)  # which says where all runs are written
        display.say(f"reading {file}")
        from camdrift.comparison.sweep import sweep

        def begin(cell: "Cell") -> None:
            print_line(console, f"{cell.number} of {cell.total}: {cell.name}")

        result = sweep(
            file,
            out=out,
            overwrite=overwrite,
            on_cell=begin,
            on_progress=display,
            command=command_line(),
            engine=engine,
        )
    _print_failures(result)
    if result.comparison is not None:
        _print_comparison(result.comparison)
    elif result.studies:
        typer.echo(escaped("\n".join(str(study.path / REPORT) for study in result.studies)))
    if result.failures:
        raise typer.Exit(2)


def _print_failures(result: "Sweep") -> None:
    for failure in result.failures:
        typer.echo(escaped(f"failed: {failure.name}: {failure.error.message}"), err=True)
        if failure.error.hint:
            typer.echo(escaped(f"hint: {failure.error.hint}"), err=True)
    if result.failures:
        typer.echo(escaped(_how_to_go_on(result.path).removeprefix("stopped; ")), err=True)


def _print_comparison(comparison: "Comparison") -> None:
    print_text(comparison.summary())
    typer.echo(escaped(str(comparison.path / COMPARISON_PAGE)))


def verify_command(
    run: Annotated[str, typer.Argument(help="Folder or URL that `camdrift run` wrote.", metavar="RUN")],
    model: Annotated[
        str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="SPEC", show_default=False)
    ] = None,
    weights: Annotated[Path | None, option("weights")] = None,
    images: Annotated[
        str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="PATH", show_default=False)
    ] = None,
    sample: Annotated[
        int,
        typer.Option(help="Compute at least N seed images again, drawn by whole chunks; 0 for none.", metavar="N"),
    ] = 8,
    rng_seed: Annotated[int, typer.Option(help="Seed of the draw.", metavar="N")] = 0,
    device: Annotated[str | None, typer.Option(help="As for `run`. Left out: the run's.", show_default=False)] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Also run Python code that run.json names: a model's factory, an attack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the tables of a finished run, and compute some of its similarities again.

    Exit code 1 if any differ, 4 if none does but something could not be checked.
    """
    with show_progress(Console(stderr=True)) as display:
        display.say(f"reading {run}")
        from camdrift.study.verify import verify

        verification = verify(
            run,
            model,
            images,
            weights=weights,
            device=device,
            sample=sample,
            rng_seed=rng_seed,
            trust=trust,
            on_progress=display,
        )
    _print_verification(verification, as_json)
    if verification.problems or not verification.is_complete:
        raise typer.Exit(1 if verification.problems else UNTOLD)


def _print_verification(verification: "Verification", as_json: bool) -> None:
    if as_json:
        print_json({**vars(verification), "place": str(verification.place), "is_complete": verification.is_complete})
    else:
        print_text("\n".join(verification.lines()))


def _how_to_go_on(_: Path | str) -> str:
    command = shlex.join(["camdrift", *(word for word in sys.argv[1:] if word != "--overwrite")])
    return f"stopped; finished runs and chunks are kept, to go on: {command}"


def report_command(
    run_directory: Annotated[
        str, typer.Argument(help="Folder or URL that `camdrift run` or `camdrift fuzz` wrote.", metavar="RUN")
    ],
) -> None:
    """Rebuild figures and report of a run from its stored tables alone."""
    from camdrift.study.campaign import is_campaign, open_campaign
    from camdrift.study.study import open_study

    if is_campaign(run_directory):
        typer.echo(escaped(str(open_campaign(run_directory).report())))
        return
    study = open_study(run_directory)
    study.report()
    typer.echo(escaped(f"{study.place}/{REPORT}"))


def detect_command(
    run_directories: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `camdrift run` wrote, of one model; the first one gets the results. "
            "Several: detectors are also trained on one run's attack and tested on another's.",
            metavar="RUN...",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Judge how well the layers tell adversarial from noisy images, with the clean image at hand and without."""
    from camdrift.study.detect import detect, figure_place
    from camdrift.study.study import open_study

    studies = [open_study(path) for path in run_directories]
    detection = detect(*studies)
    if as_json:
        print_json({"detection": detection.detection.to_dicts(), "figure": figure_place(studies[0])})
        return
    title, *notes = detection.notes()
    print_text(title)
    print_table(*detection.cells())
    print_text("\n".join(notes))
    typer.echo(escaped(figure_place(studies[0])))
