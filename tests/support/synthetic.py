"""A plausible study without a model: tables that agree with each other, for tests of figures and reports.

A layer's deviation follows `reach * (1 - exp(-sensitivity * strength))`; the attack acts like noise `gain`
times as strong, so the LAYERS table's gains are those that the similarities were made with.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from camdrift.statistics.flips import flips
from camdrift.statistics.ranks import ranked
from camdrift.tables.study import CONTROLS, COUNTS, COVERAGE, FLOOR, FOCUS, LAYERS, MEASURE, SEEDS, SIMILARITY, VARIANTS
from camdrift.tables.words import (
    ADVERSARIAL,
    ANALYSED,
    CENSORED_ABOVE,
    CLEAN,
    DEFAULT_STRENGTHS,
    DEFAULT_TARGETS,
    FAILED,
    NO_ADVERSARIAL,
    NOISE,
    SCHEMA_VERSION,
    TARGETS,
    UNREADABLE,
    ZERO_MAP_VARIANT,
)

VGG16 = tuple(
    f"block{block}_conv{conv}" for block, convs in enumerate((2, 2, 3, 3, 3), 1) for conv in range(1, convs + 1)
)
EFFICIENTNET = (
    "conv_stem",
    *("blocks.0.0.conv_dw", "blocks.0.0.conv_pw"),
    *(
        f"blocks.{stage}.{block}.{conv}"
        for stage, blocks in enumerate((2, 2, 3, 3, 4, 1), 1)
        for block in range(blocks)
        for conv in ("conv_pw", "conv_dw", "conv_pwl")
    ),
    "conv_head",
)
LADDER = (8.0, 16.0, 32.0)
CLASSES = ("tench", "tabby cat", "red fox", "go-kart", "hartebeest", "prairie chicken", "mousetrap")


@dataclass(frozen=True)
class Study:
    """Everything a report is made of."""

    tables: dict[str, pl.DataFrame]
    record: dict[str, Any]
    gallery: dict[str, np.ndarray] = field(default_factory=dict)


def study(
    labels: Sequence[str] = VGG16,
    *,
    strengths: Sequence[float] = DEFAULT_STRENGTHS,
    targets: Sequence[str] = DEFAULT_TARGETS,
    analysed: int = 14,
    resistant: int = 4,
    unreadable: int = 1,
    failed: int = 0,
    draws: int = 1,
    gallery_seeds: int = 3,
    ladder: Sequence[float] = LADDER,
) -> Study:
    """A study of so many seeds of each status over these layers, strengths and targets."""
    rungs = tuple(s for s in ladder if s not in strengths)
    maker = _Maker(tuple(labels), tuple(strengths), tuple(targets), rungs, draws)
    seeds = maker.seeds(analysed, resistant, unreadable, failed)
    similarity = maker.similarity(seeds)
    layers = maker.layers(similarity)
    variants = maker.variants(seeds)
    tables = {
        "seeds": seeds,
        "flips": flips(variants, seeds),
        "variants": variants,
        "similarity": similarity,
        "focus": maker.focus(seeds),
        "floor": maker.floor(seeds),
        "layers": layers,
        "counts": maker.counts(similarity, layers),
        "coverage": maker.coverage(seeds),
        "controls": CONTROLS.frame(),
    }
    gallery = maker.gallery(similarity, gallery_seeds)
    first = {name: pl.lit(word) for name, word in zip(MEASURE, ("gradcam", "cosine"), strict=True)}
    measured = {name: table for name, table in tables.items() if MEASURE[0] in table.columns}
    tables |= {name: table.with_columns(**first) for name, table in measured.items()}
    return Study(tables, maker.record(seeds), gallery)


def _wilson(hits: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class _Maker:
    labels: tuple[str, ...]
    strengths: tuple[float, ...]
    targets: tuple[str, ...]
    ladder: tuple[float, ...]
    draws: int

    @property
    def names(self) -> list[str]:
        return [label if label not in VGG16 else f"features.{i}" for i, label in enumerate(self.labels)]

    @property
    def depth(self) -> np.ndarray:
        return np.linspace(0.0, 1.0, len(self.labels))

    @property
    def reach(self) -> np.ndarray:
        return 0.45 + 0.3 * self.depth

    @property
    def sensitivity(self) -> np.ndarray:
        return 0.008 + 0.012 * np.cos(5 * self.depth) ** 2

    def gains(self, target: str, strength: float) -> np.ndarray:
        base = 2.5 + 24 * self.depth**1.5 + np.sin(9 * self.depth)
        flip = 3.0 if target == TARGETS[0] and strength >= 1 else 1.0
        return base * flip * strength**-0.35

    def seeds(self, analysed: int, resistant: int, unreadable: int, failed: int) -> pl.DataFrame:
        groups = (
            (ANALYSED, analysed, None),
            (NO_ADVERSARIAL, resistant, "the attack ended without a change of class"),
            (UNREADABLE, unreadable, "not an image: unknown format"),
            (FAILED, failed, "the model returned values that are not finite"),
        )
        statuses = [(status, reason) for status, count, reason in groups for _ in range(count)]
        rows = [self._seed(i, status, reason) for i, (status, reason) in enumerate(statuses)]
        return SEEDS.frame(rows)

    def _seed(self, i: int, status: str, reason: str | None) -> dict[str, Any]:
        row: dict[str, Any] = {"seed_id": f"photos/{i:03d}.jpg", "path": f"photos/{i:03d}.jpg"}
        row |= {"status": status, "reason": reason}
        if status == UNREADABLE:
            return row
        row |= {
            "sha256": f"{i:064x}",
            "clean_class": i % 7,
            "clean_probability": 0.9 - 0.02 * i,
            "iterations": 3 + i % 3,
        }
        if status == ANALYSED:
            row |= {
                "adversarial_class": (i + 1) % 7,
                "adversarial_probability": 0.4 + 0.01 * i,
                "noise_mean": 0.0,
            }
            row |= {
                "perturbation_mean": 0.0,
                "perturbation_std": 0.004,
                "perturbation_l2": 1.5,
                "noise_std": 0.004,
            }
            row |= {"perturbation_linf": 0.03, "relative_l2": 0.008, "survives_uint8": i % 4 != 0}
        return row

    def _plan(self) -> list[tuple[str, float, int]]:
        attacked = [(ADVERSARIAL, s, 0) for s in self.strengths]
        noisy = [(NOISE, s, d) for s in (*self.strengths, *self.ladder) for d in range(self.draws)]
        return attacked + noisy

    def variants(self, seeds: pl.DataFrame) -> pl.DataFrame:
        rows = []
        for i, seed in enumerate(_analysed(seeds)):
            for condition, strength, draw in self._plan():
                flipped = strength >= 1 if condition == ADVERSARIAL else i == 0 and strength >= 1
                predicted = seed["adversarial_class"] if flipped else seed["clean_class"]
                rows.append(
                    {"seed_id": seed["seed_id"], "condition": condition, "strength": strength, "draw": draw}
                    | {"predicted_class": predicted, "probability": 0.55 + 0.01 * i, "is_flipped": flipped}
                    | {
                        "realised_l2": 1.5 * strength,
                        "realised_linf": 0.03 * strength,
                        "clipped_fraction": 0.01,
                    }
                )
        return VARIANTS.frame(rows)

    def similarity(self, seeds: pl.DataFrame) -> pl.DataFrame:
        generator = np.random.default_rng(7)
        chosen = _analysed(seeds)
        vigour = np.exp(generator.normal(0, 0.5, (len(chosen), len(self.labels))))
        parts = [SIMILARITY.frame()]
        for i, seed in enumerate(chosen):
            for target in self.targets:
                for condition, strength, draw in self._plan():
                    attacked = condition == ADVERSARIAL
                    gain = self.gains(target, strength) if attacked else 1 + 0.05 * draw
                    wobble = np.exp(generator.normal(0, 0.7, len(self.labels)))
                    push = self.sensitivity * strength * gain * vigour[i] * wobble
                    values: list[float | None] = list(1 - self.reach * (1 - np.exp(-push)))
                    lost = attacked and strength == max(self.strengths) and i == 1
                    if lost:
                        values[-1] = None
                    parts.append(self._similarity_rows(seed["seed_id"], condition, strength, draw, target, values))
        return pl.concat(parts)

    def _similarity_rows(
        self,
        seed_id: str,
        condition: str,
        strength: float,
        draw: int,
        target: str,
        values: list[float | None],
    ) -> pl.DataFrame:
        n = len(self.labels)
        columns: dict[str, list[Any]] = {
            "seed_id": [seed_id] * n,
            "condition": [condition] * n,
            "strength": [strength] * n,
            "draw": [draw] * n,
            "target": [target] * n,
            "layer": self.names,
            "layer_label": list(self.labels),
            "layer_index": list(range(n)),
            "similarity": values,
            "undefined_reason": [ZERO_MAP_VARIANT if v is None else None for v in values],
        }
        return SIMILARITY.frame(columns)

    def focus(self, seeds: pl.DataFrame) -> pl.DataFrame:
        """The attack moves the focus with depth and strength, noise hardly; one seed's last map is lost."""
        generator = np.random.default_rng(11)
        parts = [FOCUS.frame()]
        for i, seed in enumerate(_analysed(seeds)):
            for condition, strength, target in itertools.product((ADVERSARIAL, NOISE), self.strengths, self.targets):
                attacked = condition == ADVERSARIAL
                push = (0.3 + self.depth if attacked else 0.05) * strength / (1 + strength)
                measures = self._focus(push, generator)
                if attacked and strength == max(self.strengths) and i == 1:
                    measures = {name: [*values[:-1], None] for name, values in measures.items()}
                n = len(self.labels)
                keys = {"seed_id": seed["seed_id"], "condition": condition, "strength": strength, "target": target}
                columns = {name: [value] * n for name, value in keys.items()}
                layers = {"layer": self.names, "layer_label": list(self.labels), "layer_index": list(range(n))}
                parts.append(FOCUS.frame(columns | layers | measures))
        return pl.concat(parts)

    def _focus(self, push: np.ndarray, generator: np.random.Generator) -> dict[str, list[float | None]]:
        draws = [np.exp(generator.normal(0, 0.4, len(self.labels))) for _ in range(5)]
        found = {
            "centroid_shift": 0.25 * push * draws[0],
            "spread_change": 0.06 * push * (draws[1] - 0.8),
            "entropy_change": 0.1 * push * (draws[2] - 1.2),
            "top_overlap": 1 - 0.7 * (1 - np.exp(-1.5 * push * draws[3])),
            "perturbation_correlation": np.tanh(0.5 * push * (draws[4] - 0.5)),
        }
        return {name: list(values) for name, values in found.items()}

    def floor(self, seeds: pl.DataFrame) -> pl.DataFrame:
        ids = [seed["seed_id"] for seed in _analysed(seeds)]
        rows = [
            {"seed_id": a, "other_seed_id": b, "target": target, "layer": name, "similarity": 1.02 - reach}
            for a, b in zip(ids, ids[1:] + ids[:1], strict=True)
            for target in self.targets
            for name, reach in zip(self.names, self.reach, strict=True)
        ]
        return FLOOR.frame(rows)

    def layers(self, similarity: pl.DataFrame) -> pl.DataFrame:
        if similarity.is_empty():
            return LAYERS.frame()
        keys = ("target", "strength", "layer_index", "condition")
        groups = {key: part["similarity"] for key, part in similarity.group_by(*keys)}
        rows = []
        for target in self.targets:
            for strength in self.strengths:
                block = [self._layer(groups, target, strength, i) for i in range(len(self.labels))]
                gains = [row["gain"] for row in block]
                for row in block:
                    place = 1 + sum(gain > row["gain"] for gain in gains)
                    row["rank_low"] = max(1, place - 1)
                    row["rank_high"] = min(len(block), place + 1)
                rows += block
        return ranked(LAYERS.frame(rows))

    def _layer(self, groups: dict[Any, pl.Series], target: str, strength: float, i: int) -> dict[str, Any]:
        both = [groups[target, strength, i, c] for c in (ADVERSARIAL, NOISE)]
        attacked, noisy = (series.drop_nulls().to_numpy() for series in both)
        hits = int((attacked < np.median(noisy)).sum())
        auc = float((attacked[:, None] < noisy).mean())
        low, high = _wilson(hits, len(attacked))
        difference = float(noisy.mean() - attacked.mean())
        return {
            "target": target, "strength": strength, "layer": self.names[i], "layer_label": self.labels[i],
            "layer_index": i, "n": len(attacked), "n_undefined": both[0].null_count(), "n_noise": len(noisy),
            "n_noise_undefined": both[1].null_count(), "n_pairs": len(attacked),
            **_moments("adversarial", attacked), **_moments("noise", noisy),
            "floor": 1.02 - float(self.reach[i]), "n_floor": len(attacked),
            "threshold": float(np.median(noisy)), "compromised_fraction": hits / len(attacked),
            "compromised_low": low, "compromised_high": high,
            "auc": auc, "auc_low": max(0.0, auc - 0.1), "auc_high": min(1.0, auc + 0.05),
            "difference_mean": difference, "difference_low": 0.7 * difference,
            "difference_high": 1.3 * difference,
            "wilcoxon_p": 0.0001, "wilcoxon_p_holm": 0.0001 * len(self.labels),
            **self._gain(float(self.gains(target, strength)[i]), strength),
        }  # fmt: skip

    def _gain(self, gain: float, strength: float) -> dict[str, Any]:
        top = max(*self.strengths, *self.ladder) / strength
        values = {"gain": gain, "gain_low": gain * 0.78, "gain_high": gain * 1.28}
        censored = {f"{name}_censored": CENSORED_ABOVE if v >= top else None for name, v in values.items()}
        return {name: min(v, top) for name, v in values.items()} | censored

    def counts(self, similarity: pl.DataFrame, layers: pl.DataFrame) -> pl.DataFrame:
        if similarity.is_empty():
            return COUNTS.frame()
        keys = ["target", "strength", "layer"]
        attacked = similarity.filter(pl.col("condition") == ADVERSARIAL)
        joined = attacked.join(layers.select(*keys, "threshold"), on=keys)
        hit = (pl.col("similarity") < pl.col("threshold")).fill_null(value=False).sum().alias("hits")
        per_seed = joined.group_by("target", "strength", "seed_id").agg(hit)
        rows = [
            {
                "target": target,
                "strength": strength,
                "n_compromised": k,
                "n_seeds": int((part["hits"] == k).sum()),
            }
            for (target, strength), part in sorted(per_seed.group_by("target", "strength"), key=lambda item: item[0])
            for k in range(len(self.labels) + 1)
        ]
        return COUNTS.frame(rows)

    def coverage(self, seeds: pl.DataFrame) -> pl.DataFrame:
        readable = seeds.filter(pl.col("status").is_in([ANALYSED, NO_ADVERSARIAL]))
        rows = []
        attacked = 0
        for step, (seed_id, status) in enumerate(readable.select("seed_id", "status").iter_rows(), 1):
            attacked += status == ANALYSED
            clean = round(7400 * (1 - np.exp(-step / 9)))
            curves = [(CLEAN, 0.0, clean)]
            curves += [(ADVERSARIAL, s, clean + round(9 * attacked * s**0.4)) for s in self.strengths]
            curves += [(NOISE, s, clean + round(2 * attacked * s**0.5)) for s in self.strengths]
            rows += [
                {
                    "step": step,
                    "seed_id": seed_id,
                    "condition": c,
                    "strength": s,
                    "covered": k,
                    "total": 14888,
                }
                for c, s, k in curves
            ]
        return COVERAGE.frame(rows)

    def gallery(self, similarity: pl.DataFrame, count: int) -> dict[str, np.ndarray]:
        reference = min(self.strengths, key=lambda strength: abs(strength - 1))
        target = "seed" if "seed" in self.targets else self.targets[0]
        attacked = similarity.filter(condition=ADVERSARIAL, strength=reference, target=target)
        means = attacked.group_by("seed_id", maintain_order=True).agg(pl.col("similarity").mean())
        ids = means.sort("similarity", maintain_order=True)["seed_id"].to_list()
        ranks = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
        chosen = [ids[rank] for rank in ranks]
        return gallery_of(chosen, strengths=self.strengths, targets=self.targets, layers=len(self.labels))

    def record(self, seeds: pl.DataFrame) -> dict[str, Any]:
        effective = {
            "images": "photos/", "model": "torchvision/vgg16", "weights": None, "attack": "dlfuzz",
            "strengths": list(self.strengths), "targets": list(self.targets), "layers": None, "limit": None,
            "rng_seed": 0, "noise_draws": self.draws, "noise_ladder": list(self.ladder), "gallery": 24,
            "chunk_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32",
        }  # fmt: skip
        model = {
            "spec": "torchvision/vgg16",
            "name": "VGG",
            "weights": "IMAGENET1K_V1",
            "weights_sha256": "ab" * 32,
            "size": 224,
            "resize": 256,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "classes": len(CLASSES),
            "neurons": 14888,
            "labels": list(CLASSES),
        }
        rows = zip(self.names, self.labels, strict=True)
        return {
            "schema_version": SCHEMA_VERSION,
            "camdrift": "0.1.0",
            "status": "done",
            "command": "camdrift run photos/ --model torchvision/vgg16",
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:14:05+00:00",
            "arguments": {"passed": {"images": "photos/"}, "effective": effective},
            "model": model,
            "layers": [
                {
                    "name": n,
                    "label": x,
                    "kind": "Conv2d",
                    "shape": [64, 14, 14],
                    "tap": "behind ReLU",
                    "note": "",
                }
                for n, x in rows
            ],
            "images": {"source": "photos/", "n": seeds.height, "sha256": "cd" * 32},
            "versions": {"python": "3.12.1", "torch": "2.15.0", "polars": "2.0.0"},
            "device": "cpu",
            "timings": {"attack": 412.3, "explain": 160.25, "statistics": 1.204},
        }


