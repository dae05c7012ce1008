"""The paper's claims, each as a number, an interval, and a verdict that follows from both.

A claim has bounds. It holds if the whole 95 % interval of its number (a bootstrap over seeds) lies between them. It is
an artefact if no part of the interval does, but the number of the emulated released code does. It fails if neither
does. Else it is undecided. Of what only has to exist one example decides, without interval; one image decides no more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import scipy.stats
from numpy.typing import NDArray

from camdrift.paper.defects import Defects
from camdrift.paper.ladder import curve_distances
from camdrift.paper.readings import Reading, compromised_flags, compromised_fraction, mean, read, resample, variance
from camdrift.statistics.bootstrap import Counts, percentile_interval, resample_counts
from camdrift.statistics.estimates import ratio, wilson_interval
from camdrift.tables.arrays import Floats
from camdrift.tables.reproduction import CLAIMS
from camdrift.tables.table import Rows
from camdrift.tables.words import ANALYSED, ARTEFACT, FAILS, HOLDS, UNDECIDED, UNREADABLE

# The paper's own: the layers that it calls most susceptible, and the share of the images that it could attack.
SUSCEPTIBLE: Final = ("block4_conv1", "block5_conv1")
ATTACKED: Final = 0.48
# "About 40 %", "80 %", "48 %": within ten points.
_ABOUT: Final = 0.1
# "Almost identical", "very similar": curves at most so far apart, as share of the range over all strengths.
_IDENTICAL: Final = 0.05
_SIMILAR: Final = 1 / 3
# "In many cases a few blocks": at least a quarter of the examples, at most a quarter of the layers.
_MANY: Final = 0.25
_FEW: Final = 0.25
# "Some": more than none.
_ANY: Final = 1e-9
_SUSCEPTIBLE_CLAIM: Final = "It is one of the two most susceptible layers"
_LOWEST: Final = "the two lowest similarities"
# The columns that hold the numbers of a claim.
_NUMBERS: Final = ("as_released", "corrected", "corrected_low", "corrected_high")

# Computes the numbers of a family of claims from a reading.
_Number = Callable[[Reading], Floats]


@dataclass(frozen=True)
class _Family:
    """Claims whose numbers come from one function of a reading, one entry each.

    Attributes:
        claim: The claim.
        subjects: The strength or layer that each entry is about; empty where there is only one.
        measure: The measure that gives the number.
        paper: The paper's own word for it.
        of_equations: Computes the numbers as the equations count.
        bounds: The claim holds between these; None for no end.
        of_release: Computes the numbers as the released code counts; None where it counts as the equations do.
        exists: Does one example decide?
    """

    claim: str
    subjects: Sequence[str]
    measure: str
    paper: str
    of_equations: _Number
    bounds: tuple[float | None, float | None]
    of_release: _Number | None = None
    exists: bool = False


def claims(
    tables: Mapping[str, pl.DataFrame], emulation: pl.DataFrame, *, rng_seed: int, n_bootstrap: int = 1000
) -> pl.DataFrame:
    """Table `claims`: the paper's claims, the numbers of its code and of its equations, and the verdicts.

    Numbers of the released code come from all defects together. Numbers about thresholds come from all but the
    thresholds' own (section f), because the paper describes a median per layer, which no released code computes.

    Args:
        tables: The study's tables by name: seeds, layers and floor.
        emulation: Table `emulation`.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    rows = _attacked(tables["seeds"])
    if emulation.height:
        equations = read(emulation, Defects())
        # Thresholds are computed from the reading, and so are the paper's medians in this one, too.
        release = read(emulation, Defects.all())
        resamples = resample_counts(len(equations.seed_ids), n_bootstrap, rng_seed=rng_seed)
        for family in _families(equations, tables["floor"]):
            rows += _family_rows(family, equations, release, resamples)
        rows += _gain_ranks(tables["layers"])
    return CLAIMS.frame([{**row, "verdict": verdict(row)} for row in rows])


