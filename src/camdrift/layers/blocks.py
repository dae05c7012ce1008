"""Find the blocks of a network, such as residual or transformer blocks, in the trace of one forward pass.

The rule has three sentences. In them a module counts if it runs, is made of modules, and calls two convolutions or
linear layers or more. A *sequence* is a container of at least two modules of one type of which at least half return
the shape that they were given (all of them, if they hold sequences themselves: else they are stages). Every module of
such a type that lies in no other one is a block. A network without sequences has as blocks the outermost modules of
every type that it has twice or more.

Nothing is inferred from the name of a model or of a type.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import Final

import torch
from torch import Tensor, nn

from camdrift.layers.layouts import Layout
from camdrift.layers.operations import CONVOLUTION, LINEAR
from camdrift.layers.tracing import Part, Trace, type_of

NO_IMAGES: Final = "output is no (batch, channels, height, width)"
ONE_VALUE: Final = "1x1 output: a map of one value cannot move"
UNREAD: Final = "the logits read no patch token of it"
UNORDERED: Final = "no grid: its positions do not lie as in the image"
# A change of half an image changes that half of a block's input so many times more, unless positions are shuffled.
_LEAST_CONTRAST: Final = 1.3


@dataclass(frozen=True)
class Block:
    """One call of a block.

    Attributes:
        part: The call, as the trace saw it.
        layout: Layout of its output: the axis of channels, and the positions.
        shape: (channels, height, width) of its output; where there is a note, the shape without the images.
        note: Reason why its output cannot be studied; empty if it can.
    """

    part: Part
    layout: Layout
    shape: tuple[int, ...]
    note: str = ""


def find_blocks(module: nn.Module, trace: Trace, images: int) -> list[Block]:
    """Return the blocks of a network, in the order in which they return.

    Args:
        module: The network.
        trace: Trace of a pass of images of which no two are alike.
        images: Number of these images.
    """
    large = {part.name: part for part in trace.parts if part.name and _is_large(part, trace)}
    names = _of_sequences(module, large) or _of_repeated(module, large)
    return _with_layouts([part for part in trace.parts if part.name in names], trace, images)


def mixes_channels(block: Block, trace: Trace) -> bool:
    """Does a linear layer inside the block work on every position of an image, as in transformers?"""
    calls = trace.calls[block.part.first : block.part.last]
    return any(call.family == LINEAR and prod(call.source_shape[1:-1]) > 1 for call in calls)


def first_mixer(blocks: Sequence[Block]) -> Block | None:
    """Return the first block that leaves tokens, or planes with channels last, in place.

    Its input shows their order.
    """
    blocks_in_place = (b for b in blocks if _may_be_shuffled(b) and b.part.shape == b.part.source_shape)
    return next(blocks_in_place, None)


def half_changed(size: int) -> Tensor:
    """Return three images: the second is the first but for its left half, the third but for its upper half."""
    image, other = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0))
    images = torch.stack([image] * 3)
    images[1, :, :, : size // 2] = other[:, :, : size // 2]
    images[2, :, : size // 2] = other[:, : size // 2]
    return images


def in_order(grid: Tensor) -> bool:
    """Do the positions lie as in the image?

    Args:
        grid: Values at the positions of the images of `half_changed`, shape (3, channels, height, width).
    """
    side = grid.shape[-1] // 2
    left, upper = (grid[1:] - grid[0]).abs().float().mean(1)
    halves = [(left[:, :side], left[:, -side:]), (upper[:side], upper[-side:])]
    return all(bool(change.mean() > _LEAST_CONTRAST * rest.mean()) for change, rest in halves)


def without_grid(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks with a note on tokens and on planes with channels last: they do not lie as in the image."""
    return [replace(block, note=UNORDERED) if _may_be_shuffled(block) else block for block in blocks]


def _may_be_shuffled(block: Block) -> bool:
    return not block.note and block.layout.channel_axis != 1


