"""The command about defences: defend."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from camdrift.cli.options import option
from camdrift.cli.progress import show_progress
from camdrift.cli.terminal import AsJson, print_json, print_table, print_text
from camdrift.errors import escaped
from camdrift.tables.file_names import REPORT

if TYPE_CHECKING:
    from camdrift.study.defence_results import Defending


_Model = Annotated[
    str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="SPEC", show_default=False)
]
_Images = Annotated[
    str | None, typer.Option(help="As for `run`. Left out: the run's.", metavar="PATH", show_default=False)
]
_Device = Annotated[str | None, typer.Option(help="As for `run`. Left out: the run's.", show_default=False)]
_Trust = Annotated[
    bool, typer.Option("--trust", help="Also run Python code that run.json names: a model's factory, an attack.")
]
_Profile = Annotated[
    str | None, typer.Option(help="Ordinary images that detectors are fitted to.", metavar="PATH", show_default=False)
]
_Sigmas = Annotated[
    list[float] | None,
    typer.Option(help="Noise that randomised smoothing certifies with.", metavar="SIGMA", show_default=False),
]
_Specs = list[str] | None


def _specs(help_text: str) -> Any:
    """Return an option that may be given several times."""
    return typer.Option(help=help_text, metavar="SPEC", show_default=False)


def defend_command(
    run: Annotated[str, typer.Argument(help="Folder or URL that `camdrift run` wrote.", metavar="RUN")],
    defence: Annotated[_Specs, _specs("A purifier: 'jpeg(quality=75)', median, ... Repeat it for more.")] = None,
    detector: Annotated[_Specs, _specs("A detector: mahalanobis, squeeze, ... Repeat it for more.")] = None,
    profile: _Profile = None,
    adaptive: Annotated[_Specs, _specs("An attack that knows the defence. Left out: the run's.")] = None,
    static_only: Annotated[bool, typer.Option("--static-only", help="No attack that knows the defence.")] = False,
    certify: _Sigmas = None,
    eot: Annotated[int, typer.Option(help="Draws of a random purifier, in attack and verdict.", metavar="N")] = 20,
    model: _Model = None,
    weights: Annotated[Path | None, option("weights")] = None,
    images: _Images = None,
    device: _Device = None,
    trust: _Trust = False,
    as_json: AsJson = False,
) -> None:
    """Judge defences on a finished run: what they keep, what is left when the attack knows them, where maps come back.

    The same command again goes on where it was stopped.
    """
    source: Any = {"model": model, "images": images, "weights": weights, "device": device, "trust": trust}
    with show_progress(Console(stderr=True), _how_to_go_on) as display:
        display.say(f"reading {run}")
        display.start(run)
        from camdrift.pipeline.smoothing import Smoothing
        from camdrift.study.defend import defend
        from camdrift.study.study import open_study

        defending = defend(
            run,
            defence or (),
            detectors=detector or (),
            profile=profile,
            adaptive=() if static_only else adaptive or None,
            draws=eot,
            smoothing=Smoothing(tuple(certify or ())),
            on_progress=display,
            **source,
        )
        display.say("report")
        open_study(run).report()
    _print(defending, is_json=as_json)


def _print(defending: "Defending", *, is_json: bool) -> None:
    page = f"{defending.place}/{REPORT}"
    if is_json:
        tables = {
            name: getattr(defending, name).to_dicts() for name in ("defences", "restoration", "sanity", "detectors")
        }
        print_json({**tables, "notes": defending.notes(), "page": page})
        return
    first, *notes = defending.notes()
    if len(defending.cells()[1]) > 1:
        print_text(first)
        print_table(*defending.cells())
    heads, rows = defending.detector_cells()
    if rows:
        print_text(
            f"AUC of detectors at strength {defending.strength:g}, with 95 % intervals over images; 0.5 is chance. "
            "Undetected: share of images that an attack which knows the detector gets past it."
        )
        print_table(heads, rows)
    print_text("\n".join([*notes, *defending.certificates()]))
    typer.echo(escaped(page))


def _how_to_go_on(_: Path | str) -> str:
    return f"stopped; finished parts are kept, to go on: {shlex.join(['camdrift', *sys.argv[1:]])}"
