"""The paper's claims in words: table `claims` in families, counted, and as sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import polars as pl

from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, measured, measured_between
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row
from camdrift.tables.words import ARTEFACT, FAILS, HOLDS, UNDECIDED

RULE: Final = (
    "A claim holds if the whole 95 % interval of its number by the equations lies within its bounds; it is an artefact "
    "if no part of the interval does but the number of the released code does; it fails if neither does; otherwise it "
    "is undecided. Where something only has to exist, one example decides and there is no interval."
)
MARKS: Final = {HOLDS: "\u25cf", ARTEFACT: "\u25c6", FAILS: "\u2715", UNDECIDED: "\u25cb"}
# Verdict on all: one layer that fails a claim about every layer is enough.
_GRAVEST: Final = (FAILS, ARTEFACT, UNDECIDED, HOLDS)
_COUNTED: Final = {
    HOLDS: ("holds", "hold"),
    ARTEFACT: ("is an artefact", "are artefacts"),
    FAILS: ("fails", "fail"),
    UNDECIDED: ("is undecided", "are undecided"),
}


@dataclass(frozen=True)
class Claim:
    """One claim; numbers are text.

    Attributes:
        subject: Its strength or layer; empty for a claim on one number.
        paper: The paper's word for it.
        released: The number from the emulated released code.
        corrected: The number from the equations.
        interval: Its 95 % interval; empty if there is none.
        n: Seed images behind it.
        verdict: holds, artefact, fails, undecided.
    """

    subject: str
    paper: str
    released: str
    corrected: str
    interval: str
    n: int
    verdict: str


@dataclass(frozen=True)
class Family:
    """Claims of the same words, measured in the same way.

    Attributes:
        claim: The paper's words.
        measure: The number that decides it.
        bounds: The values of that number for which the claim holds.
        rows: One entry per strength or layer.
        is_folded: Is there one entry for every layer of the network?
    """

    claim: str
    measure: str
    bounds: str
    rows: list[Claim]
    is_folded: bool

    @property
    def verdict(self) -> str:
        """The gravest of its verdicts: a claim about every layer holds if it holds in each."""
        return min((row.verdict for row in self.rows), key=_GRAVEST.index)

    @property
    def summary(self) -> str:
        """`in each of 13 layers: 12 hold, 1 is undecided`."""
        return f"in each of {len(self.rows)} layers: {counted(row.verdict for row in self.rows)}"

    @property
    def verdicts(self) -> list[str]:
        """Its verdicts for the count: one per entry, or one for all layers."""
        return [self.verdict] if self.is_folded else [row.verdict for row in self.rows]


def verdicts_section(material: Material) -> dict[str, Any]:
    """Values of template `verdicts`; no claims for a study that is no reproduction."""
    has_claims = is_reproduction(material.tables)
    claims = families(material.tables["claims"], material.scope.labels) if has_claims else []
    return {"claims": claims, "rule": RULE, "marks": MARKS}


def is_reproduction(tables: Tables) -> bool:
    """Has the study a table of claims with anything in it?"""
    return "claims" in tables and tables["claims"].height > 0


def families(claims: pl.DataFrame, labels: Sequence[str]) -> list[Family]:
    """The claims in the order of the table, those of the same words and measure together.

    Args:
        claims: Table `claims`.
        labels: Display names of all layers, in execution order.
    """
    groups = []
    for (claim, measure), group in groupby(claims.to_dicts(), key=lambda row: (row["claim"], row["measure"])):
        rows = list(group)
        is_folded = [row["subject"] for row in rows] == list(labels)
        groups.append(Family(claim, measure, _bounds(rows[0]), [_claim(row) for row in rows], is_folded))
    return groups


def counted(verdicts: Iterable[str]) -> str:
    """The number of each verdict, in words.

    Example:
        >>> counted(["holds", "holds", "fails"])
        '2 hold, 1 fails'
    """
    counts = Counter(verdicts)
    return ", ".join(f"{counts[v]} {_COUNTED[v][counts[v] > 1]}" for v in _COUNTED if counts[v])


def reproduction_headline(tables: Tables, labels: Sequence[str]) -> str:
    """The number of each verdict on the paper's claims, as a sentence without its full stop."""
    verdicts = _verdicts(tables, labels)
    return f"Of {len(verdicts)} measured claims of the paper {_listed(counted(verdicts))}"


