"""The findings in words: sentences whose every number comes from the tables."""

from collections.abc import Sequence
from math import floor, log2
from typing import Final

import numpy as np
import polars as pl

from camdrift.figures.scope import Scope, few_seeds, span
from camdrift.report import single, threat, verdicts
from camdrift.report.lime import lime_sentence
from camdrift.report.numbers import UNDEFINED, percent, percent_between, share_of, times, times_between
from camdrift.report.perturbations import perturbation_sentences
from camdrift.statistics.flips import flips_of, flips_of_readable
from camdrift.statistics.headline import Certainty, Headline
from camdrift.statistics.ranks import LEAST_IMAGES
from camdrift.statistics.rounding import rounding
from camdrift.tables.further import PRECISION
from camdrift.tables.reading import Tables, scan
from camdrift.tables.run_json import Record, effective
from camdrift.tables.table import Row
from camdrift.tables.words import (
    ADVERSARIAL,
    ANALYSED,
    CENSORED_ABOVE,
    CENSORED_BELOW,
    CLEAN,
    NOISE,
    ROUNDING,
    count,
    strength_text,
)

# Layers that a sentence names.
_MOST_NAMES: Final = 4
# Level of the corrected test.
_LEVEL: Final = 0.05

_EXPLAINING = {
    "seed": "",
    "own": ", explaining each image's own class,",
    "label": ", explaining the true class,",
}


def study_sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    """The findings in full sentences; those that the study cannot support are left out."""
    first = verdicts.verdict_sentences(tables, record, scope.labels) if verdicts.is_reproduction(tables) else []
    last = [*perturbation_sentences(tables, scope), lime_sentence(tables, record), precision(tables, record, scope)]
    return first + _sentences(tables, record, scope) + [sentence for sentence in last if sentence]


def _sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    if single.is_single(tables):
        return single.single_image_sentences(tables, record, scope)
    sentences = [
        success(tables, record, scope),
        threat.bound(tables, record, scope),
        *([] if scope.analysed == 1 else _statistics(tables, scope)),
    ]
    return [sentence for sentence in sentences if sentence]


def _statistics(tables: Tables, scope: Scope) -> list[str]:
    """The sentences that take more than one adversarial example."""
    return [
        flips_sentence(tables, scope),
        accuracy_sentence(tables, scope),
        gains(tables, scope),
        differences_sentence(tables, scope),
        compromised_sentence(tables, scope),
    ]


def success(tables: Tables, record: Record, scope: Scope) -> str:
    """The success of the attack, and of its images rounded to 8 bits."""
    if not scope.readable:
        return ""
    share = f"{scope.analysed:,} of {count(scope.readable, 'image')} ({share_of(scope.analysed, scope.readable)})"
    text = f"The attack ({threat.attack_name(record)}) {threat.change(tables)} for {share}."
    survives = tables["seeds"].filter(pl.col("status") == ANALYSED)["survives_uint8"].drop_nulls()
    if len(survives):
        n = int(survives.sum())
        text += f" {n:,} of {len(survives):,} still {'fools' if n == 1 else 'fool'} the network when rounded to 8 bits."
    if 2 * scope.analysed < scope.readable and (advice := (record.get("attack") or {}).get("advice")):
        text += f" That is fewer than half: {advice}."
    return text


def flips_sentence(tables: Tables, scope: Scope) -> str:
    """How many images attack and noise fool at the strength of everything that follows."""
    table, headline = flips_of(tables), scope.headline
    at = f"At {_strength(headline.strength)}"
    attack = _share(table, ADVERSARIAL, headline.strength)
    if not attack:
        return ""
    text = f"{at} {attack} of the adversarial examples still fool the network"
    text = text if headline.strength < 1 else text.replace("still ", "")
    if not headline.is_fooling:
        text += ", fewer than half: no strength that was studied fools more, and what follows rests on this one"
    noise = _share(table, NOISE, headline.strength)
    # Draws of one seed are not independent: the first one stands for them.
    draw = f" in the first of {scope.draws} draws" if scope.draws > 1 else ""
    return f"{text}; noise of the same size changes the prediction for {noise}{draw}." if noise else f"{text}."


def accuracy_sentence(tables: Tables, scope: Scope) -> str:
    """The accuracy of the network on the readable images with a label, clean and under the attack; empty without."""
    rows = flips_of_readable(tables["variants"], tables["seeds"]).filter(pl.col("accuracy").is_not_null())
    clean = rows.filter(condition=CLEAN).to_dicts()
    attack = rows.filter(condition=ADVERSARIAL, strength=1.0).to_dicts()
    if not clean or not attack:
        return ""
    clean_share, attack_share = (
        f"{percent(row['accuracy'])} {percent_between(row['accuracy_low'], row['accuracy_high'])}"
        for row in (clean[0], attack[0])
    )
    return f"Accuracy over all readable images: {clean_share} clean, {attack_share} under the attack at strength 1."