def verdict(row: Mapping[str, Any]) -> str:
    """Verdict on one claim from its columns: holds, artefact, fails or undecided (see the top of this file)."""
    if row["corrected"] is None or (row["n"] == 1 and row["corrected_low"] is None and not _is_example(row)):
        return UNDECIDED
    low, high = (row["corrected"] if row[name] is None else row[name] for name in ("corrected_low", "corrected_high"))
    start = -np.inf if row["holds_from"] is None else row["holds_from"]
    end = np.inf if row["holds_to"] is None else row["holds_to"]
    if start <= low and high <= end:
        return HOLDS
    if high >= start and low <= end:
        return UNDECIDED
    release = row["as_released"]
    return ARTEFACT if release is not None and start <= release <= end else FAILS


def _is_example(row: Mapping[str, Any]) -> bool:
    """Is there an example of what only has to exist?"""
    return bool(row["holds_from"] == _ANY and row["corrected"] >= _ANY)


def _families(reading: Reading, floor: pl.DataFrame) -> list[_Family]:
    """Every family of claims that the strengths and layers of a reading allow."""
    strengths = [f"strength {s:g}" for s in reading.strengths]
    more = "Adversarial images deviate more than noisy ones"
    difference = "similarity under noise minus under the attack"
    return [
        _Family(
            more,
            strengths,
            f"{difference}, mean over layers",
            "more, at all strengths",
            lambda r: mean(mean(r.noise - r.adversarial, 0), -1),
            (0.0, None),
        ),
        _Family(
            more,
            reading.labels,
            f"{difference}, mean over strengths",
            "more, in every layer",
            lambda r: mean(mean(r.noise - r.adversarial, 0), 0),
            (0.0, None),
        ),
        _Family(
            "Similarities vary more under the attack",
            strengths,
            "standard deviation over images, attack over noise, root mean square over layers",
            "greater variance",
            lambda r: np.sqrt(ratio(mean(variance(r.adversarial), -1), mean(variance(r.noise), -1))),
            (1.0, None),
        ),
        *_susceptible(reading, floor),
        *_thresholds(reading),
        *_curves(reading),
        *_coverage(),
        *_adversarial(reading),
    ]


def _susceptible(reading: Reading, floor: pl.DataFrame) -> list[_Family]:
    """Ranks of the two layers, by deviation and by the deviation's share of the similarity that can be lost."""
    places = [reading.labels.index(label) for label in SUSCEPTIBLE if label in reading.labels]
    if len(places) < len(SUSCEPTIBLE):
        return []
    pairs = floor.filter(pl.col("target") == "seed")
    losses = dict(pairs.group_by("layer").agg(1 - pl.col("similarity").mean()).iter_rows())
    room = np.array([losses.get(layer) or 1.0 for layer in reading.layers])

    def ranks(scale: Floats) -> _Number:
        return lambda r: _ranks(mean(mean(1 - r.adversarial, 0), 0) / scale)[places]

    return [
        _Family(_SUSCEPTIBLE_CLAIM, SUSCEPTIBLE, f"rank by {measure}", _LOWEST, ranks(scale), (1.0, 2.0))
        for measure, scale in (
            ("mean deviation", np.ones(len(room))),
            ("mean deviation, corrected for the floor", room),
        )
    ]


def _thresholds(reading: Reading) -> list[_Family]:
    """Claims about the layers that an adversarial image compromises."""
    layers, few = len(reading.layers), int(_FEW * len(reading.layers))
    outer = [i for i, s in enumerate(reading.strengths) if s not in (0.5, 1.0)]
    return [
        _Family(
            f"A few layers suffice (at most {few} of {layers})",
            [""],
            "share of fooling adversarial images that compromise so few",
            "in many cases",
            lambda r: _share(_fooling(r, compromised_flags(r).sum(-1) <= few)),
            (_MANY, 1.0),
        ),
        _Family(
            "Some adversarial images compromise all layers",
            [""],
            "share of adversarial images, all strengths",
            "some",
            lambda r: _share(compromised_flags(r).sum(-1).ravel() == layers),
            (_ANY, 1.0),
            exists=True,
        ),
        _Family(
            "Some images fool the network and compromise no layer",
            [""],
            "share of fooling adversarial images, all strengths",
            "some",
            lambda r: _share(_fooling(r, compromised_flags(r).sum(-1) == 0)),
            (_ANY, 1.0),
            exists=True,
        ),
        *_probability(reading.at(0.5, 1.0), "strengths 0.5 and 1", 0.4),
        *_probability(outer, "the other strengths", 0.8),
    ]


