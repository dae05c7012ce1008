"""Does the result of a library's attack on an image depend on the images beside it? Found out by trying it."""

from collections.abc import Callable, Sequence
from typing import Final

import torch

from camdrift.errors import UserError
from camdrift.tensors import Attacked

# Images that are tried.
_IMAGES: Final = 2
# Of the perturbation's length; rounding alone moved it by 0.3 % at most (docs/attacks.md).
_MOST_CHANGE: Final = 0.05


def check_independence(
    spec: str, attack: Callable[[Sequence[int]], list[Attacked]], seed_ids: Sequence[str]
) -> list[str]:
    """Names of images whose results are the same alone and in a batch, in which they change places.

    Args:
        spec: The attack's spec.
        attack: Called with the positions of some seeds; returns the results for them.
        seed_ids: Names of the seeds: two at least.

    Raises:
        UserError: The result for an image depends on its batch.
    """
    positions = range(_IMAGES)
    alone = [attack([position])[0] for position in positions]
    together = attack(positions[::-1])[::-1]
    for name, one, other in zip(seed_ids, alone, together, strict=False):
        if fault := _difference(one, other):
            raise UserError(
                f"`attack` setting `batched` must be left out where a batch changes results, got: {spec}, "
                f"whose result for {name} {fault}",
                "one image at a time is right for every attack; pgd, fgsm, mifgsm and deepfool go in batches",
            )
    return [*seed_ids[:_IMAGES]]


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
