"""Frameworks: the fuzzers of the literature, and baselines, each a row of choices for one loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.attacks.dlfuzz import DLFuzz
from camdrift.coverage.clusters import median_nearest_squared
from camdrift.coverage.criteria import make_criterion, observe_batch
from camdrift.coverage.profile import Profile
from camdrift.errors import UserError
from camdrift.fuzzing.deepxplore import Joint
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.dlfuzz import Uphill
from camdrift.fuzzing.guidance import GINI, MARGIN, ByChance, ByCriterion, ByUncertainty, Everything, Guidance, Nothing
from camdrift.fuzzing.mutants import Mutating
from camdrift.fuzzing.names import DISAGREE
from camdrift.fuzzing.parents import cyclic, newest_or_any
from camdrift.fuzzing.passes import in_groups
from camdrift.fuzzing.trial import Trial
from camdrift.specs import nearest, parse_spec, write_spec

# One iteration of a trial.
Iteration = Callable[[Trial], None]
FrameworkSettings = Mapping[str, Any]

# Share of admitted mutants that `keep-random` keeps where no guided framework runs beside it.
_RATE: Final = 0.1
_MUTANTS: Final = {"mutants": 20}


@dataclass(frozen=True)
class Setup:
    """What a framework's guidance may be made of.

    Attributes:
        design: What all trials share.
        images: Images of the seeds, (3, height, width) each.
        profile: What neurons do on ordinary images; None where nobody has measured it.
        rates: Share of admitted mutants that finished trials of guided frameworks kept, by framework.
    """

    design: CampaignDesign
    images: Sequence[NDArray[np.float32]]
    profile: Profile | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Framework:
    """One framework.

    Attributes:
        settings: Its settings with their defaults.
        step: Makes its iteration of its settings.
        guidance: Makes its guidance.
        follows: Does it need what a guided framework has kept?
        needs_models: Does it need further models?
        stops_at_first: Does its published program end at the first failure?
    """

    settings: FrameworkSettings
    step: Callable[[FrameworkSettings], Iteration]
    guidance: Callable[[Setup, FrameworkSettings], Guidance]
    follows: bool = False
    needs_models: bool = False
    stops_at_first: bool = False


def _mutating(settings: FrameworkSettings) -> Iteration:
    return Mutating(cyclic, settings["mutants"])


def _white(settings: FrameworkSettings) -> Iteration:
    return Mutating(newest_or_any, settings["mutants"], ("white",), is_projected=True)


def _uphill(settings: FrameworkSettings) -> Iteration:
    return Uphill(DLFuzz(**settings))


def _joint(settings: FrameworkSettings) -> Iteration:
    return Joint(**settings)


def _by_campaign_criterion(setup: Setup, settings: FrameworkSettings) -> Guidance:
    """The campaign's criterion; neuron coverage where it has none."""
    criterion = setup.design.criterion
    return ByCriterion(criterion or make_criterion("nc", setup.design.classifier))


def _by_distance(setup: Setup, settings: FrameworkSettings) -> Guidance:
    """Squared distance of logits to those of every image kept before."""
    threshold = settings["threshold"] or nearest_distance(setup)
    return ByCriterion(make_criterion(f"cc(threshold={threshold!r})", setup.design.classifier))


def nearest_distance(setup: Setup) -> float:
    """Return the median, over the seeds, of the squared distance of their logits to the nearest other seed's.

    TensorFuzz's 1.0 is for the ten logits of MNIST, and means nothing for a thousand. 1.0 for a single seed.
    """
    design = setup.design
    images = torch.as_tensor(np.stack(setup.images)).to(design.classifier.device)
    groups = in_groups(images, design.group)
    batches = [observe_batch(design.classifier, group, is_scaled=False).first(size) for group, size in groups]
    points = torch.cat([batch.logits.double() for batch in batches])
    if len(points) < 2:
        return 1.0
    return max(median_nearest_squared(points.cpu().numpy()), float(np.finfo(np.float32).tiny))


def _by_chance(setup: Setup, settings: FrameworkSettings) -> Guidance:
    """As many as the guided framework kept, by chance: the control for its guidance."""
    rate = settings["rate"]
    return ByChance(setup.rates.get(settings["like"], _RATE) if rate is None else rate)


_DLFUZZ: Final = {name: getattr(DLFuzz, name) for name in DLFuzz.settings() if name not in ("keep_gain", "keep_ratio")}
_DLFUZZ_SETTINGS: Final = {name: value for name, value in _DLFUZZ.items() if name != "walkers"}

