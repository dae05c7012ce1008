"""A plausible reproduction without a model: a synthetic study with the tables that `camdrift reproduce` adds.

The emulated images follow the defects: accumulated strengths, a change of class at |strength| >= 1 that adds to every
layer, pictures that all look alike. Ladder, claims and controls are computed from them as in a run.
"""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl

from camdrift.paper.claims import claims
from camdrift.paper.controls import reproduction_controls
from camdrift.paper.defects import accumulated_strengths
from camdrift.paper.ladder import ladder
from camdrift.statistics.controls import study_controls
from camdrift.tables.reproduction import EMULATION
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CHANNEL_NOISE, NOISE, SPECTRUM_NOISE, UNPERTURBED
from support import synthetic

LABELS = ("block1_conv1", "block3_conv1", "block4_conv1", "block5_conv1", "block5_conv3")
_KINDS = {NOISE: 1.0, SPECTRUM_NOISE: 1.6, CHANNEL_NOISE: 1.1}


def reproduction(labels=LABELS, **options):
    """A synthetic study, `synthetic.study`, as a reproduction."""
    made = synthetic.study(labels, **{"analysed": 6, "gallery_seeds": 2, **options})
    emulation = _emulation(made)
    tables = dict(made.tables) | {"emulation": emulation, "ladder": ladder(emulation)}
    tables["claims"] = claims(tables, emulation, rng_seed=0, n_bootstrap=40)
    found = [study_controls(tables, rng_seed=0, n_bootstrap=40)]
    tables["controls"] = pl.concat([*found, reproduction_controls(emulation, rng_seed=0, n_bootstrap=40)])
    record = {**made.record, "kind": "reproduction", "command": "camdrift reproduce photos/"}
    return replace(made, tables=tables, record=record)


def _emulation(made):
    generator = np.random.default_rng(11)
    seeds = made.tables["seeds"].filter(status=ANALYSED)["seed_id"].to_list()
    names = made.tables["layers"].select("layer", "layer_label", "layer_index").unique().sort("layer_index")
    if not seeds:
        return EMULATION.frame()
    rows = []
    for number, seed_id in enumerate(seeds):
        vigour = np.exp(generator.normal(0, 0.3, len(names)))
        for image in _images(made):
            rows += _readings(seed_id, number, image, names, vigour * np.exp(generator.normal(0, 0.2, len(names))))
    return EMULATION.frame(rows)


def _images(made):
    """Condition, strength, draw, accumulated, truncated, amount of attack, amount of noise, whether a control."""
    strengths = sorted(made.tables["layers"]["strength"].unique())
    ladder_ = sorted(made.tables["variants"].filter(condition=NOISE)["strength"].unique())
    effective = accumulated_strengths(strengths)
    for cut, accumulated in itertools.product((False, True), (False, True)):
        for s in strengths:
            yield (
                ADVERSARIAL,
                s,
                0,
                accumulated,
                cut,
                effective[s].adversarial if accumulated else s,
                0.0,
                False,
            )
        for s in ladder_:
            base = effective[s].noise_base if accumulated and s in effective else 0.0
            yield NOISE, s, 0, accumulated, cut, base, s, False
    for s in ladder_:
        yield NOISE, s, 1, False, False, 0.0, s, True
        for kind in (SPECTRUM_NOISE, CHANNEL_NOISE):
            yield kind, s, 0, False, False, 0.0, s, True
    yield UNPERTURBED, 0.0, 0, False, False, 0.0, 0.0, True


def _readings(seed_id, number, image, names, vigour):
    condition, strength, draw, accumulated, cut, attack, noise, is_control = image
    depth = np.linspace(0.3, 1, len(names))
    is_flipped = attack >= 0.25 + 0.01 * number
    push = vigour * depth * (1.2 * abs(attack) + 0.08 * _KINDS.get(condition, 1.0) * noise)
    common = {"seed_id": seed_id, "condition": condition, "strength": strength, "draw": draw}
    common |= {"is_accumulated": accumulated, "is_truncated": cut, "is_flipped": bool(is_flipped)}
    common |= {"realised_l2": 1.5 * (abs(attack) + noise), "n_gained": round(40 * abs(attack) + 6 * noise)}
    for target, score, metric in itertools.product(("own", "seed"), ("logit", "probability"), ("cosine", "jet")):
        if is_control and (score, metric) != ("logit", "cosine"):
            continue
        moved = push + (1.5 if target == "own" and is_flipped else 0.0) + 0.2 * (score == "probability") + 0.05 * cut
        similarity = np.exp(-0.6 * moved) if condition != UNPERTURBED else np.ones(len(names))
        if metric == "jet":  # pictures share their background
            similarity = 0.75 + 0.25 * similarity * depth[::-1]
        keys = common | {"target": target, "clean_score": score, "metric": metric}
        yield from (keys | layer | {"similarity": v} for layer, v in zip(names.to_dicts(), similarity, strict=True))
