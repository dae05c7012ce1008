"""The commands that make studies: run, explain, reproduce."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.progress import show_progress
from camdrift.cli.records import Ending
from camdrift.cli.terminal import command_line, print_json, print_table, print_text
from camdrift.engine.engine import Engine
from camdrift.engine.interruption import resuming
from camdrift.errors import escaped
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch
from camdrift.tables.file_names import FIGURES, REPORT

if TYPE_CHECKING:
    from camdrift.study.study import Study

ImagesArgument = Annotated[
    str | None,
    typer.Argument(
        help="Folder (sub-folders are classes), file, glob, text file of paths, WebDataset shards "
        "('shard-{000..009}.tar'), or hf-dataset:NAME_OR_FOLDER[:SPLIT]. "
        "Left out: the twenty ImageNet photographs that foolbox ships.",
        metavar="IMAGES",
        show_default=False,
    ),
]


@takes_options("run")
def run_command(images: ImagesArgument = None, *, options: Options) -> None:
    """Study a classifier: attack it, explain every layer, and write tables, figures and a report."""
    study = _study(images, options)
    _end(study, options, [f"{study.place}/{REPORT}"])


@takes_options("explain")
def explain_command(
    image: Annotated[Path, typer.Argument(help="The image.", metavar="IMAGE")], *, options: Options
) -> None:
    """Attack one image, and show the maps of every layer: a report to explore, and a PNG of all layers."""
    study = _study(image, options, kind="explain")
    pages = [name for name in (f"{FIGURES}/layer_grid.png", REPORT) if (study.path / name).is_file()]
    _end(study, options, [f"{study.place}/{name}" for name in pages])


@takes_options("reproduce")
def reproduce_command(images: ImagesArgument = None, *, options: Options) -> None:
    """Run the 2022 paper as its released code computes it and as its equations say, and judge its claims."""
    study = _study(images, options, kind="reproduce")
    _end(study, options, [f"{study.place}/{REPORT}"], table=study.claims_in_words())


def _study(images: str | Path | None, options: Options, *, kind: str = "run") -> "Study":
    """Make a study by the Python function that has the name of the command."""
    settings, models = options.record(Settings), options.record(Models)
    launch = options.record(Launch, engine=options.record(Engine), command=command_line())
    with show_progress(Console(stderr=True), _how_to_go_on) as watch:
        watch.say(f"loading {models.model}")
        launch = replace(launch, on_progress=watch, on_start=watch.start)
        from camdrift.study.explain import explain
        from camdrift.study.reproduce import reproduce
        from camdrift.study.run import run

        functions: dict[str, Any] = {"run": run, "explain": explain, "reproduce": reproduce}
        classifier, surrogate = models.classifier(), models.surrogate_classifier()
        others = {} if kind == "reproduce" else {"surrogate": surrogate}
        study: Study = functions[kind](classifier, images, settings=settings, **others, **vars(launch))
    return study


def _end(study: "Study", options: Options, pages: Sequence[str], table: Any = None) -> None:
    """Print what a study says, and open it where that is wanted.

    Args:
        study: The study.
        options: Those of the command.
        pages: Its files to look at.
        table: Heads and rows of a table; None for none.
    """
    ending = options.record(Ending)
    if ending.json:
        sentences = study.summary().splitlines()
        print_json({"run": str(study.place), "headline": study.headline(), "sentences": sentences, "pages": pages})
    else:
        print_text(study.summary())
        if table is not None:
            typer.echo()
            print_table(*table)
            typer.echo()
        typer.echo(escaped("\n".join(pages)))
    # What a page at a URL is copied to is gone when this process ends.
    if ending.open and isinstance(study.place, Path):
        study.explore()


def _how_to_go_on(path: Path | str) -> str:
    if sys.argv[1:2] == ["explain"]:
        return f"stopped; the same command with --overwrite --out {shlex.quote(str(path))} starts again"
    return f"stopped; finished chunks are kept, to go on: {resuming(sys.argv[1:], path)}"
