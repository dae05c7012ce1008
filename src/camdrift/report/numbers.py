"""Numbers as text: sensible digits, intervals, bounds; an undefined value is a dash."""

import re
from math import floor, isfinite
from typing import Any, Final

import numpy as np

from camdrift.statistics.estimates import wilson_interval
from camdrift.tables.words import CENSORED_ABOVE, CENSORED_BELOW, pixels

UNDEFINED: Final = "\u2013"
_BOUNDS: Final = {CENSORED_ABOVE: ">\u00a0", CENSORED_BELOW: "<\u00a0"}
_LONGEST_LIST: Final = 12


def times(value: float | None, bound: str | None = None) -> str:
    """A gain with two digits, or more if it is above 100, with the sign of a bound if it is one.

    Example:
        >>> times(31.4), times(8.26), times(0.613), times(128.0, "above").replace("\u00a0", " ")
        ('31', '8.3', '0.61', '> 128')
    """
    if value is None:
        return UNDEFINED
    sign = _BOUNDS.get(bound or "", "")
    if value >= 9.95:
        return f"{sign}{value:,.0f}"
    return f"{sign}{value:.1f}" if value >= 0.995 else f"{sign}{value:.2g}"


def times_between(row: dict[str, Any], gain: str = "gain") -> str:
    """The interval of a gain from a row of table `layers`, `[24, 40]`; empty if there is none.

    Args:
        row: The row.
        gain: Name of its column.
    """
    if row[f"{gain}_low"] is None or row[f"{gain}_high"] is None:
        return ""
    low = times(row[f"{gain}_low"], row[f"{gain}_low_censored"])
    high = times(row[f"{gain}_high"], row[f"{gain}_high_censored"])
    return f"[{low}, {high}]"


def percent(share: float | None) -> str:
    """A share in percent; only all is 100 %, only none is 0 %.

    Example:
        >>> [percent(p).replace("\u00a0", " ") for p in (0.784, 0.9991, 1.0, 0.004)]
        ['78 %', '99.9 %', '100 %', '0.4 %']
    """
    if share is None:
        return UNDEFINED
    value = 100 * share
    if 0 < value < 0.95 or 99.05 < value < 100:
        value = min(max(value, 0.1), 99.9)
        return f"{value:.1f}\u00a0%"
    return f"{value:.0f}\u00a0%"


def fraction(value: float | None, digits: int = 3) -> str:
    """A number between -1 and 1; a number below 1 never reads as 1.

    Example:
        >>> fraction(0.91234), fraction(0.99997), fraction(1.0), fraction(-0.0312), fraction(-0.0001)
        ('0.912', '> 0.999', '1.000', '-0.031', '0.000')
    """
    if value is None:
        return UNDEFINED
    if value < 1 and round(value, digits) >= 1:
        return f"> {1 - 10**-digits:.{digits}f}"
    # Adding 0 turns -0 into 0.
    return f"{round(value, digits) + 0:.{digits}f}"


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval, `[0.87, 1.00]`; empty if there is none.

    Ends are rounded outwards, so that the text holds the whole interval.

    Example:
        >>> between(0.876, 0.991), between(None, 1.0)
        ('[0.87, 1.00]', '')
    """
    if low is None or high is None:
        return ""
    scale = 10**digits
    # 1e-9 keeps an end that has no more digits than these where it is.
    ends = floor(low * scale + 1e-9) / scale, -floor(-high * scale + 1e-9) / scale
    return f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def p_text(p: float) -> str:
    """A p-value: two digits, small ones as a bound.

    Example:
        >>> p_text(0.0319), p_text(0.5), p_text(1.0), p_text(0.00002)
        ('0.032', '0.50', '1.00', '< 0.001')
    """
    if p < 0.001:
        return "< 0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def spec_text(spec: str) -> str:
    """A spec with its long numbers in short.

    Example:
        >>> spec_text("pgd(eps=0.03137254901960784, steps=10)")
        'pgd(eps=8/255, steps=10)'
    """
    return re.sub(r"\d+\.\d{5,}(?![\de])", lambda match: pixels(float(match.group())), spec)


def duration(seconds: float) -> str:
    """A time span.

    Example:
        >>> duration(0.0312), duration(12.34), duration(412.3), duration(7384)
        ('0.031 s', '12.3 s', '6 min 52 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share."""
    interval = wilson_interval(np.array(hits), np.array(n))
    return float(interval.low), float(interval.high)


def share_of(hits: int, n: int) -> str:
    """A share with its interval in words, `78 %, 95 % interval 55 to 91 %`."""
    low, high = (percent(end).removesuffix("\u00a0%") for end in wilson(hits, n))
    return f"{percent(hits / n)}, 95\u00a0% interval {low} to {high}\u00a0%"


def percent_between(low: float | None, high: float | None) -> str:
    """The interval of a share in percent, `[55, 91]`; empty if there is none."""
    if low is None or high is None:
        return ""
    return f"[{percent(low)}, {percent(high)}]".replace("\u00a0%", "")


def value_text(value: Any) -> str:
    """A value of the run record as text: lists joined, long ones cut, missing values a dash."""
    if value is None or value == "" or value == [] or value == {}:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if isfinite(value) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        rest = f", … ({len(value)} in all)" if len(value) > _LONGEST_LIST else ""
        return ", ".join(value_text(item) for item in value[: 3 if rest else None]) + rest
    return str(value)


def measured(value: float | None, measure: str = "") -> str:
    """A number of table `claims` or `controls`: three significant digits; ranks are whole.

    Args:
        value: The number.
        measure: Its name in the table; that of a rank begins with the word.

    Example:
        >>> measured(0.26522), measured(0.0), measured(1234.5), measured(4.0, "rank by mean deviation")
        ('0.265', '0', '1,234', '4')
    """
    if value is None:
        return UNDEFINED
    if measure.startswith("rank ") or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def measured_between(low: float | None, high: float | None, measure: str = "") -> str:
    """The interval of such a number, `[0.244, 0.297]`; empty if there is none."""
    return "" if low is None or high is None else f"[{measured(low, measure)}, {measured(high, measure)}]"
