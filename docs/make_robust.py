"""Writes the numbers of docs/robust.md: every one comes from the stored tables in docs/robust/.

python docs/make_robust.py                 the numbers from the stored tables
python docs/make_robust.py IMAGES FOLDER   first train both networks, study and compare them, in FOLDER

IMAGES is a folder of photographs in sub-folders that are their classes, such as Imagenette. Of every class five are
attacked, and the networks are trained on crops of the others. Training takes some minutes on one core.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

DOCS = Path(__file__).parent
FOLDER = DOCS / "robust"
SIDE, LARGER = 32, 40
# How images are prepared for `network`.
MEAN, STD, SIZE = (0.5,) * 3, (0.25,) * 3, SIDE
ATTACKED = 5
STEPS, BATCH = 1000, 32
EPS, PGD_STEPS = 8 / 255, 3
NAMES = ("plain", "robust")
TABLES = ("sides", "differences", "crossed")
QUANTITIES = ("difference", "maps", "attack")
STUDY = {
    "attack": "pgd(eps=8/255, steps=20, rel_stepsize=0.125)", "strengths": (0.5, 1.0), "noise_ladder": (4.0, 16.0),
    "targets": ("seed",), "gallery": 0,
}  # fmt: skip


def network() -> nn.Sequential:
    """Six convolutions for images of 32 px."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def read(images: Path, attacked: Path) -> tuple[list[Tensor], Tensor]:
    """Pictures of 40 px to train on, uint8, and their classes; the photographs to attack are copied into a folder."""
    from PIL import Image

    pictures, classes = [], []
    for label, place in enumerate(sorted(path for path in images.iterdir() if path.is_dir())):
        files = sorted(file for file in place.iterdir() if file.is_file())
        for file in files[:ATTACKED]:
            (attacked / place.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, attacked / place.name / file.name)
        for file in files[ATTACKED:]:
            picture = Image.open(file).convert("RGB")
            pictures.append(torch.from_numpy(np.array(picture.resize((LARGER, LARGER), Image.Resampling.BOX))))
            classes.append(label)
    return pictures, torch.tensor(classes)


