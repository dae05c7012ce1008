"""The options of a study, each with its check and its default."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from math import isfinite, nan
from numbers import Real
from os import PathLike
from typing import Annotated, Any, Final, TypedDict, get_type_hints

from camdrift.attacks.registry import AttackName
from camdrift.errors import UserError
from camdrift.explanations.lime_design import LIME, parse_lime
from camdrift.masking import public
from camdrift.specs import parse_spec, write_spec
from camdrift.tables.measures import ExplanationName, MetricName, measures
from camdrift.tables.words import (
    DEFAULT_EXPLANATIONS,
    DEFAULT_METRICS,
    DEFAULT_NOISE_LADDER,
    DEFAULT_STRENGTHS,
    DEFAULT_TARGETS,
    TARGETS,
    Target,
)

# Takes the name of an option and its value, and returns the value to keep; raises `UserError` for one that is wrong.
OptionCheck = Callable[[str, Any], Any]

# Where a number has a special meaning: the word for it on the command line and in files.
WORDS_FOR_NUMBERS: Final[Mapping[str, Mapping[str, int | None]]] = {
    "gallery": {"all": None},
    "chunk_size": {"all": 0},
    "batch_size": {"auto": 0},
}
# These are compared by those who know what they came to: `auto` stands for the size that it chose the first time.
_COMPARED_ELSEWHERE: Final = ("batch_size",)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"`{name}` must be a text, got: {value!r}")
    return value


def _text_or_none(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _path_or_none(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | PathLike):
        raise UserError(f"`{name}` must be a path, got: {value!r}")
    return str(value)


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"`{name}` must be True or False, got: {value}")
    return value


def _lime(name: str, value: Any) -> str:
    """A design of LIME that can be read."""
    parse_lime(_text(name, value))
    return str(value)


def _integer(least: int) -> OptionCheck:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"`{name}` must be an integer of at least {least}, got: {value}")
        return value

    return check


def _integer_or_none(least: int) -> OptionCheck:
    check = _integer(least)
    return lambda name, value: None if value is None else check(name, value)


def _strengths(name: str, values: Any) -> tuple[float, ...]:
    """Strengths, ascending, each once."""
    values = (values,) if isinstance(values, Real) else values
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise UserError(f"`{name}` must be numbers, got: {values!r}")
    return tuple(sorted({_strength(name, value) for value in values}))


def _strength(name: str, value: Any) -> float:
    try:
        number = nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = nan
    if not (isfinite(number) and number > 0):
        raise UserError(f"`{name}` must be positive and finite, got: {value}")
    return number


def _one_strength_or_more(name: str, values: Any) -> tuple[float, ...]:
    strengths = _strengths(name, values)
    if not strengths:
        raise UserError(f"`{name}` must name at least one strength, got: none")
    return strengths


def _names(name: str, values: Any) -> tuple[str, ...]:
    names = (values,) if isinstance(values, str) else tuple(values) if isinstance(values, Iterable) else (values,)
    for value in names:
        if not isinstance(value, str):
            raise UserError(f"`{name}` must be names, got: {value!r}")
    return names


def _specs(name: str, values: Any) -> tuple[str, ...]:
    """Specs, each once."""
    return tuple(dict.fromkeys(_names(name, values)))


def _targets(name: str, values: Any) -> tuple[str, ...]:
    targets = _names(name, values)
    if not targets or not set(targets) <= set(TARGETS) or len(set(targets)) < len(targets):
        text = ", ".join(targets) or "none"
        raise UserError(f"`target` must be one or more of {', '.join(TARGETS)}, each once, got: {text}")
    return targets


def _sample(name: str, value: Any) -> str | None:
    """Return the option `sample` as it is written down."""
    if value is None:
        return None
    text = f"{value}-per-class" if type(value) is int else str(value)
    match = re.fullmatch(r"0*([1-9][0-9]{0,17})-per-class", text)
    if match is None:
        raise UserError(f"`{name}` must be N-per-class with N of at least 1, got: {value}", "like 5-per-class")
    return f"{match[1]}-per-class"


# Options whose values are specs.
_SPELLED: Final = ("attack", "explanations", "lime_design", "perturb")


@dataclass(frozen=True)
class Settings:
    """Options of a study.

    A new option is a field here with a line below and one in `SettingsKeywords`, and a row of `cli.options.OPTIONS`.

    Attributes:
        attack: Attack spec.
        strengths: Factors on the base perturbation, for attack and noise.
        targets: Whose class is explained: own, seed, label.
        explanations: How layers are explained; figures and report show the first.
        similarities: By which metrics attributions are compared; figures and report show the first that suits.
        layers: Globs over layer names; empty for every convolution.
        limit: Number of seed images, spread evenly over the sorted list; None for all.
        sample: Number of seed images of every class, drawn by `rng_seed`: "5-per-class" or 5; None for all.
        rng_seed: Seed of every random draw.
        noise_draws: Noise draws per seed image.
        noise_ladder: Further strengths of the noise alone, for the noise-equivalent gain.
        gallery: Number of seeds whose images and heatmaps are kept, spread over the range of deviation; 0 for none,
            None for all.
        chunk_size: Seeds that share one coverage table and are stored together; 0 for all.
        batch_size: Images per pass; 0 for a size that suits the device.
        denoised: Is every image also held against a denoised copy of itself?
        lime: Is every image also explained by LIME on its input?
        lime_design: Its segments, masks and regression: `lime`, `lime:paper`, or one of them with settings.
        perturb: Natural changes to hold beside the attack: `nrtk:NAME(...)`, or `path/to/file.py:function`.
        adversarial: Where adversarial images lie that take the place of an attack; None for none.
        surrogate: Spec of the model that the attack sees, if that is not the one that is studied.

    Raises:
        UserError: A value that is wrong, or two that do not go together.
    """

    attack: Annotated[str, _text] = "dlfuzz"
    strengths: Annotated[tuple[float, ...], _one_strength_or_more] = DEFAULT_STRENGTHS
    targets: Annotated[tuple[str, ...], _targets] = DEFAULT_TARGETS
    explanations: Annotated[tuple[str, ...], _names] = DEFAULT_EXPLANATIONS
    similarities: Annotated[tuple[str, ...], _names] = DEFAULT_METRICS
    layers: Annotated[tuple[str, ...], _names] = ()
    limit: Annotated[int | None, _integer_or_none(1)] = None
    sample: Annotated[str | int | None, _sample] = None
    rng_seed: Annotated[int, _integer(0)] = 0
    noise_draws: Annotated[int, _integer(1)] = 1
    noise_ladder: Annotated[tuple[float, ...], _strengths] = DEFAULT_NOISE_LADDER
    gallery: Annotated[int | None, _integer_or_none(0)] = 24
    chunk_size: Annotated[int, _integer(0)] = 32
    batch_size: Annotated[int, _integer(0)] = 0
    denoised: Annotated[bool, _boolean] = False
    lime: Annotated[bool, _boolean] = False
    lime_design: Annotated[str, _lime] = LIME
    perturb: Annotated[tuple[str, ...], _specs] = ()
    adversarial: Annotated[str | None, _path_or_none] = None
    surrogate: Annotated[str | None, _text_or_none] = None

    def __post_init__(self) -> None:
        for name, check in _checks().items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        measures(self.explanations, self.similarities)
        self._check_sample()
        self._check_adversarial()

    def _check_sample(self) -> None:
        if self.sample is not None and self.limit is not None:
            raise UserError(
                f"`sample` must come without `limit`, got: {self.sample} and {self.limit}",
                "`sample` takes some images of every class, `limit` some of all",
            )

    def _check_adversarial(self) -> None:
        """Refuse an attack, and a model to attack, beside adversarial images that exist already."""
        if self.adversarial is None:
            return
        default = Settings.__dataclass_fields__["attack"].default
        others = {"attack": self.attack if self.attack != default else None, "surrogate": self.surrogate}
        for name, value in others.items():
            if value is not None:
                raise UserError(f"`adversarial` must come without `{name}`, got: {self.adversarial} and {value}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the options."""
        return tuple(field.name for field in fields(cls))

    @property
    def per_class(self) -> int | None:
        """Seed images of every class; None for all."""
        return None if self.sample is None else int(str(self.sample).partition("-")[0])

    @property
    def noise_strengths(self) -> tuple[float, ...]:
        """Every strength at which noise is applied, ascending."""
        return tuple(sorted({*self.strengths, *self.noise_ladder}))

    def as_record(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def differences(self, record: Mapping[str, Any], *, without: Collection[str] = ()) -> list[str]:
        """Return a sentence on every setting but some that differs from a stored record and changes the tables."""
        mine = public(self.as_record())
        # Records from before these options existed lack them.
        before = {"denoised": False, "lime": False, "lime_design": LIME, "sample": None, "perturb": []}
        record = public({**before, **record})
        names = [name for name in self.names() if name not in (*_COMPARED_ELSEWHERE, *without)]
        return [
            f"{name} was {record.get(name)}, now {mine[name]}"
            for name in names
            if _meaning(name, record.get(name)) != _meaning(name, mine[name])
        ]


class SettingsKeywords(TypedDict, total=False):
    """The options of `Settings` as `camdrift.run` takes them: a single value stands for a tuple of one."""

    attack: AttackName | str
    strengths: float | Sequence[float]
    targets: Target | Sequence[Target]
    explanations: ExplanationName | str | Sequence[ExplanationName | str]
    similarities: MetricName | Sequence[MetricName]
    layers: str | Sequence[str]
    limit: int | None
    sample: str | int | None
    rng_seed: int
    noise_draws: int
    noise_ladder: float | Sequence[float]
    gallery: int | None
    chunk_size: int
    batch_size: int
    denoised: bool
    lime: bool
    lime_design: str
    perturb: str | Sequence[str]
    adversarial: str | PathLike[str] | None


def _meaning(name: str, value: Any) -> Any:
    """The value of an option, specs in it as camdrift writes them: however they are spelled, they mean the same."""
    if name not in _SPELLED or value is None:
        return value
    if not isinstance(value, str):
        return [_meaning(name, each) for each in value]
    try:
        spec = parse_spec(value, option=name)
    except UserError:  # the record of another version
        return value
    return write_spec(spec.name, spec.settings)


@cache
def _checks() -> dict[str, OptionCheck]:
    """The check of every option, by name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in Settings.names()}
