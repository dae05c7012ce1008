"""What a study is asked to do: every option, checked once."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import isfinite, nan
from numbers import Real
from os import PathLike
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.tables.measures import measures
from camdrift.tables.words import (
    DEFAULT_EXPLANATIONS,
    DEFAULT_METRICS,
    DEFAULT_NOISE_LADDER,
    DEFAULT_STRENGTHS,
    DEFAULT_TARGETS,
    TARGETS,
)

# These change how a study is computed, not what comes out (up to float rounding): a resumed run may change them.
_FREE_ON_RESUME: Final = ("batch_size",)
_NONE_IS_ALL: Final = ("limit", "gallery")


@dataclass(frozen=True)
class Settings:
    """Options of a study.

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
        adversarial: Where adversarial images lie that take the place of an attack; None for none.
        surrogate: Spec of the model that the attack sees, if that is not the one that is studied.
    """

    attack: str = "dlfuzz"
    strengths: tuple[float, ...] = DEFAULT_STRENGTHS
    targets: tuple[str, ...] = DEFAULT_TARGETS
    explanations: tuple[str, ...] = DEFAULT_EXPLANATIONS
    similarities: tuple[str, ...] = DEFAULT_METRICS
    layers: tuple[str, ...] = ()
    limit: int | None = None
    sample: str | int | None = None
    rng_seed: int = 0
    noise_draws: int = 1
    noise_ladder: tuple[float, ...] = DEFAULT_NOISE_LADDER
    gallery: int | None = 24
    chunk_size: int = 32
    batch_size: int = 0
    denoised: bool = False
    adversarial: str | None = None
    surrogate: str | None = None

    def __post_init__(self) -> None:
        for name in ("strengths", "noise_ladder"):
            object.__setattr__(self, name, _strengths(name, getattr(self, name)))
        for name in ("targets", "explanations", "similarities", "layers"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for name in ("attack", "surrogate"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "attack"):
                raise UserError(f"`{name}` must be a text, got: {value!r}")
        if not self.strengths:
            raise UserError("`strengths` must name at least one strength, got: none")
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            got = ", ".join(self.targets) or "none"
            raise UserError(f"`target` must be one or more of {', '.join(TARGETS)}, each once, got: {got}")
        measures(self.explanations, self.similarities)
        least = {"rng_seed": 0, "noise_draws": 1, "chunk_size": 0, "batch_size": 0, "limit": 1, "gallery": 0}
        for name, smallest in least.items():
            _check_integer(name, getattr(self, name), smallest)
        if not isinstance(self.denoised, bool):
            raise UserError(f"`denoised` must be True or False, got: {self.denoised}")
        object.__setattr__(self, "sample", _sample(self.sample))
        if self.sample is not None and self.limit is not None:
            raise UserError(
                f"`sample` must come without `limit`, got: {self.sample} and {self.limit}",
                "`sample` takes some images of every class, `limit` some of all",
            )
        self._check_adversarial()

    def _check_adversarial(self) -> None:
        """Images that are there already need no attack, and no model to attack in place of the studied one."""
        if self.adversarial is None:
            return
        if not isinstance(self.adversarial, str | PathLike):
            raise UserError(f"`adversarial` must be a path, got: {self.adversarial!r}")
        object.__setattr__(self, "adversarial", str(self.adversarial))
        default = Settings.__dataclass_fields__["attack"].default
        others = {"attack": self.attack if self.attack != default else None, "surrogate": self.surrogate}
        for name, value in others.items():
            if value is not None:
                raise UserError(f"`adversarial` must come without `{name}`, got: {self.adversarial} and {value}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the options."""
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
        """The settings as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def differences(self, record: dict[str, Any]) -> list[str]:
        """Settings that differ from a stored record, among those that decide what comes out."""
        mine = self.as_record()
        # Records from before these options existed lack them.
        record = {"denoised": False, "sample": None, **record}
        names = [name for name in self.names() if name not in _FREE_ON_RESUME]
        return [f"{name} was {record.get(name)}, now {mine[name]}" for name in names if record.get(name) != mine[name]]


def _strengths(name: str, values: Any) -> tuple[float, ...]:
    values = (values,) if isinstance(values, Real) else values
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise UserError(f"`{name}` must be numbers, got: {values!r}")
    found = set()
    for value in values:
        try:
            number = nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
        except OverflowError:
            number = nan
        if not (isfinite(number) and number > 0):
            raise UserError(f"`{name}` must be positive and finite, got: {value}")
        found.add(number)
    return tuple(sorted(found))


def _names(name: str, values: Any) -> tuple[str, ...]:
    names = (values,) if isinstance(values, str) else tuple(values) if isinstance(values, Iterable) else (values,)
    for value in names:
        if not isinstance(value, str):
            raise UserError(f"`{name}` must be names, got: {value!r}")
    return names


def _sample(value: str | int | None) -> str | None:
    """The setting `sample` as it is written down."""
    found = re.fullmatch(r"0*([1-9][0-9]{0,17})-per-class", f"{value}-per-class" if type(value) is int else str(value))
    if value is not None and found is None:
        raise UserError(f"`sample` must be N-per-class with N of at least 1, got: {value}", "like 5-per-class")
    return None if found is None else f"{found[1]}-per-class"


def _check_integer(name: str, value: int | None, smallest: int) -> None:
    if value is None and name in _NONE_IS_ALL:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise UserError(f"`{name}` must be an integer of at least {smallest}, got: {value}")
