"""Sets of defects for figures and reports: their order, their names, and the numbers of each."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from camdrift.paper.defects import ALL_DEFECTS, NO_DEFECT, Defects
from camdrift.paper.ladder import rank_agreement
from camdrift.paper.readings import compromised_fraction, read
from camdrift.tables.reading import Tables

# All defects but those of the thresholds: the rule is the paper's, a median per layer, which no released code has.
DESCRIBED: Final = "all, medians"
BUT: Final = "all but "
WORDS: Final = {
    "accumulated": "strengths build on each other",
    "wrong_base": "noise starts from the last attack",
    "truncated": "images cut off to 8 bits",
    "softmax_clean": "clean maps from the softmax",
    "own_class": "each image's own class explained",
    "jet": "colour pictures compared, not maps",
    "pooled_threshold": "one threshold for all layers",
    "noise_for_attack": "noise read as the attack",
    "unequal_credit": "coverage credited unequally",
}
RUNG_MEANINGS: Final = {
    "accumulated": "the adversarial image of one strength is the base of the next: 0.25, 0.5, 1, 2, 4 become "
    "0.25, \u22120.25, \u22120.25, 0.75, 3.75",
    "wrong_base": "noise is added to that base instead of the seed image",
    "truncated": "a perturbation below one grey level becomes 0 or \u22121",
    "softmax_clean": "clean images are explained through the softmax, perturbed ones through the logits",
    "own_class": "a changed class counts as deviation",
    "jet": "similarity is the cosine of jet-coloured pictures",
    "pooled_threshold": "the mean over layers of the noisy means; a layer is below it, or not",
    "noise_for_attack": "at every strength but the lowest",
    "unequal_credit": "noisy images always count, adversarial ones only if they change the prediction",
}
EQUATIONS: Final = "the equations"
RELEASED: Final = "the released code: all nine"


def has_ladder(tables: Tables) -> bool:
    """Is this a reproduction with an adversarial example?"""
    return "ladder" in tables and tables["ladder"].height > 0


def rung_rows(tables: Tables) -> pl.DataFrame:
    """Table `ladder`, with the released code's images under the paper's own rule for thresholds as a last set.

    Args:
        tables: Tables of a reproduction: ladder, and emulation for the last set.
    """
    ladder = tables["ladder"]
    if "emulation" not in tables or tables["emulation"].is_empty():
        return ladder
    fractions = compromised_fraction(read(tables["emulation"], Defects.all())).ravel()
    last = ladder.filter(pl.col("defects") == ALL_DEFECTS).sort("strength", "layer_index")
    by_medians = last.with_columns(
        defects=pl.lit(DESCRIBED), compromised_fraction=pl.Series(fractions, nan_to_null=True)
    )
    return pl.concat([ladder, by_medians])


def rung_numbers(tables: Tables) -> pl.DataFrame:
    """Numbers of `paper.ladder.rank_agreement` for every set of `rung_rows`, one row each."""
    return rank_agreement(rung_rows(tables))


def sets(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The sets in display order, in groups: title (empty for those that the next are held against) and names.

    Args:
        names: Names of the sets in table `ladder`.
    """
    groups = [
        ("", [NO_DEFECT]),
        ("with one defect alone", list(Defects.names())),
        ("", [ALL_DEFECTS, DESCRIBED]),
        ("with all defects but one", [f"{BUT}{name}" for name in Defects.names()]),
    ]
    present = [(title, [name for name in group if name in names]) for title, group in groups]
    return [(title, group) for title, group in present if group]


def words_of(name: str) -> str:
    """A set of defects in plain words.

    Example:
        >>> words_of("jet"), words_of("all but jet")
        ('colour pictures compared, not maps', 'all but: colour pictures compared, not maps')
    """
    words = {NO_DEFECT: EQUATIONS, ALL_DEFECTS: RELEASED, DESCRIBED: "the same, a median threshold per layer"}
    if name.startswith(BUT):
        return f"all but: {WORDS.get(name.removeprefix(BUT), name)}"
    return words.get(name) or WORDS.get(name, name)