def _probability(places: list[int], where: str, paper: float) -> list[_Family]:
    """Share of cases in which a layer is compromised at some strengths, which the paper puts at `paper`."""
    if not places:
        return []
    return [
        _Family(
            f"A layer is compromised in about {paper * 100:.0f} % of cases",
            [where],
            "compromised fraction, mean over layers; the threshold of each is its median under noise",
            f"about {paper * 100:.0f} %",
            lambda r: mean(compromised_fraction(r)[places].ravel(), 0, keepdims=True),
            (paper - _ABOUT, paper + _ABOUT),
        )
    ]


def _curves(reading: Reading) -> list[_Family]:
    """Claims that the curves of some strengths lie close together."""

    def distance(place: int) -> _Number:
        return lambda r: np.array([curve_distances(mean(r.adversarial, 0), r.strengths)[place]])

    cases = (
        (0, (0.5, 1.0), "Strengths 0.5 and 1 are almost identical", "almost identical", _IDENTICAL),
        (1, (0.25, 2.0, 4.0), "Strengths 0.25, 2 and 4 are very similar", "very similar", _SIMILAR),
    )
    measure = "distance of their curves, as share of the range over all strengths"
    return [
        _Family(claim, [""], measure, paper, distance(place), (0.0, most))
        for place, group, claim, paper, most in cases
        if len(reading.at(*group)) == len(group)
    ]


def _coverage() -> list[_Family]:
    """Claims about the neurons that an image adds."""
    return [
        _Family(
            "Coverage grows faster under the attack than under noise",
            [""],
            "neurons that an image adds to its clean one's, attack minus noise, mean over strengths",
            "slightly faster",
            lambda r: np.array([(r.adversarial_gained - r.noise_gained).mean()]),
            (0.0, None),
            lambda r: np.array([_released_difference(r)]),
        ),
        _Family(
            "The stronger the perturbation, the more coverage",
            [""],
            "Kendall's tau of strength and neurons added, mean over images",
            "more",
            lambda r: np.array([_trend(r.adversarial_gained, r.strengths)]),
            (0.0, None),
            lambda r: np.array([_trend(_released_credit(r), r.strengths)]),
        ),
    ]


def _adversarial(reading: Reading) -> list[_Family]:
    """The claim that the images under study are adversarial at all; those of the released code are not."""
    if 1.0 not in reading.strengths:
        return []
    place = reading.strengths.index(1.0)
    return [
        _Family(
            "The adversarial images change the prediction",
            ["strength 1"],
            "share of the images that the similarities are taken from",
            "all",
            lambda r: r.is_flipped[:, [place]].mean(0),
            (0.99, 1.0),
        )
    ]


def _released_credit(reading: Reading) -> Floats:
    """Neurons that adversarial images add, if only those count that change the prediction (g)."""
    return np.where(reading.is_flipped, reading.adversarial_gained, 0)


def _released_difference(reading: Reading) -> float:
    """Neurons added, attack minus noise, as the released figure draws them: at strength 1 minus the lowest (g)."""
    attack, noise = _released_credit(reading), reading.noise_gained
    one = reading.at(1.0)
    return float((attack[:, one[0]] - noise[:, 0]).mean() if one else (attack - noise).mean())


