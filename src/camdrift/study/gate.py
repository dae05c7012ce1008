"""A gate for whoever must decide before shipping: the numbers of a study against limits.

A limit compares the estimate, as gates of test coverage do; a strict one compares the worse end of the 95 % interval,
so that no lucky draw of images passes. What the study cannot tell is neither passed nor failed: a gain of "> 32"
exceeds 20 whatever it is, and may or may not exceed 40.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, get_args
from xml.etree import ElementTree as Xml

import numpy as np
import polars as pl

from camdrift.errors import UserError, escaped
from camdrift.report.numbers import times, times_between
from camdrift.statistics.estimates import wilson_interval
from camdrift.statistics.flips import flips_of_readable
from camdrift.statistics.ranks import LEAST_IMAGES
from camdrift.storage.disk import write_asked
from camdrift.study.study import Study, open_study
from camdrift.tables.run_json import effective
from camdrift.tables.words import (
    ADVERSARIAL,
    ANALYSED,
    CENSORED_ABOVE,
    CENSORED_BELOW,
    CLEAN,
    NO_ADVERSARIAL,
    TARGET_ORDER,
    count,
    strength_text,
)

# The worst first.
State = Literal["failed", "cannot be told", "passed"]
STATES: Final[tuple[State, ...]] = get_args(State)
_FAILED, _UNTOLD, _PASSED = STATES

_SHARE: Final = ("share", "low", "high")
# Rule and cure of a share, and of a gain.
_RULES: Final = (("from 0 to 1", "0.1 is 10 %"), ("from 0 up", "20 allows what noise twenty times as strong does"))
_ACCURACY: Final = ("accuracy", "accuracy_low", "accuracy_high")

Limits = float | Mapping[float, float] | None


@dataclass(frozen=True)
class Verdict:
    """A number of a study against its limit.

    Attributes:
        criterion: max_flips, max_gain or min_accuracy.
        strength: Strength of the attack.
        limit: The limit.
        state: passed, failed, or cannot be told.
        value: The estimate; None where there is none.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        bound: `above` where the value is a lower bound.
        n: Images behind it.
        text: All of that in words.
    """

    criterion: str
    strength: float
    limit: float
    state: State
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: str | None = None
    n: int = 0
    text: str = ""


@dataclass(frozen=True)
class Gate:
    """The verdicts on a study.

    Attributes:
        place: The run directory's path or URL.
        is_strict: Do limits compare the worse end of the interval?
        verdicts: One for each limit.
    """

    place: Path | str
    is_strict: bool
    verdicts: tuple[Verdict, ...] = field(default_factory=tuple)

    @property
    def state(self) -> State:
        """The worst state of all verdicts."""
        return next(state for state in STATES if any(verdict.state == state for verdict in self.verdicts))

    def lines(self) -> list[str]:
        """Return all of it, a line each."""
        return [*(f"{each.state}: {each.text}" for each in self.verdicts), f"{self.place}: {self.state}"]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        verdicts = [vars(verdict) for verdict in self.verdicts]
        return {"run": str(self.place), "state": self.state, "strict": self.is_strict, "verdicts": verdicts}

    def write_junit(self, path: str | PathLike[str]) -> None:
        """Write a JUnit file: a case for each limit, `failure` where it is exceeded, `error` where nobody can tell.

        Raises:
            StoreError: It cannot be written.
        """
        tags = {_FAILED: "failure", _UNTOLD: "error"}
        failures, errors = (str(sum(verdict.state == state for verdict in self.verdicts)) for state in tags)
        suite = Xml.Element(
            "testsuite", name="camdrift check", tests=str(len(self.verdicts)), failures=failures, errors=errors
        )
        for verdict in self.verdicts:
            name = f"{verdict.criterion} at strength {strength_text(verdict.strength)}"
            case = Xml.SubElement(suite, "testcase", classname=escaped(str(self.place)), name=name)
            if verdict.state in tags:
                Xml.SubElement(case, tags[verdict.state], message=escaped(verdict.text))
        text = Xml.tostring(suite, encoding="utf-8", xml_declaration=True)
        write_asked(Path(path), text + b"\n")


def check(
    run: Study | str | PathLike[str],
    *,
    max_flips: Limits = None,
    max_gain: Limits = None,
    min_accuracy: Limits = None,
    is_strict: bool = False,
) -> Gate:
    """Hold a finished study against limits.

    A limit is a number, for strength 1, or a mapping of strengths to numbers: `{0.5: 0.1, 1: 0.3}`.

    Args:
        run: The study, or its run directory.
        max_flips: Largest share, in [0, 1], of attacked images whose prediction the attack changes.
        max_gain: Largest noise-equivalent gain of any layer, for the target `seed` if the study has it. Layers without
            a gain, and those of fewer than `LEAST_IMAGES`, do not count.
        min_accuracy: Least accuracy under attack, in [0, 1], of images with a known class.
        is_strict: Compare the end of the 95 % interval that is worse, and not the estimate.

    Raises:
        UserError: No limit, one that is no number in its range, or a strength that the study does not have.
        StoreError: There is no run, or one that is not complete.

    Example:
        >>> camdrift.check("runs/vgg16", max_flips={1: 0.1}, max_gain=20).state  # doctest: +SKIP
        'failed'
    """
    study = run if isinstance(run, Study) else open_study(run)
    strengths = effective(study.record)["strengths"]
    verdicts: list[Verdict] = []
    for name, limits, judge in (
        ("max_flips", max_flips, _flips),
        ("max_gain", max_gain, _gain),
        ("min_accuracy", min_accuracy, _accuracy),
    ):
        for strength, limit in _by_strength(name, limits, strengths).items():
            verdicts.append(judge(study, strength, limit, is_strict))
    if not verdicts:
        raise UserError("`check` must have a limit, got: none", "--max-flips 0.1@1 allows one image in ten")
    return Gate(study.place, is_strict, tuple(verdicts))


def _by_strength(name: str, limits: Limits, strengths: list[float]) -> dict[float, float]:
    """Limits by strength, checked."""
    if limits is None:
        return {}
    by_strength = dict(limits) if isinstance(limits, Mapping) else {1.0: limits}
    for strength, limit in by_strength.items():
        most = sys.float_info.max if name == "max_gain" else 1.0
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= most:
            words, cure = _RULES[name == "max_gain"]
            raise UserError(f"`{name}` must be a number {words}, got: {limit}", cure)
        if strength not in strengths:
            names = ", ".join(map(strength_text, sorted(strengths))) or "none"
            raise UserError(
                f"`{name}` must be at a strength of the study, got: {strength} (it has {names})",
                "a limit names its strength behind an @: 0.1@0.5",
            )
    return by_strength


def _flips(study: Study, strength: float, limit: float, is_strict: bool) -> Verdict:
    """The share of predictions that the attack changes, against the most that may be."""
    row, untried = _row(study, strength), _untried(study, strength)
    if row is None:
        return Verdict("max_flips", strength, limit, _UNTOLD, text="no image was attacked")
    least, n = row["flipped"], row["n"]
    state = _state(*(_share(k, n, 1 if is_strict else None) > limit for k in (least, least + untried.height)))
    text = (
        f"at strength {strength_text(strength)} the attack changes {least:,} of "
        f"{count(n, 'prediction')}: {_between(row, *_SHARE)}; at most {limit:g} may be{_rest(study, untried)}"
    )
    value, low, high = (row[name] for name in _SHARE)
    return Verdict("max_flips", strength, limit, state, value, low, high, n=n, text=text)


def _accuracy(study: Study, strength: float, limit: float, is_strict: bool) -> Verdict:
    """The accuracy under attack, against the least that must be."""
    row, untried = _row(study, strength), _untried(study, strength)
    n = study.seeds.filter(pl.col("status").is_in([ANALYSED, NO_ADVERSARIAL]))["label"].count()
    if row is None or not n:
        return Verdict("min_accuracy", strength, limit, _UNTOLD, text="no attacked image has a known class")
    most = round(row["accuracy"] * n)
    least = most - untried.filter(pl.col("label") == pl.col("clean_class")).height
    state = _state(*(_share(k, n, 0 if is_strict else None) < limit for k in (most, least)))
    text = (
        f"at strength {strength_text(strength)} the accuracy under attack is {_between(row, *_ACCURACY)}, of "
        f"{count(n, 'image')}; at least {limit:g} must be{_rest(study, untried)}"
    )
    value, low, high = (row[name] for name in _ACCURACY)
    return Verdict("min_accuracy", strength, limit, state, value, low, high, n=n, text=text)


def _row(study: Study, strength: float) -> dict[str, Any] | None:
    """The row of table `flips` over all attacked images; None where there are none."""
    table = flips_of_readable(study.variants, study.seeds)
    rows = table.filter(condition=ADVERSARIAL, strength=strength).to_dicts()
    # An attack that fools nobody leaves no variants: the predictions are those of the clean images.
    return next(iter(rows or table.filter(condition=CLEAN).to_dicts()), None)


def _untried(study: Study, strength: float) -> pl.DataFrame:
    """The seeds that the attack did not fool, and that nobody tried to at this strength."""
    return study.seeds.filter(pl.col("status") == NO_ADVERSARIAL, pl.lit(strength > 1))


def _share(successes: int, trials: int, end: int | None) -> float:
    """A share, or an end of its 95 % interval: 0 for the lower, 1 for the upper."""
    if end is None:
        return successes / trials
    return float(wilson_interval(np.array(successes), np.array(trials))[end])


def _state(is_beyond_at_best: bool, is_beyond_at_worst: bool) -> State:
    """The state of a number of which the best and the worst case are known."""
    return _FAILED if is_beyond_at_best else _UNTOLD if is_beyond_at_worst else _PASSED


def _rest(study: Study, untried: pl.DataFrame) -> str:
    """What a verdict could not look at, for the end of its sentence."""
    missing = study.seeds.filter(~pl.col("status").is_in([ANALYSED, NO_ADVERSARIAL])).height
    text = f"; {untried.height:,} were never tried beyond strength 1" if untried.height else ""
    return text + (f"; {missing:,} unreadable or failed are left out" if missing else "")


def _gain(study: Study, strength: float, limit: float, is_strict: bool) -> Verdict:
    """The gain of the layer that exceeds the limit most surely, or else of the one that comes closest."""
    name = "gain_high" if is_strict else "gain"
    states = [(_gain_state(row, name, limit), row) for row in _gains(study, strength)]
    if not states:
        text = f"no layer has a gain at strength {strength_text(strength)} from {LEAST_IMAGES} images or more"
        return Verdict("max_gain", strength, limit, _UNTOLD, text=text)
    state, row = min(states, key=lambda pair: (STATES.index(pair[0]), -(pair[1][name] or 0)))
    text = (
        f"at strength {strength_text(strength)} the gain of {row['layer_label']} is "
        f"{times(row['gain'], row['gain_censored'])} {times_between(row)}, of {count(row['n'], 'image')}; "
        f"at most {limit:g} may be"
    )
    low, high, bound, n = (row[column] for column in ("gain_low", "gain_high", "gain_censored", "n"))
    return Verdict("max_gain", strength, limit, state, row["gain"], low, high, bound, n, text)


def _gains(study: Study, strength: float) -> list[dict[str, Any]]:
    """The layers that have a gain at a strength from enough images: rows of table `layers`."""
    arguments = effective(study.record)
    target = next(target for target in TARGET_ORDER if target in arguments["targets"])
    explanation, metric = arguments["measures"][0]
    rows = study.layers.filter(strength=strength, target=target, explanation=explanation, metric=metric)
    return rows.filter(pl.col("gain").is_finite(), pl.col("n") >= LEAST_IMAGES).to_dicts()


def _gain_state(row: Mapping[str, Any], name: str, limit: float) -> State:
    """The state of a gain, or of the upper end of its interval; either may be a bound."""
    value, bound = row[name], row[f"{name}_censored"]
    if value is None:
        return _UNTOLD
    if bound == CENSORED_ABOVE:
        return _FAILED if value >= limit else _UNTOLD
    if bound == CENSORED_BELOW:
        return _PASSED if value <= limit else _UNTOLD
    return _FAILED if value > limit else _PASSED


def _between(row: Mapping[str, Any], *names: str) -> str:
    value, low, high = (row[name] for name in names)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
