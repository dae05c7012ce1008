"""The findings in words: sentences whose every number comes from the tables."""

from typing import Final

import numpy as np
import polars as pl

from camdrift.figures.scope import Scope, few_seeds, span
from camdrift.report import single, threat, verdicts
from camdrift.report.numbers import percent, share_of, times, times_between
from camdrift.statistics.rounding import rounding
from camdrift.tables.further import PRECISION
from camdrift.tables.reading import Tables, scan
from camdrift.tables.run_json import Record, effective
from camdrift.tables.table import Row
from camdrift.tables.words import ANALYSED, CENSORED_ABOVE, CENSORED_BELOW, NOISE, ROUNDING, count, strength_text

# Layers that a sentence names.
_MOST_NAMES: Final = 4

_EXPLAINING = {
    "seed": "",
    "own": ", explaining each image's own class,",
    "label": ", explaining the true class,",
}


def study_headline(tables: Tables, record: Record, scope: Scope) -> str:
    """The study's main result as a sentence without its full stop."""
    if verdicts.is_reproduction(tables):
        return verdicts.reproduction_headline(tables, record, scope.labels)
    if single.is_single(tables):
        return single.single_image_headline(tables, record, scope)
    top, _ = _extremes(_well_measured(_ranked(tables, scope, _lowest(scope))))
    if not top:
        return "No adversarial example was found" if not scope.analysed else "No layer could be measured"
    return f"At {_strength(_lowest(scope))} the attack moves {_named(top)} {_as_far_as(top[0])}"


def study_sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    """The findings in full sentences; those that the study cannot support are left out."""
    first = verdicts.verdict_sentences(tables, record, scope.labels) if verdicts.is_reproduction(tables) else []
    last = precision(tables, record, scope)
    return first + _sentences(tables, record, scope) + ([last] if last else [])


def _sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    if single.is_single(tables):
        return single.single_image_sentences(tables, record, scope)
    strengths = dict.fromkeys([_lowest(scope), scope.reference])
    sentences = [
        success(tables, record, scope),
        threat.bound(tables, record, scope),
        *(gains(tables, scope, strength) for strength in strengths),
        differences_sentence(tables, scope),
        flips(tables, scope),
        compromised_sentence(tables, scope),
    ]
    return [sentence for sentence in sentences if sentence]


def success(tables: Tables, record: Record, scope: Scope) -> str:
    """The success of the attack, and of its images rounded to 8 bits."""
    if not scope.readable:
        return ""
    share = f"{scope.analysed:,} of {count(scope.readable, 'image')} ({share_of(scope.analysed, scope.readable)})"
    text = f"The attack ({threat.attack_name(record)}) {threat.change(tables)} for {share}."
    survives = tables["seeds"].filter(pl.col("status") == ANALYSED)["survives_uint8"].drop_nulls()
    if len(survives):
        text += f" {int(survives.sum()):,} of {len(survives):,} still fool the model when rounded to 8 bits."
    if 2 * scope.analysed < scope.readable and (advice := (record.get("attack") or {}).get("advice")):
        text += f" That is fewer than half: {advice}."
    return text


def gains(tables: Tables, scope: Scope, strength: float) -> str:
    """The layers of highest and lowest gain at one strength, with intervals and n."""
    layers = _ranked(tables, scope, strength)
    rows = _well_measured(layers)
    top, bottom = _extremes(rows)
    without_gain = _shortened(_rounding_layers(tables, scope, strength))
    if not top:
        words = f"At {_strength(strength)} no layer has a gain: rounding alone moves maps as far ({without_gain})."
        return words if without_gain else ""
    attack = f"At {_strength(strength)} the attack{_EXPLAINING.get(scope.targets[0], '')}"
    text = f"{attack} moves {_named(top)} {_as_far_as(top[0], interval=True)}"
    if bottom:
        text += f"; {_named(bottom)} only {_times_as_strong(bottom[0], interval=True)}"
    notes = [f"n = {span([row['n'] for row in (*top, *bottom)])}"]
    if len(top) == 1 and top[0]["rank_low"] is not None:
        notes.append(f"{top[0]['layer_label']} ranks {_ranks(top[0])} of {count(len(layers), 'layer')}")
    if rest := len(layers) - len(rows):
        notes.append(f"not counting {count(rest, 'layer')} whose map is undefined for most images")
    if without_gain:
        notes.append(f"no gain where rounding alone moves maps as far: {without_gain}")
    return f"{text} ({'; '.join(notes)})."


def differences_sentence(tables: Tables, scope: Scope) -> str:
    """Number of layers in which the attack lowers similarity more than noise does, by the corrected test."""
    rows = _at(tables, scope, scope.reference).filter(pl.col("wilcoxon_p_holm").is_not_null())
    if rows.is_empty():
        return ""
    lower = rows.filter(pl.col("wilcoxon_p_holm") < 0.05, pl.col("difference_mean") > 0).height
    return (
        f"At {_strength(scope.reference)} similarity is lower under the attack than under noise of the same "
        f"size in {lower} of {count(rows.height, 'layer')} (Wilcoxon signed-rank test, Holm-corrected "
        f"p < 0.05; n = {span(rows['n_pairs'].to_list())})."
    )


