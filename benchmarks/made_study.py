"""A study of any size without a network: tables that agree with each other, written chunk by chunk as by a run.

A layer's deviation grows with the realised norm times the layer's sensitivity; the attack acts like noise `push` times
as strong, and one similarity in a thousand is undefined.
"""

from pathlib import Path

import numpy as np
import polars as pl

from camdrift.pipeline.settings import Settings
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.study import COVERAGE, FLOOR, FOCUS, SEEDS, SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CLEAN, NOISE

STRENGTHS, LADDER = (0.25, 0.5, 1.0, 2.0, 4.0), (8.0, 16.0, 32.0)
TARGETS = ("own", "seed")
MEASURES = (("gradcam", "cosine"), ("gradcam", "pearson"))
CHUNK = 32
NEURONS = 10_000
STEPS = [(ADVERSARIAL, s) for s in STRENGTHS] + [(NOISE, s) for s in (*STRENGTHS, *LADDER)]


def make(path: Path, seeds: int, layers: int) -> int:
    """Write the chunks of a study and its record into a run directory; the number of rows of table similarity."""
    directory = RunDirectory.create(path, overwrite=True)
    directory.write_record(record(seeds, layers))
    keys = {name: _keys(name, layers) for name in ("similarity", "focus", "floor", "variants")}
    for index, start in enumerate(range(0, seeds, CHUNK)):
        rng = np.random.default_rng(index)
        tables = _chunk(rng, np.arange(start, min(start + CHUNK, seeds)), keys, layers)
        directory.write_chunk(index, tables, {"seed_ids": np.array([], dtype=np.str_)})
    directory.write_table("coverage", _coverage(seeds))
    return seeds * keys["similarity"].height


def merge(path: Path) -> None:
    """Final tables out of the chunks, as at the end of a run."""
    directory = RunDirectory.open(path)
    for name in ("seeds", "variants", "similarity", "focus", "floor"):
        directory.merge_table(name)
    directory.write_gallery([("seed_ids", np.array([], dtype=np.str_))])


def complete(path: Path) -> None:
    """Mark the run as done."""
    directory = RunDirectory.open(path)
    directory.write_record({**directory.read_record(), "status": "done", "files": directory.files()})
    directory.drop_chunks()


def record(seeds: int, layers: int) -> dict:
    """A run record with what reports, detectors, comparisons and verification read."""
    names, labels = _layer_names(layers)
    effective = {
        **Settings(strengths=STRENGTHS, noise_ladder=LADDER, targets=TARGETS).as_record(),
        "images": "made",
        "model": "made",
        "weights": "none",
        "attack": "made",
        "measures": [list(measure) for measure in MEASURES],
        "layers": names,
        "batch_size": 32,
        "device": "cpu",
        "precision": "fp32",
    }
    shape = {"size": 224, "resize": 256, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}
    model = {
        **shape,
        "spec": "made",
        "name": "made",
        "weights": "none",
        "weights_sha256": "0" * 64,
        "classes": 10,
        "labels": None,
    }
    return {
        "camdrift": "0",
        "kind": "study",
        "status": "running",
        "command": None,
        "started": "2026-01-01T00:00:00",
        "finished": None,
        "arguments": {"passed": {"images": "made"}, "effective": effective},
        "model": model,
        "attack": {"spec": "made", "threat": None, "seeding": None, "images_sha256": None},
        "surrogate": None,
        "layers": [{"name": n, "label": label} for n, label in zip(names, labels, strict=True)],
        "images": {"source": "made", "n": seeds, "listing_sha256": "0" * 64, "sha256": None},
        "versions": {},
        "machine": {},
        "device": "cpu",
        "timings": {},
        "preflight": None,
    }


def _layer_names(layers: int) -> tuple[list[str], list[str]]:
    return [f"features.{i}.conv" for i in range(layers)], [f"block{i // 4 + 1}_conv{i % 4 + 1}" for i in range(layers)]


def _names(seeds: np.ndarray) -> list[str]:
    return [f"n{seed // 50:08d}/ILSVRC2012_val_{seed:08d}.JPEG" for seed in seeds]


def _keys(name: str, layers: int) -> pl.DataFrame:
    """The key columns of one seed's rows, in the order of a run."""
    steps = pl.DataFrame(STEPS, schema=["condition", "strength"], orient="row").with_columns(draw=pl.lit(0, pl.Int64))
    targets, measures = (
        pl.DataFrame({"target": TARGETS}),
        pl.DataFrame(MEASURES, ["explanation", "metric"], orient="row"),
    )
    names, labels = _layer_names(layers)
    of_layers = pl.DataFrame({"layer": names, "layer_label": labels, "layer_index": range(layers)})
    parts = {
        "similarity": (steps, targets, measures, of_layers),
        "focus": (steps.filter(pl.col("strength").is_in(STRENGTHS)).drop("draw"), targets, of_layers),
        "floor": (targets, measures, of_layers.select("layer")),
        "variants": (steps,),
    }[name]
    found = parts[0]
    for part in parts[1:]:
        found = found.join(part, how="cross", maintain_order="left_right")
    return found


