"""Where the failures of a campaign take hold, and clusters of those that do so alike."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.fuzzing.design import CampaignDesign
from camdrift.pipeline.onset import Onset, onset
from camdrift.statistics.bootstrap import percentile_interval, resample_counts
from camdrift.tables.campaign import CLUSTERS

NOT_NEW, MOVED = "not the closest of its seed and class", "moved"
_PAIR: Final = ("seed_id", "wrong_class")
_CLUSTER: Final = ("layer_index", "clean_class", "wrong_class")
_REPLICATES: Final = 2000
# Returns the image of a stored failure by its file.
ReadFailure = Callable[[str], NDArray[np.float32]]


def with_onsets(
    failures: pl.DataFrame,
    design: CampaignDesign,
    images: Sequence[NDArray[np.float32]],
    read: ReadFailure,
    advance: Callable[[int, int], None],
) -> pl.DataFrame:
    """The failures with the layer at which they take hold: of each seed and wrong class the closest that is not moved.

    A picture that was moved has maps that moved with it, which no noise does: such failures are left out.

    Args:
        failures: Table `failures`.
        design: The campaign's design.
        images: Images of the seeds.
        read: Returns the image of a failure.
        advance: Called with how many are examined, of how many.
    """
    rows = failures.with_row_index("row")
    files = rows.filter(pl.col("image").is_not_null() & ~pl.col("is_moved") & pl.col("wrong_class").is_not_null())
    closest = files.sort("l2", maintain_order=True).unique(_PAIR, keep="first", maintain_order=True).sort("row")
    places = {start.seed_id: place for place, start in enumerate(design.starts)}
    onsets: dict[int, Onset] = {}
    for number, row in enumerate(closest.to_dicts()):
        advance(number, closest.height)
        start = design.starts[places[row["seed_id"]]]
        seed, image = (torch.as_tensor(each) for each in (images[places[row["seed_id"]]], read(row["image"])))
        onsets[row["row"]] = onset(
            design.classifier,
            seed.to(design.classifier.device),
            image.to(design.classifier.device),
            start.seed_class,
            key=f"{row['seed_id']} {row['wrong_class']}",
            rng_seed=design.rng_seed,
            batch_size=design.group,
        )
    layers = design.classifier.layers
    columns = [_columns(row, onsets.get(row["row"]), layers) for row in rows.select("row", "is_moved").to_dicts()]
    names = {"onset": pl.String, "onset_index": pl.Int64, "onset_reason": pl.String}
    return failures.with_columns(pl.DataFrame(columns, schema=names).get_columns())


def _columns(row: dict[str, Any], place: Onset | None, layers: Sequence[str]) -> dict[str, Any]:
    """The columns that say where a failure takes hold."""
    if place is None:
        return {"onset_reason": MOVED if row["is_moved"] else NOT_NEW}
    layer = None if place.index is None else layers[place.index]
    return {"onset": layer, "onset_index": place.index, "onset_reason": place.reason}


def clusters(failures: pl.DataFrame, *, rng_seed: int) -> pl.DataFrame:
    """The table `clusters`, the largest first.

    Args:
        failures: Table `failures` with onsets.
        rng_seed: Seed of the bootstrap over seeds.
    """
    is_examined = pl.col("onset_reason").is_null() | ~pl.col("onset_reason").is_in([NOT_NEW, MOVED])
    pairs = failures.filter(is_examined).with_columns(layer="onset", layer_index="onset_index")
    seeds = pairs["seed_id"].unique(maintain_order=True).to_list()
    by_seed = {seed: place for place, seed in enumerate(seeds)}
    totals = np.bincount([by_seed[seed] for seed in pairs["seed_id"]], minlength=len(seeds))
    counts = resample_counts(len(seeds), _REPLICATES, rng_seed=rng_seed) if seeds else np.zeros((1, 0), np.int64)
    rows = []
    for _, part in pairs.group_by(_CLUSTER, maintain_order=True):
        own = np.bincount([by_seed[seed] for seed in part["seed_id"]], minlength=len(seeds))
        replicates = (counts @ own) / np.maximum(counts @ totals, 1)
        low, high = (float(value) for value in percentile_interval(replicates))
        middle = part.sort("l2", maintain_order=True).row((part.height - 1) // 2, named=True)
        rows.append(
            {
                **{name: middle[name] for name in ("layer", *_CLUSTER)},
                "failures": part.height,
                "seeds": part["seed_id"].n_unique(),
                "share": part.height / pairs.height,
                "low": low,
                "high": high,
                "example": middle["image"],
            }
        )
    return CLUSTERS.frame(rows).sort("failures", descending=True, maintain_order=True)
