"""The command that trains heads: head."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.records import Ending
from camdrift.cli.terminal import print_json, print_text
from camdrift.models.head_specs import HEAD_WORDS, ZERO_BIAS
from camdrift.pipeline.settings import Settings
from camdrift.tables.words import count

if TYPE_CHECKING:
    from camdrift.study.heads import TrainedHead


@takes_options("head")
def head_command(
    images: Annotated[
        str, typer.Argument(help="Images to train on, as for `run`: sub-folders are classes.", metavar="IMAGES")
    ],
    head: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(HEAD_WORDS)}; the cosines' scale is a number or auto: 'zero-bias(scale=auto)'.",
            metavar="KIND",
        ),
    ] = ZERO_BIAS,
    out: Annotated[str, typer.Option(help="File to write; one that is there is replaced.")] = "head.safetensors",
    *,
    options: Options,
) -> None:
    """Train a head on a frozen network's features, in seconds, and judge it on images left out."""
    models, settings = options.record(Models), options.record(Settings)
    with Console(stderr=True).status(f"loading {models.model}") as status:
        # Here and not above: torch takes seconds to import.
        from camdrift.study.heads import train_head

        result = train_head(
            models.classifier(),
            images,
            head=head,
            out=out,
            limit=settings.limit,
            batch_size=settings.batch_size,
            rng_seed=settings.rng_seed,
            on_images=lambda stage, done, total: status.update(f"{stage}: {done:,} of {total:,}"),
        )
    if options.record(Ending).json:
        print_json(asdict(result))
        return
    print_text("\n".join([*_sentences(result), *result.remarks, f"camdrift run IMAGES --head '{result.spec}'"]))


def _sentences(result: "TrainedHead") -> list[str]:
    scale = "" if result.scale is None else f", scale {result.scale:.4g}"
    own = f"; the model's own last layer: {100 * result.own_accuracy:.1f} %" if result.labels == "folders" else ""
    return [
        f"{result.kind}{scale}: {count(result.images, 'image')} of {len(result.classes):,} classes",
        f"accuracy on images left out, {count(result.folds, 'fold')}: {100 * result.accuracy:.1f} % "
        f"({100 * result.accuracy_low:.1f} to {100 * result.accuracy_high:.1f}){own}",
        f"calibration error {result.calibration:.3f}, mean confidence {result.confidence:.3f}",
    ]
