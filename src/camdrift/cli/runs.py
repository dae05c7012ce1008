"""The commands about one run that is there: list, open, cite."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from camdrift.cli.terminal import AsJson, print_json, print_table, print_text
from camdrift.errors import UserError, escaped
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
    from camdrift.study.campaign import is_campaign, open_campaign
    from camdrift.study.runs import find_run
    from camdrift.study.study import open_study

    path = find_run(run, has_campaigns=True)
    page = open_campaign(path).explore() if is_campaign(path) else open_study(path).explore()
    typer.echo(escaped(str(page)))


def cite_command(
    run: Annotated[
        str | None,
        typer.Argument(help=f"Run directory, or its name in {RUNS}/. Left out: the latest.", metavar="RUN"),
    ] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print the paragraph as LaTeX, and the layers as a table.")
    ] = False,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the BibTeX entries alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a methods paragraph made from a run's record, and the BibTeX entries of what it names."""
    from camdrift.study.runs import find_run
    from camdrift.study.study import open_study

    if latex + bibtex + as_json > 1:
        raise UserError("`cite` must have one of --latex, --bibtex and --json, got: several", "run it twice")
    citation = open_study(find_run(run)).cite()
    if as_json:
        print_json(citation._asdict())
    elif bibtex:
        typer.echo(escaped(citation.bibtex))
    elif latex:
        typer.echo(escaped(f"{citation.latex}\n\n{citation.table}"))
    else:
        print_text(f"{citation.methods}\n")
        typer.echo(escaped(citation.bibtex))


def _row(entry: "RunEntry") -> list[Any]:
    from camdrift.study.runs import day

    images = "" if entry.images is None else f"{entry.images:,}"
    if entry.analysed is not None:
        images = f"{entry.analysed:,} of {images}"
    return [str(entry.path), entry.state, day(entry.date), images, entry.headline]
