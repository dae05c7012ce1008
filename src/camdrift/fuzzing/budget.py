"""Budgets: how much a campaign may spend, in passes through the network, in iterations or in minutes."""

import re
from dataclasses import dataclass
from typing import Final

from camdrift.errors import UserError

PASSES, ITERATIONS, MINUTES = "passes", "iterations", "minutes"
UNITS: Final = (PASSES, ITERATIONS, MINUTES)
# Passes that an image costs: forward alone, and forward with the backward pass to the image.
FORWARD, GRADIENT = 1, 3


@dataclass(frozen=True)
class Budget:
    """An amount that one trial of one framework may spend.

    Attributes:
        amount: How much.
        unit: passes, iterations or minutes.
    """

    amount: float
    unit: str

    @property
    def spec(self) -> str:
        """The budget as it is written, such as `20000-passes`."""
        return f"{self.amount:g}-{self.unit}" if self.amount % 1 else f"{int(self.amount)}-{self.unit}"

    @property
    def is_repeatable(self) -> bool:
        """Does the same budget give the same tables again? Minutes do not."""
        return self.unit != MINUTES

    def passes_left(self, passes: int) -> int | None:
        """Return the passes that are left; None where nobody counts them."""
        return max(0, int(self.amount) - passes) if self.unit == PASSES else None

    def share(self, passes: int, iterations: int, seconds: float) -> float:
        """Return the share that is spent, 0 to 1 and a little more."""
        so_far = {PASSES: passes, ITERATIONS: iterations, MINUTES: seconds / 60}[self.unit]
        return so_far / self.amount


def parse_budget(text: str) -> Budget:
    """Return a budget.

    Args:
        text: NUMBER-passes, NUMBER-iterations or NUMBER-minutes.

    Raises:
        UserError: Anything else.

    Example:
        >>> parse_budget("20000-passes").amount
        20000.0
    """
    match = re.fullmatch(rf"([0-9][0-9_]*(?:\.[0-9]+)?)[- ]?({'|'.join(UNITS)})", text.strip())
    amount = float(match[1].replace("_", "")) if match else 0.0
    unit = match[2] if match else ""
    if not match or amount <= 0 or (unit != MINUTES and amount % 1):
        raise UserError(
            f"`budget` must be a number and its unit, got: {text}", "20000-passes, 500-iterations, 30-minutes"
        )
    return Budget(amount, unit)
