"""The commands that make studies: run, explain, reproduce."""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from camdrift.cli.options import (
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
    parse_numbers,
    parse_sizes,
    parse_specs,
    parse_words,
)
from camdrift.cli.progress import show_progress
from camdrift.cli.terminal import _load, _print_table
from camdrift.engine.engine import LOCAL, Engine
from camdrift.engine.interruption import resuming
from camdrift.errors import UserError, escaped
from camdrift.pipeline.settings import Settings

if TYPE_CHECKING:
    from camdrift.models.classifier import Classifier
    from camdrift.study.study import Study


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
        strengths=parse_numbers("strengths", strengths),
        targets=parse_words(target),
        explanations=parse_specs(explain),
        similarities=parse_words(similarity),
        layers=parse_words(layers),
        limit=limit,
        sample=sample,
        rng_seed=rng_seed,
        noise_draws=noise_draws,
        noise_ladder=parse_numbers("noise-ladder", noise_ladder),
        **parse_sizes(gallery, chunk_size, batch_size),
        denoised=denoised,
    )
    where = _Where(out, resume, overwrite, Engine(engine, address, workers))
    study = _study(_Models(model, weights, device, precision, surrogate, surrogate_weights), images, settings, where)
    typer.echo(escaped(f"{study.summary()}\n{study.page}"))


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
        strengths=parse_numbers("strengths", strengths),
        targets=parse_words(target),
        explanations=parse_specs(explain),
        similarities=parse_words(similarity),
        layers=parse_words(layers),
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
        strengths=parse_numbers("strengths", strengths),
        layers=parse_words(layers),
        limit=limit,
        sample=sample,
        rng_seed=rng_seed,
        noise_ladder=parse_numbers("noise-ladder", noise_ladder),
        **parse_sizes(gallery, chunk_size, batch_size),
    )
    where = _Where(out, resume, overwrite, Engine(engine, address, workers))
    study = _study(_Models(model, weights, device, precision), images, settings, where, reproducing=True)
    typer.echo(escaped(f"{study.summary()}\n"))
    _print_table(*study.claims_in_words())
    typer.echo(escaped(f"\n{study.page}"))


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
        from camdrift.study.reproduce import reproduce
        from camdrift.study.run import run

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


def _how_to_go_on(path: Path | str) -> str:
    if sys.argv[1:2] == ["explain"]:
        return f"stopped; the same command with --overwrite --out {shlex.quote(str(path))} starts again"
    return f"stopped; finished chunks are kept, to go on: {resuming(sys.argv[1:], path)}"


def _command_line() -> str:
    return shlex.join(["camdrift", *sys.argv[1:]])
