"""The command line: arguments, progress, exit codes; no computation."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from camdrift.cli_studies import compare_command, sweep_command, verify_command
from camdrift.engine import LOCAL, Engine
from camdrift.errors import UserError, escaped
from camdrift.interruption import resuming
from camdrift.options import (
    AddressOption,
    AdversarialOption,
    AttackOption,
    BatchSizeOption,
    ChunkSizeOption,
    DenoisedOption,
    DeviceOption,
    EngineOption,
    ExplainOption,
    GalleryOption,
    ImagesArgument,
    LayersOption,
    LimitOption,
    ModelOption,
    NoiseDrawsOption,
    NoiseLadderOption,
    OutOption,
    OverwriteOption,
    PrecisionOption,
    ResumeOption,
    RngSeedOption,
    SampleOption,
    SimilarityOption,
    StrengthsOption,
    SurrogateOption,
    SurrogateWeightsOption,
    TargetOption,
    WeightsOption,
    WorkersOption,
    numbers,
    sizes,
    specs,
    words,
)
from camdrift.progress import INTERRUPTED, show_progress
from camdrift.provenance import camdrift_version
from camdrift.settings import Settings

if TYPE_CHECKING:
    from camdrift.models import Classifier
    from camdrift.study import Study

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Show where inside an image classifier an adversarial attack takes hold.",
)

_STOPPED: Final = {INTERRUPTED: "interrupted", 143: "terminated"}


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


def run_command(
    images: ImagesArgument = None,
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz",
    adversarial: AdversarialOption = None,
    surrogate: SurrogateOption = None,
    surrogate_weights: SurrogateWeightsOption = None,
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    target: TargetOption = "own,seed",
    explain: ExplainOption = "gradcam",
    similarity: SimilarityOption = "cosine",
    layers: LayersOption = "",
    out: OutOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    rng_seed: RngSeedOption = 0,
    noise_draws: NoiseDrawsOption = 1,
    noise_ladder: NoiseLadderOption = "8,16,32",
    gallery: GalleryOption = "24",
    chunk_size: ChunkSizeOption = "32",
    batch_size: BatchSizeOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    denoised: DenoisedOption = False,
    engine: EngineOption = LOCAL,
    address: AddressOption = None,
    workers: WorkersOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Study a classifier: attack it, explain every layer, and write tables, figures and a report."""
    settings = Settings(
        attack=attack,
        adversarial=adversarial,
        strengths=numbers("strengths", strengths),
        targets=words(target),
        explanations=specs(explain),
        similarities=words(similarity),
        layers=words(layers),
        limit=limit,
        sample=sample,
        rng_seed=rng_seed,
        noise_draws=noise_draws,
        noise_ladder=numbers("noise-ladder", noise_ladder),
        **sizes(gallery, chunk_size, batch_size),
        denoised=denoised,
    )
    where = _Where(out, resume, overwrite, Engine(engine, address, workers))
    study = _study(_Models(model, weights, device, precision, surrogate, surrogate_weights), images, settings, where)
    typer.echo(escaped(f"{study.summary()}\n{study.place}/report.html"))


def explain_command(
    image: Annotated[Path, typer.Argument(help="The image.", metavar="IMAGE")],
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz",
    adversarial: AdversarialOption = None,
    surrogate: SurrogateOption = None,
    surrogate_weights: SurrogateWeightsOption = None,
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    target: TargetOption = "own,seed",
    explain: ExplainOption = "gradcam",
    similarity: SimilarityOption = "cosine",
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
        adversarial=adversarial,
        strengths=numbers("strengths", strengths),
        targets=words(target),
        explanations=specs(explain),
        similarities=words(similarity),
        layers=words(layers),
        rng_seed=rng_seed,
    )
    if image.is_dir():
        raise UserError(f"`image` must be one image, got: {image} (a folder)", "`camdrift run` studies many")
    models = _Models(model, weights, device, precision, surrogate, surrogate_weights)
    study = _study(models, image, settings, _Where(out, overwrite=overwrite))
    pages = [name for name in ("figures/layer_grid.png", "report.html") if (study.path / name).is_file()]
    lines = [study.summary(), *(f"{study.place}/{name}" for name in pages)]
    typer.echo(escaped("\n".join(lines)))