def _chunk(rng: np.random.Generator, seeds: np.ndarray, keys: dict, layers: int) -> dict[str, pl.DataFrame]:
    names, n = _names(seeds), len(seeds)
    size = rng.lognormal(0, 0.4, n)
    rows = {name: pl.concat([part.with_columns(seed_id=pl.lit(i)) for i in names]) for name, part in keys.items()}
    strengths = rows["variants"]["strength"].to_numpy()
    l2 = strengths * np.repeat(size, keys["variants"].height) / (1 + 0.01 * strengths)
    return {
        "seeds": _seeds(names, size),
        "variants": VARIANTS.frame(
            rows["variants"]
            .with_columns(
                predicted_class=pl.Series(rng.integers(0, 10, len(l2))),
                probability=pl.Series(rng.random(len(l2))),
                is_flipped=pl.Series((strengths >= 1) & (rng.random(len(l2)) < 0.8)),
                realised_l2=pl.Series(l2),
                realised_linf=pl.Series(l2 / 50),
                clipped_fraction=pl.lit(0.01),
            )
            .to_dict()
        ),
        "similarity": _similarity(rng, rows["similarity"], size, layers),
        "focus": _focus(rng, rows["focus"]),
        "floor": FLOOR.frame(
            rows["floor"]
            .with_columns(
                other_seed_id=pl.Series(np.roll(names, 1)).gather(np.repeat(np.arange(n), keys["floor"].height)),
                similarity=pl.Series(rng.random(rows["floor"].height)),
            )
            .to_dict()
        ),
    }


def _seeds(names: list[str], size: np.ndarray) -> pl.DataFrame:
    n = len(names)
    known = {
        "seed_id": names,
        "path": names,
        "sha256": [f"{int(name[-13:-5]):064x}" for name in names],
        "label": [0] * n,
        "clean_class": [0] * n,
        "clean_probability": [0.9] * n,
        "status": [ANALYSED] * n,
        "adversarial_class": [1] * n,
        "adversarial_probability": [0.8] * n,
        "iterations": [3] * n,
        "perturbation_l2": size,
        "perturbation_linf": size / 50,
        "relative_l2": size / 100,
        "survives_uint8": [True] * n,
    }
    return SEEDS.frame(known)


def _similarity(rng: np.random.Generator, rows: pl.DataFrame, size: np.ndarray, layers: int) -> pl.DataFrame:
    depth = rows["layer_index"].to_numpy() / max(1, layers - 1)
    push = np.where((rows["condition"] == ADVERSARIAL).to_numpy(), 2 + 20 * depth, 1.0)
    norm = rows["strength"].to_numpy() * np.repeat(size, rows.height // len(size))
    moved = (0.5 + 0.3 * depth) * -np.expm1(-0.02 * push * norm * rng.lognormal(0, 0.3, rows.height))
    values = pl.Series("similarity", 1 - moved)
    is_lost = pl.Series(rng.random(rows.height) < 0.001)
    lost = rows.with_columns(values, is_lost=is_lost).with_columns(
        similarity=pl.when("is_lost").then(None).otherwise("similarity"),
        undefined_reason=pl.when("is_lost").then(pl.lit("zero_map_variant")).otherwise(None),
    )
    return lost.select(SIMILARITY.schema.names()).cast(SIMILARITY.schema)


def _focus(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    made = {name: pl.Series(rng.random(rows.height)) for name in FOCUS.schema.names()[7:]}
    return rows.with_columns(**made).select(FOCUS.schema.names()).cast(FOCUS.schema)


def _coverage(seeds: int) -> pl.DataFrame:
    keys = [(CLEAN, 0.0, 0.0)] + [(c, s, 0.1 * s) for c in (ADVERSARIAL, NOISE) for s in STRENGTHS]
    steps = np.arange(1, seeds + 1)
    share = 1 - np.exp(-steps / 100)
    parts = [
        COVERAGE.frame(
            {
                "step": steps,
                "seed_id": _names(steps - 1),
                "condition": [condition] * seeds,
                "strength": [strength] * seeds,
                "covered": (5000 * share * (1 + more)).astype(np.int64),
                "total": [NEURONS] * seeds,
            }
        )
        for condition, strength, more in keys
    ]
    return pl.concat(parts).sort("step", maintain_order=True)
