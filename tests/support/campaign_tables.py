"""A made campaign without a model: tables that agree with each other, its record and its pictures."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from camdrift.statistics.trials import compared, summarised
from camdrift.tables.campaign import CAMPAIGN_TABLES

SIDE = 16


@dataclass
class MadeCampaign:
    """Tables by name, the record, the gallery."""

    tables: dict[str, pl.DataFrame]
    record: dict[str, Any]
    gallery: dict[str, np.ndarray] = field(default_factory=dict)


def campaign(*, trials=3, seeds=4, frameworks=("deephunter", "random"), seed_name="seed {}", label="class {}"):
    """A campaign in which every second seed fails, the first framework's trials find one class more each."""
    names = [seed_name.format(number) for number in range(seeds)]
    rows = {name: [] for name in CAMPAIGN_TABLES}
    for number, name in enumerate(names):
        rows["starts"].append({"seed_id": name, "clean_class": number, "clean_probability": 0.75, "status": "fuzzed"})
    for place, framework in enumerate(frameworks):
        for trial in range(trials):
            _trial(rows, names, framework, trial, wide=place == 0)
    growth = CAMPAIGN_TABLES["growth"].frame(rows["growth"])
    finals = growth.filter(pl.col("mark") == 100)
    tables = {name: CAMPAIGN_TABLES[name].frame(each) for name, each in rows.items()}
    tables |= {"growth": growth, "frameworks": summarised(finals, rng_seed=0), "pairs": compared(finals)}
    example = next(row for row in rows["failures"] if not row["is_moved"])
    cluster = {"layer": "conv2", "layer_index": 1, "clean_class": 0, "wrong_class": 10, "failures": 3, "seeds": 2}
    cluster |= {"share": 0.6, "low": 0.2, "high": 0.9, "example": example["image"]}
    tables["clusters"] = CAMPAIGN_TABLES["clusters"].frame([cluster])
    record = {
        "camdrift": "0",
        "command": "camdrift fuzz",
        "criterion": "nc(threshold=0.25)",
        "oracle": "prediction",
        "layers": ["conv1", "conv2", "head"],
        "settings": {"trials": trials, "budget": "200-passes", "constraint": "linf(eps=8/255)"},
        "model": {"spec": "tiny", "labels": [label.format(number) for number in range(40)]},
        "versions": {"torch": "2"},
    }
    return MadeCampaign(tables, record, _gallery(len(rows["failures"])))


def _trial(rows, names, framework, trial, *, wide):
    key = {"framework": framework, "trial": trial}
    for number, name in enumerate(names):
        rows["corpus"].append({**key, "entry": number, "seed_id": name, "reason": "seed", "times": 2})
    rows["corpus"].append(
        {**key, "entry": len(names), "seed_id": names[0], "parent": 0, "operator": "noise", "reason": "coverage"}
        | {"parameters": "noise(sigma=0.02)", "gain": 7.0, "times": 1, "is_moved": False}
    )
    for number in range(0, len(names), 2):
        for turn in range(1 + wide * trial):
            is_moved = bool(turn % 2)
            spec = "rotate(degrees=-7.5)" if is_moved else "noise(sigma=0.02)"
            count = len(rows["failures"])
            rows["failures"].append(
                {**key, "failure": count, "seed_id": names[number], "parent": number or len(names)}
                | {"operator": spec.partition("(")[0], "parameters": spec, "chain": [spec], "streams": [0]}
                | {"clean_class": number, "wrong_class": 10 + turn, "probability": 0.5, "l2": 1.0 + count}
                | {"linf": 8 / 255, "is_moved": is_moved, "is_new": True, "image": f"failures/000-{count:05d}.npy"}
                | {"passes": 100, "onset": None if is_moved else "conv2", "onset_index": None if is_moved else 1}
            )
    n_pairs = (1 + wide * trial) * -(-len(names) // 2)
    for mark in range(101):
        unique = n_pairs if mark >= 50 else 0
        counts = dict.fromkeys(
            ("failures", "failing_seeds", "seed_classes", "class_pairs", "unmoved_seed_classes"), unique
        )
        rows["growth"].append({**key, "mark": mark, "passes": 2 * mark, "criterion": 0.2 + mark / 1000, **counts})
    for operator, tried, valid in (("noise", 60, 50), ("rotate", 40, 0)):
        failures = n_pairs if valid else 0
        rows["mutators"].append(
            {**key, "operator": operator, "tried": tried, "valid": valid, "kept": 1, "failures": failures}
        )


def _gallery(n_failures):
    rng = np.random.default_rng(0)
    gallery = {"rows": np.arange(n_failures)}
    for row in range(n_failures):
        gallery[f"{row}/steps"] = rng.integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)
        gallery[f"{row}/entries"] = np.array([0])
        gallery[f"{row}/difference"] = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        gallery[f"{row}/enlarged"] = np.array(12.0)
    return gallery