def reproduce_command(
    images: ImagesArgument = None,
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    attack: AttackOption = "dlfuzz:paper",
    strengths: StrengthsOption = "0.25,0.5,1,2,4",
    layers: LayersOption = "",
    out: OutOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    rng_seed: RngSeedOption = 0,
    noise_ladder: NoiseLadderOption = "8,16,32",
    gallery: GalleryOption = "24",
    chunk_size: ChunkSizeOption = "32",
    batch_size: BatchSizeOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    engine: EngineOption = LOCAL,
    address: AddressOption = None,
    workers: WorkersOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Run the 2022 paper as its released code computes it and as its equations say, and judge its claims."""
    settings = Settings(
        attack=attack,
        strengths=numbers("strengths", strengths),
        layers=words(layers),
        limit=limit,
        sample=sample,
        rng_seed=rng_seed,
        noise_ladder=numbers("noise-ladder", noise_ladder),
        **sizes(gallery, chunk_size, batch_size),
    )
    where = _Where(out, resume, overwrite, Engine(engine, address, workers))
    study = _study(_Models(model, weights, device, precision), images, settings, where, reproducing=True)
    typer.echo(escaped(f"{study.summary()}\n"))
    _print_table(*study.claims_in_words())
    typer.echo(escaped(f"\n{study.place}/report.html"))


def report_command(
    run_directory: Annotated[str, typer.Argument(help="Folder or URL that `camdrift run` wrote.", metavar="RUN")],
) -> None:
    """Rebuild figures and report of a run from its stored tables alone."""
    from camdrift.study import open_study

    study = open_study(run_directory)
    study.report()
    typer.echo(escaped(f"{study.place}/report.html"))


def detect_command(
    run_directories: Annotated[
        list[str],
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
    lines = [*detect(*studies).lines(), f"{studies[0].place}/figures/{FIGURE}.png"]
    typer.echo(escaped("\n".join(lines)))


def layers_command(
    model: ModelOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    layers: LayersOption = "",
    device: DeviceOption = "cpu",
) -> None:
    """List the layers of a model: name, label, type, shape, where it is tapped, and why it is left out."""
    classifier = _load(model, weights, device)
    from camdrift.listing import layer_summary, layer_table

    _print_table(*layer_table(classifier, words(layers)))
    typer.echo(escaped("\n" + "\n".join(layer_summary(classifier, words(layers)))))


_COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "run": run_command,
    "explain": explain_command,
    "reproduce": reproduce_command,
    "report": report_command,
    "detect": detect_command,
    "layers": layers_command,
    "compare": compare_command,
    "sweep": sweep_command,
    "verify": verify_command,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 what `verify` found differs, 2 the user's mistake, 130 interrupted, 143 terminated.
    """
    try:
        code = app(prog_name="camdrift", standalone_mode=False) or 0
    except UserError as error:
        sys.exit(_complain(error.message, error.hint))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = "camdrift" if context is None else context.command_path
        sys.exit(_complain(_lowered(error.format_message()), f"`{command} --help` shows what it takes"))
    if code in _STOPPED:
        typer.echo(_STOPPED[code], err=True)
    sys.exit(code)


def _load(model: str, weights: Path | None, device: str, precision: str = "fp32") -> "Classifier":
    # Here and not above, so that --help comes at once: torch takes seconds to import.
    from camdrift.zoo import load_model

    return load_model(model, weights=weights, device=device, precision=precision)


@dataclass(frozen=True)
class _Models:
    """What the options say of the model and its surrogate."""

    model: str
    weights: Path | None
    device: str
    precision: str
    surrogate: str | None = None
    surrogate_weights: Path | None = None

    def both(self) -> "tuple[Classifier, Classifier | None]":
        if self.surrogate is None and self.surrogate_weights is not None:
            raise UserError(f"`surrogate-weights` must come with `surrogate`, got: {self.surrogate_weights}")
        classifier = _load(self.model, self.weights, self.device, self.precision)
        if self.surrogate is None:
            return classifier, None
        return classifier, _load(self.surrogate, self.surrogate_weights, self.device, self.precision)


@dataclass(frozen=True)
class _Where:
    """What the options say of where a study is computed and written."""

    out: str | None
    resume: bool = False
    overwrite: bool = False
    engine: Engine = field(default_factory=Engine)


def _study(
    models: _Models, images: str | Path | None, settings: Settings, where: _Where, *, reproducing: bool = False
) -> "Study":
    with show_progress(Console(stderr=True), _how_to_go_on) as shown:
        shown.say(f"loading {models.model}")
        from camdrift.reproduce import reproduce
        from camdrift.run import run

        classifier, surrogate = models.both()
        options: dict[str, Any] = {
            **vars(where),
            "settings": settings,
            "on_progress": shown,
            "on_start": shown.started,
            "command": _command_line(),
        }
        if reproducing:
            return reproduce(classifier, images, **options)
        return run(classifier, images, surrogate=surrogate, **options)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; piped output keeps one line per row, however long."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escaped, row))
    Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False).print(table)


def _complain(message: str, hint: str) -> int:
    typer.echo(f"error: {escaped(message)}", err=True)
    typer.echo(f"hint: {escaped(hint) or '`camdrift COMMAND --help` shows what it takes'}", err=True)
    return 2


def _lowered(message: str) -> str:
    return " ".join((message[:1].lower() + message[1:].rstrip(".")).split())


def _how_to_go_on(path: Path | str) -> str:
    if sys.argv[1:2] == ["explain"]:
        return f"stopped; the same command with --overwrite --out {shlex.quote(str(path))} starts again"
    return f"stopped; finished chunks are kept, to go on: {resuming(sys.argv[1:], path)}"


def _command_line() -> str:
    return shlex.join(["camdrift", *sys.argv[1:]])