FRAMEWORK_ROWS: Final[dict[str, Framework]] = {
    "dlfuzz": Framework(
        _DLFUZZ_SETTINGS,
        _uphill,
        _by_campaign_criterion,
    ),
    "deepxplore": Framework(
        {"iterations": 20, "step": 10 / 255, "w_diff": 1.0, "w_nc": 0.1, "threshold": 0.0},
        _joint,
        lambda setup, settings: Nothing(),
        needs_models=True,
    ),
    "deephunter": Framework(
        _MUTANTS,
        _mutating,
        _by_campaign_criterion,
    ),
    "tensorfuzz": Framework(
        {"mutants": 100, "threshold": None},
        _white,
        _by_distance,
        stops_at_first=True,
    ),
    "random": Framework(_MUTANTS, _mutating, lambda b, s: Nothing()),
    "keep-all": Framework(_MUTANTS, _mutating, lambda b, s: Everything()),
    "keep-random": Framework(
        {**_MUTANTS, "rate": None, "like": "deephunter"},
        _mutating,
        _by_chance,
        follows=True,
    ),
    "margin": Framework(
        _MUTANTS,
        _mutating,
        lambda b, s: ByUncertainty(MARGIN),
    ),
    "gini": Framework(
        _MUTANTS,
        _mutating,
        lambda b, s: ByUncertainty(GINI),
    ),
}


@dataclass(frozen=True)
class ChosenFramework:
    """A framework with its settings.

    Attributes:
        name: Its name.
        settings: All settings.
        spec: As a spec, with what differs from its defaults.
    """

    name: str
    settings: FrameworkSettings
    spec: str

    @property
    def row(self) -> Framework:
        """Its row of `FRAMEWORK_ROWS`."""
        return FRAMEWORK_ROWS[self.name]

    @property
    def step(self) -> Iteration:
        """Its iteration."""
        return self.row.step(self.settings)

    @property
    def like(self) -> str | None:
        """The guided framework whose rate it keeps; None where it needs none."""
        if not self.row.follows or self.settings["rate"] is not None:
            return None
        return str(self.settings["like"])


def parse_framework(spec: str) -> ChosenFramework:
    """Return a framework with its settings.

    Args:
        spec: A name of `FRAMEWORK_ROWS`, with settings if wanted, such as `deephunter(mutants=50)`.

    Raises:
        UserError: No such framework or setting, or a value that it cannot have.
    """
    parts = parse_spec(spec, option="frameworks")
    if parts.name not in FRAMEWORK_ROWS:
        names = ", ".join(FRAMEWORK_ROWS)
        raise UserError(f"`frameworks` must be of {names}, got: {spec}", nearest(parts.name, FRAMEWORK_ROWS).strip())
    row = FRAMEWORK_ROWS[parts.name]
    for name, value in parts.settings.items():
        if name not in row.settings:
            raise UserError(f"framework `{parts.name}` takes {', '.join(row.settings)}, got: {name}")
        _check(parts.name, name, value)
    settings = {**row.settings, **parts.settings}
    if parts.name == "dlfuzz":
        settings["strategy"] = str(settings["strategy"])
        DLFuzz(**settings)  # which refuses what it cannot have
    changes = {name: value for name, value in settings.items() if value != row.settings[name]}
    return ChosenFramework(parts.name, settings, write_spec(parts.name, changes))


def _check(framework: str, name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    rules: dict[str, tuple[bool, str]] = {
        "mutants": (isinstance(value, int) and is_number and value > 0, "a whole number from 1 on"),
        "rate": (is_number and 0 <= value <= 1, "a number from 0 to 1"),
        "like": (
            value in FRAMEWORK_ROWS and not FRAMEWORK_ROWS[value].follows,
            f"another of {', '.join(FRAMEWORK_ROWS)}",
        ),
    }
    if framework == "tensorfuzz":
        rules["threshold"] = (is_number and value > 0, "a number above 0")
    if framework == "deepxplore":
        rules |= dict.fromkeys(("step", "w_diff", "w_nc"), (is_number and value >= 0, "a number from 0 on"))
        rules["threshold"] = (is_number and 0 <= value <= 1, "a number from 0 to 1")
        rules["iterations"] = rules["mutants"]
    fits, rule = rules.get(name, (True, ""))
    if not fits:
        raise UserError(f"framework `{framework}` setting `{name}` must be {rule}, got: {value}")


def parse_frameworks(specs: Sequence[str], *, oracle: str) -> tuple[ChosenFramework, ...]:
    """Return frameworks, guided ones before those that follow them.

    Args:
        specs: Their specs.
        oracle: Name of the oracle.

    Raises:
        UserError: One is given twice, needs models where there are none, or follows one that does not run.
    """
    choices = [parse_framework(spec) for spec in specs]
    names = [each.spec for each in choices]
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"`frameworks` must name each framework once, and at least one, got: {', '.join(names) or 'none'}"
        )
    for each in choices:
        if each.row.needs_models and oracle != DISAGREE:
            raise UserError(f"framework `{each.name}` must come with further models, got: none", "--models SPEC[,SPEC]")
    return tuple(sorted(choices, key=lambda each: each.row.follows))
