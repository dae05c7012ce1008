"""Writes the numbers of docs/heads.md: every one comes from the stored tables in docs/heads/.

python docs/make_heads.py                 the numbers from the stored tables
python docs/make_heads.py IMAGES FOLDER   first train the heads, study and compare them, in FOLDER

IMAGES is a folder of photographs in sub-folders that are ImageNet's classes, such as Imagenette. Of every class the
first two are attacked, and heads are trained on the others. It takes about half an hour on two cores.
"""

import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from camdrift.comparison.contrast import paired_difference
from camdrift.tables.words import ANALYSED

DOCS = Path(__file__).parent
FOLDER = DOCS / "heads"
KINDS = ("linear", "linear-nobias", "zero-bias", "zero-bias(scale=auto)", "cosine")
ATTACKED = 2
TABLES = ("sides", "differences", "crossed", "seeds")
STUDY = {
    "attack": "pgd(eps=1/255, steps=10, rel_stepsize=0.25)", "strengths": (1.0,), "noise_ladder": (4.0, 16.0),
    "targets": ("seed",), "gallery": 0,
}  # fmt: skip


def split(images: Path, folder: Path) -> tuple[Path, Path]:
    """Copy the images that are attacked, and those that heads are trained on, into two folders."""
    parts = folder / "attacked", folder / "training"
    for place in sorted(images.iterdir()):
        files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else []
        for part, some in zip(parts, (files[:ATTACKED], files[ATTACKED:]), strict=True):
            for file in some:
                (part / place.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, part / place.name / file.name)
    return parts


def compute(images: Path, folder: Path) -> None:
    """Train, study and compare the heads, and store what the page needs."""
    import camdrift

    attacked, training = split(images, folder)
    classifier, heads, runs = camdrift.load_model(), [], []
    for kind in KINDS:
        head = camdrift.train_head(classifier, training, head=kind, out=folder / f"{kind}.safetensors")
        heads.append(asdict(head))
        model = camdrift.load_model(head=head.spec)
        run = camdrift.run(model, attacked, out=folder / f"run-{kind}", overwrite=True, progress=False, **STUDY)
        runs.append(run)
    comparison = camdrift.compare(*runs, out=folder / "comparison", overwrite=True, cross=True)
    FOLDER.mkdir(exist_ok=True)
    for name in TABLES[:3]:
        table = comparison.tables[name].drop("run", strict=False)
        table.write_parquet(FOLDER / f"{name}.parquet", compression_level=19)
    names = [pl.lit(kind).alias("head") for kind in KINDS]
    status = [run.seeds.select(name, "seed_id", "status") for name, run in zip(names, runs, strict=True)]
    pl.concat(status).write_parquet(FOLDER / "seeds.parquet", compression_level=19)
    facts = {"heads": heads, "attack": STUDY["attack"], "versions": runs[0].record["versions"]["torch"]}
    for head in heads:
        del head["spec"]
    (FOLDER / "heads.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def numbers() -> dict[str, str]:
    """The parts of the page that are made of numbers, by name."""
    facts = json.loads((FOLDER / "heads.json").read_text(encoding="utf-8"))
    sides, differences, crossed, seeds = (pl.read_parquet(FOLDER / f"{name}.parquet") for name in TABLES)
    return {
        "setting": f"{facts['heads'][0]['images']} images train each head, {sides['n_seeds'][0]} others are attacked "
        f"by `{facts['attack']}`, each head by its own gradients (torch {facts['versions']}).",
        "heads": _heads(facts["heads"], sides, seeds),
        "layers": _layers(differences),
        "cross": _cross(crossed),
    }


def _top(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _heads(heads: list[dict[str, Any]], sides: pl.DataFrame, seeds: pl.DataFrame) -> str:
    names = ("head", "scale", "accuracy, 5 folds", "calibration error", "confidence", "fooled", "minus `linear`")
    rows = _top(*names)
    for head, side in zip(heads, sides.to_dicts(), strict=True):
        scale = "" if head["scale"] is None else f"{head['scale']:.3g}"
        accuracy = f"{head['accuracy']:.3f} ({head['accuracy_low']:.3f} to {head['accuracy_high']:.3f})"
        measures = f"{head['calibration']:.3f} | {head['confidence']:.3f}"
        share = f"{side['success']:.2f} ({side['success_low']:.2f} to {side['success_high']:.2f})"
        rows.append(f"| `{head['kind']}` | {scale} | {accuracy} | {measures} | {share} | {_gap(seeds, head['kind'])} |")
    return "\n".join(rows)


def _gap(seeds: pl.DataFrame, head: str) -> str:
    """How many more of the same images a head loses than the linear one, as a share with its t interval."""
    if head == KINDS[0]:
        return ""
    is_fooled = [
        (seeds.filter(head=name).sort("seed_id")["status"] == ANALYSED).to_numpy().astype(float)
        for name in (KINDS[0], head)
    ]
    change = paired_difference(*is_fooled)
    return f"{float(change.mean):+.2f} ({float(change.interval.low):+.2f} to {float(change.interval.high):+.2f})"


def _layers(differences: pl.DataFrame) -> str:
    """How far the layers' deviations and gains lie from those with the linear head."""
    rows = _top("against `linear`", "layers", "mean difference of deviation", "largest", "intervals without 0", "gain")
    bounded = differences.filter(pl.col("side_a") == KINDS[0], pl.col("difference_low").is_not_null())
    for (side,), part in bounded.group_by("side_b", maintain_order=True):
        top = part.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
        clear = part.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0)).height
        ratios = 2 ** part["log2_gain_ratio"].drop_nulls()
        largest = f"{top['difference']:+.3f} ({top['difference_low']:+.3f} to {top['difference_high']:+.3f})"
        ratio = f"x {ratios.median():.2f} ({len(ratios)} layers)" if len(ratios) else "only bounds"
        mean = f"{part['difference'].mean():+.4f}"
        rows.append(f"| `{side}`, n = {part['n_a'].max()} | {part.height} | {mean} | {largest} | {clear} | {ratio} |")
    return "\n".join(rows)


def _cross(crossed: pl.DataFrame) -> str:
    rows = _top("against `linear`", "mean difference", "of it maps", "of it attack", "`linear` fooled", "this fooled")
    for (side,), part in crossed.filter(side_a=KINDS[0]).group_by("side_b", maintain_order=True):
        means = part.filter(quantity="deviation").select(pl.col("difference", "maps", "attack").mean()).row(0)
        flips = part.filter(quantity="flipped").row(0, named=True)
        numbers = " | ".join(f"{mean:+.4f}" for mean in means)
        rows.append(f"| `{side}`, n = {flips['n']} | {numbers} | {flips['value_ab']:.2f} | {flips['value_ba']:.2f} |")
    return "\n".join(rows)


def page() -> str:
    """The page with these numbers between its marks."""
    text = (DOCS / "heads.md").read_text(encoding="utf-8")
    for name, part in numbers().items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = mark.sub(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    if len(sys.argv) == 3:
        compute(Path(sys.argv[1]), Path(sys.argv[2]))
    (DOCS / "heads.md").write_text(page(), encoding="utf-8")
