"""Does the result of a library's attack on an image depend on the images beside it? Found out by trying it."""

from collections.abc import Callable, Sequence
from typing import Final

import torch

from camdrift.errors import UserError
from camdrift.models.memory import batches
from camdrift.tensors import Attacked

# Images that are tried together.
_IMAGES: Final = 2
# Of the perturbation's length; rounding alone moved it by 0.3 % at most (docs/attacks.md).
_MOST_CHANGE: Final = 0.05


def is_independent(
    spec: str, attack: Callable[[Sequence[int]], list[Attacked]], positions: Sequence[int], seed_ids: Sequence[str]
) -> bool:
    """Have two images shown the same perturbations alone and in a batch, in which they change places?

    Pairs are tried until both images of one are perturbed; False if there is no such pair.

    Args:
        spec: The attack's spec.
        attack: Called with the positions of some seeds; returns the results for them.
        positions: Positions of the seeds that it really attacks.
        seed_ids: Names of all seeds.

    Raises:
        UserError: The result for an image depends on its batch.
    """
    for pair in batches(positions, _IMAGES):
        alone = [attack([position])[0] for position in pair]
        together = attack(pair[::-1])[::-1]
        for position, one, other in zip(pair, alone, together, strict=True):
            if fault := _difference(one, other):
                raise UserError(
                    f"`attack` setting `batched` must be left out where a batch changes results, got: {spec}, "
                    f"whose result for {seed_ids[position]} {fault}",
                    "one image at a time is right for every attack; pgd, fgsm, mifgsm and deepfool go in batches",
                )
        if len(pair) == _IMAGES and all(result.base_perturbation is not None for result in alone):
            return True
    return False


def _difference(alone: Attacked, together: Attacked) -> str:
    """What differs between two results for one image, in words; empty for nothing beyond rounding."""
    if alone.reason != together.reason:
        return f"ends otherwise in a batch ({together.reason or alone.reason})"
    if alone.base_perturbation is None or together.base_perturbation is None:
        return ""
    length = float(torch.linalg.vector_norm(alone.base_perturbation))
    change = float(torch.linalg.vector_norm(together.base_perturbation - alone.base_perturbation))
    if change <= _MOST_CHANGE * length:
        return ""
    return f"changes by {change / length:.0%} of its length in a batch" if length else "is perturbed in a batch alone"
