"""Mutations, as data: what was done to an image, so that anybody can do it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from camdrift.specs import write_spec

# Name of a step of a gradient, which no parameters describe.
GRADIENT: Final = "gradient"


@dataclass(frozen=True)
class Mutation:
    """One change of one image.

    Attributes:
        operator: Name of the operator.
        parameters: Its parameters.
        stream: Seed of the random numbers that it draws for the pixels.
    """

    operator: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    stream: int = 0

    @property
    def spec(self) -> str:
        """The mutation as a spec, such as `rotate(degrees=3.5)`."""
        return write_spec(self.operator, self.parameters)
