"""Layouts of a layer's output: planes, channels last, or tokens in a row."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The way to read a layer's output as one plane of positions per channel.

    Attributes:
        channel_axis: Axis of the channels: 1 for (batch, channels, height, width), 3 for channels last, 2 for tokens.
        start: Of tokens, the first that is a position. Those before and behind the positions are class tokens and
            the like.
        side: Of tokens, height and width of the grid that they form, row by row; 0 where the output has a height and
            a width of its own.
    """

    channel_axis: int = 1
    start: int = 0
    side: int = 0

    def grid(self, output: Tensor) -> Tensor:
        """Return a view of the output, shape (batch, channels, height, width)."""
        planes = output.movedim(self.channel_axis, 1)
        if not self.side:
            return planes
        positions = planes.narrow(2, self.start, self.side**2)
        return positions.view(*positions.shape[:2], self.side, self.side)

    def fill(self, output: Tensor, grid: Tensor) -> Tensor:
        """Return the output with `grid`, shape (batch, channels, height, width), at its positions."""
        if not self.side:
            return grid.movedim(1, self.channel_axis)
        planes, end = output.movedim(self.channel_axis, 1), self.start + self.side**2
        tokens = torch.cat([planes[:, :, : self.start], grid.flatten(2), planes[:, :, end:]], 2)
        return tokens.movedim(1, self.channel_axis)


GRID: Final = Layout()
