"""Coverage criteria by name: `nc`, `kmnc(k=1000)`, ... . A criterion is added as a row of `CRITERIA`, and in words."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from math import isfinite
from typing import Any, Final

import numpy as np

from camdrift.coverage.base import CoverageReading as CoverageReading
from camdrift.coverage.base import CoverageState as CoverageState
from camdrift.coverage.base import Criterion as Criterion
from camdrift.coverage.base import NeuronBatch as NeuronBatch
from camdrift.coverage.base import NeuronLayout as NeuronLayout
from camdrift.coverage.base import neuron_layout
from camdrift.coverage.base import observe_batch as observe_batch
from camdrift.coverage.bitmaps import SlotRule, SlotState, corner_slots, neuron_slots, section_slots
from camdrift.coverage.clusters import ClusterState, median_nearest_squared
from camdrift.coverage.neurons import THRESHOLD
from camdrift.coverage.nlc import GuidedSpread, SuiteSpread, spread_of
from camdrift.coverage.patterns import PatternState, strongest
from camdrift.coverage.profile import LOGIT_FEATURES, Profile
from camdrift.coverage.surprise import Reference, Surprise, SurpriseState
from camdrift.errors import UserError
from camdrift.layers.layers import SOFTMAX
from camdrift.models.classifier import Classifier
from camdrift.specs import nearest, parse_spec, write_spec
from camdrift.tables.criteria import ALL

_PROFILE_HINT: Final = "--profile FOLDER, or profile= in Python, names a folder of ordinary images"
Start = Callable[[], CoverageState]


class MissingProfileError(UserError):
    """A criterion that measures against a profile, without one."""


@dataclass(frozen=True)
class Background:
    """What a criterion is made for.

    Attributes:
        layout: Neurons of the model.
        profile: Their statistics over ordinary images, where there are any.
    """

    layout: NeuronLayout
    profile: Profile | None = None

    def need_profile(self, criterion: str) -> Profile:
        """The profile.

        Raises:
            MissingProfileError: There is none.
            UserError: It is that of another model.
        """
        if self.profile is None:
            raise MissingProfileError(
                f"`{criterion}` needs a profile: what neurons do on ordinary images", _PROFILE_HINT
            )
        if self.profile.neurons != self.layout.total:
            raise UserError(
                f"the profile must be of this model, got: {self.profile.neurons:,} neurons for {self.layout.total:,}",
                "make it anew with this model",
            )
        return self.profile

    def need_features(self, criterion: str, layer: str) -> tuple[Profile, Any]:
        """The profile, and its features of a layer (images, neurons) in float64; raises as `need_profile`."""
        profile = self.need_profile(criterion)
        if layer not in profile.features:
            raise UserError(
                f"`{criterion}` needs a profile with features of {layer}, got: {', '.join(profile.features) or 'none'}",
                "make it anew for this criterion",
            )
        return profile, profile.features[layer].astype(np.float64)


def _nc(background: Background, *, threshold: float = THRESHOLD) -> Start:
    _check(0 <= threshold < 1, "nc", "threshold", threshold, "from 0 to below 1")
    return _slots(neuron_slots(background.layout.total, lambda batch: batch.above(threshold)), background.layout)


def _kmnc(background: Background, *, k: int = 1000) -> Start:
    _check_count("kmnc", "k", k)
    return _slots(section_slots(background.need_profile("kmnc"), k), background.layout)


def _nbc(background: Background, *, sigma: float = 0.0, reachable: bool = False, as_released: bool = False) -> Start:
    _check(sigma >= 0, "nbc", "sigma", sigma, "0 or more")
    profile = background.need_profile("nbc")
    rule = corner_slots(profile, sigma=sigma, is_lower=True, is_reachable=reachable, is_released=as_released)
    return _slots(rule, background.layout)


def _snac(background: Background, *, sigma: float = 0.0) -> Start:
    _check(sigma >= 0, "snac", "sigma", sigma, "0 or more")
    return _slots(corner_slots(background.need_profile("snac"), sigma=sigma, is_lower=False), background.layout)


def _tknc(background: Background, *, k: int = 1) -> Start:
    _check_count("tknc", "k", k)
    layout = background.layout
    return _slots(neuron_slots(layout.total, lambda batch: strongest(batch.raw, layout, k)), layout)


def _tknp(background: Background, *, k: int = 1) -> Start:
    _check_count("tknp", "k", k)
    return lambda: PatternState(background.layout, k)


def _nlc(background: Background, *, guided: bool = False, standardised: bool = False, widest: int = 0) -> Start:
    _check(widest >= 0, "nlc", "widest", widest, "0 or more")
    profile = background.need_profile("nlc(standardised=True)") if standardised else None
    spread = spread_of(background.layout, profile, widest)
    return lambda: GuidedSpread(spread) if guided else SuiteSpread(spread)


def _cc(background: Background, *, threshold: float = 0.0, layer: str = LOGIT_FEATURES) -> Start:
    _check(threshold >= 0, "cc", "threshold", threshold, "0, for one from the profile, or more: a squared distance")
    columns = None if layer == LOGIT_FEATURES else background.layout.slices[_layer("cc", background.layout, layer)]
    return lambda: ClusterState(threshold, columns)


def _with_threshold(background: Background, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of cluster coverage with a threshold: the median distance of the profile's images to their nearest."""
    if settings.get("threshold"):
        return settings
    _, rows = background.need_features("cc", settings.get("layer", LOGIT_FEATURES))
    return {**settings, "threshold": float(f"{median_nearest_squared(rows):.6g}")}


