"""What the options of the command line are called, what their help says, and how their words are read."""

from pathlib import Path
from typing import Annotated, Any

import typer

from camdrift.attacks.registry import FORMS, NAMES
from camdrift.errors import UserError

_MODEL_HELP = (
    "efficientnet-lite0 (embedded), torchvision/NAME[@WEIGHTS], timm/NAME, hf/NAME_OR_FOLDER, keras-vgg16@FILE, "
    "FILE.pt2, path/to/file.py:factory or package.module:factory."
)

ImagesArgument = Annotated[
    str | None,
    typer.Argument(
        help="Folder (sub-folders are classes), file, glob, text file of paths, WebDataset shards "
        "('shard-{000..009}.tar'), or hf-dataset:NAME_OR_FOLDER[:SPLIT]. "
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
    typer.Option(
        help=f"{', '.join([*NAMES, *FORMS])} or path/to/file.py:function, with settings if wanted: "
        "'pgd(eps=4/255, target_class=\"second\")'.",
        metavar="SPEC",
    ),
]
AdversarialOption = Annotated[
    str | None,
    typer.Option(
        help="Adversarial images that you have, in place of an attack: a folder with the names of the seed images, or "
        "a .csv file with the header seed,adversarial.",
        metavar="PATH",
        show_default=False,
    ),
]
SurrogateOption = Annotated[
    str | None,
    typer.Option(
        help="Attack this model instead, and study how that transfers: a spec as for --model.",
        metavar="SPEC",
        show_default=False,
    ),
]
SurrogateWeightsOption = Annotated[
    Path | None, typer.Option(help="State dict for the surrogate, as for --weights.", metavar="FILE")
]
StrengthsOption = Annotated[
    str, typer.Option(help="Factors on the perturbation, for attack and noise.", metavar="LIST")
]
TargetOption = Annotated[
    str,
    typer.Option(help="Whose class is explained: own prediction, the seed's, the true label.", metavar="LIST"),
]
ExplainOption = Annotated[
    str,
    typer.Option(
        help="How layers are explained: gradcam, gradcam++, xgradcam, hirescam, layercam, eigencam, ablationcam, "
        "activation, captum:CLASS. All that are made of gradients share one pass.",
        metavar="LIST",
    ),
]
SimilarityOption = Annotated[
    str,
    typer.Option(
        help="How attributions are compared: cosine, pearson, spearman, ssim, topk-iou, emd, centroid, "
        "relative-error; cka for activations.",
        metavar="LIST",
    ),
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
    str | None,
    typer.Option(
        help="Run directory, or a URL such as s3://BUCKET/run (whatever fsspec can write to). "
        "Left out: a new folder under runs/.",
        metavar="DIRECTORY",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="Study N images, spread evenly over the sorted list.", metavar="N")
]
SampleOption = Annotated[
    str | None,
    typer.Option(
        help="Study N images of every class, drawn by --rng-seed, as the paper did with 5-per-class.",
        metavar="N-per-class",
        show_default=False,
    ),
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
EngineOption = Annotated[
    str, typer.Option(help="local: this process; ray: workers, here or on a Ray cluster (extra `ray`).")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster that the workers run on, or auto for the one on this machine. Left out: workers on this "
        "machine alone, or where RAY_ADDRESS says.",
        metavar="HOST:PORT",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Workers of the engine ray. Left out: one per GPU, or one per two processors.",
        metavar="N",
        show_default=False,
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]


def parse_words(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_specs(text: str) -> tuple[str, ...]:
    """Words between commas; a comma in brackets separates settings."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return tuple(word.strip() for word in found if word.strip())


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers between commas, of the option `name`."""
    found = []
    for word in parse_words(text):
        try:
            found.append(float(word))
        except ValueError as error:
            raise UserError(f"`{name}` must be numbers separated by commas, got: {text}") from error
    return tuple(found)


def parse_sizes(gallery: str, chunk_size: str, batch_size: str) -> dict[str, Any]:
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
