"""The contract of an attack."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from camdrift.coverage import NeuronRecord
from camdrift.models import Classifier
from camdrift.tensors import Attacked, Images, Logits

Advance = Callable[[int, int], None]


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
        """For each seed its base perturbation, or none.

        Args:
            classifier: The model under attack.
            images: Seed images of the chunk, in pixel space.
            clean: The model's logits for them; success is a prediction that differs from theirs.
            neurons: What the neurons did on the clean images.
            seed_ids: Names of the seeds.
            rng_seed: Seed of the study.
            batch_size: Images per pass.
            advance: Called with (seeds finished, successes) of this chunk whenever they change.
        """
        ...
