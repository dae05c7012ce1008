"""The commands that find runs again: list, open."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from camdrift.cli.terminal import AsJson, print_json, print_table
from camdrift.errors import escaped
from camdrift.study.launch import RUNS

if TYPE_CHECKING:
    from camdrift.study.runs import RunEntry


def list_command(
    folder: Annotated[str, typer.Argument(help="Folder with runs.", metavar="FOLDER")] = str(RUNS),
    as_json: AsJson = False,
) -> None:
    """List the runs of a folder: state, date, images, main result."""
    from camdrift.study.runs import list_runs

    entries = list_runs(folder)
    if as_json:
        print_json([entry.as_json() for entry in entries])
    elif entries:
        print_table(("run", "state", "date", "images", "main result"), list(map(_row, entries)))
    else:
        typer.echo(escaped(f"no runs in {folder or '.'}"))


def open_command(
    run: Annotated[
        str | None,
        typer.Argument(help=f"Run directory, or its name in {RUNS}/. Left out: the latest.", metavar="RUN"),
    ] = None,
) -> None:
    """Open a run's report in the browser, and print its path; over SSH only print it."""
    from camdrift.study.runs import find_run
    from camdrift.study.study import open_study

    typer.echo(escaped(str(open_study(find_run(run)).explore())))


def _row(entry: "RunEntry") -> list[Any]:
    from camdrift.study.runs import day

    images = "" if entry.images is None else f"{entry.images:,}"
    if entry.analysed is not None:
        images = f"{entry.analysed:,} of {images}"
    return [str(entry.path), entry.state, day(entry.date), images, entry.headline]
