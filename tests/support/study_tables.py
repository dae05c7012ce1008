"""Small tables of a study, as tests of the statistics need them."""

import itertools

import numpy as np

from camdrift.tables.study import SIMILARITY, VARIANTS
from camdrift.tables.words import ADVERSARIAL, NOISE, ZERO_MAP_VARIANT


def cells(condition, strength, values, *, layer="a", index=0, target="seed", draw=0):
    """Rows of table similarity, one per value; the seeds are s00, s01, ..."""
    return [
        {
            "seed_id": f"s{i:02d}",
            "condition": condition,
            "strength": strength,
            "draw": draw,
            "target": target,
            "layer": layer,
            "layer_label": f"block {layer}",
            "layer_index": index,
            "similarity": value,
            "undefined_reason": ZERO_MAP_VARIANT if value is None else None,
        }
        for i, value in enumerate(values)
    ]


def norms(condition, strength, values, *, draw=0):
    """Rows of table variants, one per realised L2 norm."""
    common = {"condition": condition, "strength": strength, "draw": draw}
    return [{"seed_id": f"s{i:02d}", **common, "realised_l2": value} for i, value in enumerate(values)]


def plain_norms(n_seeds, strengths=(1.0,), ladder=(1.0, 2.0, 4.0)):
    """Table variants where every strength realises an L2 norm of the strength itself."""
    steps = [(ADVERSARIAL, s) for s in strengths] + [(NOISE, s) for s in ladder]
    return VARIANTS.frame([row for condition, s in steps for row in norms(condition, s, [s] * n_seeds)])


def random_study(n_seeds=12, n_layers=3, *, n_draws=1, undefined=0.0, rng_seed=0):
    """Similarity and variants tables with two targets, two strengths of the attack and a ladder of four."""
    rng = np.random.default_rng(rng_seed)
    size = rng.lognormal(0, 0.5, n_seeds)
    rows, variants = [], []
    for condition, strengths, draws in ((ADVERSARIAL, (0.5, 1.0), 1), (NOISE, (0.5, 1.0, 2.0, 4.0), n_draws)):
        for strength, draw in itertools.product(strengths, range(draws)):
            l2 = strength * size * rng.uniform(0.8, 1, n_seeds)
            variants += norms(condition, strength, l2.tolist(), draw=draw)
            for target, layer in itertools.product(("own", "seed"), range(n_layers)):
                push = (0.7 + 1.5 * layer if condition == ADVERSARIAL else 1.0) * l2 * rng.lognormal(0, 0.5, n_seeds)
                values = [None if rng.random() < undefined else v for v in np.exp(-0.1 * push).tolist()]
                where = {"layer": f"l{layer}", "index": layer, "target": target, "draw": draw}
                rows += cells(condition, strength, values, **where)
    return SIMILARITY.frame(rows), VARIANTS.frame(variants)


def pivot(table, column, **where):
    frame = table.filter(**where).sort("seed_id")
    return np.array(
        [part[column].to_numpy() for _, part in frame.sort("strength").group_by("strength", maintain_order=True)]
    )
