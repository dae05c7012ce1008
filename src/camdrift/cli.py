"""The command line: arguments, progress, exit codes; no computation."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from camdrift.errors import UserError
from camdrift.progress import show_progress
from camdrift.provenance import camdrift_version
from camdrift.settings import Settings

if TYPE_CHECKING:
    from camdrift.models import Classifier

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Show where inside an image classifier an adversarial attack takes hold.",
)

# What typer returns for a KeyboardInterrupt, as shells do.
INTERRUPTED: Final = 130

_MODEL_HELP = (
    "efficientnet-lite0 (embedded), torchvision/NAME[@WEIGHTS], timm/NAME, hf/NAME_OR_FOLDER, keras-vgg16@FILE, "
    "FILE.pt2, path/to/file.py:factory or package.module:factory."
)

ImagesArgument = Annotated[
    str | None,
    typer.Argument(
        help="Folder (sub-folders are classes), file, glob, or text file of paths. "
        "Left out: the twenty ImageNet photographs that foolbox ships.",
        metavar="[IMAGES]",
        show_default=False,
    ),
]
ModelOption = Annotated[str, typer.Option(help=_MODEL_HELP, metavar="SPEC")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="State dict for the model: .safetensors, or .pt/.pth read without unpickling code.",
        metavar="FILE",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AttackOption = Annotated[
    str,
    typer.Option(help="dlfuzz or dlfuzz:paper, with settings if wanted: 'dlfuzz(iterations=5)'.", metavar="SPEC"),
]
StrengthsOption = Annotated[
    str, typer.Option(help="Factors on the perturbation, for attack and noise.", metavar="LIST")
]
TargetOption = Annotated[
    str,
    typer.Option(help="Whose class is explained: own prediction, the seed's, the true label.", metavar="LIST"),
]
LayersOption = Annotated[
    str,
    typer.Option(
        help="conv, block, stage (the last of each resolution), all, or globs over layer names, separated by commas. "
        "Left out: every 2-d convolution; the blocks of transformers and the like.",
        metavar="GLOBS",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Run directory. Left out: a new folder under runs/.", show_default=False)
]
LimitOption = Annotated[
    int | None, typer.Option(help="Study N images, spread evenly over the sorted list.", metavar="N")
]
RngSeedOption = Annotated[int, typer.Option(help="Seed of every random draw.", metavar="N")]
NoiseDrawsOption = Annotated[int, typer.Option(help="Noise draws per image.", metavar="N")]
NoiseLadderOption = Annotated[
    str, typer.Option(help="Further strengths of the noise, to measure gains with.", metavar="LIST")
]
GalleryOption = Annotated[
    str,
    typer.Option(
        help="Images whose pictures and heatmaps are kept: N from the largest deviation to the smallest, or all.",
        metavar="N",
    ),
]
ChunkSizeOption = Annotated[
    str,
    typer.Option(help="Images that share one coverage table and are stored together; or all.", metavar="N"),
]
BatchSizeOption = Annotated[str, typer.Option(help="Images per pass, or auto.", metavar="N")]
DenoisedOption = Annotated[
    bool,
    typer.Option(
        "--denoised",
        help="Also hold every image against a denoised copy of itself, so that `detect` needs no clean image.",
    ),
]
PrecisionOption = Annotated[str, typer.Option(help="fp32, tf32 or bf16.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"camdrift {camdrift_version()}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Show where inside an image classifier an adversarial attack takes hold."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("run")
def run_command(
    images: ImagesArgument = None,
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz",
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    target: TargetOption = "own,seed",
    layers: LayersOption = "",
    out: OutOption = None,
    limit: LimitOption = None,
    rng_seed: RngSeedOption = 0,
    noise_draws: NoiseDrawsOption = 1,
    noise_ladder: NoiseLadderOption = "8,16,32",
    gallery: GalleryOption = "24",
    chunk_size: ChunkSizeOption = "32",
    batch_size: BatchSizeOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    denoised: DenoisedOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Study a classifier: attack it, explain every layer, and write tables, figures and a report."""
    settings = Settings(
        attack=attack,
        strengths=_numbers("strengths", strengths),
        targets=_words(target),
        layers=_words(layers),
        limit=limit,
        rng_seed=rng_seed,
        noise_draws=noise_draws,
        noise_ladder=_numbers("noise-ladder", noise_ladder),
        **_sizes(gallery, chunk_size, batch_size),
        denoised=denoised,
    )
    with show_progress(Console(stderr=True)) as shown:
        shown.say(f"loading {model}")
        from camdrift.run import run

        study = run(
            _load(model, weights, device, precision),
            images,
            out=out,
            settings=settings,
            resume=resume,
            overwrite=overwrite,
            on_progress=shown,
            on_start=shown.started,
            command=_command_line(),
        )
    typer.echo(f"{study.summary()}\n{study.path / 'report.html'}")


@app.command("explain")
def explain_command(
    image: Annotated[Path, typer.Argument(help="The image.", metavar="IMAGE")],
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz",
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    target: TargetOption = "own,seed",
    layers: LayersOption = "",
    out: OutOption = None,
    rng_seed: RngSeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    overwrite: OverwriteOption = False,
) -> None:
    """Attack one image, and show the maps of every layer: a report to explore, and a PNG of all layers."""
    settings = Settings(
        attack=attack,
        strengths=_numbers("strengths", strengths),
        targets=_words(target),
        layers=_words(layers),
        rng_seed=rng_seed,
    )
    if image.is_dir():
        raise UserError(f"`image` must be one image, got: {image} (a folder)", "`camdrift run` studies many")
    with show_progress(Console(stderr=True)) as shown:
        shown.say(f"loading {model}")
        from camdrift.run import run

        study = run(
            _load(model, weights, device, precision),
            image,
            out=out,
            settings=settings,
            overwrite=overwrite,
            on_progress=shown,
            on_start=shown.started,
            command=_command_line(),
        )
    grid = study.path / "figures" / "layer_grid.png"
    typer.echo("\n".join([study.summary(), *([str(grid)] if grid.is_file() else []), str(study.path / "report.html")]))


