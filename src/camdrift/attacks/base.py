"""The contract of an attack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, runtime_checkable

import torch

from camdrift.coverage.neurons import NeuronRecord
from camdrift.models.classifier import Classifier
from camdrift.tensors import Attacked, Image, Images, Logits

Advance = Callable[[int, int], None]

# Where the random draws of an attack come from, as the run record says it.
PER_IMAGE: Final = "per image"
OWN_DRAWS: Final = "draws that cannot be seeded"
NO_DRAWS: Final = "none"

ORDERS: Final = {"linf": inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}

# What rounding to float32 may add to an entry: pixels are added to and taken away again, more than once.
_ROUNDING: Final = 2.0**-23
_RELATIVE: Final = 1e-6


@dataclass(frozen=True)
class Threat:
    """A bound on the perturbation: its norm, in pixel units.

    Attributes:
        norm: linf, l2, l1 or l0 (entries that change).
        epsilon: The largest norm that the attack is allowed.
    """

    norm: str
    epsilon: float

    def contains(self, perturbation: Image) -> bool:
        """Does a perturbation that was realised in float32 keep the bound, up to its rounding?"""
        moved = perturbation.double().abs()
        if self.norm == "l0":
            return int((moved > _ROUNDING).sum()) <= self.epsilon
        order = ORDERS[self.norm]
        slack = torch.linalg.vector_norm(torch.full_like(moved, _ROUNDING), order)
        return float(torch.linalg.vector_norm(moved, order)) <= self.epsilon * (1 + _RELATIVE) + float(slack)


@runtime_checkable
class Attack(Protocol):
    """Looks for an adversarial example of every seed of a chunk.

    An attack is called with whole chunks. What it finds may depend on the chunk, never on `batch_size`, and every
    random draw comes from a stream keyed by (`rng_seed`, seed ID).
    """

    @property
    def spec(self) -> str:
        """What the attack was made from, complete: parsing it again gives the same attack."""
        ...

    @property
    def threat(self) -> Threat | None:
        """The bound that its perturbations keep at strength 1, if it has one."""
        ...

    @property
    def seeding(self) -> str:
        """Where its random draws come from: `PER_IMAGE`, `OWN_DRAWS` or `NO_DRAWS`."""
        ...

    def check(self, classifier: Classifier) -> None:
        """Raises `UserError` if this classifier cannot be attacked so."""
        ...

    def __call__(
        self,
        classifier: Classifier,
        images: Images,
        clean: Logits,
        neurons: NeuronRecord,
        *,
        seed_ids: Sequence[str],
        rng_seed: int,
        batch_size: int,
        advance: Advance,
    ) -> list[Attacked]:
        """For each seed its base perturbation, or none. What fools the studied model is found out by the caller.

        Args:
            classifier: The model that the attack sees.
            images: Seed images of the chunk, in pixel space.
            clean: The model's logits for them; what it predicts there is to change.
            neurons: What the neurons did on the clean images.
            seed_ids: Names of the seeds.
            rng_seed: Seed of the study.
            batch_size: Images per pass.
            advance: Called with (seeds finished, successes) of this chunk whenever they change.
        """
        ...
