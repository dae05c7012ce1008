"""The most telling image: the one a page opens with."""

from collections.abc import Sequence

import polars as pl

from camdrift.figures.scope import Scope
from camdrift.tables.reading import Tables, collected, scan
from camdrift.tables.words import ADVERSARIAL, NOISE


def most_telling(tables: Tables, scope: Scope, seed_ids: Sequence[str]) -> int:
    """Place of the image that shows the headline best; 0 if there is none.

    The attack fools the network on it and noise does not, its clean prediction is right, and at the headline's layer
    its map moves most under the attack compared with noise.

    Args:
        tables: The tables of the study.
        scope: Its scope.
        seed_ids: The images to choose from.
    """
    at = pl.col("seed_id").is_in(list(seed_ids)) & (pl.col("strength") == scope.reference) & (pl.col("draw") == 0)
    is_changed = {
        (seed_id, condition): bool(flag)
        for seed_id, condition, flag in tables["variants"]
        .filter(at)
        .select("seed_id", "condition", "is_flipped")
        .iter_rows()
    }
    rows = tables["seeds"].filter(pl.col("seed_id").is_in(list(seed_ids)))
    is_right = {row["seed_id"]: row["label"] in (None, row["clean_class"]) for row in rows.iter_rows(named=True)}
    distances = _moved(tables, scope, at)

    def worth(seed_id: str) -> tuple[bool, bool, float]:
        is_clear = is_changed.get((seed_id, ADVERSARIAL), False) and not is_changed.get((seed_id, NOISE), False)
        return is_clear, is_right.get(seed_id, False), distances.get(seed_id, -2.0)

    return max(range(len(seed_ids)), key=lambda i: worth(seed_ids[i]), default=0)


def _moved(tables: Tables, scope: Scope, at: pl.Expr) -> dict[str, float]:
    """Similarity under noise minus that under the attack at the headline's layer, by image."""
    if scope.headline.layer is None:
        return {}
    here = at & (pl.col("target") == scope.headline.target) & (pl.col("layer") == scope.headline.layer)
    names = ("seed_id", "condition", "similarity")
    rows = collected(scan(tables, "similarity").filter(here, pl.col("similarity").is_not_null()).select(names))
    values = {(seed_id, condition): value for seed_id, condition, value in rows.iter_rows()}
    ids = [seed_id for seed_id, condition in values if condition == ADVERSARIAL and (seed_id, NOISE) in values]
    return {seed_id: values[seed_id, NOISE] - values[seed_id, ADVERSARIAL] for seed_id in ids}