@app.command("reproduce")
def reproduce_command(
    images: ImagesArgument = None,
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz:paper",
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    layers: LayersOption = "",
    out: OutOption = None,
    limit: LimitOption = None,
    rng_seed: RngSeedOption = 0,
    noise_ladder: NoiseLadderOption = "8,16,32",
    gallery: GalleryOption = "24",
    chunk_size: ChunkSizeOption = "32",
    batch_size: BatchSizeOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Run the 2022 paper as its released code computes it and as its equations say, and judge its claims."""
    settings = Settings(
        attack=attack,
        strengths=_numbers("strengths", strengths),
        layers=_words(layers),
        limit=limit,
        rng_seed=rng_seed,
        noise_ladder=_numbers("noise-ladder", noise_ladder),
        **_sizes(gallery, chunk_size, batch_size),
    )
    with show_progress(Console(stderr=True)) as shown:
        shown.say(f"loading {model}")
        from camdrift.reproduce import reproduce

        study = reproduce(
            _load(model, weights, device, precision),
            images,
            out=out,
            settings=settings,
            resume=resume,
            overwrite=overwrite,
            on_progress=shown,
            on_start=shown.started,
            command=_command_line(),
        )
    typer.echo(f"{study.summary()}\n")
    _print_table(*study.claims_in_words())
    typer.echo(f"\n{study.path / 'report.html'}")


@app.command("report")
def report_command(
    run_directory: Annotated[Path, typer.Argument(help="Folder that `camdrift run` wrote.", metavar="RUN")],
) -> None:
    """Rebuild figures and report of a run from its stored tables alone."""
    from camdrift.study import open_study

    typer.echo(str(open_study(run_directory).report()))


@app.command("detect")
def detect_command(
    run_directories: Annotated[
        list[Path],
        typer.Argument(
            help="Folders that `camdrift run` wrote, of one model; the first one gets the results. "
            "Several: detectors are also trained on one run's attack and tested on another's.",
            metavar="RUN...",
        ),
    ],
) -> None:
    """Judge how well the layers tell adversarial from noisy images, with the clean image at hand and without."""
    from camdrift.detect import detect
    from camdrift.figures.detection import FIGURE
    from camdrift.study import open_study

    studies = [open_study(path) for path in run_directories]
    lines = detect(*studies).lines()
    typer.echo("\n".join([*lines, str(studies[0].path / "figures" / f"{FIGURE}.png")]))


@app.command("layers")
def layers_command(
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    layers: LayersOption = "",
    device: DeviceOption = "cpu",
) -> None:
    """List the layers of a model: name, label, type, shape, where it is tapped, and why it is left out."""
    classifier = _load(model, weights, device)
    from camdrift.listing import layer_summary, layer_table

    _print_table(*layer_table(classifier, _words(layers)))
    typer.echo("\n" + "\n".join(layer_summary(classifier, _words(layers))))


def main() -> None:
    """Run the command line; exit codes: 0 done, 2 the user's mistake, 130 interrupted."""
    try:
        code = app(prog_name="camdrift", standalone_mode=False) or 0
    except UserError as error:
        sys.exit(_complain(error.message, error.hint))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = "camdrift" if context is None else context.command_path
        sys.exit(_complain(_lowered(error.format_message()), f"`{command} --help` shows what it takes"))
    if code == INTERRUPTED:
        typer.echo("interrupted", err=True)
    sys.exit(code)


def _load(model: str, weights: Path | None, device: str, precision: str = "fp32") -> "Classifier":
    # Here and not above, so that --help comes at once: torch takes seconds to import.
    from camdrift.zoo import load_model

    return load_model(model, weights=weights, device=device, precision=precision)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; piped output keeps one line per row, however long."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False).print(table)


def _complain(message: str, hint: str) -> int:
    typer.echo(f"error: {message}", err=True)
    typer.echo(f"hint: {hint or '`camdrift COMMAND --help` shows what it takes'}", err=True)
    return 2


def _lowered(message: str) -> str:
    return " ".join((message[:1].lower() + message[1:].rstrip(".")).split())


def _command_line() -> str:
    return shlex.join(["camdrift", *sys.argv[1:]])


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(name: str, text: str) -> tuple[float, ...]:
    numbers = []
    for word in _words(text):
        try:
            numbers.append(float(word))
        except ValueError as error:
            raise UserError(f"`{name}` must be numbers separated by commas, got: {text}") from error
    return tuple(numbers)


def _sizes(gallery: str, chunk_size: str, batch_size: str) -> dict[str, Any]:
    """The settings that are a number or a word."""
    return {
        "gallery": _count("gallery", gallery, "all", least=0),
        "chunk_size": _count("chunk-size", chunk_size, "all") or 0,
        "batch_size": _count("batch-size", batch_size, "auto") or 0,
    }


def _count(name: str, text: str, word: str, *, least: int = 1) -> int | None:
    """The number that `text` is, None if it is `word`."""
    if text == word:
        return None
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"`{name}` must be an integer of at least {least} or {word}, got: {text}")
    return int(text)