def _is_container(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return True
    # In an exported program all modules have one type, but those in a container are numbered.
    names = [name for name, _ in module.named_children()]
    return callable(getattr(module, "type_name", None)) and bool(names) and all(name.isdecimal() for name in names)


def _is_large(part: Part, trace: Trace) -> bool:
    """Does a module that is more than a container call two convolutions or linear layers, or more?"""
    mixing = sum(call.family in (CONVOLUTION, LINEAR) for call in trace.calls[part.first : part.last])
    return mixing >= 2 and not _is_container(part.module)


def _sequence_type(name: str, module: nn.Module, large: Mapping[str, Part]) -> str | None:
    """Return the type of the modules in `module` if that is a sequence."""
    if not _is_container(module):
        return None
    children = [(f"{name}.{key}".lstrip("."), child) for key, child in module.named_children()]
    types = {key: type_of(child) for key, child in children if key in large}
    for type_, number in Counter(types.values()).items():
        parts = [large[key] for key in types if types[key] == type_]
        same = sum(part.shape == part.source_shape for part in parts)
        if number >= 2 and (same == number or (2 * same >= number and not any(_holds(part, large) for part in parts))):
            return type_
    return None


def _holds(part: Part, large: Mapping[str, Part]) -> bool:
    """Does a module hold a sequence?"""
    inside = ((f"{part.name}.{name}", module) for name, module in part.module.named_modules() if name)
    return any(_sequence_type(name, module, large) for name, module in inside)


def _of_sequences(module: nn.Module, large: Mapping[str, Part]) -> set[str]:
    """Return the names of the modules whose type makes up a sequence and that lie in no other such module."""
    types: set[str] = set()
    level = [("", module)]
    while level:  # outermost first
        types |= {type_ for name, inside in level if (type_ := _sequence_type(name, inside, large))}
        level = [pair for pair in _children(level) if type_of(pair[1]) not in types]
    return set(_outermost(module, large, types))


def _children(level: Sequence[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    return [(f"{name}.{key}".lstrip("."), child) for name, module in level for key, child in module.named_children()]


def _outermost(module: nn.Module, large: Mapping[str, Part], types: set[str]) -> Iterator[str]:
    """Yield the names of the modules of some types, but not of those inside another one."""
    level = [("", module)]
    while level:
        names = [name for name, inside in level if type_of(inside) in types and name in large]
        yield from names
        level = _children([pair for pair in level if pair[0] not in names])


def _of_repeated(module: nn.Module, large: Mapping[str, Part]) -> set[str]:
    """Return the names of the outermost modules of every type that the network has twice or more."""
    number = Counter(type_of(part.module) for part in large.values())
    return set(_outermost(module, large, {type_ for type_, times in number.items() if times >= 2}))


def _with_layouts(parts: Sequence[Part], trace: Trace, images: int) -> list[Block]:
    squares = _squares(trace, images)
    unseen: dict[int, tuple[int, ...]] = {}  # by number of tokens
    latest: tuple[int, ...] = ()
    for part in parts:
        if len(part.source_shape) == 3 and part.source_shape[1] not in unseen:
            latest = part.unseen or latest
            unseen[part.source_shape[1]] = latest
    blocks = []
    for part in parts:
        layout: Layout | str = NO_IMAGES
        if part.shape[:1] == (images,) and len(part.shape) == 4:
            layout = _of_planes(part, trace)
        elif part.shape[:1] == (images,) and len(part.shape) == 3:
            layout = _of_tokens(part.shape[1], unseen.get(part.shape[1], latest), squares)
        blocks.append(_block(part, layout))
    return blocks


def _block(part: Part, layout: Layout | str) -> Block:
    """Return the block of a part, with its layout, or with the reason why it has none."""
    if isinstance(layout, str):
        return Block(part, Layout(), part.shape[1:], layout)
    side = layout.side or part.shape[2]
    block = Block(part, layout, (part.shape[layout.channel_axis], side, side))
    return replace(block, note=ONE_VALUE) if side == 1 else block


def _squares(trace: Trace, images: int) -> set[int]:
    """Return every n of which the trace has an (n, n) grid per image, or an image cut into n x n patches."""
    squares = set()
    for shape in trace.shapes:
        if shape[0] != images:
            continue
        if len(shape) == 4:
            squares |= {a for a, b in ((shape[1], shape[2]), (shape[2], shape[3])) if a == b}
        else:
            squares |= {side for side, number in Counter(shape[1:]).items() if number == 2}
    return squares


def _of_planes(part: Part, trace: Trace) -> Layout | str:
    """Return the layout of (images, ., ., .), or a reason: images are square, and so are their planes."""
    first, last = part.shape[2] == part.shape[3], part.shape[1] == part.shape[2]
    if first and last:
        mixing = [call.family for call in trace.calls[part.first : part.last] if call.family in (CONVOLUTION, LINEAR)]
        first = mixing[:1] != [LINEAR]
    if not first and not last:
        return NO_IMAGES
    return Layout(1) if first else Layout(3)


def _of_tokens(tokens: int, unseen: tuple[int, ...], squares: set[int]) -> Layout | str:
    """Return the layout of (images, tokens, channels), or a reason.

    Args:
        tokens: Number of tokens.
        unseen: Tokens that had not seen the image at first: they are no positions.
        squares: What `_squares` returns.
    """
    if len(unseen) >= tokens:
        return f"no grid: its {tokens} tokens are the same for every image at first"
    in_front = unseen == tuple(range(len(unseen)))
    if not in_front and unseen != tuple(range(tokens - len(unseen), tokens)):
        return "no grid: tokens that have not seen the image lie among the others"
    for others in (len(unseen), 0):
        side = isqrt(tokens - others)
        if side**2 == tokens - others and side in squares:
            return Layout(2, others if in_front else 0, side)
    positions = tokens - len(unseen)
    if isqrt(positions) ** 2 != positions:
        return f"no grid: {positions} tokens are no square"
    return f"no grid: {positions} tokens, but nothing of {isqrt(positions)}x{isqrt(positions)} positions comes before"