def _analysed(seeds: pl.DataFrame) -> list[dict[str, Any]]:
    return seeds.filter(pl.col("status") == ANALYSED).to_dicts()


def _moments(condition: str, values: np.ndarray) -> dict[str, float | None]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {
        f"{condition}_mean": float(values.mean()),
        f"{condition}_median": float(np.median(values)),
        f"{condition}_std": spread,
    }


def gallery_of(
    seed_ids: Sequence[str], *, strengths: Sequence[float], targets: Sequence[str], layers: int
) -> dict[str, np.ndarray]:
    """A gallery as `pipeline.gallery` describes it: waves as images, blobs as heatmaps that the attack moves."""
    generator = np.random.default_rng(3)
    arrays = {
        "seed_ids": np.array(seed_ids, dtype=np.str_),
        "strengths": np.array(sorted(strengths), dtype=np.float64),
        "targets": np.array(targets, dtype=np.str_),
    }
    for i in range(len(seed_ids)):
        arrays[f"{i}/clean"] = _picture(i)
        for name in ("perturbation", "noise"):
            raw = generator.normal(0, 1, (224, 224, 3))
            arrays[f"{i}/{name}"] = np.round(127 * raw / np.abs(raw).max()).astype(np.int8)
        arrays[f"{i}/peaks"] = np.array([0.03, 0.1])
        for j, depth in enumerate(np.linspace(0, 1, layers)):
            arrays[f"{i}/map/{j}"] = _maps(float(depth), sorted(strengths), len(targets), generator)
    return arrays


def _maps(depth: float, strengths: Sequence[float], targets: int, generator: np.random.Generator) -> np.ndarray:
    """Heatmaps of one layer for clean, adversarial and noisy images, (targets, 1 + 2 strengths, side, side)."""
    side = int(2 ** round(6 - 3.2 * depth))
    moves = [s / (1 + s) for s in strengths]
    centres = [(0.4, 0.5), *((0.4 + 0.5 * depth * m, 0.5 + 0.3 * m) for m in moves)]
    centres += [(0.4 + 0.04 * m, 0.5 + 0.04 * m) for m in moves]
    return np.stack([[_blob(side, *centre, generator) for centre in centres] for _ in range(targets)])


def _picture(i: int, size: int = 224) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin((3 + i) * x + c) * np.cos((4 + c) * y + i) for c in range(3)]
    return np.stack([127 + 80 * wave for wave in waves], axis=-1).astype(np.uint8)


def _blob(side: int, cx: float, cy: float, generator: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    values = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.05) + 0.1 * generator.random((side, side))
    return np.round(255 * values / values.max()).astype(np.uint8)
