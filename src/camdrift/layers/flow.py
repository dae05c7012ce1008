"""The way of values through a network: which torch function reads what others returned, and where all ways meet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from camdrift.layers.operations import BENDING, SCALING, pointwise_kind


@dataclass
class Step:
    """One torch function that returned a tensor, or wrote one, as a trace saw it.

    Attributes:
        operation: Name of the function.
        shape: Shape of its output.
        sources: Earlier steps whose values it reads, each once, in order.
        call: Position among the known operations; None for any other function.
        is_plain: Does it read nothing else but numbers, and tensors of the network of one number or one per channel?
        values: Number of times that it reads a value of an earlier step: 2 for `x * x`.
        is_overwritten: Does anything write over the output afterwards?
        is_output: Is its output what the network returns?
    """

    operation: str
    shape: tuple[int, ...]
    sources: tuple[int, ...]
    call: int | None
    is_plain: bool
    values: int
    is_overwritten: bool = False
    is_output: bool = False

    @property
    def kind(self) -> str | None:
        """`SCALING`, `SHIFTING` or `BENDING` for a function from value to value; None for any other.

        A product of values bends.
        """
        kind = pointwise_kind(self.operation)
        return BENDING if kind == SCALING and self.values > 1 else kind


@dataclass
class Flow:
    """All steps of a forward pass, in execution order.

    A step is alive if what the network returns hangs on it. So a value that is only looked at, for a log or by a hook
    or an observer, has no readers by that.
    """

    steps: Sequence[Step] = field(default_factory=list)

    @cached_property
    def readers(self) -> list[list[int]]:
        """For every step the living steps that read it; all that read it where no living step does."""
        alive = [step.is_output for step in self.steps]
        every: list[list[int]] = [[] for _ in self.steps]
        living: list[list[int]] = [[] for _ in self.steps]
        for number in range(len(self.steps) - 1, -1, -1):
            for source in self.steps[number].sources:
                every[source].insert(0, number)
                if alive[number]:
                    living[source].insert(0, number)
                    alive[source] = True
        return [mine or others for mine, others in zip(living, every, strict=True)]

    @cached_property
    def _meetings(self) -> list[int]:
        """For every step the first one that all ways from it to the end lead through (its immediate post-dominator)."""
        end = len(self.steps)
        meetings, depths = [end] * (end + 1), [0] * (end + 1)
        for number in range(end - 1, -1, -1):
            meeting = end if self.steps[number].is_output or not self.readers[number] else self.readers[number][0]
            for reader in self.readers[number][1:] if meeting != end else ():
                while meeting != reader:
                    if depths[meeting] >= depths[reader]:
                        meeting = meetings[meeting]
                    else:
                        reader = meetings[reader]
            meetings[number], depths[number] = meeting, depths[meeting] + 1
        return meetings

    def meeting(self, number: int) -> int | None:
        """Return the first step that all ways from a step to the output lead through; None where there is none."""
        meeting = self._meetings[number]
        return meeting if meeting < len(self.steps) else None

    def between(self, start: int, end: int) -> list[int]:
        """Return the steps behind `start`, up to and with `end`, where all ways from `start` meet."""
        inside: set[int] = set()
        level = {start}
        while level:
            level = {reader for number in level if number != end for reader in self.readers[number]} - inside
            inside |= level
        return sorted(inside)

    def is_crossed_by_all(self, number: int) -> bool:
        """Do all ways from the image to the output lead through a step?"""
        return all(
            self._passes(first, number)
            for first, step in enumerate(self.steps)
            if not step.is_plain and not step.sources
        )

    def _passes(self, number: int, through: int) -> bool:
        while number < through:
            number = self._meetings[number]
        return number == through
