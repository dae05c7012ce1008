"""Operators that mutate images: one row each, and batches of mutants made by them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import torch

from camdrift.errors import UserError
from camdrift.fuzzing import affine, pixelwise
from camdrift.fuzzing.affine import Matrix, moved
from camdrift.fuzzing.mutations import Mutation
from camdrift.specs import nearest
from camdrift.tensors import Images

# Smallest and largest value of each parameter; drawn uniformly.
Ranges = Mapping[str, tuple[float, float]]
_Transform = Callable[[Images, Sequence[Mutation]], Images]
_Move = Callable[[Mapping[str, float]], Matrix]


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        ranges: Its parameters. Lengths are shares of the side, amounts are in pixel units.
        transform: What it does to a batch; None where it moves the picture.
        move: Its matrix; None where it leaves every pixel in its place.
    """

    ranges: Ranges
    transform: _Transform | None = None
    move: _Move | None = None

    @property
    def is_affine(self) -> bool:
        """Does it move the picture? Then it keeps the label by convention only."""
        return self.move is not None

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Return random parameters."""
        return {name: float(rng.uniform(low, high)) for name, (low, high) in self.ranges.items()}


# Ranges of DeepHunter 2.0 where they suit images of any size: its translation was for 28 px, and its rotation (50
# degrees) and shear (0.6) change what a picture shows. `white` is TensorFuzz's: 0.2 in [-1, 1].
OPERATORS: Final[dict[str, Operator]] = {
    "translate": Operator({"right": (-0.1, 0.1), "down": (-0.1, 0.1)}, move=affine.translation),
    "scale": Operator({"factor": (0.7, 1.1)}, move=affine.scaling),
    "shear": Operator({"slope": (-0.25, 0.25)}, move=affine.shearing),
    "rotate": Operator({"degrees": (-15.0, 15.0)}, move=affine.rotation),
    "contrast": Operator({"factor": (0.5, 1.2)}, pixelwise.with_contrast),
    "brightness": Operator({"shift": (-20 / 255, 20 / 255)}, pixelwise.brightness),
    "blur": Operator({"sigma": (0.002, 0.012)}, pixelwise.blur),
    "pixels": Operator({"share": (0.001, 0.011)}, pixelwise.with_random_values),
    "noise": Operator({"sigma": (0.005, 0.05)}, pixelwise.noise),
    "white": Operator({"sigma": (0.1, 0.1)}, pixelwise.noise),
}


def check_operators(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, which are all of operators and each given once.

    Raises:
        UserError: One is not, or there are none.
    """
    for name in names:
        if name not in OPERATORS:
            raise UserError(
                f"`mutators` must be of {', '.join(OPERATORS)}, got: {name}", nearest(name, OPERATORS).strip()
            )
    if not names or len(set(names)) < len(names):
        words = ", ".join(names) or "none"
        raise UserError(f"`mutators` must name each operator once, and at least one, got: {words}")
    return tuple(names)


def mutate(images: Images, mutations: Sequence[Mutation]) -> Images:
    """Return the images, each with its mutation, clipped to [0, 1].

    What happens to an image does not depend on those beside it.

    Args:
        images: (batch, 3, height, width) in pixel space.
        mutations: One per image.
    """
    result = moved(images, [matrix_of(mutation) for mutation in mutations])
    for name in dict.fromkeys(mutation.operator for mutation in mutations):
        operator = OPERATORS[name]
        if operator.transform is not None:
            rows = [row for row, mutation in enumerate(mutations) if mutation.operator == name]
            result = result.clone() if result is images else result
            result[rows] = operator.transform(images[rows], [mutations[row] for row in rows])
    return pixelwise.clipped(result)


def matrix_of(mutation: Mutation) -> Matrix | None:
    """Return the matrix of a mutation that moves the picture; None for others."""
    operator = OPERATORS.get(mutation.operator)
    return None if operator is None or operator.move is None else operator.move(mutation.parameters)


def replay(seed: torch.Tensor, chain: Sequence[Mutation]) -> torch.Tensor:
    """Return the image that a chain of mutations makes of a seed image: the same as in the campaign.

    Args:
        seed: Seed image in pixel space, (3, height, width).
        chain: Mutations from the seed on. Steps of a gradient cannot be replayed.
    """
    return reduce(lambda image, mutation: mutate(image[None], [mutation])[0], chain, seed)
