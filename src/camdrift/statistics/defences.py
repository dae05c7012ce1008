"""What defences keep: shares of correct predictions by stage, the worst case over attacks, and checks of all that."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from camdrift.statistics.estimates import wilson_interval
from camdrift.tables.defences import (
    ADAPTIVE_STAGE,
    CLEAN_STAGE,
    DEFENCES_TABLE,
    NOISE_STAGE,
    SANITY,
    STATIC_STAGE,
    UNDEFENDED,
)
from camdrift.tables.table import Row, Rows


@dataclass(frozen=True)
class Trait:
    """What is verdicts of a defence beside its answers.

    Attributes:
        gradient: `exact` or `bpda`.
        is_random: Does it draw random numbers?
        is_iterative: Does it optimise step by step?
        eot: Draws whose logits an attack averages; None for one that is not random.
    """

    gradient: str
    is_random: bool
    is_iterative: bool
    eot: int | None


@dataclass(frozen=True)
class AttackWords:
    """What the table says of an attack: bound, norm, steps and restarts, each None where unknown."""

    eps: float | None = None
    norm: str | None = None
    steps: int | None = None
    restarts: int | None = None


def defence_rows(
    images: pl.DataFrame, traits: Mapping[str, Trait], attacks: Mapping[str, AttackWords], *, rng_seed: int
) -> pl.DataFrame:
    """Table `defences`: per defence, stage and strength the share of predictions that stay those of the clean image.

    The stage `adaptive` is the worst case of every image: clean, under the static attack at the strength nearest to 1
    from below, and under every attack that knows the defence. It is therefore never above the static share there.

    Args:
        images: Table `defended_images`.
        traits: Of every defence, by spec.
        attacks: Of every attack, by spec.
        rng_seed: Seed of the draws.
    """
    rows: Rows = []
    for (defence,), part in images.group_by("defence", maintain_order=True):
        trait = traits.get(str(defence))
        keys = {"defence": defence, "eot": trait.eot if trait else None, "rng_seed": rng_seed}
        others = part.filter(pl.col("stage") != ADAPTIVE_STAGE)
        for (stage, attack, strength), cell in others.group_by("stage", "attack", "strength", maintain_order=True):
            words = vars(attacks.get(str(attack), AttackWords()))
            rows.append({**keys, "stage": stage, "attack": attack, "strength": strength, **words, **_counts(cell)})
        if (part["stage"] == ADAPTIVE_STAGE).any():
            rows.append({**keys, **_adaptive_row(part, attacks)})
    return DEFENCES_TABLE.frame(rows)


def _counts(cell: pl.DataFrame) -> Row:
    verdicts = cell.filter(pl.col("is_correct").is_not_null())
    n, correct = verdicts.height, int(verdicts["is_correct"].sum())
    seconds = cell["seconds"].mean()
    return {**_share(correct, n), "seconds": seconds}


def _share(correct: int, n: int) -> Row:
    interval = wilson_interval(np.array([correct]), np.array([n]))
    ends = {"low": float(interval.low[0]), "high": float(interval.high[0])} if n else {}
    return {"correct": correct, "n": n, "share": correct / n if n else None, **ends}


def _adaptive_row(part: pl.DataFrame, attacks: Mapping[str, AttackWords]) -> Row:
    own = part.filter(pl.col("stage") == ADAPTIVE_STAGE)
    specs = own["attack"].unique(maintain_order=True).to_list()
    words = attacks.get(specs[0], AttackWords()) if len(specs) == 1 else AttackWords()
    worst = worst_case(part)
    seconds = own.group_by("attack").agg(pl.col("seconds").mean())["seconds"].sum()
    verdicts = worst.filter(pl.col("is_correct").is_not_null())
    return {
        "stage": ADAPTIVE_STAGE,
        "attack": "; ".join(specs),
        "strength": 1.0,
        **vars(words),
        **_share(int(verdicts["is_correct"].sum()), verdicts.height),
        "seconds": seconds,
    }


def worst_case(part: pl.DataFrame) -> pl.DataFrame:
    """The worst case of every image over everything that was tried on one defence: seed_id, is_correct.

    An image that an attack broke down on counts by the others.

    Args:
        part: Rows of table `defended_images` of one defence.
    """
    static = part.filter(pl.col("stage") == STATIC_STAGE, pl.col("strength") <= 1)
    parts = [part.filter(pl.col("stage").is_in([CLEAN_STAGE, ADAPTIVE_STAGE]))]
    parts += [static.filter(pl.col("strength") == static["strength"].max())] if static.height else []
    return pl.concat(parts).group_by("seed_id", maintain_order=True).agg(pl.col("is_correct").min())


class _Evidence:
    """The rows of one defence, by stage."""

    def __init__(self, images: pl.DataFrame, rows: pl.DataFrame, defence: str) -> None:
        self._images = images.filter(pl.col("defence") == defence)
        self._rows = rows.filter(pl.col("defence") == defence)

    def correct(self, stage: str, strength: float | None = None) -> tuple[int, int] | None:
        """Correct predictions and images of a stage; None where there are none."""
        rows = self._rows.filter(pl.col("stage") == stage)
        if strength is not None:
            rows = rows.filter(pl.col("strength") == strength)
        return None if rows.is_empty() else (int(rows["correct"][0]), int(rows["n"][0]))

    def by_strength(self) -> list[tuple[float, int]]:
        """Strength and correct predictions of the static attack, in order of strength."""
        rows = self._rows.filter(pl.col("stage") == STATIC_STAGE).sort("strength")
        return [*rows.select("strength", "correct").iter_rows()]

    def strength_of_noise(self) -> float | None:
        """The strength at which noise was judged."""
        rows = self._rows.filter(pl.col("stage") == NOISE_STAGE)
        return None if rows.is_empty() else float(rows["strength"][0])

    @property
    def adaptive(self) -> pl.DataFrame:
        """Images of attacks that know the defence."""
        return self._images.filter(pl.col("stage") == ADAPTIVE_STAGE)


def sanity(images: pl.DataFrame, rows: pl.DataFrame, traits: Mapping[str, Trait]) -> pl.DataFrame:
    """Table `sanity`: checks that an evaluation can fail (Carlini 2019), and RobustBench's conditions on a defence.

    Args:
        images: Table `defended_images`.
        rows: Table `defences`.
        traits: Of every defence, by spec.
    """
    table: Rows = []
    for defence in rows["defence"].unique(maintain_order=True).to_list():
        evidence = _Evidence(images, rows, defence)
        results = [_falls(evidence), _beats_noise(evidence)]
        if defence == UNDEFENDED:
            results = [_fools(evidence), *results]
        else:
            results += [_beats_transfer(evidence), _has_gradients(evidence), *_conditions(traits[defence])]
        table += [
            {"defence": defence, "check": check, "passed": is_passed, "detail": detail}
            for check, is_passed, detail in results
        ]
    return SANITY.frame(table)


# How RobustBench's conditions on a defence begin.
CONDITION: Final = "the defence "
_Result = tuple[str, bool | None, str]
_NO_STRENGTH_1: Final = "the run has no strength 1"
_NO_ADAPTIVE: Final = "no attack that knows the defence was run"


def _fools(evidence: _Evidence) -> _Result:
    check, counts = "the attack fools the network without a defence", evidence.correct(STATIC_STAGE, 1.0)
    if counts is None:
        return check, None, _NO_STRENGTH_1
    return check, counts[0] < counts[1] / 2, f"{counts[1] - counts[0]} of {counts[1]} images"


def _falls(evidence: _Evidence) -> _Result:
    values = evidence.by_strength()
    check = "fewer predictions stay as the attack grows stronger"
    if len(values) < 2:
        return check, None, "one strength alone"
    rises = [(one, other) for one, other in itertools.pairwise(values) if other[1] > one[1] + 1]
    return check, not rises, ", ".join(f"{correct} at {strength:g}" for strength, correct in values)


def _beats_noise(evidence: _Evidence) -> _Result:
    check, strength = "noise of the same size does not beat the attack", evidence.strength_of_noise()
    noise, static = evidence.correct(NOISE_STAGE), evidence.correct(STATIC_STAGE, strength)
    if noise is None or static is None:
        return check, None, "no noise was judged"
    return check, noise[0] >= static[0], f"{noise[0]} stay under noise, {static[0]} under the attack, of {noise[1]}"


def _beats_transfer(evidence: _Evidence) -> _Result:
    check, own = "an attack that knows the defence beats one that does not", evidence.adaptive
    static = evidence.correct(STATIC_STAGE, 1.0)
    if own.is_empty() or static is None:
        return check, None, _NO_ADAPTIVE if own.is_empty() else _NO_STRENGTH_1
    least = min(
        int(part["is_correct"].sum()) for _, part in own.filter(pl.col("is_correct").is_not_null()).group_by("attack")
    )
    return check, least <= static[0], f"{least} stay under it, {static[0]} under the static one, of {static[1]}"


def _has_gradients(evidence: _Evidence) -> _Result:
    check, own = "the attack has a gradient on every image", evidence.adaptive
    if own.is_empty():
        return check, None, _NO_ADAPTIVE
    faults = own.filter(pl.col("fault").is_not_null())
    words = "; ".join(faults["fault"].unique(maintain_order=True).to_list()[:2])
    return check, faults.is_empty(), words or f"{own.height} of {own.height}"


def _conditions(trait: Trait) -> Sequence[_Result]:
    """RobustBench's conditions, by which a defence may be judged by an attack at all."""
    exact = trait.gradient == "exact"
    words = "its own" if exact else "none of its own: the attack takes that of the identity (BPDA)"
    draws: Any = "none" if not trait.is_random else f"yes: the attack averages {trait.eot} (EOT)"
    return (
        (f"{CONDITION}has a gradient", exact, words),
        (f"{CONDITION}is deterministic", not trait.is_random, f"random draws: {draws}"),
        (f"{CONDITION}does not optimise in steps", not trait.is_iterative, "in steps" if trait.is_iterative else "one"),
    )
