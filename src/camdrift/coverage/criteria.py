"""Coverage criteria by name: `nc`, `kmnc(k=1000)`, ... . A criterion is added as a row of `CRITERIA`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from math import isfinite
from typing import Any, Final

from camdrift.coverage.base import CoverageReading as CoverageReading
from camdrift.coverage.base import CoverageState as CoverageState
from camdrift.coverage.base import Criterion as Criterion
from camdrift.coverage.base import NeuronBatch as NeuronBatch
from camdrift.coverage.base import NeuronLayout as NeuronLayout
from camdrift.coverage.base import neuron_layout
from camdrift.coverage.base import observe_batch as observe_batch
from camdrift.coverage.bitmaps import SlotRule, SlotState, corner_slots, neuron_slots, section_slots
from camdrift.coverage.clusters import ClusterState
from camdrift.coverage.neurons import THRESHOLD
from camdrift.coverage.profile import Profile
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.specs import nearest, parse_spec, write_spec

_LOGITS: Final = "logits"
PROFILE_HINT: Final = "--profile FOLDER, or profile= in Python, measures it on a folder of ordinary images"


@dataclass(frozen=True)
class Background:
    """What a criterion is made for.

    Attributes:
        layout: Neurons of the model.
        profile: Their statistics over ordinary images, where there are any.
    """

    layout: NeuronLayout
    profile: Profile | None

    def need_profile(self, criterion: str) -> Profile:
        """The profile.

        Raises:
            UserError: There is none.
        """
        if self.profile is None:
            raise UserError(f"`{criterion}` needs a profile: what neurons do on ordinary images", PROFILE_HINT)
        return self.profile


def _nc(background: Background, *, threshold: float = THRESHOLD) -> Callable[[], CoverageState]:
    _check(0 <= threshold < 1, "nc", "threshold", threshold, "from 0 to below 1")
    return _slots(neuron_slots(background.layout.total, threshold))


def _kmnc(background: Background, *, k: int = 1000) -> Callable[[], CoverageState]:
    _check_count("kmnc", "k", k)
    return _slots(section_slots(background.need_profile("kmnc"), k))


def _nbc(background: Background, *, sigma: float = 0.0) -> Callable[[], CoverageState]:
    _check(sigma >= 0, "nbc", "sigma", sigma, "0 or more")
    return _slots(corner_slots(background.need_profile("nbc"), sigma=sigma, is_lower=True))


def _snac(background: Background, *, sigma: float = 0.0) -> Callable[[], CoverageState]:
    _check(sigma >= 0, "snac", "sigma", sigma, "0 or more")
    return _slots(corner_slots(background.need_profile("snac"), sigma=sigma, is_lower=False))


def _cc(background: Background, *, threshold: float = 0.0, layer: str = _LOGITS) -> Callable[[], CoverageState]:
    _check(threshold > 0, "cc", "threshold", threshold, "above 0: a squared distance, such as cc(threshold=10)")
    columns = None if layer == _LOGITS else _columns("cc", background.layout, layer)
    return lambda: ClusterState(threshold, columns)


@dataclass(frozen=True)
class CriterionRow:
    """A criterion that camdrift knows.

    Attributes:
        help: What it counts, in a line.
        make: Takes a `Background` and the criterion's settings, whose defaults its signature holds.
        needs_profile: Does it measure against a profile?
        is_order_free: Does the order of images change nothing?
    """

    help: str
    make: Callable[..., Callable[[], CoverageState]]
    needs_profile: bool = False
    is_order_free: bool = True


CRITERIA: Final[Mapping[str, CriterionRow]] = {
    "nc": CriterionRow("neurons whose scaled output lies above a threshold", _nc),
    "kmnc": CriterionRow("sections hit of k between each neuron's extremes", _kmnc, needs_profile=True),
    "nbc": CriterionRow("neurons beyond their extremes, at either side", _nbc, needs_profile=True),
    "snac": CriterionRow("neurons above their highest output", _snac, needs_profile=True),
    "cc": CriterionRow("images far from every one kept before", _cc, is_order_free=False),
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
    start = row.make(background, **settings)
    defaults = _defaults(row)
    full = {key: settings.get(key, default) for key, default in defaults.items()}
    # A switch that is off says nothing.
    words = {key: value for key, value in full.items() if value or value != defaults[key]}
    return Criterion(write_spec(name, words), start, row.needs_profile, row.is_order_free)


def _parts(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of a spec, both of which the table knows."""
    parts = parse_spec(spec, option="criteria")
    if parts.name not in CRITERIA:
        raise UserError(
            f"`criteria` must be of {', '.join(CRITERIA)}, got: {spec}", nearest(parts.name, CRITERIA).strip()
        )
    defaults = _defaults(CRITERIA[parts.name])
    for key, value in parts.settings.items():
        if key not in defaults:
            raise UserError(
                f"criterion `{parts.name}` has no setting `{key}`", f"it has {', '.join(defaults) or 'none'}"
            )
        _check_type(parts.name, key, value, defaults[key])
    return parts.name, {key: type(defaults[key])(value) for key, value in parts.settings.items()}


def _defaults(row: CriterionRow) -> dict[str, Any]:
    """Settings of a criterion with their defaults."""
    return {name: each.default for name, each in signature(row.make).parameters.items() if name != "background"}


def _check_type(criterion: str, key: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default's."""
    kind = type(default)
    kinds = (int, float) if kind is float else (kind,)
    is_switch = isinstance(value, bool)
    is_right = isinstance(value, kinds) and is_switch == (kind is bool)
    word = {float: "a number", int: "a whole number", str: "a name in quotes", bool: "True or False"}[kind]
    is_finite = not isinstance(value, float) or isfinite(value)
    _check(is_right and is_finite, criterion, key, value, word)


def _check(is_right: bool, criterion: str, key: str, value: Any, rule: str) -> None:
    if not is_right:
        raise UserError(f"`{key}` of criterion `{criterion}` must be {rule}, got: {value!r}")


def _check_count(criterion: str, key: str, value: int) -> None:
    _check(value >= 1, criterion, key, value, "1 or more")


def _columns(criterion: str, layout: NeuronLayout, layer: str) -> slice:
    if layer not in layout.slices:
        hint = nearest(layer, layout.layers) or "it may be logits, or one of the layers with neurons: "
        raise UserError(
            f"`layer` of criterion `{criterion}` is no layer with neurons, got: {layer}",
            hint if hint.startswith("did") else f"{hint}{', '.join(layout.layers[:3])}, ...",
        )
    return layout.slices[layer]


def _slots(rule: SlotRule) -> Callable[[], CoverageState]:
    return lambda: SlotState(rule)