def verdict_sentences(tables: Tables, labels: Sequence[str]) -> list[str]:
    """The number of each verdict, and every artefact with its numbers, in sentences."""
    code = "An artefact is in the numbers of the paper's released code, emulated, and not in those of its equations."
    first = f"{reproduction_headline(tables, labels)} (one about every layer counts once). {code}"
    return [first, *(_artefact(row) for row in tables["claims"].to_dicts() if row["verdict"] == ARTEFACT)]


def cells(claims: pl.DataFrame, labels: Sequence[str]) -> list[tuple[str, ...]]:
    """The claims as lines of a table, those about every layer as one: verdict, claim, and the columns of `HEADS`."""
    lines: list[tuple[str, ...]] = []
    for family in families(claims, labels):
        if family.is_folded:
            code, equations = (_span(claims, family, name) for name in ("as_released", "corrected"))
            line = (family.verdict, f"{family.claim}, {family.summary}", family.rows[0].paper, code, equations)
            lines.append((*line, str(family.rows[0].n), family.measure))
            continue
        for row in family.rows:
            name = f"{family.claim}, {row.subject}" if row.subject else family.claim
            equations = f"{row.corrected} {row.interval}".strip()
            lines.append((row.verdict, name, row.paper, row.released, equations, str(row.n), family.measure))
    return lines


HEADS: Final = ("verdict", "claim", "paper", "released code", "equations", "n", "measured as")


def _verdicts(tables: Tables, labels: Sequence[str]) -> list[str]:
    return [verdict for family in families(tables["claims"], labels) for verdict in family.verdicts]


def _listed(words: str) -> str:
    """`1 holds, 2 fail` as `1 holds and 2 fail`."""
    head, comma, tail = words.rpartition(", ")
    return f"{head} and {tail}" if comma else tail


def _artefact(row: Row) -> str:
    claim = _claim(row)
    about = f" ({claim.subject})" if claim.subject else ""
    equations = f"{claim.corrected} {claim.interval}".strip()
    return (
        f"Artefact: {row['claim'][:1].lower()}{row['claim'][1:]}{about}. The released code gives {claim.released}, the "
        f"equations {equations} ({row['measure']}; n = {claim.n})."
    )


def _claim(row: Row) -> Claim:
    return Claim(
        subject=row["subject"] or "",
        paper=row["paper"] or UNDEFINED,
        released=measured(row["as_released"], row["measure"]),
        corrected=measured(row["corrected"], row["measure"]),
        interval=measured_between(row["corrected_low"], row["corrected_high"], row["measure"]),
        n=row["n"] or 0,
        verdict=row["verdict"],
    )


def _bounds(row: Row) -> str:
    """The values for which a claim holds: `from 0.3 to 0.5`, `from 0 on`, `above 0`."""
    low, high = row["holds_from"], row["holds_to"]
    if low is not None and 0 < low < 1e-6:
        return "above 0"
    if low is None:
        return "everywhere" if high is None else f"up to {measured(high)}"
    return f"from {measured(low)} {'on' if high is None else f'to {measured(high)}'}"


def _span(claims: pl.DataFrame, family: Family, column: str) -> str:
    """The range of a number over the layers, `0.028 to 0.135`."""
    at = (pl.col("claim") == family.claim) & (pl.col("measure") == family.measure)
    values = claims.filter(at)[column].drop_nulls().to_numpy()
    return f"{measured(values.min())} to {measured(values.max())}" if values.size else UNDEFINED
