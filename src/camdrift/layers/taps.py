"""Taps: places in a network's forward pass at which an activation is taken."""

from dataclasses import dataclass

from torch import nn

from camdrift.layers.layouts import GRID, Layout


@dataclass(frozen=True)
class HandStep:
    """One function of an activation or a norm that is written by hand.

    Attributes:
        operation: Name of the torch function.
        sources: What it reads: 0 is the output at which all begins, k that of the k-th step, in rising order.
    """

    operation: str
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Tap:
    """The output of the `index`-th known operation, or of what is made of it by hand.

    Attributes:
        index: Position among the operations of `FAMILY` that one forward pass calls.
        operation: Name of the torch function, checked at every pass.
        is_overwritten: Does the network overwrite this output in place later on?
        by_hand: Functions that make another activation of the output; the tap is behind the last. Equal steps, which
            differ in numbers alone, stand there once.
    """

    index: int
    operation: str
    is_overwritten: bool
    by_hand: tuple[HandStep, ...] = ()

    @property
    def layout(self) -> Layout:
        """Layout of the output: operations are tapped where they return (batch, channels, height, width)."""
        return GRID


@dataclass(frozen=True)
class ModuleTap:
    """The first tensor that one call of a module returns.

    Attributes:
        name: Dotted name of the module.
        module: The module.
        call: Number of the call among the module's calls, from 0.
        is_overwritten: Does the network overwrite this output in place later on?
        layout: Layout of the output: its axis of channels, and its positions.
    """

    name: str
    module: nn.Module
    call: int
    is_overwritten: bool
    layout: Layout = GRID


AnyTap = Tap | ModuleTap
