"""The story of a study in a newcomer's words: one sentence, how sure it is, and which layer it is about."""

from typing import Final, NamedTuple

from camdrift.figures.scope import Scope, part_of
from camdrift.report import single, threat, verdicts
from camdrift.report.numbers import times
from camdrift.statistics.flips import flips_of
from camdrift.statistics.headline import Certainty, moves_further
from camdrift.statistics.ranks import LEAST_IMAGES
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record
from camdrift.tables.table import Row
from camdrift.tables.words import CENSORED_ABOVE, NOISE, count, strength_text

_SHARES: Final = {0.25: "a quarter of its strength", 0.5: "half its strength", 1.0: "its full strength"}
_ASSURANCES: Final = {
    Certainty.CLEAR: "Clear",
    Certainty.LIKELY: "Likely",
    Certainty.UNCERTAIN: "Uncertain",
    Certainty.UNKNOWN: "Cannot be told",
    Certainty.TOO_FEW: "Too few images",
    Certainty.ONLY: "Nothing to compare with",
    Certainty.NOTHING: "Nothing measured",
}


class Assurance(NamedTuple):
    """How sure the first layer is.

    Attributes:
        word: One word or a few.
        reason: The reason, in one sentence without its full stop.
        layer: The layer's name and place; empty if nothing was measured.
    """

    word: str
    reason: str
    layer: str


def study_headline(tables: Tables, record: Record, scope: Scope) -> str:
    """The study's main result as a sentence without its full stop."""
    if verdicts.is_reproduction(tables):
        return verdicts.reproduction_headline(tables, record, scope.labels)
    if single.is_single(tables):
        return single.single_image_headline(tables, record, scope)
    if not scope.readable:
        return "No image could be attacked"
    title = threat.attack_title(record)
    if not scope.analysed:
        return f"{title} fools the network on none of {count(scope.readable, 'image')}"
    success = f"{title} fools the network on {scope.analysed:,} of {count(scope.readable, 'image')}"
    return f"{success}{_at_strength(scope)}; {_layers_moved(scope)}"


def assurance(tables: Tables, scope: Scope) -> Assurance | None:
    """How sure the place of the first layer is; None where there is no such question."""
    headline = scope.headline
    if not scope.analysed or verdicts.is_reproduction(tables):
        return None
    if scope.analysed == 1:
        return Assurance("One image", "it shows where its own maps went, not what the attack does in general", "")
    layer = layer_place(scope, headline.tops[0]) if headline.tops else ""
    return Assurance(_ASSURANCES[headline.certainty], _reason(scope), layer)


def contrast(tables: Tables, scope: Scope) -> str:
    """What noise of the same size does at the headline's strength, in a sentence; empty if nothing is known of it."""
    rows = flips_of(tables).filter(condition=NOISE, strength=scope.reference, draw=0).to_dicts()
    if not rows or scope.analysed < 2:
        return ""
    changes, n = rows[0]["flipped"], rows[0]["n"]
    share = f"none of these {n:,}" if not changes else f"{changes:,} of these {n:,}"
    return f"Random noise of the same size fools the network on {share}."


def noise_times(tables: Tables, scope: Scope) -> str:
    """The headline's strength of noise, as in `54 times`; empty if it has none."""
    if verdicts.is_reproduction(tables) or single.is_single(tables) or not _is_in_noise(scope):
        return ""
    return f"{times(scope.headline.tops[0]['gain'])} times"


def caution(tables: Tables, scope: Scope) -> str:
    """What the headline's times are of, in a sentence; empty if it has none."""
    number = noise_times(tables, scope)
    return f"\u201c{number}\u201d compares how far maps move, not how often the network is fooled." if number else ""


def layer_place(scope: Scope, row: Row) -> str:
    """A layer's name and place in the network: `block5_conv3, layer 13 of 13, its last block`."""
    place = scope.layers.index(str(row["layer"]))
    return f"{row['layer_label']}, layer {place + 1} of {len(scope.layers)}, {part_of(scope.labels, place)}"


def strength_words(strength: float) -> str:
    """A strength for a reader: half its strength, 2 times its strength.

    Example:
        >>> strength_words(0.5), strength_words(2.0)
        ('half its strength', '2 times its strength')
    """
    return _SHARES.get(strength, f"{strength_text(strength)} times its strength")


def _at_strength(scope: Scope) -> str:
    """The strength of the headline, if it is not that of the attack, and how many images it fools there."""
    headline = scope.headline
    if not headline.is_fooling:
        return f", but on only {headline.fooling:,} at {strength_words(headline.strength)}"
    if headline.strength == 1:
        return ""
    still = "still " if headline.strength < 1 else ""
    return f", at {strength_words(headline.strength)} {still}on {headline.fooling:,}"


def _layers_moved(scope: Scope) -> str:
    """What the attack moves there, as the end of the sentence."""
    headline = scope.headline
    there = "" if headline.strength == 1 else "there "
    if headline.certainty == Certainty.NOTHING:
        return "no layer could be measured"
    if headline.certainty == Certainty.TOO_FEW:
        return "too few images to say which layer's map it moves most"
    top = headline.tops[0]
    if headline.certainty == Certainty.UNKNOWN:
        if not _is_in_noise(scope):
            return f"which of its {headline.n_ranked} layers' maps is {there}moved most cannot be told"
        # What these layers share is known: the bound.
        maps = f"the maps of {count(len(headline.tops), 'layer')}"
        return f"{there}{maps} are moved {distance(top)}, and which most cannot be told"
    if not _is_in_noise(scope):
        return f"{there}no layer's map is moved further than by noise of the same size"
    others = len(headline.tops) - 1
    part = single.layer_part(scope, top)
    if others:
        return f"{there}the maps of {part} and {count(others, 'other layer')} are moved {distance(top)}"
    return f"{there}the map of {part} is moved {distance(top)}"


def _is_in_noise(scope: Scope) -> bool:
    """Does the headline tell how far maps move in strengths of noise?"""
    headline = scope.headline
    if headline.certainty in (Certainty.NOTHING, Certainty.TOO_FEW):
        return False
    top = headline.tops[0]
    if headline.certainty == Certainty.UNKNOWN:
        return top["gain_censored"] == CENSORED_ABOVE and len(headline.tops) > 1
    return moves_further(top)


def distance(row: Row) -> str:
    """How far the attack moves a layer's map, in strengths of noise."""
    if row["gain_censored"] == CENSORED_ABOVE:
        return f"further than by noise {times(row['gain'])} times as strong, the strongest tried"
    return f"as far as by noise {times(row['gain'])} times as strong"


def _reason(scope: Scope) -> str:
    """The rank interval of the first layer in words, or why there is none."""
    headline = scope.headline
    if headline.certainty == Certainty.NOTHING:
        return "every map is undefined, or moves no further than rounding does"
    if headline.certainty == Certainty.TOO_FEW:
        return f"it takes {LEAST_IMAGES} images to rank layers; shown is the layer whose map moved most in these"
    if headline.certainty == Certainty.ONLY:
        return "no other layer was measured on enough images"
    top = headline.tops[0]
    if top["rank_low"] is None:
        return "its place has no interval"
    if headline.certainty == Certainty.UNKNOWN:
        return f"with other images any of the {headline.n_ranked} layers could come first"
    if top["rank_low"] == top["rank_high"]:
        return f"with other images it would nearly always come first of {headline.n_ranked} layers"
    rest = "" if headline.n_ranked == len(scope.layers) else " that could be ranked"
    most = f"among the {top['rank_high']} moved most, of {headline.n_ranked} layers{rest}"
    return f"with other images it would nearly always be {most}"