def batch_of(pictures: Tensor, classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops of random pictures, half of them mirrored, in pixel units."""
    rows = torch.randint(len(pictures), (BATCH,), generator=generator)
    offsets = torch.randint(LARGER - SIDE + 1, (BATCH, 2), generator=generator).tolist()
    crops = [
        pictures[row, :, top : top + SIDE, left : left + SIDE] for row, (top, left) in zip(rows, offsets, strict=True)
    ]
    stack = torch.stack(crops)
    is_mirrored = torch.rand(BATCH, generator=generator) < 0.5
    return torch.where(is_mirrored[:, None, None, None], stack.flip(3), stack), classes[rows]


def attacked_batch(module: nn.Module, images: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Projected gradient ascent on the loss from a random start (Madry et al., ICLR 2018)."""
    start = (2 * torch.rand(images.shape, generator=generator) - 1) * EPS
    delta = ((images + start).clamp(0, 1) - images).requires_grad_()
    for _ in range(PGD_STEPS):
        (gradient,) = torch.autograd.grad(
            functional.cross_entropy(module((images + delta - 0.5) / 0.25), classes), delta
        )
        moved = (delta.detach() + EPS / 2 * gradient.sign()).clamp(-EPS, EPS)
        delta = ((images + moved).clamp(0, 1) - images).requires_grad_()
    return (images + delta).detach()


def train(pictures: Tensor, classes: Tensor, *, is_robust: bool) -> nn.Module:
    """A network that has learnt from crops, or from crops under attack."""
    torch.manual_seed(0)
    generator, module = torch.Generator().manual_seed(1), network()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        images, labels = batch_of(pictures, classes, generator)
        if is_robust:
            images = attacked_batch(module, images, labels, generator)
        loss = functional.cross_entropy(module((images - 0.5) / 0.25), labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return module.eval()


def compute(images: Path, folder: Path) -> None:
    """Train, study and compare both networks, and store what the page needs."""
    from safetensors.torch import save_file

    import camdrift

    attacked = folder / "attacked"
    pictures, classes = read(images, attacked)
    stack = torch.stack(pictures).permute(0, 3, 1, 2) / 255
    labels = {name: place for place, name in enumerate(sorted(path.name for path in attacked.iterdir()))}
    runs, facts = (
        [],
        {"trained": len(stack), "attacked": ATTACKED * len(labels), "attack": STUDY["attack"], "correct": {}},
    )
    for name in NAMES:
        file = folder / f"{name}.safetensors"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            save_file(train(stack, classes, is_robust=name == "robust").state_dict(), file)
        classifier = camdrift.load_model(f"{Path(__file__).resolve()}:network", weights=str(file))
        run = camdrift.run(classifier, attacked, out=folder / name, overwrite=True, progress=False, **STUDY)
        facts["correct"][name] = _correct(run, labels)
        runs.append(run)
    comparison = camdrift.compare(*runs, out=folder / "comparison", overwrite=True, cross=True, trust=True)
    FOLDER.mkdir(exist_ok=True)
    names = dict(zip(comparison.tables["sides"]["side"].to_list(), NAMES, strict=True))
    for name in TABLES:
        table = comparison.tables[name].drop("run", strict=False)
        table = table.with_columns(pl.col("^side(_a|_b)?$").replace(names))
        table.write_parquet(FOLDER / f"{name}.parquet", compression_level=19)
    facts["torch"] = runs[0].record["versions"]["torch"]
    (FOLDER / "robust.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _correct(run: Any, labels: dict[str, int]) -> float:
    """Share of the attacked images whose clean prediction is their class."""
    rows = run.seeds.drop_nulls("clean_class")
    hits = [row["clean_class"] == labels[Path(row["seed_id"]).parent.name] for row in rows.iter_rows(named=True)]
    return sum(hits) / len(hits)


def numbers() -> dict[str, str]:
    """The parts of the page that are made of numbers, by name."""
    facts = json.loads((FOLDER / "robust.json").read_text(encoding="utf-8"))
    sides, differences, crossed = (pl.read_parquet(FOLDER / f"{name}.parquet") for name in TABLES)
    setting = (
        f"{facts['trained']} photographs are trained on, {facts['attacked']} others are attacked by "
        f"`{facts['attack']}` (torch {facts['torch']})."
    )
    return {
        "setting": setting,
        "networks": _networks(facts, sides),
        "layers": _layers(differences),
        "cross": _cross(crossed),
    }


def _top(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _networks(facts: dict[str, Any], sides: pl.DataFrame) -> str:
    rows = _top("network", "right class", "fooled at 8/255", "L2 of the attack / L2 of the image")
    for row in sides.iter_rows(named=True):
        share = f"{row['success']:.2f} ({row['success_low']:.2f} to {row['success_high']:.2f})"
        rows.append(f"| {row['side']} | {facts['correct'][row['side']]:.2f} | {share} | {row['relative_l2']:.3f} |")
    return "\n".join(rows)


def _layers(differences: pl.DataFrame) -> str:
    """How far each layer's map moves in both networks, and what the ratio of gains is."""
    rows = _top("layer", "deviation, plain", "robust", "difference", "gain, robust / plain")
    for row in differences.filter(strength=1.0).iter_rows(named=True):
        change = f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
        gain = _ratio(row)
        rows.append(f"| `{row['layer_a']}` | {row['deviation_a']:.3f} | {row['deviation_b']:.3f} | {change} | {gain} |")
    return "\n".join(rows)


def _ratio(row: dict[str, Any]) -> str:
    if row["log2_gain_ratio"] is None:
        return f"only bounds ({row['log2_gain_ratio_undefined_reason']})"
    ends = [row[f"log2_gain_ratio_{end}"] for end in ("low", "high")]
    low, high = ("no bound" if end is None else f"{2**end:.2f}" for end in ends)
    return f"{2 ** row['log2_gain_ratio']:.2f} ({low} to {high})"


def _cross(crossed: pl.DataFrame) -> str:
    rows = _top("layer", "difference", "of it maps", "of it attack")
    for row in crossed.filter(quantity="deviation", strength=1.0).iter_rows(named=True):
        parts = (f"{row[k]:+.3f} ({row[f'{k}_low']:+.3f} to {row[f'{k}_high']:+.3f})" for k in QUANTITIES)
        rows.append(f"| `{row['layer']}` | {' | '.join(parts)} |")
    flips = crossed.filter(quantity="flipped", strength=1.0).row(0, named=True)
    line = (
        f"The plain network's perturbations fool the robust one on {flips['value_ba']:.0%} of {flips['n']} images, the "
        f"robust one's fool the plain one on {flips['value_ab']:.0%}."
    )
    return "\n".join([*rows, "", line])


def page() -> str:
    """The page with these numbers between its marks."""
    text = (DOCS / "robust.md").read_text(encoding="utf-8")
    for name, part in numbers().items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = mark.sub(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    if len(sys.argv) == 3:
        compute(Path(sys.argv[1]), Path(sys.argv[2]))
    (DOCS / "robust.md").write_text(page(), encoding="utf-8")
