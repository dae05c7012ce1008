"""Whether coverage is meaningful, in sentences: the verdict of each row of the table `meaning` that has one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from camdrift.report.numbers import percent
from camdrift.tables.meaning import (
    FAILURES_QUESTION,
    GUIDANCE_QUESTION,
    IMPARTIALITY_QUESTION,
    LAYERS_QUESTION,
    MIXED,
    NATURALNESS_QUESTION,
    PUSH_QUESTION,
    QUESTION_WORDS,
    REWARD_QUESTION,
    WITHIN,
)
from camdrift.tables.table import Row

_LEVEL: Final = 0.05
_RATE: Final = "spearman, failure rate"
_Row = Mapping[str, Any]


def with_verdicts(rows: Sequence[Row]) -> list[Row]:
    """The rows of the table `meaning`, with a sentence for those that have one of their own."""
    return [{**row, "verdict": _verdict(row, rows)} for row in rows]


def _verdict(row: _Row, rows: Sequence[_Row]) -> str | None:
    """The sentence of a row; None where another row speaks for it."""
    tell = {
        FAILURES_QUESTION: _of_failures,
        GUIDANCE_QUESTION: _of_guidance,
        REWARD_QUESTION: _of_reward,
        PUSH_QUESTION: _of_push,
        NATURALNESS_QUESTION: _of_naturalness,
        IMPARTIALITY_QUESTION: _of_impartiality,
        LAYERS_QUESTION: _of_layers,
    }
    return tell[row["question"]](row, rows)


def criterion_words(criterion: str) -> str:
    """A criterion as papers call it.

    Example:
        >>> criterion_words("kmnc(k=100)")
        'KMNC(k=100)'
    """
    name, bracket, settings = criterion.partition("(")
    return f"{name.upper()}{bracket}{settings}"


def _name(row: _Row) -> str:
    return criterion_words(row["criterion"] or "")


def _percent(share: float) -> str:
    return percent(share).replace("\u00a0", " ")


def _between(row: _Row, low: str = "low", high: str = "high", digits: str = ".2f") -> str:
    return "" if row[low] is None else f" [{row[low]:{digits}}, {row[high]:{digits}}]"


def _is_beyond(row: _Row, zero: float = 0.0) -> tuple[bool, bool]:
    """Does the interval leave out `zero`, and is p below its level?"""
    is_outside = row["low"] is not None and not row["low"] <= zero <= row["high"]
    return is_outside, row["p_holm"] is not None and row["p_holm"] < _LEVEL


def _of_failures(row: _Row, rows: Sequence[_Row]) -> str | None:
    if row["measure"] != _RATE:
        return None
    if row["estimate"] is None:
        return f"{_name(row)}: {row['setting']} undefined: {row['undefined_reason']}"
    start = f"{_name(row)}: {row['setting']} {row['estimate']:.2f}{_between(row)}"
    if row["setting"] == MIXED:
        null = _between(row, "null_low", "null_high")
        return f"{start}, and{null} where failures are permuted within strata: that much is made by size and strength"
    is_outside, is_significant = _is_beyond(row)
    more = "more" if row["estimate"] > 0 else "less"
    if is_outside and is_significant:
        return f"{start}: on this study, suites that cover more fail {more} often, beyond size and strength"
    if is_outside or is_significant:
        doubt = "not beyond chance among images" if is_outside else "not beyond chance among seeds"
        return f"{start}: on this study, suites that cover more fail {more} often, but {doubt}"
    return f"{start}: on this study, coverage says nothing about failures that size and strength do not"


def _of_guidance(row: _Row, rows: Sequence[_Row]) -> str:
    if row["estimate"] is None:
        return f"{row['setting']}: {row['undefined_reason']}"
    is_outside, is_significant = _is_beyond(row, 0.5)
    start = f"{row['setting']}: finds more in {_percent(row['estimate'])} of pairs of trials{_shares(row)}"
    verdict = "beyond chance" if is_outside and is_significant else "not beyond chance"
    return f"{start}, {verdict} (p {row['p_holm']:.2g})"


def _shares(row: _Row) -> str:
    return "" if row["low"] is None else f" [{_percent(row['low'])}, {_percent(row['high'])}]"


def _of_reward(row: _Row, rows: Sequence[_Row]) -> str | None:
    if row["setting"] != "clean":
        return None
    others = [
        each
        for each in rows
        if (each["question"], each["criterion"]) == (REWARD_QUESTION, row["criterion"]) and each["setting"] != "clean"
    ]
    most = max(others, key=lambda each: each["estimate"] or 0.0, default=None)
    start = f"{_name(row)}: a natural image adds {_amount(row)} to the others"
    if most is None:
        return start
    return f"{start}; of changed images {most['setting']} adds most, {_amount(most)}"


def _amount(row: _Row) -> str:
    digits = ",.0f" if row["estimate"] >= 10 else ".2g"
    return f"{row['estimate']:{digits}}{_between(row, digits=digits)}"


def _of_push(row: _Row, rows: Sequence[_Row]) -> str | None:
    """On the row of a criterion at the largest weight."""
    own = [each for each in rows if each["question"] == PUSH_QUESTION]
    weights = [float(each["setting"].partition("=")[2]) for each in own]
    if row["measure"] != "coverage" or float(row["setting"].partition("=")[2]) != max(weights):
        return None
    (success,) = (each for each in own if each["measure"] == "success" and each["setting"] == row["setting"])
    more = _against(row, "coverage")
    falls = _against(success, "success")
    return (
        f"{_name(row)}: pushed to more neurons, {more} ({row['estimate']:.4g}, without {row['null_low']:.4g} to "
        f"{row['null_high']:.4g}), and {falls} ({_percent(success['estimate'])}, without "
        f"{_percent(success['null_low'])} to {_percent(success['null_high'])})"
    )


def _against(row: _Row, what: str) -> str:
    if row["estimate"] > row["null_high"]:
        return f"{what} rises"
    return f"{what} falls" if row["estimate"] < row["null_low"] else f"{what} stays within its repeats"


def _of_naturalness(row: _Row, rows: Sequence[_Row]) -> str | None:
    if row["measure"] != "ssim" or row["estimate"] is None:
        return None
    parts = [f"SSIM {row['estimate']:.3f}{_between(row, digits='.3f')}"]
    key = (row["question"], row["setting"])
    same = {each["measure"]: each for each in rows if (each["question"], each["setting"]) == key}
    if (length := same.get("l2")) is not None:
        parts.append(f"L2 {length['estimate']:.3g}")
    agreement = same.get("judge agreement")
    if agreement is not None and agreement["estimate"] is not None:
        parts.append(f"the judge sees the seed's class in {_percent(agreement['estimate'])}")
    return f"{row['setting']}: {', '.join(parts)}"


def _of_impartiality(row: _Row, rows: Sequence[_Row]) -> str:
    if row["estimate"] is None:
        return f"{row['setting']}: {row['undefined_reason']}"
    null = _between(row, "null_low", "null_high")
    start = f"{row['setting']}: evenness {row['estimate']:.2f}; clean predictions of as many images have{null}"
    if row["p_holm"] >= _LEVEL:
        return f"{start}: as even as those"
    return f"{start}: {'more' if row['estimate'] > row['null_high'] else 'less'} even than those"


def _of_layers(row: _Row, rows: Sequence[_Row]) -> str | None:
    if row["setting"] != "all layers":
        return None
    if row["estimate"] is None:
        return f"{_name(row)}: {row['undefined_reason']}"
    null = _between(row, "null_low", "null_high")
    start = f"{_name(row)}: correlation {row['estimate']:.2f}, and{null} where onsets are permuted"
    if row["p_holm"] >= _LEVEL:
        return f"{start}: coverage does not rise where failures take hold"
    return f"{start}: coverage {'rises' if row['estimate'] > 0 else 'falls'} where failures take hold"


def meaning_sentences(rows: Sequence[_Row]) -> dict[str, list[str]]:
    """The sentences on each question that has any, by the question in words."""
    by_question = {
        words: [row["verdict"] for row in rows if row["question"] == name and row["verdict"]]
        for name, words in QUESTION_WORDS.items()
    }
    return {words: sentences for words, sentences in by_question.items() if sentences}


def told_first(rows: Sequence[_Row]) -> list[str]:
    """The sentences to tell first: of each criterion what it says of failures within strata."""
    key = (FAILURES_QUESTION, WITHIN)
    return [row["verdict"] for row in rows if (row["question"], row["setting"]) == key and row["verdict"]]