def _surprise(name: str, background: Background, *, layer: str = "") -> Start:
    surprise = _surprise_of(name, name, background, layer)
    return lambda: SurpriseState(surprise)


def _surprise_sections(name: str, measure: str, background: Background, *, k: int = 1000, layer: str = "") -> Start:
    _check_count(name, "k", k)
    return _slots(_surprise_of(name, measure, background, layer).sections(k), None)


def _surprise_of(name: str, measure: str, background: Background, layer: str) -> Surprise:
    place = feature_layer(name, background.layout, layer)
    profile, rows = background.need_features(name, place)
    return Surprise(measure, place, background.layout, Reference(rows, profile.classes))


@dataclass(frozen=True)
class CriterionRow:
    """A criterion that camdrift knows; `tables/criteria.py` has the words for it.

    Attributes:
        make: Takes a `Background` and the criterion's settings, whose defaults its signature holds.
        needs_profile: Does it measure against a profile, with its defaults?
        is_order_free: Does the order of images change nothing?
        is_guide: Does it give every image a gain?
        has_features: Does it compare features of a layer with those of the profile?
        is_of_scaled: Does it read scaled outputs?
    """

    make: Callable[..., Start]
    needs_profile: bool = False
    is_order_free: bool = True
    is_guide: bool = True
    has_features: bool = False
    is_of_scaled: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """Its settings with their defaults."""
        parameters = signature(self.make).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def _of_surprise(measure: str, sections: str) -> dict[str, CriterionRow]:
    """The rows of a measure of surprise and of its coverage."""
    is_surprise = {"needs_profile": True, "has_features": True}
    return {
        measure: CriterionRow(partial(_surprise, measure), is_guide=False, **is_surprise),
        sections: CriterionRow(partial(_surprise_sections, sections, measure), **is_surprise),
    }


CRITERIA: Final[Mapping[str, CriterionRow]] = {
    "nc": CriterionRow(_nc, is_of_scaled=True),
    "kmnc": CriterionRow(_kmnc, needs_profile=True),
    "nbc": CriterionRow(_nbc, needs_profile=True),
    "snac": CriterionRow(_snac, needs_profile=True),
    "tknc": CriterionRow(_tknc),
    "tknp": CriterionRow(_tknp),
    "nlc": CriterionRow(_nlc, is_guide=False),
    "cc": CriterionRow(_cc, needs_profile=True, is_order_free=False, has_features=True),
    **_of_surprise("lsa", "lsc"),
    **_of_surprise("dsa", "dsc"),
    **_of_surprise("mdsa", "mdsc"),
}


