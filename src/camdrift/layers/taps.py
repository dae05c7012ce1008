"""Taps: places in a network's forward pass at which an activation is taken."""

from dataclasses import dataclass

from torch import nn

from camdrift.layers.layouts import GRID, Layout


@dataclass(frozen=True)
class Tap:
    """The output of the `index`-th known operation.

    Attributes:
        index: Position among the operations of `FAMILY` that one forward pass calls.
        operation: Name of the torch function, checked at every pass.
        is_overwritten: Does the network overwrite this output in place later on?
    """

    index: int
    operation: str
    is_overwritten: bool

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