def flips(tables: Tables, scope: Scope) -> str:
    """Share of noisy images whose prediction noise alone changes."""
    at = (pl.col("condition") == NOISE) & (pl.col("strength") == scope.reference)
    is_flipped = tables["variants"].filter(at)["is_flipped"].drop_nulls()
    if not len(is_flipped):
        return ""
    hits, n = int(is_flipped.sum()), len(is_flipped)
    # Draws of one seed are not independent, so there is no interval to give.
    rate = share_of(hits, n) if scope.draws == 1 else f"{percent(hits / n)}, {scope.draws} draws per image"
    share = f"{hits:,} of {count(n, 'noisy image')} ({rate})"
    return f"Noise of the same size at {_strength(scope.reference)} changed the prediction for {share}."


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
    ranks = cost.ranks.filter(pl.col("kendall_tau").is_not_null(), target=scope.targets[0], strength=_lowest(scope))
    if ranks.is_empty():
        return f"{text}."
    row = ranks.row(0, named=True)
    return (
        f"{text}; at {_strength(_lowest(scope))} no layer's rank by gain moves by more than "
        f"{count(row['largest_move'], 'place')} (Kendall's tau {row['kendall_tau']:.2f})."
    )


def reading_of(scope: Scope) -> str:
    """The images that the study rests on, in one sentence."""
    names = {
        "no_adversarial": "kept the model's prediction",
        "unreadable": "could not be read",
        "failed": "failed",
    }
    rest = [f"{scope.statuses[status]:,} {words}" for status, words in names.items() if scope.statuses.get(status)]
    tail = f"; {', '.join(rest)}" if rest else ""
    return f"{count(scope.total, 'image')}: {scope.analysed:,} analysed{tail}."


def _strength(strength: float) -> str:
    return f"strength {strength_text(strength)}"


def _lowest(scope: Scope) -> float:
    return min(scope.strengths, default=scope.reference)


def _at(tables: Tables, scope: Scope, strength: float) -> pl.DataFrame:
    target = scope.targets[0] if scope.targets else None
    return tables["layers"].filter(pl.col("target") == target, pl.col("strength") == strength)


def _ranked(tables: Tables, scope: Scope, strength: float) -> list[Row]:
    rows = _at(tables, scope, strength).filter(pl.col("gain").is_not_null(), pl.col("rank").is_not_null())
    return rows.sort("rank", "layer_index").to_dicts()


def _rounding_layers(tables: Tables, scope: Scope, strength: float) -> list[str]:
    """Names of the layers that have no gain because their deviation does not exceed that of rounding."""
    rows = _at(tables, scope, strength).filter(pl.col("gain_undefined_reason") == ROUNDING)
    return rows.sort("layer_index")["layer_label"].to_list()


def _shortened(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {count(more, 'other layer')}" if more > 0 else "")


def _well_measured(rows: list[Row]) -> list[Row]:
    """The layers measured on at least half as many seeds as the best: a median of two images ranks nothing."""
    most = max((row["n_pairs"] or 0 for row in rows), default=0)
    return [row for row in rows if 2 * (row["n_pairs"] or 0) >= most]


def _extremes(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The layers that share the highest rank, and those that share the lowest; none if all share one rank."""
    if not rows:
        return [], []
    first, last = rows[0]["rank"], rows[-1]["rank"]
    bottom = [row for row in rows if row["rank"] == last] if last != first else []
    return [row for row in rows if row["rank"] == first], bottom


def _named(rows: list[Row]) -> str:
    first = str(rows[0]["layer_label"])
    return first if len(rows) == 1 else f"{first} and {count(len(rows) - 1, 'other layer')}"


def _as_far_as(row: Row, *, interval: bool = False) -> str:
    if row["gain_censored"] == CENSORED_ABOVE:
        return f"further than noise {times(row['gain'])} times as strong, the strongest that was tried"
    if row["gain_censored"] == CENSORED_BELOW:
        return f"less far than noise {times(row['gain'])} times as strong, the weakest that was tried"
    return f"as far as noise {_times_as_strong(row, interval=interval)} as strong"


def _times_as_strong(row: Row, *, interval: bool) -> str:
    bounds = f" {times_between(row)}" if interval and times_between(row) else ""
    return f"{times(row['gain'], row['gain_censored'])}{bounds} times"


def _ranks(row: Row) -> str:
    low, high = row["rank_low"], row["rank_high"]
    ends = f"{low}" if low == high else f"{low} to {high}"
    return f"{row['rank']} [{ends}]".replace(" to ", ", ")
