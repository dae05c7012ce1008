"""The options of a campaign."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypedDict

from camdrift.errors import UserError
from camdrift.fuzzing.names import IMAGE_OPERATORS
from camdrift.specs import parse_specs

DEFAULT_BUDGET: Final = "2000-passes"


@dataclass(frozen=True)
class FuzzSettings:
    """The options of a campaign.

    Attributes:
        frameworks: Frameworks, run side by side with equal budgets: specs of `FRAMEWORK_ROWS`, in a text with commas
            between them.
        criterion: Coverage criterion that guides, and that every trial reports; None for `kmnc` with a profile, else
            `nc`.
        budget: What a trial may spend: NUMBER-passes, NUMBER-iterations or NUMBER-minutes.
        trials: Trials of each framework, each with its own random numbers.
        constraint: Which mutants are valid.
        oracle: What a failure is; None for `disagree` with further models, else `prediction`.
        mutators: Operators that mutate images.
        limit: Fuzz so many seeds, spread over the sorted list; None for all.
        batch_size: Images per pass on a card; on a processor always four, so that results depend on nothing.
        rng_seed: Seed of every random draw.
        as_released: Switch on published defects that change results.

    Raises:
        UserError: A value that an option cannot have.
    """

    frameworks: tuple[str, ...] = ("deephunter",)
    criterion: str | None = None
    budget: str = DEFAULT_BUDGET
    trials: int = 1
    constraint: str = "deephunter"
    oracle: str | None = None
    mutators: tuple[str, ...] = IMAGE_OPERATORS
    limit: int | None = None
    batch_size: int = 8
    rng_seed: int = 0
    as_released: bool = False

    def __post_init__(self) -> None:
        for name in ("frameworks", "mutators"):
            value = getattr(self, name)
            object.__setattr__(self, name, parse_specs(value) if isinstance(value, str) else tuple(value))
        for name, least in (("trials", 1), ("batch_size", 1), ("rng_seed", 0), ("limit", 1)):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not is_whole and not (name == "limit" and value is None):
                raise UserError(f"`{name}` must be a whole number from {least} on, got: {value}")
        # Here and not above, so that --help comes at once: torch takes seconds to import.
        from camdrift.fuzzing.budget import parse_budget
        from camdrift.fuzzing.constraints import parse_constraint
        from camdrift.fuzzing.frameworks import parse_framework
        from camdrift.fuzzing.operators import check_operators

        parse_budget(self.budget)
        for spec in self.frameworks:
            parse_framework(spec)
        object.__setattr__(self, "constraint", parse_constraint(self.constraint).spec)
        check_operators(self.mutators)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the options."""
        return tuple(each.name for each in fields(cls))

    def as_record(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


class FuzzKeywords(TypedDict, total=False):
    """The options of a campaign by name."""

    frameworks: str | tuple[str, ...] | list[str]
    criterion: str | None
    budget: str
    trials: int
    constraint: str
    oracle: str | None
    mutators: str | tuple[str, ...] | list[str]
    limit: int | None
    batch_size: int
    rng_seed: int
    as_released: bool


def settings_of(record: Mapping[str, Any]) -> FuzzSettings:
    """Return the settings that `as_record` wrote."""
    return FuzzSettings(**{name: value for name, value in record.items() if name in FuzzSettings.names()})
