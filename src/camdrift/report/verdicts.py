"""The paper's claims in words: table `claims` in families, counted, and as sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import polars as pl

from camdrift.paper.claims import SUSCEPTIBLE
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, measured, measured_between
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, model_name
from camdrift.tables.table import Row
from camdrift.tables.words import ANALYSED, ARTEFACT, FAILS, HOLDS, UNDECIDED, count

RULE: Final = (
    "A claim holds if the whole 95 % interval of its number by the equations lies within its bounds; it is an artefact "
    "if no part of the interval does but the number of the released code does; it fails if neither does; otherwise it "
    "is undecided. Where something only has to exist, one example decides and there is no interval; of one image "
    "nothing else is decided."
)
MARKS: Final = {HOLDS: "\u25cf", ARTEFACT: "\u25c6", FAILS: "\u2715", UNDECIDED: "\u25cb"}
# Verdict on all: one layer that fails a claim about every layer is enough.
_GRAVEST: Final = (FAILS, ARTEFACT, UNDECIDED, HOLDS)
_LEADS: Final = {HOLDS: "Holds", ARTEFACT: "Artefact", FAILS: "Fails", UNDECIDED: "Undecided"}
# Fewer adversarial examples than that carry no verdict.
LEAST_EXAMPLES: Final = 20
# The spec of the network of the paper begins so.
PAPER_NETWORK: Final = "keras-vgg16"
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


def reproduction_headline(tables: Tables, record: Record, labels: Sequence[str]) -> str:
    """The number of each verdict on the paper's claims, with what limits them first; without its full stop."""
    verdicts = [_gravest(group) for group in _claims(families(tables["claims"], labels))]
    words = f"of {count(len(verdicts), 'claim')} of the paper that could be measured {_listed(counted(verdicts))}"
    limits = _limits(tables, record, labels)
    return f"Measured {' and '.join(limits)}: {words}" if limits else f"O{words[1:]}"


def verdict_sentences(tables: Tables, record: Record, labels: Sequence[str]) -> list[str]:
    """The number of each verdict, and every claim with its numbers, in sentences."""
    first = reproduction_headline(tables, record, labels)
    rule = "A claim about several strengths, layers or measures holds if it holds in each."
    code = "An artefact is in the numbers of the paper's released code, emulated, and not in those of its equations."
    sentences = claim_sentences(tables["claims"], labels)
    return [f"{first}. {rule} {code}", *(text for verdict in MARKS for text in sentences[verdict])]


def claim_sentences(claims: pl.DataFrame, labels: Sequence[str]) -> dict[str, list[str]]:
    """Every claim with its numbers in a sentence, by its verdict; one for each of its measures.

    Args:
        claims: Table `claims`.
        labels: Display names of all layers, in execution order.
    """
    sentences: dict[str, list[str]] = {verdict: [] for verdict in MARKS}
    keys = ["claim", "measure", "verdict"]
    sizes = {
        (family.claim, family.measure): len(family.rows) for family in families(claims, labels) if family.is_folded
    }
    for (claim, measure, verdict), group in claims.group_by(keys, maintain_order=True):
        rows = group.to_dicts()
        total = sizes.get((str(claim), str(measure)))
        apart = [[row] for row in rows] if str(claim).startswith("It ") else [rows]
        sentences[str(verdict)] += [_sentence(part, total) for part in apart]
    return sentences


def _sentence(rows: Sequence[Row], layers: int | None) -> str:
    """Claims of the same words, measure and verdict as a sentence: verdict, claim, where, numbers.

    Args:
        rows: Rows of table `claims`.
        layers: Number of all layers, if the claim is about each of them.
    """
    first = rows[0]
    subjects = [row["subject"] for row in rows if row["subject"]]
    claim = f"{first['claim'][:1].lower()}{first['claim'][1:]}"
    if first["claim"].startswith("It "):
        claim, where = first["claim"].replace("It", subjects[0], 1), ""
    elif layers is not None:
        where = f", in {'each' if len(rows) == layers else len(rows)} of {count(layers, 'layer')}"
    else:
        where = f", at {_enumerated(subjects)}" if subjects else ""
    equations = _numbers(rows, "corrected")
    if len(rows) == 1:
        interval = measured_between(first["corrected_low"], first["corrected_high"], first["measure"])
        equations = f"{equations} {interval}".strip()
    release = _numbers(rows, "as_released")
    code = "" if release == UNDEFINED else f" and {release} as released"
    measure = f"{first['measure'][:1].upper()}{first['measure'][1:]}"
    numbers = f"{measure}: {equations} by the equations{code}"
    return f"{_LEADS[first['verdict']]}: {claim}{where}. {numbers}; the paper: {first['paper']} (n = {first['n']:,})."


def _numbers(rows: Sequence[Row], column: str) -> str:
    """A number, or the least and the largest of several."""
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        return UNDEFINED
    ends = [measured(value, rows[0]["measure"]) for value in (min(values), max(values))]
    return ends[0] if len(set(ends)) == 1 else f"{ends[0]} to {ends[1]}"


def _enumerated(subjects: Sequence[str]) -> str:
    """`strength 0.5` and `strength 1` as `strengths 0.5 and 1`; other subjects as they are."""
    numbers = [subject.removeprefix("strength ") for subject in subjects]
    if len(subjects) > 1 and numbers != list(subjects):
        return f"strengths {_listed(', '.join(numbers))}"
    return _listed(", ".join(subjects))


def _limits(tables: Tables, record: Record, labels: Sequence[str]) -> list[str]:
    """What limits the verdicts, in words: few images, another network than the paper's."""
    n = tables["seeds"].filter(pl.col("status") == ANALYSED).height
    limits = [f"on {count(n, 'adversarial example')} alone"] if n < LEAST_EXAMPLES else []
    if not set(SUSCEPTIBLE) <= set(labels):
        limits.append("on another network than the paper's VGG-16")
    elif not model_name(record).startswith(PAPER_NETWORK):
        limits.append("with other weights than those of the paper's VGG-16")
    return limits


def _claims(groups: Sequence[Family]) -> list[list[Family]]:
    """Families of the same claim together, whatever they are measured by."""
    by_claim: dict[str, list[Family]] = {}
    for family in groups:
        by_claim.setdefault(family.claim, []).append(family)
    return list(by_claim.values())


def _gravest(groups: Sequence[Family]) -> str:
    return min((family.verdict for family in groups), key=_GRAVEST.index)


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


def _listed(words: str) -> str:
    """`1 holds, 2 fail` as `1 holds and 2 fail`."""
    head, comma, tail = words.rpartition(", ")
    return f"{head} and {tail}" if comma else tail


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