def make_criterion(spec: str, classifier: Classifier, profile: Profile | None = None) -> Criterion:
    """The criterion that a spec names, for a model.

    Args:
        spec: One of `CRITERIA`, with settings if wanted: `kmnc(k=100)`.
        classifier: The model.
        profile: What its neurons do on ordinary images.

    Raises:
        UserError: An unknown criterion or setting, a value that it cannot have, or a profile is missing.
    """
    return criterion_of(spec, Background(neuron_layout(classifier), profile))


def criterion_of(spec: str, background: Background) -> Criterion:
    """The criterion that a spec names, for neurons and a profile; `make_criterion` says more."""
    name, settings = _parts(spec)
    row = CRITERIA[name]
    if name == "cc":
        settings = _with_threshold(background, settings)
    start = row.make(background, **settings)
    full = {**row.defaults, **settings}
    # What is off says nothing.
    words = {key: value for key, value in full.items() if value}
    is_guided = bool(full.get("guided"))
    return Criterion(
        write_spec(name, words),
        start,
        needs_profile(spec),
        row.is_order_free and not is_guided,
        row.is_guide or is_guided,
        row.is_of_scaled,
    )


def needs_profile(spec: str) -> bool:
    """Does the criterion of a spec measure against a profile?"""
    name, settings = _parts(spec)
    is_spared = name == "cc" and settings.get("threshold", 0.0) > 0
    return (CRITERIA[name].needs_profile or bool(settings.get("standardised"))) and not is_spared


def features_for(specs: Iterable[str], layout: NeuronLayout) -> tuple[str, ...]:
    """Layers, or `logits`, whose features a profile must hold for some criteria."""
    layers = []
    for spec in specs:
        name, settings = _parts(spec)
        if CRITERIA[name].has_features and needs_profile(spec):
            default = LOGIT_FEATURES if name == "cc" else ""
            layers.append(feature_layer(name, layout, settings.get("layer", default)))
    return tuple(dict.fromkeys(layers))


def feature_layer(criterion: str, layout: NeuronLayout, layer: str) -> str:
    """The layer of features that a setting names; where it is empty the last one, behind which the logits are.

    Raises:
        UserError: There is no such layer.
    """
    if layer:
        return layer if layer == LOGIT_FEATURES else _layer(criterion, layout, layer)
    return [name for name in layout.layers if name != SOFTMAX][-1]


def _parts(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of a spec, both of which the table knows."""
    parts = parse_spec(spec, option="criteria")
    if parts.name not in CRITERIA:
        message = f"`criteria` must be of {', '.join([*CRITERIA, ALL])}, got: {spec}"
        raise UserError(message, nearest(parts.name, CRITERIA) + "docs/coverage.md says what each counts")
    defaults = CRITERIA[parts.name].defaults
    for key, value in parts.settings.items():
        if key not in defaults:
            names = ", ".join(f"{name}={default!r}" for name, default in defaults.items())
            raise UserError(f"criterion `{parts.name}` has no setting `{key}`", f"it has {names}")
        _check_type(parts.name, key, value, defaults[key])
    return parts.name, {key: type(defaults[key])(value) for key, value in parts.settings.items()}


def _check_type(criterion: str, key: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default's."""
    kind = type(default)
    kinds = (int, float) if kind is float else (kind,)
    is_right = isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)
    is_finite = not isinstance(value, float) or isfinite(value)
    word = {float: "a number", int: "a whole number", str: "a name in quotes", bool: "True or False"}[kind]
    _check(is_right and is_finite, criterion, key, value, word)


def _check(is_right: bool, criterion: str, key: str, value: Any, rule: str) -> None:
    if not is_right:
        raise UserError(f"`{key}` of criterion `{criterion}` must be {rule}, got: {value!r}")


def _check_count(criterion: str, key: str, value: int) -> None:
    _check(value >= 1, criterion, key, value, "1 or more")


def _layer(criterion: str, layout: NeuronLayout, layer: str) -> str:
    if layer not in layout.slices:
        names = f"{LOGIT_FEATURES}, {', '.join(layout.layers[:3])}, ..."
        raise UserError(
            f"`layer` of criterion `{criterion}` must be a layer with neurons, got: {layer}",
            f"{nearest(layer, layout.layers)}there are {names}",
        )
    return layer


def _slots(rule: SlotRule, layout: NeuronLayout | None) -> Start:
    return lambda: SlotState(rule, layout)
