"""The sides of a comparison: every study by each of its measures, under a name that tells it apart."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import polars as pl

from camdrift.errors import UserError
from camdrift.masking import without_home
from camdrift.specs import parse_spec
from camdrift.study.study import Study
from camdrift.tables.run_json import effective, head_kind, model_spec
from camdrift.tables.study import MEASURE
from camdrift.tables.words import ANALYSED, pixels

_Frame = TypeVar("_Frame", pl.DataFrame, pl.LazyFrame)

# What a name is made of, in this order, as far as it differs.
_PARTS: Final = ("model", "head", "weights", "attack", "surrogate", "explanation", "metric")


@dataclass(frozen=True)
class Side:
    """One study by one measure.

    Attributes:
        name: Its name in tables and figures.
        study: The study.
        words: By part: model, head, weights, attack, surrogate, explanation, metric; the last two None in old tables.
    """

    name: str
    study: Study
    words: Mapping[str, str | None]

    def rows(self, table: _Frame) -> _Frame:
        """Return the rows of this side's measure."""
        return table.filter(pl.col(name).eq_missing(pl.lit(self.words[name])) for name in MEASURE)

    @property
    def seeds(self) -> dict[str, str]:
        """Checksum of every analysed seed by its name."""
        seeds = self.study.seeds.filter(pl.col("status") == ANALYSED)
        return dict(seeds.sort("seed_id").select("seed_id", "sha256").iter_rows())


def sides_of(
    studies: Sequence[Study],
    models: Sequence[str | None] | None = None,
    *,
    explanations: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Side]:
    """Return every study by every measure of it, named.

    Args:
        studies: Finished studies.
        models: Names for their models; None for their specs.
        explanations: Explanations to compare by; None for all.
        metrics: Metrics to compare by; None for all.

    Raises:
        UserError: Fewer than two sides, a run named twice, one in which nothing was analysed, an explanation or metric
            that no run has.
    """
    names = list(models) if models is not None else [None] * len(studies)
    if len(names) != len(studies):
        raise UserError(f"`models` must name one model per run, got: {len(names)} for {len(studies)} runs")
    _check(studies)
    sides = [side for study, model in zip(studies, names, strict=True) for side in _sides_of_one(study, model)]
    sides = _select(sides, {"explanation": explanations, "metric": metrics})
    if len(sides) < 2:
        raise UserError(
            f"`runs` must have two sides or more to compare, got: {len(sides)} in {studies[0].path}",
            "name several runs, or one with several explanations or metrics",
        )
    return _name(sides)


def _select(sides: Sequence[Side], choice: Mapping[str, Sequence[str] | None]) -> list[Side]:
    """The sides with the words of a choice, by part; None for any word."""
    for part, option in (("explanation", "explain"), ("metric", "similarity")):
        names = {str(side.words[part]): None for side in sides}
        for word in choice[part] or ():
            if word not in names:
                raise UserError(f"`{option}` must be in one of the runs, got: {word}", f"in them: {', '.join(names)}")
    return [side for side in sides if all(words is None or side.words[part] in words for part, words in choice.items())]


def _check(studies: Sequence[Study]) -> None:
    if not studies:
        raise UserError("`runs` must be one or more runs, got: none")
    counts = Counter(study.path.resolve() for study in studies)
    twice = [str(study.path) for study in studies if counts[study.path.resolve()] > 1]
    if twice:
        raise UserError(f"`runs` must be different runs, got twice: {twice[0]}")
    for study in studies:
        if study.layers.is_empty():
            raise UserError(
                f"`runs` must have analysed images each, got: none in {study.path}",
                "a stronger attack, more iterations or more images may find an adversarial example",
            )


def _sides_of_one(study: Study, model: str | None) -> list[Side]:
    """One study by every measure of it, without names."""
    record = study.record
    arguments = effective(record)
    words = {
        "model": model or model_spec(record),
        "head": head_kind(record),
        "weights": str((record.get("model") or {}).get("weights_sha256") or ""),
        "attack": str(arguments.get("attack") or "attack"),
        "surrogate": arguments.get("surrogate"),
    }
    measures = study.layers.select(MEASURE).unique(maintain_order=True).iter_rows()
    return [Side("", study, {**words, **dict(zip(MEASURE, measure, strict=True))}) for measure in measures]


def _name(sides: Sequence[Side]) -> list[Side]:
    """Name the sides by the words in which they differ, and by their folders where those are not enough."""
    differing = [part for part in _PARTS if len({side.words[part] for side in sides}) > 1]
    if {"model", "head"} & {*differing} and not _tells_more(sides, ("model", "head"), "weights"):
        differing = [part for part in differing if part != "weights"]
    attacks = attack_words([str(side.words["attack"]) for side in sides])
    models = _model_words([str(side.words["model"]) for side in sides])
    titles = [
        [word for part in differing if (word := _word(side, part, attack, model))]
        for side, attack, model in zip(sides, attacks, models, strict=True)
    ]
    names = [", ".join(words) for words in titles]
    for tail in (lambda side: side.study.path.name, lambda side: without_home(str(side.study.path))):
        if all(names) and len(set(names)) == len(names):
            break
        names = [", ".join(filter(None, (name, tail(side)))) for name, side in zip(names, sides, strict=True)]
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]


def _tells_more(sides: Sequence[Side], parts: Sequence[str], another: str) -> bool:
    """Are there sides that share some words and not another?"""
    words = [tuple(side.words[part] for part in parts) for side in sides]
    return len({(*own, side.words[another]) for own, side in zip(words, sides, strict=True)}) > len({*words})


def _model_words(specs: Sequence[str]) -> list[str]:
    """Names of models without library, ending and factory, where they still tell the models apart."""
    names = [spec.partition(".py:")[0].rpartition("/")[2] for spec in specs]
    return names if len(set(names)) == len(set(specs)) else list(specs)


def _word(side: Side, part: str, attack: str, model: str) -> str:
    if part in ("attack", "model"):
        return attack if part == "attack" else model
    value = side.words[part]
    if part == "weights":
        return str((side.study.record.get("model") or {}).get("weights") or "").rpartition("/")[2]
    if part == "head":
        return str(value or "own head")
    if part == "surrogate":
        return f"from {value}" if value else "white-box"
    return str(value or "")


def attack_words(specs: Sequence[str]) -> list[str]:
    """Return short names of attacks: the name alone, with the settings that differ where several share a name.

    Example:
        >>> attack_words(["pgd(eps=0.03137254901960784, steps=10)", "pgd(eps=0.0157, steps=10)", "dlfuzz(step=1)"])
        ['pgd(eps=8/255)', 'pgd(eps=0.0157)', 'dlfuzz']
    """
    names = [spec.partition("(")[0].strip() for spec in specs]
    words = []
    for spec, name in zip(specs, names, strict=True):
        rivals = {other for other, its in zip(specs, names, strict=True) if its == name}
        words.append(name if len(rivals) == 1 else _distinct(spec, rivals))
    return words


def _distinct(spec: str, rivals: set[str]) -> str:
    """The spec with only the settings in which the rivals differ."""
    try:
        all_settings = [parse_spec(rival).settings for rival in sorted(rivals)]
        own = parse_spec(spec)
    except UserError:
        return spec
    differing = [k for k in own.settings if any(s.get(k) != own.settings[k] for s in all_settings)]
    text = ", ".join(f"{key}={_short(own.settings[key])}" for key in differing)
    return f"{own.name}({text})" if text else own.name


def _short(value: Any) -> str:
    return pixels(value) if isinstance(value, float) else str(value)