def _share(table: pl.DataFrame, condition: str, strength: float) -> str:
    """A row of table `flips` in words; empty if there is none."""
    rows = table.filter(condition=condition, strength=strength, draw=0).to_dicts()
    if not rows or not rows[0]["n"]:
        return ""
    row = rows[0]
    return f"{row['flipped']:,} of {row['n']:,} ({percent(row['share'])} {percent_between(row['low'], row['high'])})"


def gains(tables: Tables, scope: Scope) -> str:
    """The layers of highest and lowest gain at the headline's strength, with intervals and n."""
    headline = scope.headline
    without_gain = _shortened(_rounding_layers(tables, scope, headline.strength))
    at = f"At {_strength(headline.strength)}"
    if headline.certainty == Certainty.NOTHING:
        words = f"{at} no layer has a gain: rounding alone moves maps as far ({without_gain})."
        return words if without_gain else ""
    if headline.certainty == Certainty.TOO_FEW:
        n = max(_n_pairs(tables, scope), default=0)
        return f"{at} no layer has a rank: it takes {LEAST_IMAGES} images with maps, and there are {n} at most."
    top, bottom = headline.tops, _last(headline)
    text = f"{at} the attack{_EXPLAINING.get(headline.target, '')} moves {_maps_of(top)} {_as_far_as(top[0])}"
    if bottom:
        text += f"; {_maps_of(bottom)} only {_times_as_strong(bottom[0])}"
    notes = [f"n = {span([row['n_pairs'] or 0 for row in (*top, *bottom)])}"]
    if headline.certainty == Certainty.UNKNOWN:
        notes.append(f"which of {count(headline.n_ranked, 'layer')} comes first cannot be told: {_ranks(top[0])}")
    elif top[0]["rank_low"] is not None and headline.n_ranked > 1:
        notes.append(f"{top[0]['layer_label']} ranks {_ranks(top[0])} of {count(headline.n_ranked, 'layer')}")
    if rest := _without_rank(tables, scope):
        notes.append(f"{count(rest, 'layer')} measured on too few images to be ranked")
    if without_gain:
        notes.append(f"no gain where rounding alone moves maps as far: {without_gain}")
    return f"{text} ({'; '.join(notes)})."


def differences_sentence(tables: Tables, scope: Scope) -> str:
    """Number of layers in which the attack lowers similarity more than noise does, by the corrected test.

    The least p of the signed-rank test of n images is 2^(1 - n). A layer whose least p exceeds 5 % when corrected could
    not have been counted, whatever its images.
    """
    rows = _at(tables, scope, scope.reference).filter(pl.col("wilcoxon_p_holm").is_not_null())
    if rows.is_empty():
        return ""
    tests, least = rows.height, 1 + log2(rows.height / _LEVEL)
    lower = rows.filter(pl.col("wilcoxon_p_holm") < _LEVEL, pl.col("difference_mean") > 0).height
    able = rows.filter(pl.col("n_pairs") > least).height
    test = f"Wilcoxon signed-rank test, Holm-corrected p < {_LEVEL}; n = {span(rows['n_pairs'].to_list())}"
    if not able and not lower:
        return (
            f"Too few images to test whether similarity is lower under the attack than under noise: with "
            f"{count(tests, 'layer')} it takes {floor(least) + 1} images ({test})."
        )
    some = f", of which {able} have images enough to be told" if able < tests else ""
    return (
        f"At {_strength(scope.reference)} similarity is lower under the attack than under noise of the same "
        f"size in {lower} of {count(tests, 'layer')}{some} ({test})."
    )


def compromised_sentence(tables: Tables, scope: Scope) -> str:
    """Median number of layers that an adversarial example compromises, and the reason why that says little."""
    at = (pl.col("target") == scope.targets[0]) & (pl.col("strength") == scope.reference) & (pl.col("n_seeds") > 0)
    rows = tables["counts"].filter(at).sort("n_compromised")
    total = int(rows["n_seeds"].sum())
    if not total:
        return ""
    layers = len(scope.layers)
    spread = np.repeat(rows["n_compromised"].to_numpy(), rows["n_seeds"].to_numpy())
    everything = int((spread == layers).sum())
    return (
        f"At {_strength(scope.reference)} the median adversarial example compromises {np.median(spread):g} of "
        f"{count(layers, 'layer')}; {everything:,} of {total:,} compromise all of them. Read this with care: "
        "the threshold is the median under noise, so it compromises about half of all noisy images by "
        "construction, and under an effective attack it saturates. The gain does neither."
        f" {few_seeds(tables, scope)}".rstrip()
    )


