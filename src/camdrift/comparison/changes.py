"""Natural changes that all runs of a comparison share: what each does to predictions and maps, run by run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from camdrift.comparison.sides import Side
from camdrift.statistics.perturbations import perturbations
from camdrift.study.study import Study
from camdrift.tables.comparison import SIDE_PERTURBATION_LAYERS, SIDE_PERTURBATIONS
from camdrift.tables.reading import collected

_LEAST_SHARED = 2


class SideChanges(NamedTuple):
    """Natural changes side by side.

    Attributes:
        flips: The table `perturbations`, of the first side of every run.
        layers: The table `perturbation_layers`.
        dropped: Changes that a run lacks, or that are another function there.
    """

    flips: pl.DataFrame
    layers: pl.DataFrame
    dropped: tuple[str, ...]


def side_changes(sides: Sequence[Side], strengths: Sequence[float]) -> SideChanges:
    """The natural changes that all runs share; empty tables where there are none.

    Predictions are counted on the images that were analysed in all runs, where there are two at least.

    Args:
        sides: The sides; of a run with several measures the first counts, the only one that changes were measured by.
        strengths: Strengths that all sides have.
    """
    firsts = list({str(side.study.path): side for side in reversed(sides)}.values())[::-1]
    own = [_specs(side.study) for side in firsts]
    common = [spec for spec in own[0] if all(own[0][spec] == its.get(spec) for its in own[1:])]
    rest = tuple(dict.fromkeys(spec for its in own for spec in its if spec not in common))
    flips, layers = [SIDE_PERTURBATIONS.frame()], [SIDE_PERTURBATION_LAYERS.frame()]
    if not common or len(firsts) < 2:
        return SideChanges(flips[0], layers[0], rest)
    seeds = _common_seeds(firsts)
    is_here = pl.col("perturbation").is_in(common) & pl.col("strength").is_in(list(strengths))
    for side in firsts:
        words = {"side": pl.lit(side.name), "shared": pl.lit(bool(seeds))}
        is_counted = is_here & pl.col("seed_id").is_in(seeds) if seeds else is_here
        images = collected(side.study.scan("perturbed").filter(is_counted))
        table = perturbations(images, side.study.seeds).with_columns(**words)
        flips.append(table.select(SIDE_PERTURBATIONS.schema.names()))
        gains = side.study.perturbation_layers.filter(is_here).with_columns(side=words["side"])
        layers.append(gains.select(SIDE_PERTURBATION_LAYERS.schema.names()))
    return SideChanges(pl.concat(flips), pl.concat(layers), rest)


def _specs(study: Study) -> dict[str, Mapping[str, str] | None]:
    """The natural changes of a run, each with the checksums of the user's code behind it; None for one of nrtk."""
    entry = study.record.get("perturbations") or {}  # which older records lack
    return {spec: None if spec.startswith("nrtk:") else entry.get("code") for spec in entry.get("specs") or ()}


def _common_seeds(sides: Sequence[Side]) -> list[str]:
    """Names of the images analysed in all sides, the same file in each; empty for fewer than two."""
    first, *others = [side.seeds for side in sides]
    names = [name for name, checksum in first.items() if all(its.get(name) == checksum for its in others)]
    return names if len(names) >= _LEAST_SHARED else []