def _trend(neurons: Floats, strengths: Sequence[float]) -> float:
    """Mean over images of Kendall's tau-b; an image that adds the same at every strength has none, and counts as 0."""
    ranks = np.sign(neurons[:, :, None] - neurons[:, None, :])
    order = np.sign(np.subtract.outer(strengths, strengths))
    concordant = (ranks * order).sum((1, 2))
    scale = np.sqrt(np.abs(ranks).sum((1, 2)) * np.abs(order).sum())
    return float(np.divide(concordant, scale, out=np.zeros(len(neurons)), where=scale > 0).mean())


def _family_rows(family: _Family, equations: Reading, release: Reading, resamples: Counts) -> Rows:
    """Rows of table `claims`, one per entry of a family; without verdicts."""
    values = family.of_equations(equations)
    release_values = (family.of_release or family.of_equations)(release)
    low = high = np.full(len(values), np.nan)
    if not family.exists and len(equations.seed_ids) > 1:
        draws = (np.repeat(np.arange(len(counts)), counts) for counts in resamples)
        replicates = np.array([family.of_equations(resample(equations, seeds)) for seeds in draws])
        low, high = percentile_interval(replicates.reshape(len(resamples), len(values)))
    columns = zip(family.subjects, release_values, values, low, high, strict=True)
    return [
        {
            "claim": family.claim,
            "subject": subject or None,
            "measure": family.measure,
            "paper": family.paper,
            **{k: _known(v) for k, v in zip(_NUMBERS, numbers, strict=True)},
            "n": len(equations.seed_ids),
            "holds_from": family.bounds[0],
            "holds_to": family.bounds[1],
        }
        for subject, *numbers in columns
    ]


def _attacked(seeds: pl.DataFrame) -> Rows:
    """Row on the share of images of which the attack changed the prediction; code and equations share the attack."""
    readable = seeds.filter(pl.col("status") != UNREADABLE).height
    successes = seeds.filter(pl.col("status") == ANALYSED).height
    if not readable:
        return []
    interval = wilson_interval(np.array([successes]), np.array([readable]))
    return [
        {
            "claim": f"{ATTACKED * 100:.0f} % of the images can be attacked",
            "subject": None,
            "measure": "share of readable images with an adversarial example (Wilson interval)",
            "paper": f"{ATTACKED * 100:.0f} %",
            "as_released": None,
            "corrected": successes / readable,
            "corrected_low": float(interval.low[0]),
            "corrected_high": float(interval.high[0]),
            "n": readable,
            "holds_from": ATTACKED - _ABOUT,
            "holds_to": ATTACKED + _ABOUT,
        }
    ]


def _gain_ranks(layers: pl.DataFrame) -> Rows:
    """Rows on the ranks of the two layers by noise-equivalent gain at the lowest strength, which needs no floor."""
    lowest = layers.filter(pl.col("target") == "seed", pl.col("strength") == pl.col("strength").min())
    two = lowest.filter(pl.col("layer_label").is_in(list(SUSCEPTIBLE)))
    return [
        {
            "claim": _SUSCEPTIBLE_CLAIM,
            "subject": row["layer_label"],
            "measure": f"rank by noise-equivalent gain, strength {row['strength']:g}",
            "paper": _LOWEST,
            "as_released": None,
            "corrected": row["rank"],
            "corrected_low": row["rank_low"],
            "corrected_high": row["rank_high"],
            "n": row["n"],
            "holds_from": 1.0,
            "holds_to": 2.0,
        }
        for row in two.sort("layer_index").to_dicts()
    ]


def _fooling(reading: Reading, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The flags of those adversarial images that change the prediction."""
    return np.asarray(flags[reading.is_flipped])


def _share(flags: NDArray[np.bool_]) -> Floats:
    """Share of flags that are set, as the only entry; NaN without flags."""
    return np.array([flags.mean() if flags.size else np.nan])


def _ranks(values: Floats) -> Floats:
    """Ranks, 1 for the largest; undefined values come last."""
    comparable = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(scipy.stats.rankdata(-comparable, method="min"), dtype=np.float64)


def _known(value: float) -> float | None:
    """The value; None for NaN."""
    return None if np.isnan(value) else float(value)
