"""The command about defences: defend."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from camdrift.cli.options import option
from camdrift.cli.progress import show_progress
from camdrift.cli.terminal import AsJson, print_json, print_table, print_text
from camdrift.errors import escaped
from camdrift.tables.file_names import REPORT

if TYPE_CHECKING:
    from camdrift.study.defend import Defending


def defend_command(
    run: Annotated[str, typer.Argument(help="Folder or URL that `camdrift run` wrote.", metavar="RUN")],
    defence: Annotated[
        list[str],
        typer.Option(
            help="A purifier, such as 'jpeg(quality=75)'; docs/defences.md lists them. Repeat it for more.",
            metavar="SPEC",
        ),
    ],
    adaptive: Annotated[
        list[str] | None,
        typer.Option(
            help="An attack that knows the defence. Repeat it for more. Left out: the run's.",
            metavar="SPEC",
            show_default=False,
        ),
    ] = None,
    static_only: Annotated[
        bool, typer.Option("--static-only", help="Leave out attacks that know the defence: no claim about robustness.")
    ] = False,
    eot: Annotated[
        int,
        typer.Option(
            help="Draws of a random purifier that an attack averages, and that a verdict counts.", metavar="N"
        ),
    ] = 20,
    model: Annotated[
        str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="SPEC", show_default=False)
    ] = None,
    weights: Annotated[Path | None, option("weights")] = None,
    images: Annotated[
        str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="PATH", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="As for `run`. Left out: the run's.", show_default=False)] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Also run Python code that run.json names: a model's factory, an attack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge defences on a finished run: what they keep, what is left when the attack knows them, where maps come back.

    The same command again goes on where it was stopped.
    """
    with show_progress(Console(stderr=True), _how_to_go_on) as display:
        display.say(f"reading {run}")
        display.start(run)
        from camdrift.study.defend import defend
        from camdrift.study.study import open_study

        defending = defend(
            run,
            defence,
            adaptive=adaptive or None,
            static_only=static_only,
            draws=eot,
            model=model,
            images=images,
            weights=weights,
            device=device,
            trust=trust,
            on_progress=display,
        )
        display.say("report")
        open_study(run).report()
    _print(defending, is_json=as_json)


def _print(defending: "Defending", *, is_json: bool) -> None:
    page = f"{defending.place}/{REPORT}"
    if is_json:
        tables = {name: getattr(defending, name).to_dicts() for name in ("defences", "restoration", "sanity")}
        print_json({**tables, "notes": defending.notes(), "page": page})
        return
    first, *notes = defending.notes()
    print_text(first)
    print_table(*defending.cells())
    print_text("\n".join(notes))
    typer.echo(escaped(page))


def _how_to_go_on(_: Path | str) -> str:
    return f"stopped; finished parts are kept, to go on: {shlex.join(['camdrift', *sys.argv[1:]])}"
