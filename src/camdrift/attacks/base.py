"""The contract of an attack."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from camdrift.coverage.neurons import NeuronRecord
from camdrift.models.classifier import Classifier
from camdrift.tensors import Attacked, Image, Images, Logits

# Called with (seeds finished, successes) of a chunk whenever they change.
Advance = Callable[[int, int], None]

# Where an attack's random draws come from, in the words of `run.json`.
PER_IMAGE: Final = "per image"
OWN_DRAWS: Final = "draws that cannot be seeded"
NO_DRAWS: Final = "none"

ORDERS: Final = {"linf": inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}

# Rounding to float32 may add so much to an entry: pixels are added and taken away again, more than once.
_ROUNDING: Final = 2.0**-23
_RELATIVE: Final = 1e-6


@dataclass(frozen=True)
class Threat:
    """A bound on the perturbation: its norm, in pixel units.

    Attributes:
        norm: linf, l2, l1 or l0 (entries that change).
        epsilon: The largest norm that the attack may reach.
    """

    norm: str
    epsilon: float

    def contains(self, perturbation: Image) -> bool:
        """Does a float32 perturbation keep the bound, up to its rounding?"""
        return bool(self.contained(perturbation[None]))

    def contained(self, perturbations: Images) -> Bool[Tensor, " batch"]:
        """Flags of those float32 perturbations that keep the bound, up to their rounding."""
        change = perturbations.flatten(1).double().abs()
        if self.norm == "l0":
            count: Tensor = (change > _ROUNDING).sum(1)
            return count <= self.epsilon
        order = ORDERS[self.norm]
        slack: Tensor = torch.linalg.vector_norm(torch.full_like(change, _ROUNDING), order, dim=1)
        lengths: Tensor = torch.linalg.vector_norm(change, order, dim=1)
        return lengths <= self.epsilon * (1 + _RELATIVE) + slack


@dataclass(frozen=True)
class SeedBatch:
    """The seeds of a chunk, as an attack gets them.

    Attributes:
        images: Seed images in pixel space.
        logits: What the attacked model returns for them; its predictions there are to change.
        neurons: What its neurons do on them.
        seed_ids: Names of the seeds.
        rng_seed: Seed of the study; with a seed's name it fixes every random draw.
    """

    images: Images
    logits: Logits
    neurons: NeuronRecord
    seed_ids: Sequence[str]
    rng_seed: int

    def __len__(self) -> int:
        return len(self.seed_ids)


@runtime_checkable
class Attack(Protocol):
    """Looks for an adversarial example of every seed of a chunk.

    An attack gets whole chunks. Its results may depend on the chunk, never on `batch_size`, and every random draw
    comes from a stream keyed by the study's `rng_seed` and the seed's name.
    """

    @property
    def spec(self) -> str:
        """The spec of the attack, complete: parsing it gives the same attack."""
        ...

    @property
    def threat(self) -> Threat | None:
        """The bound that its perturbations keep at strength 1, if it has one."""
        ...

    @property
    def seeding(self) -> str:
        """The source of its random draws: `PER_IMAGE`, `OWN_DRAWS` or `NO_DRAWS`."""
        ...

    def check(self, classifier: Classifier) -> None:
        """Raises `UserError` if the attack does not suit a classifier."""
        ...

    def __call__(
        self, classifier: Classifier, seeds: SeedBatch, *, batch_size: int, advance: Advance
    ) -> list[Attacked]:
        """For each seed its base perturbation, or none. The caller finds out what fools the studied model.

        Args:
            classifier: The model that the attack sees.
            seeds: The chunk.
            batch_size: Images per pass.
            advance: Called with (seeds finished, successes) of this chunk whenever they change.
        """
        ...


def all_results(parts: Iterable[list[Attacked]], advance: Advance) -> list[Attacked]:
    """The results of an attack that takes some seeds at a time.

    Args:
        parts: The results for some seeds, then for the next.
        advance: As for `Attack`.
    """
    results: list[Attacked] = []
    for part in parts:
        results += part
        advance(len(results), sum(result.base_perturbation is not None for result in results))
    return results