def precision(tables: Tables, record: Record, scope: Scope) -> str:
    """Change of the similarities by the network's precision, over the images that were computed in float32, too."""
    if PRECISION.name not in tables or tables[PRECISION.name].is_empty():
        return ""
    cost = rounding(scan(tables, "similarity"), tables[PRECISION.name], tables["variants"])
    if cost.mean_change is None:
        return ""
    text = (
        f"In {effective(record)['precision']} the similarities of {count(cost.n_seeds, 'image')}, computed again in "
        f"float32, differ by {cost.mean_change:.2g} on average and {cost.largest_change:.2g} at most (n = {cost.n:,}"
        + (f"; {cost.n_lone:,} are defined in one precision only)" if cost.n_lone else ")")
    )
    ranks = cost.ranks.filter(pl.col("kendall_tau").is_not_null(), target=scope.targets[0], strength=scope.reference)
    if ranks.is_empty():
        return f"{text}."
    row = ranks.row(0, named=True)
    return (
        f"{text}; at {_strength(scope.reference)} no layer's rank by gain changes by more than "
        f"{count(row['largest_move'], 'place')} (Kendall's tau {row['kendall_tau']:.2f})."
    )


def reading_of(scope: Scope) -> str:
    """The images that the study rests on, in one sentence."""
    names = {
        "no_adversarial": "withstood the attack",
        "unreadable": "could not be read",
        "failed": "failed",
    }
    rest = [f"{scope.statuses[status]:,} {words}" for status, words in names.items() if scope.statuses.get(status)]
    tail = f"; {', '.join(rest)}" if rest else ""
    return f"{count(scope.total, 'image')}: {scope.analysed:,} fooled, and analysed{tail}."


def _strength(strength: float) -> str:
    return f"strength {strength_text(strength)}"


def _at(tables: Tables, scope: Scope, strength: float) -> pl.DataFrame:
    return tables["layers"].filter(pl.col("target") == scope.headline.target, pl.col("strength") == strength)


def _n_pairs(tables: Tables, scope: Scope) -> list[int]:
    """Number of images behind the gain of every layer that has one."""
    at = _at(tables, scope, scope.reference).filter(pl.col("gain").is_not_null())
    return at["n_pairs"].fill_null(0).to_list()


def _without_rank(tables: Tables, scope: Scope) -> int:
    """Number of layers that have a gain and no rank."""
    at = _at(tables, scope, scope.reference)
    return at.filter(pl.col("gain").is_not_null(), pl.col("rank").is_null()).height


def _last(headline: Headline) -> list[Row]:
    """The layers that share the lowest rank; none if all share one."""
    return [row for row in headline.rest if row["rank"] == headline.rest[-1]["rank"]]


def _rounding_layers(tables: Tables, scope: Scope, strength: float) -> list[str]:
    """Names of the layers that have no gain because their deviation does not exceed that of rounding."""
    rows = _at(tables, scope, strength).filter(pl.col("gain_undefined_reason") == ROUNDING)
    return rows.sort("layer_index")["layer_label"].to_list()


def _shortened(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {count(more, 'other layer')}" if more > 0 else "")


def _maps_of(rows: Sequence[Row]) -> str:
    first = str(rows[0]["layer_label"])
    return f"the map of {first}" if len(rows) == 1 else f"the maps of {first} and {count(len(rows) - 1, 'other layer')}"


def _as_far_as(row: Row) -> str:
    if row["gain_censored"] == CENSORED_ABOVE:
        return f"further than noise {times(row['gain'])} times as strong, the strongest that was tried"
    if row["gain_censored"] == CENSORED_BELOW:
        return f"less far than noise {times(row['gain'])} times as strong, the weakest that was tried"
    return f"as far as noise {_times_as_strong(row)} as strong"


def _times_as_strong(row: Row) -> str:
    bounds = f" {times_between(row)}" if times_between(row) else ""
    return f"{times(row['gain'], row['gain_censored'])}{bounds} times"


def _ranks(row: Row) -> str:
    """A layer's rank and its interval: `1 [1, 4]`, or `1 [1]` for an interval of one."""
    low, high = (UNDEFINED if row[end] is None else str(row[end]) for end in ("rank_low", "rank_high"))
    return f"{row['rank']} [{low}]" if low == high else f"{row['rank']} [{low}, {high}]"
