"""The class that a targeted attack is to reach, for every seed of a chunk."""

from collections.abc import Sequence
from typing import Any, Final

from camdrift.attacks.base import SeedBatch
from camdrift.errors import UserError
from camdrift.streams import stream_seed

SECOND, LEAST_LIKELY, RANDOM = "second", "least_likely", "random"
TARGET_RULES: Final = (SECOND, LEAST_LIKELY, RANDOM)


def check_target(target: Any, name: str, *, can_target: bool, must_target: bool) -> None:
    """Raises `UserError` for what is neither a class nor a rule, or does not suit the attack.

    Args:
        target: The setting; None where it is left out.
        name: Name of the attack.
        can_target: Can the attack look for a given class?
        must_target: Does it need one?
    """
    is_class = isinstance(target, int) and not isinstance(target, bool) and target >= 0
    if target is not None and not is_class and target not in TARGET_RULES:
        rule = f"be a class's index or one of {', '.join(TARGET_RULES)}"
        raise UserError(f"`attack` setting `target_class` must {rule}, got: {target}")
    if target is not None and not can_target:
        raise UserError(
            f"`attack` {name} must come without `target_class`, got: {target}",
            "it cannot look for a given class; pgd, mifgsm and cw can",
        )
    if target is None and must_target:
        raise UserError(
            f"`attack` {name} must be given `target_class`, got: none",
            f"a class's index or one of {', '.join(TARGET_RULES)}",
        )


def targets_of(target: int | str | None, seeds: SeedBatch, clean: Sequence[int]) -> list[int | None]:
    """The class to reach for every seed; None if any other than the clean one will do.

    Args:
        target: A class, or one of `TARGET_RULES`.
        seeds: The chunk.
        clean: The class predicted for each seed.
    """
    if target == SECOND:
        return [*seeds.logits.topk(2).indices[:, 1].tolist()]
    if target == LEAST_LIKELY:
        return [*seeds.logits.argmin(1).tolist()]
    if target != RANDOM:
        return [target if isinstance(target, int) else None] * len(seeds)
    classes = seeds.logits.shape[1]
    draws = [stream_seed(seeds.rng_seed, seed_id, "target class") % (classes - 1) for seed_id in seeds.seed_ids]
    return [draw + (draw >= own) for draw, own in zip(draws, clean, strict=True)]
